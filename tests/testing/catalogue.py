"""Planted faults: each a mistake that people make, in a few lines, with the checks that must find it by name.

A fault is added to `FAULTS` by the decorator of its group (`catalogue_schemes.py` and the like); its docstring is the
mistake in a sentence. `test_catalogue.py` runs them, and `conftest.py` prints how many of each group were found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clozelab.testing import CheckFailed

Found = dict[str, str]
"""What each check that found a fault says, by its name."""


@dataclass(frozen=True)
class Fault:
    """A planted fault."""

    group: str
    """scheme, collator, objective, function or model."""
    name: str
    mistake: str
    """One sentence."""
    checks: tuple[str, ...]
    """The checks that must find it, all of them."""
    find: Callable[[], Found]
    says: str = ""
    """A pattern that what the first of them says must match. Without it, an error that something raised is no find."""
    slow: bool = False
    """Whether it costs more than about two seconds."""


FAULTS: list[Fault] = []


def plant(
    group: str, thing: Any, checks: tuple[str, ...], find: Callable[[], Found], says: str = "", *, slow: bool = False
) -> None:
    """Add a fault under the name of the function or class that makes it."""
    assert checks, f"{thing.__name__} names no check"
    assert thing.__doc__, f"{thing.__name__} has no sentence about the mistake"
    FAULTS.append(Fault(group, thing.__name__, " ".join(thing.__doc__.split()), checks, find, says, slow))


def faults_of(check: Callable[..., Any], *args: Any, **settings: Any) -> Found:
    """What a check of the kit finds wrong."""
    try:
        check(*args, **settings)
    except CheckFailed as failed:
        return {name: failed.report.findings[name].found for name in failed.report.faults}
    return {}
