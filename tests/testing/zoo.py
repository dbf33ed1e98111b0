"""Right things, none of which the kit may fault, and of each of which its essential checks must run.

A thing is added to `ZOO` by `right`; `test_zoo.py` runs them, and `conftest.py` prints how many of each group were
faulted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clozelab.testing import Report


@dataclass(frozen=True)
class Right:
    """A right thing."""

    group: str
    name: str
    check: Callable[[], Report]
    """The kit's check of it."""
    slow: bool = False
    """Whether it costs more than about a second."""


ZOO: list[Right] = []


def right(group: str, name: str, check: Callable[[], Report], *, slow: bool = False) -> None:
    """Add a right thing."""
    ZOO.append(Right(group, name, check, slow))
