"""The values of flags: numbers, paths, names, and what is said about those that cannot be meant."""

from __future__ import annotations

import argparse
import difflib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from ..escape import shorten, shown


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The end of a message about an unknown word: the most similar one of those that exist, or all of them.

    >>> from clozelab.cli.values import did_you_mean
    >>> did_you_mean("tarin", ["train", "pack"])
    ': did you mean train?'
    >>> did_you_mean("x", ["train", "pack"])
    ': choose from train, pack'
    """
    words = list(words)
    if near := nearest(word, words):
        return f": did you mean {near}?"
    return "" if words[0].startswith("-") else f": choose from {', '.join(words)}"


def nearest(word: str, words: Iterable[str]) -> str | None:
    """The most similar word, whatever its case; None where none is similar."""
    lower = {one.lower(): one for one in words}
    close = difflib.get_close_matches(word.lower(), lower, 1)
    return lower[close[0]] if close else None


def number(kind: Callable[[str], Any], low: float, high: float, expected: str) -> Callable[[str], Any]:
    """A type for argparse: a number from low to high, or an error that names what was `expected`."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {expected}, got {shown(text, 40)}")
        return value

    return convert


SCALES = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
"""Suffixes of numbers, in small or capital letters."""


def amount(text: str) -> float:
    """A number with or without a suffix.

    >>> from clozelab.cli.values import amount
    >>> amount("7e9"), amount("7B"), amount("1.5k")
    (7000000000.0, 7000000000.0, 1500.0)

    Raises `ValueError` for what is no number.
    """
    scale = SCALES.get(text[-1:].lower())
    return float(text) if scale is None else float(text[:-1]) * scale


def whole(text: str) -> int:
    """A whole number with or without a suffix, exactly.

    >>> from clozelab.cli.values import whole
    >>> whole("1000"), whole("1e3"), whole("1.5k")
    (1000, 1000, 1500)

    Raises `ValueError` for what is no whole number, and for one of more than 20 digits.
    """
    scale = SCALES.get(text[-1:].lower())
    try:
        value = Decimal(text) if scale is None else Decimal(text[:-1]) * scale
    except InvalidOperation:
        raise ValueError(f"no number: {shorten(text, 80)}") from None
    if not value.is_finite() or value.adjusted() > 20 or value != value.to_integral_value():
        raise ValueError(f"no whole number: {shorten(text, 80)}")
    return int(value)


COUNT = number(whole, 1, 10**12, "a whole number of at least 1, as 2000 or 2k")
COUNT_OR_NONE = number(whole, 0, 10**12, "a whole number of at least 0")
SIZE = number(whole, 1, 2**20, "a whole number from 1 to 2^20")
SEED = number(int, 0, 2**63 - 1, "a whole number from 0 to 2^63 - 1")
POSITIVE = number(float, sys.float_info.min, sys.float_info.max, "a number above 0")
AMOUNT = number(amount, sys.float_info.min, sys.float_info.max, "a number above 0, as 1e12 or 1T")
SHARE = number(float, sys.float_info.min, math.nextafter(1, 0), "a share between 0 and 1, 0.15 for 15 percent")
PROBABILITY = number(float, sys.float_info.min, 1, "a probability above 0, up to 1")
WORKERS = number(int, 0, 256, "a whole number from 0 to 256")
TEMPERATURE = number(
    float,
    sys.float_info.min,
    sys.float_info.max,
    "a number above 0 (--greedy takes the most probable token each time)",
)


def path(text: str) -> Path:
    """A type for argparse: a path."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return Path(text)


def objective_name(text: str) -> str:
    """A type for argparse: the name of an objective."""
    from ..objectives import OBJECTIVES

    if text in OBJECTIVES:
        return text
    if "," in text and set(text.split(",")) <= OBJECTIVES.keys():
        raise argparse.ArgumentTypeError(f"expected one name in a word, got {shown(text)}: separate them by spaces")
    models = {kind.canonical.lower(): name for name, kind in OBJECTIVES.items()}
    near = f": did you mean {models[text.lower()]}?" if text.lower() in models else did_you_mean(text, OBJECTIVES)
    raise argparse.ArgumentTypeError(f"there is no objective {shown(text, 40)}{near}")


def in_a_row(words: Sequence[str]) -> str:
    """Words as a sentence lists them.

    >>> from clozelab.cli.values import in_a_row
    >>> in_a_row(["masked", "mntp", "bart"])
    'masked, mntp and bart'
    """
    *most, last = words
    return f"{', '.join(most)}{' and ' * bool(most)}{last}"
