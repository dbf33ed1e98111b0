"""`clozelab show`: what objectives hide, read and predict, from the real batch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from . import parsing
from .parsing import Given, Parser
from .special_ids import add_special_ids, print_notes, roles_of
from .values import SEED, SIZE

SUMMARY = "show what each objective hides, reads and predicts, from the real batch"
EXAMPLE = 'clozelab show "Thank you for inviting me to your party last week ."'


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument("text", help="the text")
    parsing.add_objective(parser, words, default=None, about="only this one  (default: all)")
    parser.add_argument("--tokenizer", help="file or folder of a tokenizer  (default: the words of the text)")
    parser.add_argument("--length", type=SIZE, default=128, help="tokens of the text that are shown, as one example")
    parser.add_argument("--seed", type=SEED, default=0, help="of the noise: another one hides other tokens")
    add_special_ids(parser, words)


def run(args: argparse.Namespace, given: Given) -> int:
    """Print the batches."""
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
    shown = show_objectives(objectives, tokenizer, args.text, seed=args.seed, length=args.length)
    console = Console(highlight=False)
    console.print(shown)
    noisy = [one.name for one in objectives if depends_on_seed(one, tokenizer, args.text, length=args.length)]
    if noisy:
        drawn = f"drawn with --seed {args.seed}: another seed shows another row of {', '.join(noisy)}"
        console.print(drawn, soft_wrap=True)
    return 0
