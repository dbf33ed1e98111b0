"""Measure: held-out loss, leaks, how likely a text is, and what a representation holds.

The least loss that is possible is `objective.entropy_floor` on a language of `clozelab.languages`; a model is trained
down to it by `clozelab.evaluation.floor_experiment`.
"""

from ..doors import explain_errors
from .answer_leaks import AnswerReport, answer_leaks
from .baselines import label_counts, uniform_baseline, unigram_baseline, unigram_loss
from .heldout import HeldOut, PartLoss, evaluate, fixed_batches, positions_read
from .leaks import LeakReport, probe, probe_objective
from .receptive_field import receptive_field
from .representations import bag_of_words, embed, linear_probe, nearest_neighbours
from .scored_bytes import scored_bytes
from .scoring import Scores, causal_log_prob, infill_log_prob, pseudo_log_likelihood

__all__ = [
    "AnswerReport",
    "HeldOut",
    "LeakReport",
    "PartLoss",
    "Scores",
    "answer_leaks",
    "bag_of_words",
    "causal_log_prob",
    "embed",
    "evaluate",
    "fixed_batches",
    "infill_log_prob",
    "label_counts",
    "linear_probe",
    "nearest_neighbours",
    "positions_read",
    "probe",
    "probe_objective",
    "pseudo_log_likelihood",
    "receptive_field",
    "scored_bytes",
    "uniform_baseline",
    "unigram_baseline",
    "unigram_loss",
]

explain_errors(__name__)
