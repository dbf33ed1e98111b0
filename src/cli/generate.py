"""`clozelab generate`: continue a text with a trained model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..errors import InputError
from ..escape import escape_control_characters
from . import parsing
from .parsing import Given, Parser
from .values import number, path, whole

SUMMARY = "continue a text with a trained model"
EXAMPLE = 'clozelab generate runs/causal "The cat"'


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument("run", type=path, help="run folder")
    parser.add_argument("prompt", nargs="?", default="", help="text to continue  (default: begin a new document)")
    parser.add_argument(
        "--tokens",
        type=number(whole, 1, 100_000, "a whole number from 1 to 100000"),
        default=100,
        help="maximum number of new tokens",
    )
    parsing.add_sampling(parser)


def run(args: argparse.Namespace, given: Given) -> int:
    """Print the text and its continuation."""
    from ..generation import BLANK
    from ..training import load_run

    parsing.refuse_idle(args, given)
    trained = load_run(args.run, device=args.device)
    objective = trained.objective
    if "continue" not in objective.completes:
        instead = "; it fills blanks: clozelab fill" if "fill" in objective.completes else ""
        raise InputError(
            f"{args.run} holds a model of the {objective.name} objective, which does not continue a text{instead}"
        )
    if BLANK in args.prompt and "fill" in objective.completes:
        raise InputError(f"the text has blanks ({BLANK}), which clozelab fill fills: give generate a text without one")
    answer = objective.complete(
        trained.model, trained.tokenizer, args.prompt, max_new_tokens=args.tokens, **parsing.sampling_of(args)
    )
    print(escape_control_characters(str(answer)))
    return 0
