"""clozelab: pretraining objectives in pure PyTorch, each with the tiny transformer that fits it.

A cloze is a text with blanks to fill in; every pretraining objective is one. Each answers three
questions, and the package has a room for each:

    hide      what does the model not get to see?       clozelab.data
    read      who may attend to whom?                   clozelab.models
    predict   which positions enter the loss, and how?  clozelab.objectives

`clozelab.training` trains any of them on any corpus, `clozelab.evaluation` measures the result,
`clozelab.generation` completes texts, `clozelab.testing` checks what you write yourself.

    from clozelab import MaskedLM, SpecialIds

The names below, and the class of each objective, are loaded when they are first used, so that `import clozelab` itself
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import Collator, SpecialIds, Tokenizer, load_corpus, load_tokenizer
    from .errors import InputError
    from .objectives import *  # noqa: F403  each class of an objective
    from .objectives import IGNORED, OBJECTIVES, Loss, Objective

__version__ = "0.2.0"

_HOMES = {
    "data": ("Collator", "SpecialIds", "Tokenizer", "load_corpus", "load_tokenizer"),
    "errors": ("InputError",),
    "objectives": ("IGNORED", "OBJECTIVES", "Loss", "Objective"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "IGNORED",
    "OBJECTIVES",
    "Collator",
    "InputError",
    "Loss",
    "Objective",
    "SpecialIds",
    "Tokenizer",
    "load_corpus",
    "load_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name[:1].isupper():  # perhaps the class of an objective: `OBJECTIVES` alone lists them
        for objective in import_module(".objectives", __name__).OBJECTIVES.values():
            if objective.__name__ == name:
                return objective
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
