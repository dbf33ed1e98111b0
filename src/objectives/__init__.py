"""Predict: the loss modules, one file each. Each pairs a corruption with a model that may read the rest.

`OBJECTIVES` lists them by name; command line, pictures, kit and export ask the classes for all else.
"""

from ..data.examples import IGNORED
from ..doors import explain_errors
from .bart import BART
from .block_diffusion import BlockDiffusion
from .causal_lm import CausalLM
from .cm3 import CM3
from .electra import Electra
from .fill_in_the_middle import FillInTheMiddle
from .loss import Counts, Loss, Part, Prediction, Target, next_token_labels, total_counts
from .masked_diffusion import MaskedDiffusion
from .masked_lm import MaskedLM
from .masked_next_token import MaskedNextToken
from .mass import MASS
from .model_calls import LossModule, unwrapped
from .multi_token_prediction import MultiTokenPrediction
from .objective import FloorExercise, Likelihood, Objective
from .options import add_flags, options
from .prefix_lm import PrefixLM
from .span_boundary import SpanBoundary
from .span_corruption import SpanCorruption
from .token_order import TokenOrderPrediction
from .ul2 import UL2
from .ul2r import UL2R

OBJECTIVES: dict[str, type[Objective]] = {
    objective.name: objective
    for objective in (
        CausalLM,
        MaskedLM,
        SpanCorruption,
        PrefixLM,
        MaskedDiffusion,
        FillInTheMiddle,
        BlockDiffusion,
        MaskedNextToken,
        UL2,
        UL2R,
        BART,
        MASS,
        MultiTokenPrediction,
        CM3,
        TokenOrderPrediction,
        Electra,
        SpanBoundary,
    )
}
"""All objectives, by the name that the command line uses."""

__all__ = [
    "BART",
    "CM3",
    "IGNORED",
    "MASS",
    "OBJECTIVES",
    "UL2",
    "UL2R",
    "BlockDiffusion",
    "CausalLM",
    "Counts",
    "Electra",
    "FillInTheMiddle",
    "FloorExercise",
    "Likelihood",
    "Loss",
    "LossModule",
    "MaskedDiffusion",
    "MaskedLM",
    "MaskedNextToken",
    "MultiTokenPrediction",
    "Objective",
    "Part",
    "Prediction",
    "PrefixLM",
    "SpanBoundary",
    "SpanCorruption",
    "Target",
    "TokenOrderPrediction",
    "add_flags",
    "next_token_labels",
    "options",
    "total_counts",
    "unwrapped",
]

explain_errors(__name__)
