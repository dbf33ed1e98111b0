"""`clozelab fill`: fill the blanks of a text with a trained model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError
from ..escape import escape_control_characters, shown
from . import parsing
from .hints import command_line
from .parsing import Given, Parser
from .values import path

if TYPE_CHECKING:
    from ..generation import Completion

SUMMARY = "fill the blanks (___) of a text with a trained model"
EXAMPLE = 'clozelab fill runs/span "The ___ sat on the ___."'


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=path, help="run folder")
    parser.add_argument(
        "text", help="text with blanks, ___: one token each for encoders, any number of tokens for others"
    )
    parser.add_argument(
        "--order", metavar="ORDER", help="order in which an encoder fills the blanks  (default: confidence)"
    )
    parsing.add_sampling(parser)


def run(args: argparse.Namespace, given: Given) -> int:
    """Print the text with its blanks filled."""
    from ..generation import BLANK
    from ..training import load_run

    parsing.refuse_idle(args, given)
    trained = load_run(args.run, device=args.device)
    objective = trained.objective
    if "fill" not in objective.completes:
        begins = args.text.partition(BLANK)[0].strip()
        instead = f"; it continues a text: {command_line('generate', args.run, begins)}"
        instead = instead if "continue" in objective.completes else ""
        raise InputError(
            f"{args.run} holds a model of the {objective.name} objective, which does not fill blanks{instead}"
        )
    if BLANK not in args.text:
        raise InputError(f"expected a text with blanks written {BLANK}, got {shown(args.text)}")
    order = {} if args.order is None else {"order": args.order}
    if order and objective.architecture != "encoder-only":
        raise InputError(
            f"--order is for encoders, which fill blanks one at a time; {args.run} holds a model of the "
            f"{objective.name} objective ({objective.architecture})"
        )
    answer = objective.complete(trained.model, trained.tokenizer, args.text, **order, **parsing.sampling_of(args))
    print(escape_control_characters(str(answer)))
    _tell_empty(args.text, answer)
    return 0


def _tell_empty(text: str, answer: Completion) -> None:
    """Say that blanks were filled with nothing, which the text alone does not show."""
    from ..generation import BLANK

    _, *between, _ = text.split(BLANK)
    if any(not piece.strip() for piece in between):  # what fills neighbours cannot be told apart
        return
    blanks = len(between) + 1
    empty = blanks - sum(by_model and bool(part.strip()) for part, by_model in answer.parts)
    if empty > 0:
        which = "the blank" if blanks == 1 else f"{empty} of {blanks} blanks"
        print(f"the model filled {which} with nothing, as if no word were missing", file=sys.stderr)
