"""Measure: held-out loss, the least loss possible, leaks, how likely a text is, and what a model has understood."""

from .floors import Floor, causal_floor, floor, masked_floor, span_floor
from .heldout import HeldOut, evaluate, fixed_batches, label_counts, positions_read, unigram_loss
from .leaks import LeakReport, probe, probe_objective, reach
from .representations import bag_of_words, embed, linear_probe, nearest_neighbours
from .scoring import Scores, causal_log_prob, infill_log_prob, pseudo_log_likelihood

__all__ = [
    "Floor",
    "HeldOut",
    "LeakReport",
    "Scores",
    "bag_of_words",
    "causal_floor",
    "causal_log_prob",
    "embed",
    "evaluate",
    "fixed_batches",
    "floor",
    "infill_log_prob",
    "label_counts",
    "linear_probe",
    "masked_floor",
    "nearest_neighbours",
    "positions_read",
    "probe",
    "probe_objective",
    "pseudo_log_likelihood",
    "reach",
    "span_floor",
    "unigram_loss",
]
