"""Synthetic languages whose entropy is known exactly, their least possible costs, and worlds of skills."""

from ..doors import explain_errors
from .costs import chain_costs, masked_costs, span_costs, step_costs
from .markov import MarkovSource
from .mixture import MixtureSource
from .skills import Exercise, World

__all__ = [
    "Exercise",
    "MarkovSource",
    "MixtureSource",
    "World",
    "chain_costs",
    "masked_costs",
    "span_costs",
    "step_costs",
]

explain_errors(__name__)
