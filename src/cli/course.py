"""`clozelab course`: the lessons, their claims, and what was measured last."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..escape import escape_control_characters
from .parsing import Given, Parser
from .values import path

SUMMARY = "list the lessons, their claims, and what was measured last"
EXAMPLE = "clozelab course --folder examples/results"


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--folder", type=path, default=Path("examples/results"), help="results of the scripts of examples/"
    )
    parser.add_argument("--markdown", action="store_true", help="the table of the README")


def run(args: argparse.Namespace, given: Given) -> int:
    """Print the results."""
    from ..course import claims_table, print_results, read_results

    results = read_results(args.folder)
    if args.markdown:
        print(escape_control_characters(claims_table(results)))
    else:
        print_results(results)
    return 0
