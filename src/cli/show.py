"""`clozelab show`: what objectives hide, read and predict, from the real batch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import InputError
from ..escape import escape_control_characters
from . import parsing
from .parsing import Given, Parser
from .special_ids import add_special_ids, print_notes, roles_of
from .values import SEED, SIZE, path

if TYPE_CHECKING:
    from ..data import Tokenizer
    from ..objectives import Objective

SUMMARY = "show what each objective hides, reads and predicts, from the real batch"
EXAMPLE = 'clozelab show "Thank you for inviting me to your party last week ."'
SEEDS = 4
"""On a page, from --seed on."""


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument("text", help="the text to show")
    parsing.add_objective(parser, words, default=None, about="show only this objective  (default: all)")
    parser.add_argument("--tokenizer", help="file or folder of a tokenizer  (default: the words of the text)")
    parser.add_argument("--length", type=SIZE, default=128, help="how many tokens of the text to show, as one example")
    parser.add_argument("--seed", type=SEED, default=0, help="seed of the noise: another one hides other tokens")
    parser.add_argument(
        "--html",
        type=path,
        metavar="FILE",
        help="write a page for the browser instead, which highlights the inputs that each target reads; it has four "
        "seeds from --seed on, three epochs, and other rates. An older file is replaced",
    )
    add_special_ids(parser, words)


def run(args: argparse.Namespace, given: Given) -> int:
    """Print the batches, or write them as a page."""
    from rich.console import Console

    from ..data import load_tokenizer
    from ..display.terminal import depends_on_seed, show_objectives, word_tokenizer
    from ..objectives import OBJECTIVES

    if args.objective is None:
        objectives = [kind() for kind in OBJECTIVES.values()]
    else:
        objectives = [parsing.objective_of(args.objective, args)]
    roles = roles_of(args, objectives)
    if args.tokenizer is None:
        tokenizer = word_tokenizer(args.text, roles=list(roles))
    else:
        tokenizer = load_tokenizer(args.tokenizer, roles=roles)
        print_notes(tokenizer)
        if args.objective is None:
            objectives = _usable(objectives, tokenizer, args)
    if args.html is not None:
        return _write_page(objectives, tokenizer, args)
    shown = show_objectives(objectives, tokenizer, args.text, seed=args.seed, length=args.length)
    console = Console(highlight=False)
    console.print(shown)
    noisy = [one.name for one in objectives if depends_on_seed(one, tokenizer, args.text, length=args.length)]
    if noisy:
        drawn = f"drawn with --seed {args.seed}: another seed shows another row of {', '.join(noisy)}"
        console.print(drawn, soft_wrap=True)
    return 0


def _usable(objectives: Sequence[Objective], tokenizer: Tokenizer, args: argparse.Namespace) -> list[Objective]:
    """The objectives that the tokenizer is enough for; a note names each of the others, and says why.

    Raises `InputError` where it is enough for none.
    """
    import torch

    tokens, usable = torch.tensor([tokenizer.encode(args.text)[: args.length]]), []
    if not tokens.numel():
        return list(objectives)  # which all refuse an empty text
    refused = InputError("there is no objective")
    for objective in objectives:
        try:
            objective.collator(tokenizer.special, seed=args.seed).block(tokens, [0])
        except InputError as error:
            refused, why = error, str(error).partition(":")[0]
            print(escape_control_characters(f"{objective.name} is left out: {why}"), file=sys.stderr)
        else:
            usable.append(objective)
    if not usable:
        raise refused
    return usable


def _write_page(objectives: Sequence[Objective], tokenizer: Tokenizer, args: argparse.Namespace) -> int:
    from ..display.pages import show_page, write_page

    seeds = range(args.seed, min(args.seed + SEEDS, 2**63))
    page = show_page(objectives, tokenizer, args.text, seeds=seeds, length=args.length)
    write_page(page, args.html)
    print(escape_control_characters(f"{args.html}: {len(page.encode()) / 1000:,.0f} kB, to be opened in a browser"))
    return 0
