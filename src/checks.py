"""Checks of arguments, made once, where a public function receives them.

Each returns the value itself, or raises an `InputError` that names the argument, what was expected and what was given.
"""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from .errors import InputError
from .escape import shown

Kind = TypeVar("Kind")


def check_int(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """The value as an int within its bounds, both included.

    >>> import torch
    >>> from clozelab.checks import check_int
    >>> check_int(torch.tensor(3), "seed")
    3

    Raises `InputError` for a value of another type, such as 1.5, 1.0 or True, and for one out of bounds.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: of a tensor on the meta device
        raise InputError(f"{name} must be a whole number, got {shown(value)} ({type(value).__name__})") from None
    if least is not None and number < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {number}")
    if most is not None and number > most:
        raise InputError(f"{name} must be a whole number of at most {most:,}, got {number}")
    return number


def check_number(value: Any, name: str) -> float:
    """The value as a float, which may be infinite or NaN; raises `InputError` for what is no number.

    >>> from clozelab.checks import check_number
    >>> check_number(3, "temperature")
    3.0
    """
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise InputError(f"{name} must be a number, got {shown(value)} ({type(value).__name__})") from None


def check_type(value: Any, kind: type[Kind] | tuple[type[Kind], ...], name: str, cure: str = "") -> Kind:
    """The value, if it is an instance of `kind`; otherwise an `InputError`, which ends with `cure`.

    >>> from clozelab.checks import check_type
    >>> check_type("bpe", str, "the tokenizer")
    'bpe'
    """
    if not isinstance(value, kind):
        kinds = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise InputError(f"expected {name} as {kinds}, got {type(value).__name__}{cure and ': '}{cure}")
    return value


def check_path(value: Any, name: str) -> Path:
    """The value as a path.

    Raises `InputError` for what is no path, and for an empty one, which would stand for the current folder.
    """
    try:
        encoded = os.fsencode(value)
    except (TypeError, UnicodeEncodeError):
        encoded = b""
    if isinstance(value, bytes) or not encoded or b"\0" in encoded:
        raise InputError(f"expected {name} as a path, got {shown(value)} ({type(value).__name__})")
    return Path(value)


WHOLE, REAL, FLAGS = "whole numbers", "real numbers", "bools"
"""What the values of a tensor are."""


def check_tensor(value: Any, name: str, shape: str, holds: str | None = None) -> Tensor:
    """The value, if it is a tensor with the axes that `shape` names and the values that `holds` names.

    "(B, T)" stands for two axes of any size, "(..., T)" for one or more.

    >>> import torch
    >>> from clozelab.checks import REAL, check_tensor
    >>> check_tensor(torch.zeros(2, 3), "logits", "(B, V)", REAL).shape
    torch.Size([2, 3])

    Raises `InputError` otherwise.
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
    """Whether a tensor holds integers: not bools, floating-point or complex numbers."""
    return not (tensor.is_floating_point() or tensor.is_complex() or _is_flags(tensor))


def _is_flags(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bool


_HOLDS = {WHOLE: is_whole, REAL: Tensor.is_floating_point, FLAGS: _is_flags}


def tracing() -> bool:
    """Whether torch.compile, torch.export or a transform of torch.func is running, where no value can be looked at.

    Checks of values do not run then: call once outside of them first.
    """
    transforms = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]  (no public name tells)
    return torch.compiler.is_compiling() or transforms.maybe_current_level() is not None


def check_same_shape(**tensors: Tensor) -> None:
    """Raises `InputError` unless all tensors have the shape of the first."""
    (first, one), *others = tensors.items()
    for name, other in others:
        if other.shape != one.shape:
            raise InputError(
                f"expected {name} of the shape {tuple(one.shape)} of {first}, got {tuple(other.shape)}: do they belong "
                "to the same text?"
            )
