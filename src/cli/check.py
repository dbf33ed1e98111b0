"""`clozelab check`: what a user wrote, or an objective of the library, by the checking kit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..escape import escape_control_characters
from .parsing import Given, Parser
from .special_ids import add_special_ids, print_notes, roles_of
from .values import SHARE

SUMMARY = "check a masking scheme, a collator or an objective of your own, or one of the library by its name"
EXAMPLE = "clozelab check my_module:my_scheme --rate 0.15"


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "target",
        help="module:name or file.py:name, which is imported, or the name of an objective; a function of three "
        "arguments is checked as a scheme",
    )
    parser.add_argument("--rate", type=SHARE, help="share of tokens that the scheme should hide  (default: any)")
    parser.add_argument(
        "--tokenizer", help="file or folder of a tokenizer, for a collator that does not name its special ids"
    )
    add_special_ids(parser, words)
    parser.add_argument(
        "--skip", nargs="+", default=(), metavar="CHECK", help="names of checks to leave out, as the report lists them"
    )


def run(args: argparse.Namespace, given: Given) -> int:
    """Print the report; 1 where a check failed."""
    from ..data import load_tokenizer
    from ..objectives import OBJECTIVES
    from ..testing import CheckFailed, target

    roles, special = roles_of(args, ()), None
    if args.tokenizer:
        tokenizer = load_tokenizer(args.tokenizer, roles=roles)
        print_notes(tokenizer)
        special = tokenizer.special
    thing = OBJECTIVES[args.target] if args.target in OBJECTIVES else target.load(args.target)
    try:
        report = target.check(thing, rate=args.rate, special=special, skip=args.skip)
    except CheckFailed as failed:
        print(escape_control_characters(str(failed.report)))
        return 1
    print(escape_control_characters(str(report)))
    return 0
