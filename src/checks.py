"""What public functions check at their doors: is it a whole number, a number, a tensor of that shape, one of that kind?

Each returns the value itself, or raises an `InputError` that says what was expected, under which name, and what came.
"""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from .errors import InputError

Kind = TypeVar("Kind")


def check_int(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """The value as an int; raises `InputError` for what is none, 1.5 and 1.0 and True among it, or out of bounds.

    >>> from torch import tensor
    >>> check_int(tensor(3), "seed")
    3
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} must be a whole number, got {value!r:.80} ({type(value).__name__})") from None
    if least is not None and number < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {number}")
    if most is not None and number > most:
        raise InputError(f"{name} must be a whole number of at most {most:,}, got {number}")
    return number


def check_number(value: Any, name: str) -> float:
    """The value as a float, NaN and infinity among it; raises `InputError` for what is no number.

    >>> check_number(3, "temperature")
    3.0
    """
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise InputError(f"{name} must be a number, got {value!r:.80} ({type(value).__name__})") from None


def check_type(value: Any, kind: type[Kind] | tuple[type[Kind], ...], name: str, cure: str = "") -> Kind:
    """The value, which is a `kind` or one of several; `cure` says what was probably meant."""
    if not isinstance(value, kind):
        kinds = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise InputError(f"expected {name} as {kinds}, got {type(value).__name__}{cure and ': '}{cure}")
    return value


def check_path(value: Any, name: str) -> Path:
    """The value as a path; raises `InputError` for an empty one, which would be the current folder, and for no path."""
    if not isinstance(value, (str, os.PathLike)) or not str(value) or "\0" in str(value):
        raise InputError(f"expected {name} as a path, got {value!r:.80}")
    return Path(value)


WHOLE, REAL, FLAGS = "whole numbers", "real numbers", "bools"
"""What a tensor may hold."""


def check_tensor(value: Any, name: str, shape: str, holds: str | None = None) -> Tensor:
    """The value, which is a tensor of as many axes as `shape` names, "(..., T)" for any number, and holds that.

    >>> from torch import zeros
    >>> check_tensor(zeros(2, 3), "logits", "(B, V)", REAL).shape
    torch.Size([2, 3])
    """
    if not isinstance(value, Tensor):
        raise InputError(f"expected {name} as a tensor {shape}, got {type(value).__name__}")
    axes = shape.strip("()").split(", ")
    fits = value.dim() >= len(axes) - 1 if axes[0] == "..." else value.dim() == len(axes)
    if not fits or (holds is not None and not _HOLDS[holds](value)):
        raise InputError(
            f"expected {name} {shape}{f' of {holds}' if holds else ''}, got {value.dtype} of shape {tuple(value.shape)}"
        )
    return value


def is_whole(tensor: Tensor) -> bool:
    """Whether its numbers are whole: ids, and not shares or flags."""
    return not (tensor.is_floating_point() or tensor.is_complex() or _is_flags(tensor))


def _is_flags(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bool


_HOLDS = {WHOLE: is_whole, REAL: Tensor.is_floating_point, FLAGS: _is_flags}


def check_same_shape(**tensors: Tensor) -> None:
    """Raises `InputError` where not all have the shape of the first."""
    (first, one), *others = tensors.items()
    for name, other in others:
        if other.shape != one.shape:
            raise InputError(
                f"expected {name} of the shape {tuple(one.shape)} of {first}, got {tuple(other.shape)}: do they belong "
                "to the same text?"
            )
