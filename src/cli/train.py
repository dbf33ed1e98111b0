"""`clozelab train`: one objective on a corpus, into a run folder that can be resumed."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..escape import escape_control_characters
from . import parsing
from .corpus import add_corpus, corpus_of, print_report, tokenizer_of
from .parsing import COUNT, COUNT_OR_NONE, POSITIVE, SIZE, WORKERS, Given, Parser
from .special_ids import add_special_ids

if TYPE_CHECKING:
    from ..objectives import Objective
    from ..training import Processes, TrainResult

SUMMARY = "train one objective on a corpus"
EXAMPLE = "clozelab train --objective span --corpus book.txt --steps 2000 --run runs/book"
NOT_DESCRIBED = ("run", "resume", "workers")
"""Flags that a run folder does not record: they change nothing in what is learned."""


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parsing.add_objective(parser, words, default="causal", about="what to pretrain on")
    add_corpus(parser)
    add_special_ids(parser, words)
    parsing.add_model(parser)
    parser.add_argument("--steps", type=COUNT, default=1000, help="optimiser steps")
    parser.add_argument("--minutes", type=POSITIVE, help="stop after this time instead of after --steps")
    parser.add_argument("--sample-every", type=COUNT_OR_NONE, default=200, help="steps between samples, 0 for none")
    parser.add_argument("--checkpoint-every", type=COUNT_OR_NONE, default=500, help="steps between checkpoints")
    parser.add_argument("--eval-every", type=COUNT_OR_NONE, default=200, help="steps between evaluations")
    parser.add_argument(
        "--micro-batch-size", type=SIZE, help="examples of one forward pass: less memory, the same gradients"
    )
    parser.add_argument("--within-documents", action="store_true", help="attention stays within documents")
    parser.add_argument(
        "--stream", action="store_true", help="read tables or a hub name as they come, for text beyond memory"
    )
    parser.add_argument(
        "--workers", type=WORKERS, default=0, help="processes that tokenise ahead of the steps (with --stream)"
    )
    parser.add_argument("--sharded", action="store_true", help="under torchrun: shard the model over the processes")
    parser.add_argument("--run", type=parsing.path, help="run folder  (default: runs/OBJECTIVE)")
    parser.add_argument("--resume", action="store_true", help="continue the run in --run with the flags it began with")


def run(args: argparse.Namespace, given: Given) -> int:
    """Train, and print the held-out loss."""
    from ..training import init_processes, read_run

    folder = args.run or Path("runs") / args.objective
    if args.resume:
        args = _restored(folder, read_run(folder).get("description"), given)
    elif (folder / "run.json").exists():
        raise InputError(f"{folder} already holds a run: continue it by --resume, or choose another folder by --run")
    if args.workers and not args.stream:
        raise InputError("--workers tokenise a stream: without --stream all text is tokenised before the first step")
    parsing.refuse_idle(args, given)
    objective = parsing.objective_of(args.objective, args)
    if not objective.completes and "sample_every" not in given:
        args.sample_every = 0
    with init_processes(sharded=args.sharded) as processes:
        result = _train(objective, args, folder, processes)  # the model is gone before the processes part
    if not result.finished:
        if processes.is_main:
            resume = f"clozelab train --run {shlex.quote(str(folder))} --resume"
            print(escape_control_characters(f"stopped after step {result.step}, all saved; continue: {resume}"))
        return 130
    if processes.is_main:
        assert result.heldout is not None
        loss = f"held-out loss {result.heldout.nats:.4f} nats per predicted token{result.heldout.per_byte}"
        print(escape_control_characters(f"{objective.name}: {loss}, in {folder}"))
        if result.heldout.by_kind:
            print(escape_control_characters(f"nats by kind of row: {result.heldout.by_kind}"))
    return 0


def _train(objective: Objective, args: argparse.Namespace, folder: Path, processes: Processes) -> TrainResult:
    from ..training import TrainConfig, prepare, prepare_stream, read_run, seeded_model, train

    config = TrainConfig(
        steps=args.steps,
        minutes=args.minutes,
        length=args.length,
        batch_size=args.batch_size,
        micro_batch_size=args.micro_batch_size,
        optimizer=args.optimizer,
        learning_rate=args.learning_rate,
        precision=args.precision,
        seed=args.seed,
        within_documents=args.within_documents,
        eval_every=args.eval_every,
        checkpoint_every=args.checkpoint_every,
        sample_every=args.sample_every,
    )
    command = {name: value for name, value in vars(args).items() if name not in NOT_DESCRIBED}
    processes.check_same("command", {f"--{name.replace('_', '-')}": str(value) for name, value in vars(args).items()})
    corpus = processes.together(lambda: corpus_of(args, streaming=args.stream))
    settings: dict[str, Any] = {**tokenizer_of(args, [objective]), "announce": print_report, "processes": processes}
    if args.resume:  # the tokenizer as it is
        special = read_run(folder).get("special", {})
        settings |= {"tokenizer": str(folder / "tokenizer.json"), "sentinels": 0, "roles": special}
    if args.stream:
        prepared = prepare_stream(corpus, **settings)
    else:
        prepared = prepare(corpus, **settings, progress=parsing.has_terminal())
    model = seeded_model(objective, prepared.tokenizer.vocab_size, args.size, args.seed)
    return train(
        objective,
        model.to(processes.device),
        prepared.tokenizer,
        prepared.text,
        prepared.heldout,
        config,
        run=folder,
        resume=args.resume,
        progress=True,
        description={"command": command | objective.options()},
        processes=processes,
        workers=args.workers,
    )


def _restored(folder: Path, description: Any, given: Given) -> argparse.Namespace:
    """The flags that a run began with, read from its description by the parser that read them then.

    Raises `InputError` for a description that is damaged, and for a flag that was given another value then.
    """
    from . import train

    command = description.get("command") if isinstance(description, dict) else None
    if not isinstance(command, dict):
        raise InputError(f"{folder} was not begun by `clozelab train`: resume it from your code")
    try:
        args, _ = parsing.parse("train", train, ["--resume", *_words(command)])
    except InputError as error:
        raise InputError(f"the command in {folder / 'run.json'} is damaged: {error}") from error
    args.run, args.workers = folder, given.get("workers", 0)  # who tokenises changes nothing in what is read
    for name, value in given.items():
        if name not in NOT_DESCRIBED and getattr(args, name, None) != value:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{folder} was begun with {flag} {getattr(args, name, None)}, not {value}: a resumed run continues as "
                f"it began (its learning rate follows its length); leave {flag} out, or begin another run"
            )
    return args


def _words(command: dict[str, Any]) -> list[str]:
    """The words of a command line, from the values of its flags."""
    from ..objectives import OBJECTIVES

    kind = OBJECTIVES.get(str(command.get("objective")))
    options = kind.declared_options() if kind else {}
    words = []
    for name, value in command.items():
        flag = name.replace("_", "-")
        if name in ("help", "version"):
            raise InputError(f"it holds {name}")
        if value is True:
            words.append(f"--{flag}")
        elif value is False and name in options:
            words.append(f"--no-{flag}")
        elif value is not None and value is not False:
            words.append(f"--{flag}={value}")
    return words
