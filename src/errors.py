"""Exceptions."""

from __future__ import annotations

import errno
from typing import TypeVar

Error = TypeVar("Error", bound=Exception)

FULL = (errno.ENOSPC, errno.EDQUOT)
"""`errno` of an `OSError` where the disk is full, or the user's quota of it."""


class InputError(ValueError):
    """Input that cannot be used: the message names what was expected, what was given, and the likely cause.

    The command line prints the message as one line and exits with code 2.
    """


class ProcessLost(RuntimeError):
    """Another process of the same run has ended, so that this one cannot continue: the message names what to do.

    The command line prints the message as one line and exits with code 1.
    """


class NotFinite(ArithmeticError):
    """A loss, a gradient or a weight became infinite or NaN: the message names the step and the examples.

    The command line prints the message as one line and exits with code 1.
    """


def raised_in_all(error: Error) -> Error:
    """The error, marked as one that every process of a run raises alike, so that the main one alone prints it."""
    error.raised_in_all = True  # pyright: ignore[reportAttributeAccessIssue]
    return error


def is_raised_in_all(error: Exception) -> bool:
    """Whether every process of the run raises this error."""
    return getattr(error, "raised_in_all", False)
