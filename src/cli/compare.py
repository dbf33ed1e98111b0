"""`clozelab compare`: several objectives on one corpus and one token budget."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..escape import escape_control_characters
from . import parsing
from .corpus import add_corpus, corpus_of, print_report, tokenizer_of
from .parsing import Given, Parser
from .special_ids import add_special_ids

SUMMARY = "train several objectives on one corpus and one token budget, and compare them"
EXAMPLE = "clozelab compare --objectives causal prefix diffusion --corpus news.csv --column 2"


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--objectives",
        nargs="+",
        type=parsing.objective_name,
        metavar="NAME",
        help="which, with their default options  (default: the first of each architecture)",
    )
    add_corpus(parser)
    add_special_ids(parser, words)
    parsing.add_model(parser)
    parser.add_argument(
        "--tokens",
        type=parsing.number(parsing.amount, 1, 1e15, "a number of tokens of at least 1, as 1600000 or 1.6M"),
        default=1_600_000,
        help="tokens of text that each objective sees",
    )
    parser.add_argument("--prompt", help="text of the samples  (default: the beginning of a held-out document)")
    parser.add_argument("--out", type=parsing.path, default=Path("runs/compare"), help="folder of table, picture, runs")


def run(args: argparse.Namespace, given: Given) -> int:
    """Train each, print the table, save it and the picture."""
    from ..display import print_comparison, save_comparison
    from ..objectives import OBJECTIVES
    from ..training import TrainConfig, compare, prepare

    if args.objectives is None:
        first: dict[str, str] = {}
        for name, made in OBJECTIVES.items():
            first.setdefault(made.architecture, name)
        args.objectives = list(first.values())
    twice = {name for name in args.objectives if list(args.objectives).count(name) > 1}
    if twice:
        raise InputError(f"--objectives names {' and '.join(sorted(twice))} twice: each can be compared once")
    if args.out.exists() and any(args.out.glob("*/run.json")):
        raise InputError(f"{args.out} already holds a comparison: choose another folder by --out, or remove it")
    parsing.refuse_idle(args, given)
    objectives = [OBJECTIVES[name]() for name in args.objectives]
    config = TrainConfig(
        length=args.length,
        batch_size=args.batch_size,
        optimizer=args.optimizer,
        learning_rate=args.learning_rate,
        precision=args.precision,
        seed=args.seed,
    )
    settings: dict[str, Any] = {**tokenizer_of(args, objectives), "announce": print_report}
    prepared = prepare(corpus_of(args), **settings, progress=parsing.has_terminal())
    rows = compare(
        objectives,
        prepared,
        tokens=int(args.tokens),
        size=args.size,
        config=config,
        prompt=args.prompt,
        run=args.out,
        progress=True,
    )
    print_comparison(rows, prepared.corpus.name)
    save_comparison(rows, args.out)
    print(escape_control_characters(f"table and loss curves: {args.out}/comparison.json, {args.out}/comparison.png"))
    return 0
