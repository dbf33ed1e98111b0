"""Predict: the loss modules. Each pairs a way of hiding with a model that may read the rest.

|  | `CausalLM` | `MaskedLM` | `SpanCorruption` |
|---|---|---|---|
| hides | the next token | some tokens, at random | runs of tokens, each behind a sentinel |
| reads | what comes before it | both sides | both sides, then its own words so far |
| predicts | every next token | the hidden tokens | the hidden runs, in order |
| canonical model | GPT | BERT | T5 |
"""

from ..data.hiding import IGNORED
from .causal_lm import CausalLM
from .masked_lm import MaskedLM
from .objective import Loss, Objective
from .span_corruption import SpanCorruption

OBJECTIVES: dict[str, type[Objective]] = {
    objective.name: objective for objective in (CausalLM, MaskedLM, SpanCorruption)
}
"""The three, by the name that the command line uses."""

__all__ = ["IGNORED", "OBJECTIVES", "CausalLM", "Loss", "MaskedLM", "Objective", "SpanCorruption"]
