"""`clozelab compare`: several objectives on one corpus and one budget of tokens or of compute."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..escape import escape_control_characters
from ..progress import duration
from . import parsing
from .corpus import add_corpus, corpus_of, print_report, tokenizer_of, tokenizer_of_run
from .hints import command_line
from .parsing import Given, Parser
from .reports import write_comparison
from .resuming import recorded, restored
from .special_ids import add_special_ids
from .values import number, objective_name, path, whole

SUMMARY = "train several objectives on one corpus, with equal tokens or equal compute, and compare them"
EXAMPLE = "clozelab compare --objectives causal prefix diffusion --corpus news.csv --column 2"
NOT_DESCRIBED = ("out", "resume", "prompt")
"""Flags that the runs do not record: they change nothing in what is learned."""
TOKENS, QUICK_TOKENS = 800_000, 120_000
"""Of text that each objective sees by default, and with --quick."""
LONG = 240
"""Seconds of a comparison from which what would be quicker is offered."""


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--objectives",
        nargs="+",
        type=objective_name,
        metavar="NAME",
        help="objectives to compare, with default options  (default: the first of each architecture)",
    )
    add_corpus(parser)
    add_special_ids(parser, words)
    parsing.add_model(parser)
    parser.add_argument(
        "--tokens",
        type=number(whole, 1, 10**15, "a number of tokens of at least 1, as 1600000 or 1.6M"),
        help="tokens of text that each objective sees, or with --equal compute the first one  "
        f"(default: {TOKENS / 1e6:g}M, with --quick {QUICK_TOKENS / 1e3:g}k)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a first look: shorter training, about a minute on two cores"
    )
    parser.add_argument(
        "--equal",
        choices=("tokens", "compute"),
        default="tokens",
        help="what is equal for all: the tokens of text, or the training FLOPs of the first objective",
    )
    parser.add_argument(
        "--prompt", help="text to continue and to fill a blank in  (default: the beginning of a held-out document)"
    )
    parser.add_argument(
        "--out", type=path, default=Path("runs/compare"), help="folder for the table, the picture and the runs"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the comparison in --out with the flags it began with"
    )


def run(args: argparse.Namespace, given: Given) -> int:
    """Train each, print the table, save it and the picture."""
    begun = sorted(args.out.glob("*/run.json"))
    resume = command_line("compare", "--out", args.out, "--resume")
    if args.resume:
        args = _restored(args, begun, given)
    elif (args.out / "comparison.json").exists():
        raise InputError(
            f"{args.out} already holds a comparison: choose another folder by --out, or print it, {resume}"
        )
    elif begun:
        raise InputError(
            f"{args.out} already holds a comparison, which was stopped: continue it by {resume}, or choose another "
            "folder by --out"
        )
    elif args.out.exists() and not args.out.is_dir():
        raise InputError(f"expected a folder for the comparison, but {args.out} is a file: choose another one by --out")
    if args.quick and not args.resume and args.tokens is not None:
        raise InputError("--quick and --tokens both say how long each is trained: leave one of them out")
    args.tokens = args.tokens or (QUICK_TOKENS if args.quick else TOKENS)
    if args.objectives is None:
        args.objectives = parsing.first_of_each_architecture()
    if twice := {name for name in args.objectives if list(args.objectives).count(name) > 1}:
        raise InputError(f"--objectives names {' and '.join(sorted(twice))} twice: each can be compared once")
    parsing.refuse_idle(args, given)
    try:
        _compare(args, begun)
    except KeyboardInterrupt:
        how = f"continue: {resume}" if any(args.out.glob("*/run.json")) else "nothing was trained yet"
        print(escape_control_characters(f"stopped, all saved; {how}"))
        return 130
    names = ", ".join(f"{args.out}/{name}" for name in ("report.html", "comparison.json", "comparison.png"))
    print(escape_control_characters(f"table, curves and samples: {names}"))
    return 0


def _compare(args: argparse.Namespace, begun: Sequence[Path]) -> None:
    from ..display import print_comparison, save_comparison
    from ..objectives import OBJECTIVES
    from ..planning import step_flops
    from ..training import TrainConfig, compare, prepare

    objectives = [OBJECTIVES[name].with_recipe() for name in args.objectives]
    config = TrainConfig(
        length=args.length,
        batch_size=args.batch_size,
        optimizer=args.optimizer,
        learning_rate=args.learning_rate,
        precision=args.precision,
        seed=args.seed,
    )
    settings: dict[str, Any] = {**tokenizer_of(args, objectives), "announce": print_report}
    if args.resume:  # the tokenizer as it is
        settings |= tokenizer_of_run(begun[0].parent)
    prepared = prepare(corpus_of(args, objectives), **settings, progress=True)
    flops_of_step = partial(
        step_flops,
        size=args.size,
        vocab_size=prepared.tokenizer.vocab_size,
        length=args.length,
        batch_size=args.batch_size,
        optimizer=args.optimizer,
    )
    rows = compare(
        objectives,
        prepared,
        tokens=args.tokens,
        flops_of_step=None if args.quick and args.equal == "tokens" else flops_of_step,  # counting takes seconds
        equal=args.equal,
        size=args.size,
        config=config,
        prompt=args.prompt,
        run=args.out,
        resume=args.resume,
        progress=True,
        say_rest=partial(_say_rest, args),
        description={"compare": recorded(args, NOT_DESCRIBED, config)},
        device=args.device,
        compiled=args.compile,
    )
    print_comparison(rows, prepared.corpus.name, args.equal, first_look=args.quick)
    save_comparison(rows, args.out)
    write_comparison(rows, prepared, args.out, equal=args.equal, seed=args.seed, first_look=args.quick)


def _say_rest(args: argparse.Namespace, seconds: float, objectives: int) -> str:
    """How long the rest takes, and for the whole comparison what would be quicker."""
    line = f"{duration(seconds)} left on this machine"
    if objectives > 1:
        line += f" for {objectives} objectives, if the others are as fast"
    if objectives < len(args.objectives) or seconds < LONG or args.tokens <= QUICK_TOKENS:
        return line
    quicker = f"--quick takes about {duration(seconds * QUICK_TOKENS / args.tokens)}"
    smaller = "" if args.size == "tiny" else ", --size tiny trains a smaller model"
    return f"{line} (Ctrl-C saves; {quicker}{smaller}, in another --out)"


def _restored(args: argparse.Namespace, begun: Sequence[Path], given: Given) -> argparse.Namespace:
    """The flags that the comparison began with."""
    from ..training import read_run
    from . import compare

    if not begun:
        raise InputError(f"{args.out} holds no comparison that could be continued: leave --resume out, to begin one")
    flags = [read_run(path.parent)["description"].get("compare") for path in begun]  # each, before any is trained
    return restored("compare", compare, args.out, flags[0], given, NOT_DESCRIBED)
