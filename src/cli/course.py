"""`clozelab course`: the lessons, their claims, and what was measured last."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..escape import escape_control_characters
from .parsing import Given, Parser
from .values import number, path

SUMMARY = "list the lessons, their claims, and the latest results"
EXAMPLE = "clozelab course 4"


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    lesson = number(int, 1, 99, "the number of a lesson")
    parser.add_argument("lesson", nargs="?", type=lesson, help="the number of a lesson  (default: a line for each)")
    parser.add_argument("--folder", type=path, help="folder of results  (default: those recorded last)")
    parser.add_argument("--markdown", action="store_true", help="print the table of the README")


def run(args: argparse.Namespace, given: Given) -> int:
    """Print the results."""
    from ..course import claims_table, lessons_folder, print_result, print_results, read_results

    results = read_results(lessons_folder() / "results" if args.folder is None else args.folder)
    if args.lesson is not None:
        results = [result for result in results if int(result.lesson) == args.lesson]
        if not results:
            raise InputError(f"there is no result of a lesson {args.lesson}: clozelab course lists them")
    if args.markdown:
        print(escape_control_characters(claims_table(results)))
    elif args.lesson is not None:
        print_result(results[0])
        _print_script(results[0].script)
    else:
        print_results(results)
        print(f"what was claimed and measured: clozelab course {int(results[0].lesson)}")
        _print_script(results[0].script)
    return 0


def _print_script(script: str) -> None:
    """How a lesson is run, where it is there."""
    from ..course import lessons_folder

    path = lessons_folder() / script
    if path.is_file():
        here = Path.cwd()
        path = path.relative_to(here) if path.is_relative_to(here) else path
        print(escape_control_characters(f"to run it: python {shlex.quote(str(path))} --fast"))
