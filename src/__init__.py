"""clozelab: pretraining objectives in pure PyTorch, each with the tiny transformer that fits it.

A cloze is a text with blanks to fill in; every pretraining objective is one. Each answers three
questions, and the package has a room for each:

    hide      what does the model not get to see?       clozelab.data
    read      who may attend to whom?                   clozelab.models
    predict   which positions enter the loss, and how?  clozelab.objectives

`clozelab.training` trains any of them on any corpus, `clozelab.evaluation` measures the result,
`clozelab.generation` completes texts, `clozelab.testing` checks what you write yourself.

    from clozelab import MaskedLM, SpecialIds

The names below are loaded when they are first used, so that `import clozelab` itself costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import Collator, SpecialIds, Tokenizer, load_corpus, load_tokenizer
    from .errors import InputError
    from .objectives import (
        IGNORED,
        OBJECTIVES,
        CausalLM,
        FillInTheMiddle,
        Loss,
        MaskedDiffusion,
        MaskedLM,
        Objective,
        PrefixLM,
        SpanCorruption,
    )

__version__ = "0.2.0.dev0"

_HOMES = {
    "data": ("Collator", "SpecialIds", "Tokenizer", "load_corpus", "load_tokenizer"),
    "errors": ("InputError",),
    "objectives": (
        "IGNORED",
        "OBJECTIVES",
        "CausalLM",
        "FillInTheMiddle",
        "Loss",
        "MaskedDiffusion",
        "MaskedLM",
        "Objective",
        "PrefixLM",
        "SpanCorruption",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022  the objectives first
    "CausalLM",
    "MaskedLM",
    "SpanCorruption",
    "PrefixLM",
    "MaskedDiffusion",
    "FillInTheMiddle",
    "Objective",
    "OBJECTIVES",
    "Loss",
    "IGNORED",
    "Collator",
    "SpecialIds",
    "Tokenizer",
    "InputError",
    "load_corpus",
    "load_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
