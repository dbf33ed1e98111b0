"""The flags that state special ids, for tokenizers and for corpora of ids alike."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import InputError
from ..escape import escape_control_characters
from .parsing import Parser, value_of

if TYPE_CHECKING:
    from ..data import Tokenizer
    from ..objectives import Objective

ABOUT = {
    "pad": "padding",
    "eos": "end of text",
    "mask": "stands for a hidden token",
    "unk": "unknown: text that the vocabulary cannot represent",
    "bos": "beginning of text: never used for text",
    "decoder_start": "the first input of a decoder  (default: padding)",
}


def add_special_ids(parser: Parser, words: Sequence[str]) -> None:
    """A flag for each id of `ABOUT`, and for each role that an objective asks for.

    Help without an objective does not list the latter, so that it need not load the objectives.
    """
    group = parser.add_argument_group(
        "special ids",
        "each is the text of a token, or an id; those that are not given are found by their names, or added",
    )
    is_short_help = {"-h", "--help"} & set(words) and value_of("--objective", words) is None
    for role, what in (ABOUT if is_short_help else _about()).items():
        group.add_argument(f"--{role.replace('_', '-')}", type=_token, metavar="TOKEN", help=what)


def _about() -> dict[str, str]:
    """What each role means."""
    from ..objectives import OBJECTIVES

    users: dict[str, list[str]] = {}
    for kind in OBJECTIVES.values():
        for role in kind.roles:
            users.setdefault(role, []).append(kind.name)
    return {role: f"for {', '.join(names)}" for role, names in users.items()} | ABOUT


def stated_ids(args: argparse.Namespace) -> dict[str, str | int]:
    """The ids that were given, by their roles: the text of a token, or a number."""
    return {role: value for role in _about() if (value := getattr(args, role, None)) is not None}


def roles_of(
    args: argparse.Namespace, objectives: Iterable[Objective | type[Objective]]
) -> dict[str, str | int | None]:
    """The ids that were given, and None for every further role that the objectives need: it gets a token of its own.

    Raises `InputError` where ids were given without a tokenizer that has them.
    """
    stated = stated_ids(args)
    if stated and args.tokenizer in (None, "bpe", "characters"):
        role, token = next(iter(stated.items()))
        raise InputError(
            f"--{role.replace('_', '-')} {token} would have no effect: a tokenizer that is trained, or that a corpus "
            "was packed with, has its own special ids; leave it out, or give a tokenizer by --tokenizer"
        )
    return dict.fromkeys(role for objective in objectives for role in objective.roles) | stated


def print_notes(tokenizer: Tokenizer) -> None:
    """Print what was guessed or added as a tokenizer was loaded, a line each."""
    for line in tokenizer.notes:
        print(escape_control_characters(f"tokenizer: {line}"), file=sys.stderr)


def _token(text: str) -> str | int:
    """A type for argparse: the text of a token; digits are an id."""
    if not text:
        raise argparse.ArgumentTypeError("expected the text of a token or an id, got ''")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else text
