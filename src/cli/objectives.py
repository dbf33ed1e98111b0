"""`clozelab objectives`: one table of all objectives."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .parsing import Given, Parser
from .values import SIZE

SUMMARY = "list the objectives: what each hides, reads, predicts, costs and can be used for"
EXAMPLE = "clozelab objectives"


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument("--length", type=SIZE, default=128, help="input tokens of the measured rows")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/objectives/index.md")


def run(args: argparse.Namespace, given: Given) -> int:
    """Print the table."""
    from rich.console import Console

    from ..display import objectives_markdown, objectives_table, print_objectives
    from ..objectives import OBJECTIVES

    rows = objectives_table(OBJECTIVES.values(), args.length)
    if args.markdown:
        print(objectives_markdown(rows), end="")
    else:
        print_objectives(rows, Console(file=sys.stdout))
        print(f"\nmeasured on rows of {args.length} input tokens, with a model of the size tiny and 4096 ids")
    return 0
