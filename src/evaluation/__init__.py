"""Measure: held-out loss and what it must beat, the least loss possible, leaks, and how likely a text is."""

from .floors import Floor, causal_floor, floor, masked_floor, span_floor
from .heldout import HeldOut, evaluate, fixed_batches, label_counts, positions_read, unigram_loss
from .leaks import LeakReport, probe, probe_objective, reach
from .scoring import Scores, causal_log_prob, infill_log_prob, pseudo_log_likelihood

__all__ = [
    "Floor",
    "HeldOut",
    "LeakReport",
    "Scores",
    "causal_floor",
    "causal_log_prob",
    "evaluate",
    "fixed_batches",
    "floor",
    "infill_log_prob",
    "label_counts",
    "masked_floor",
    "positions_read",
    "probe",
    "probe_objective",
    "pseudo_log_likelihood",
    "reach",
    "span_floor",
    "unigram_loss",
]
