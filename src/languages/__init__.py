"""Synthetic languages whose entropy is known exactly, their least possible costs, and worlds of skills."""

from ..doors import explain_errors
from .costs import chain_costs, gap_costs, label_costs, masked_costs, masked_posteriors, span_costs, step_costs
from .hidden_markov import HiddenMarkovSource
from .infilling_costs import infilling_costs
from .markov import MarkovSource
from .mixture import MixtureSource
from .replaced import detection_costs, replaced_probabilities
from .skills import Exercise, World

__all__ = [
    "Exercise",
    "HiddenMarkovSource",
    "MarkovSource",
    "MixtureSource",
    "World",
    "chain_costs",
    "detection_costs",
    "gap_costs",
    "infilling_costs",
    "label_costs",
    "masked_costs",
    "masked_posteriors",
    "replaced_probabilities",
    "span_costs",
    "step_costs",
]

explain_errors(__name__)
