"""`clozelab train`: one objective on a corpus, into a run folder that can be resumed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..escape import escape_control_characters
from . import parsing
from .corpus import add_corpus, corpus_of, print_mixture, print_report, said, tokenizer_of, tokenizer_of_run
from .hints import command_line
from .parsing import Given, Parser
from .reports import write_run
from .resuming import recorded, restored
from .special_ids import add_special_ids
from .values import COUNT, COUNT_OR_NONE, POSITIVE, SIZE, WORKERS, path

if TYPE_CHECKING:
    from ..objectives import Objective
    from ..training import Processes, TrainConfig, TrainResult

SUMMARY = "train one objective on a corpus"
EXAMPLE = "clozelab train --objective span --corpus book.txt --steps 2000 --run runs/book"
NOT_DESCRIBED = ("run", "resume", "extend", "workers", "zero_stage")
"""Flags that a run folder does not record: they change nothing in what was learned."""


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parsing.add_objective(parser, words, default="causal", about="the pretraining objective")
    add_corpus(parser)
    add_special_ids(parser, words)
    parsing.add_model(parser)
    parser.add_argument("--steps", type=COUNT, default=1000, help="optimiser steps")
    parser.add_argument("--minutes", type=POSITIVE, help="stop after this time instead of after --steps")
    parser.add_argument("--sample-every", type=COUNT_OR_NONE, default=200, help="steps between samples, 0 for none")
    parser.add_argument("--checkpoint-every", type=COUNT_OR_NONE, default=500, help="steps between checkpoints")
    parser.add_argument(
        "--async-checkpoints", action="store_true", help="write checkpoints from copies, during training"
    )
    parser.add_argument(
        "--eval-every",
        type=COUNT_OR_NONE,
        help="steps between evaluations, 0 for one at the end  (default: evaluations take a twentieth of the time)",
    )
    parser.add_argument(
        "--micro-batch-size", type=SIZE, help="examples per forward pass: less memory, the same gradients"
    )
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="keep only the inputs of each block and recompute the rest: less memory",
    )
    parser.add_argument("--within-documents", action="store_true", help="keep attention within documents")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="read tables or a hub data set during training, for text larger than memory",
    )
    parser.add_argument("--workers", type=WORKERS, default=0, help="processes that tokenise in advance (with --stream)")
    parser.add_argument("--sharded", action="store_true", help="under torchrun: shard the model over the processes")
    parser.add_argument(
        "--zero-stage",
        type=int,
        choices=(1, 2, 3),
        default=3,
        help="with --sharded, what is sharded within a step: 3 weights and gradients, 2 gradients, 1 neither",
    )
    parser.add_argument(
        "--tensorboard",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="write the losses for TensorBoard as well, to tensorboard/ in the run folder",
    )
    parser.add_argument("--run", type=path, help="run folder  (default: runs/OBJECTIVE)")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--resume", action="store_true", help="continue the run in --run with the flags it began with")
    begin.add_argument(
        "--extend", type=COUNT, metavar="STEPS", help="train the finished run in --run for this many more steps"
    )
    begin.add_argument(
        "--init-from",
        type=path,
        metavar="RUN",
        help="begin with the weights and the tokenizer of another run: --size, --tokenizer, --vocab-size, --sentinels "
        "and special ids are those of RUN; all other flags, such as --corpus and --steps, are this run's own",
    )


def run(args: argparse.Namespace, given: Given) -> int:
    """Train, and print the held-out loss."""
    from ..training import init_processes

    folder = args.run or Path("runs") / args.objective
    if args.resume or args.extend:
        args = _restored(folder, given)
    elif (folder / "run.json").exists():
        resume = command_line("train", "--run", folder, "--resume")
        raise InputError(f"{folder} already holds a run: continue it by {resume}, or choose another folder by --run")
    elif folder.exists() and not folder.is_dir():
        raise InputError(f"expected a folder for the run, but {folder} is a file: choose another one by --run")
    if args.workers and not args.stream:
        raise InputError("--workers tokenise a stream: without --stream all text is tokenised before the first step")
    parsing.refuse_idle(args, given)
    objective = parsing.objective_of(args.objective, args, with_recipe=args.minutes is None)
    if not objective.completes and "sample_every" not in given:
        args.sample_every = 0
    if "zero_stage" in given and not args.sharded:
        raise InputError("--zero-stage is of a run whose weights are sharded: give --sharded too, or leave it out")
    with init_processes(sharded=args.sharded, zero_stage=args.zero_stage, device=args.device) as processes:
        config = processes.together(lambda: _config(args, folder))
        finished = args.resume and processes.together(lambda: _is_finished(folder, config))
        if args.extend and processes.is_main:
            print(escape_control_characters(_schedule(folder, config)), file=sys.stderr)
        result = _train(objective, args, folder, config, processes)  # the model is gone before the processes part
    if processes.is_main:
        _print_result(objective, folder, result)
        if finished:
            further = _further(args, folder, config)
            print(escape_control_characters(f"this run was finished before; train it further: {further}"))
    return 0 if result.finished else 130


def _print_result(objective: Objective, folder: Path, result: TrainResult) -> None:
    if not result.finished:
        resume = command_line("train", "--run", folder, "--resume")
        print(escape_control_characters(f"stopped after step {result.step}, all saved; continue: {resume}"))
        return
    assert result.heldout is not None
    of = result.heldout.by_part or " per predicted token"
    loss = f"held-out loss {result.heldout.nats:.4f} nats{of}{result.heldout.per_byte}"
    print(escape_control_characters(f"{objective.name}: {loss}, in {folder}; curve and samples: {folder}/report.html"))
    if result.heldout.corpora:
        by_corpus = ", ".join(f"{name} {nats:.4f}" for name, nats in result.heldout.corpora.items())
        print(escape_control_characters(f"nats by corpus: {by_corpus}; trained on {said(result.drawn)}"))
    if objective.schedule:
        print(escape_control_characters(f"in the run {objective.schedule}"))
    if result.heldout.by_kind:
        print(escape_control_characters(f"nats by kind: {result.heldout.by_kind}"))


def _config(args: argparse.Namespace, folder: Path) -> TrainConfig:
    """The settings that the flags say, with the extensions of the run, those before and the one that is asked for."""
    from ..training import TrainConfig, read_run

    config = TrainConfig(
        steps=args.steps,
        minutes=args.minutes,
        length=args.length,
        batch_size=args.batch_size,
        micro_batch_size=args.micro_batch_size,
        optimizer=args.optimizer,
        learning_rate=args.learning_rate,
        precision=args.precision,
        recompute=args.recompute,
        seed=args.seed,
        within_documents=args.within_documents,
        eval_every=args.eval_every,
        checkpoint_every=args.checkpoint_every,
        async_checkpoints=args.async_checkpoints,
        sample_every=args.sample_every,
    )
    if args.resume or args.extend:
        trained = read_run(folder)["train"]
        if trained.get("extended"):
            config = replace(config, steps=trained.get("steps"), extended=trained["extended"])
    return _extended(args, folder, config) if args.extend else config


def _is_finished(folder: Path, config: TrainConfig) -> bool:
    from ..training import latest_checkpoint, read_run

    if not any((folder / "checkpoints").glob("step-*")):
        return False
    checkpoint = latest_checkpoint(folder, read_run(folder))
    return config.progress(checkpoint.step, checkpoint.seconds) >= 1


def _further(args: argparse.Namespace, folder: Path, config: TrainConfig) -> str:
    """The command that trains a finished run further, or its weights in another run."""
    if config.minutes is None:
        return command_line("train", "--run", folder, "--extend", str(config.steps))
    return command_line("train", "--objective", args.objective, "--init-from", folder, "--run", f"{folder}-2")


def _extended(args: argparse.Namespace, folder: Path, config: TrainConfig) -> TrainConfig:
    """The settings of a finished run with more steps."""
    from ..training.checkpoint import UnusableCheckpoint

    if config.minutes is not None:
        raise InputError(
            f"{folder} ran for {config.minutes:g} minutes, and only a run of a number of steps can be extended: begin "
            f"another one from its weights, {_further(args, folder, config)}"
        )
    resume = command_line("train", "--run", folder, "--resume")
    try:
        is_finished = _is_finished(folder, config)
    except UnusableCheckpoint as error:
        if not error.earlier:
            raise
        raise InputError(f"{error} by {resume}, and extend the run once it is finished") from error
    if not is_finished:
        raise InputError(f"{folder} is not finished, so it cannot be extended yet: continue it by {resume}")
    return config.extend(args.extend)


def _schedule(folder: Path, config: TrainConfig) -> str:
    """What the learning rate will do in the last extension of a run."""
    begin = config.extended[-1]
    up, down = (max(1, round(share * (config.steps - begin))) for share in (config.warmup, config.decay))
    return (
        f"{folder} goes on from step {begin} to {config.steps}: its learning rate rises from 0 to "
        f"{config.learning_rate:g} once more, over {up} step{'s' * (up > 1)}, and falls to 0 over the last {down}; the "
        "optimiser and the order of the text continue"
    )


def _train(
    objective: Objective, args: argparse.Namespace, folder: Path, config: TrainConfig, processes: Processes
) -> TrainResult:
    from ..data import Mixture
    from ..training import prepare, prepare_stream, seeded_model, train

    continues = bool(args.resume or args.extend)
    command = recorded(args, NOT_DESCRIBED, config)
    processes.check_same("command", {f"--{name.replace('_', '-')}": str(value) for name, value in vars(args).items()})
    own: dict[str, Any] = {}
    if source := folder if continues else args.init_from:  # with its tokenizer as it is
        own = processes.together(lambda: tokenizer_of_run(source))
        if lacking := [role for role in objective.roles if role not in own["roles"]]:
            raise InputError(
                f"the tokenizer of {source} has no id for {lacking[0]!r}, which the {objective.name} objective needs: "
                "train that run on a corpus that clozelab pack made, whose tokenizer has the ids of every objective"
            )
    corpus = processes.together(lambda: corpus_of(args, [objective], streaming=args.stream))
    settings = {**tokenizer_of(args, [objective]), **own, "announce": print_report, "processes": processes}
    shape: dict[str, Any] = {}
    if args.init_from:
        shape = processes.together(lambda: _shape_of(source, args.sharded and continues))
        if objective.architecture != "encoder-decoder":  # of weights that do not fit, `train` says that they do not
            shape |= {"n_decoder_layers": None, "cross_rotary": False}
    prepared = prepare_stream(corpus, **settings) if args.stream else prepare(corpus, **settings, progress=True)
    if isinstance(prepared.text, Mixture) and processes.is_main:
        print_mixture(prepared.text, objective, config)
    shape["vocab_size"] = prepared.tokenizer.vocab_size
    model = seeded_model(objective, size=args.size, seed=args.seed, **shape)
    result = train(
        objective,
        model.to(processes.device),
        prepared.tokenizer,
        prepared.text,
        prepared.heldout,
        config,
        run=folder,
        resume=continues,
        init_from=None if continues else args.init_from,
        progress=True,
        description={"command": command | objective.options()},
        processes=processes,
        workers=args.workers,
        compiled=args.compile,
        tensorboard=args.tensorboard,
    )
    if processes.is_main and result.finished:
        write_run(objective, result, prepared, config, folder)
    return result


def _shape_of(run: Path, is_sharded: bool) -> dict[str, Any]:
    """The fields of `ModelConfig` of a run's model; those of a sharded run stand in run.json alone until it ends."""
    from ..training import load_run, read_run

    return read_run(run)["model"] if is_sharded else asdict(load_run(run).model.config)  # type: ignore[arg-type]


def _restored(folder: Path, given: Given) -> argparse.Namespace:
    """The flags that a run began with."""
    from ..training import read_run
    from . import train

    description = read_run(folder)["description"]
    if "compare" in description:
        resume = command_line("compare", "--out", folder.parent, "--resume")
        raise InputError(f"{folder} is a part of a comparison: continue that, by {resume}")
    return restored("train", train, folder, description.get("command"), given, NOT_DESCRIBED)
