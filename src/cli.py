"""The command line: `clozelab train | pack | compare | floors | show | check | course | plan | generate | fill`.

It parses and prints; the work is elsewhere. Bad input is one line on standard error and exit code 2. Heavy imports wait
until a command runs, so that `--help` does not.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .errors import FULL, InputError, NotFinite, ProcessLost
from .escape import escape_control_characters

NAMES = ("causal", "masked", "span")


class _Parser(argparse.ArgumentParser):
    """One line for what cannot be parsed, and no abbreviations that another flag would break one day."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells the default of what has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.default is None or "(default:" in (action.help or "")
        return action.help if told else super()._get_help_string(action)


def _number(kind: type, low: float, high: float, what: str) -> Callable[[str], Any]:
    """A type for argparse: a number from low to high, or an error that says `what` was expected."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {what}, got {text!r:.40}")
        return value

    return parse


CHECKS_OF = {
    "scheme": "returns, protected, targets, nothing to hide, unchanged, generator, global state, varies, rate, spans, "
    "position",
    "collator": "returns, unchanged, targets, nothing to hide, unselected, paid, partition, replacements, protected, "
    "round trip, decoder, lengths, labels, end of text, repeatable, global state, order, workers, epochs, ranks",
    "objective": "uniform, unpaid, accumulation, nothing to predict, leaks",
}
"""What `check --skip` takes: told here too, so that --help need not import what checks."""
TINY, HUGE = sys.float_info.min, sys.float_info.max
COUNT = _number(int, 1, 10**12, "a whole number of at least 1")
COUNT_OR_NONE = _number(int, 0, 10**12, "a whole number of at least 0")
SIZE = _number(int, 1, 2**20, "a whole number from 1 to 2^20")
SEED = _number(int, 0, 2**63 - 1, "a whole number from 0 to 2^63 - 1")
POSITIVE = _number(float, TINY, HUGE, "a number above 0")
SHARE = _number(float, TINY, math.nextafter(1, 0), "a share between 0 and 1, 0.15 for 15 percent")
PROBABILITY = _number(float, TINY, 1, "a probability above 0, up to 1")
WORKERS = _number(int, 0, 256, "a whole number from 0 to 256")
SPAN = _number(float, 1, HUGE, "a number of tokens of at least 1")


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return Path(text)


def build_parser() -> argparse.ArgumentParser:
    """All commands and flags."""
    parser = _Parser(
        prog="clozelab",
        description="Pretraining objectives, to see, to train and to compare: causal LM, masked LM, span corruption.",
    )
    parser.add_argument("--version", action="version", version=f"clozelab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, summary: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example: {example}",
            formatter_class=_Help,
        )

    train = command(
        "train",
        "train one objective on a corpus",
        "clozelab train --objective span --corpus book.txt --steps 2000 --run runs/book",
    )
    train.add_argument("--objective", choices=NAMES, default="causal", help="what to pretrain on")
    _add_corpus(train)
    _add_model(train)
    train.add_argument("--steps", type=COUNT, default=1000, help="optimiser steps")
    train.add_argument("--minutes", type=POSITIVE, help="stop after this time instead of after --steps")
    train.add_argument("--sample-every", type=COUNT_OR_NONE, default=200, help="steps between samples, 0 for none")
    train.add_argument("--checkpoint-every", type=COUNT_OR_NONE, default=500, help="steps between checkpoints")
    train.add_argument("--eval-every", type=COUNT_OR_NONE, default=200, help="steps between evaluations")
    train.add_argument("--micro-batch", type=SIZE, help="examples of one forward pass; less memory, same gradients")
    train.add_argument("--within-documents", action="store_true", help="attention stays within documents")
    train.add_argument("--noise-density", type=SHARE, default=0.15, help="share of tokens hidden (masked and span)")
    train.add_argument("--mean-span", type=SPAN, default=3.0, help="mean tokens of a hidden span (span)")
    train.add_argument(
        "--stream",
        action="store_true",
        help="read tables or a hub name as they come, for more text than fits the memory",
    )
    train.add_argument(
        "--workers", type=WORKERS, default=0, help="processes that tokenise ahead of the steps (with --stream)"
    )
    train.add_argument(
        "--sharded", action="store_true", help="under torchrun: each process holds its part of the model"
    )
    train.add_argument("--run", type=_path, help="run folder  (default: runs/OBJECTIVE)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --run, as it was described then")

    pack = command(
        "pack",
        "tokenise tables of any size once, into shards that many runs share",
        "clozelab pack --corpus tables/ --out packed/ --workers 8",
    )
    _add_corpus(pack)
    pack.add_argument("--out", type=_path, required=True, help="folder of the shards, which --corpus takes afterwards")
    pack.add_argument("--workers", type=WORKERS, default=1, help="processes that tokenise, a file each at a time")

    compare = command(
        "compare",
        "train all three objectives on one corpus and one token budget, and compare",
        "clozelab compare --corpus news.csv --column 2",
    )
    _add_corpus(compare)
    _add_model(compare)
    compare.add_argument(
        "--tokens",
        type=_number(float, 1, 1e15, "a number of tokens of at least 1"),
        default=1_600_000,
        help="tokens of text that each objective sees",
    )
    compare.add_argument("--prompt", help="text for the samples  (default: the beginning of a held-out document)")
    compare.add_argument("--out", type=_path, default=Path("runs/compare"), help="folder for table, picture and runs")

    floors = command(
        "floors",
        "train each objective on a language of known entropy, down to the least loss that is possible",
        "clozelab floors --seeds 3",
    )
    floors.add_argument("--objective", choices=NAMES, help="only this one  (default: all three)")
    floors.add_argument("--seeds", type=COUNT, default=1, help="runs of each objective, on different languages")
    floors.add_argument("--steps", type=COUNT, help="optimiser steps  (default: as each objective needs)")
    floors.add_argument("--out", type=_path, default=Path("runs/floors"), help="folder for figures and picture")

    show = command(
        "show",
        "show what each objective hides, reads and must say, from the real batch",
        'clozelab show "Thank you for inviting me to your party last week ."',
    )
    show.add_argument("text", help="the text")
    show.add_argument("--objective", choices=NAMES, help="only this one  (default: all three)")
    show.add_argument("--tokenizer", help="path of a tokenizer.json  (default: the words of the text)")
    show.add_argument("--noise-density", type=SHARE, default=0.3, help="share of tokens hidden (masked and span)")
    show.add_argument("--mean-span", type=SPAN, default=2.0, help="mean tokens of a hidden span (span)")
    show.add_argument("--seed", type=SEED, default=0, help="another seed hides other tokens")

    check = command(
        "check",
        "check a masking scheme, a collator or an objective of your own",
        "clozelab check my_module:my_scheme --rate 0.15",
    )
    check.add_argument("target", help="module:name or file.py:name, which is imported; a scheme takes three arguments")
    check.add_argument("--rate", type=SHARE, help="share of tokens that the scheme means to hide  (default: any)")
    check.add_argument(
        "--tokenizer", help="path of a tokenizer.json, for a collator that does not tell its special ids"
    )
    check.add_argument(
        "--skip",
        nargs="+",
        default=(),
        metavar="CHECK",
        help="names of checks that are not wanted"
        + "".join(f"; of a{'n' * (kind == 'objective')} {kind}: {names}" for kind, names in CHECKS_OF.items()),
    )

    course = command(
        "course",
        "list the lessons, their claims, and what was measured last",
        "clozelab course --folder examples/results",
    )
    course.add_argument("--folder", type=_path, default=Path("examples/results"), help="where the scripts wrote")
    course.add_argument("--markdown", action="store_true", help="the table as it stands in the README")

    plan = command(
        "plan",
        "what a run needs, on paper: operations, memory, network, time, and which strategy has room for it",
        "clozelab plan --params 7e9 --tokens 1e12 --objective causal --devices 8 --network 450e9",
    )
    plan.add_argument("--objective", choices=NAMES, help="only this one, by each strategy  (default: all three)")
    sizes = plan.add_mutually_exclusive_group()
    sizes.add_argument(
        "--params",
        type=_number(float, 1, 1e15, "a number of parameters from 1 to 1e15"),
        default=7e9,
        help="a plausible shape of about so many parameters",
    )
    sizes.add_argument("--size", choices=("tiny", "small", "base"), help="or a shape that has a name")
    plan.add_argument("--vocab-size", type=COUNT, default=32_768, help="ids of the tokenizer")
    tokens = _number(float, 1, 1e18, "a number of tokens from 1 to 1e18")
    plan.add_argument("--tokens", type=tokens, default=1e12, help="tokens of text that the run sees")
    plan.add_argument("--batch-tokens", type=tokens, default=2**22, help="tokens of text of a step, on all devices")
    plan.add_argument("--length", type=SIZE, default=2048, help="input tokens of a row")
    plan.add_argument("--noise-density", type=SHARE, default=0.15, help="share of tokens hidden (masked and span)")
    plan.add_argument("--mean-span", type=SPAN, default=3.0, help="mean tokens of a hidden span (span)")
    plan.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw", help="of the matrices in the blocks")
    plan.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16", help="of the products")
    plan.add_argument("--markdown", action="store_true", help="the table as it stands in docs/scaling.md")
    machine = plan.add_argument_group("machine", "The defaults: an H100's data sheet, rounded, and 400 Gbit/s.")
    machine.add_argument(
        "--devices", type=_number(int, 1, 10**6, "a whole number from 1 to 10^6"), default=1, help="all alike"
    )
    machine.add_argument("--kind", choices=("cuda", "cpu"), default="cuda", help="of a device")
    machine.add_argument("--device-flops", type=POSITIVE, default=1e15, help="operations a second, at most")
    machine.add_argument("--device-memory", type=POSITIVE, default=80e9, help="bytes")
    machine.add_argument("--network", type=POSITIVE, default=50e9, help="bytes a second that a device sends")
    machine.add_argument("--utilisation", type=PROBABILITY, default=0.4, help="share of --device-flops that is used")
    machine.add_argument(
        "--delivered", type=POSITIVE, help="tokens a second that one core makes batches of  (default: as measured)"
    )

    generate = command(
        "generate", "go on with a text, from a causal checkpoint", 'clozelab generate runs/causal "The cat"'
    )
    generate.add_argument("run", type=_path, help="run folder")
    generate.add_argument("prompt", nargs="?", default="", help="text to go on with; empty: a new document")
    generate.add_argument(
        "--tokens",
        type=_number(int, 1, 100_000, "a whole number from 1 to 100000"),
        default=100,
        help="most new tokens",
    )
    _add_sampling(generate)

    fill = command(
        "fill",
        "fill the blanks (___) of a text, from a masked or span checkpoint",
        'clozelab fill runs/span "The ___ sat on the ___."',
    )
    fill.add_argument("run", type=_path, help="run folder")
    fill.add_argument("text", help="text with blanks, ___: one token each (masked), any number (span)")
    fill.add_argument("--order", choices=("all", "left_to_right", "confidence"), help="of filling (masked)")
    _add_sampling(fill)
    return parser


def _add_corpus(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("corpus")
    group.add_argument("--corpus", default="builtin", help='"builtin", a file or folder, or a hub name')
    group.add_argument("--column", default="text", help="text column of a table, by name or number")
    group.add_argument("--split", choices=("auto", "hash", "position"), default="auto", help="how text is held out")
    group.add_argument("--tokenizer", default="bpe", help='"bpe", "characters", or the path of a tokenizer.json')
    group.add_argument("--vocab-size", type=COUNT, default=4096, help="of a trained BPE")
    group.add_argument("--sentinels", type=COUNT_OR_NONE, default=100, help="reserved for hidden spans")


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model and training")
    group.add_argument("--size", choices=("tiny", "small", "base"), default="tiny", help="of the model")
    group.add_argument("--length", type=SIZE, default=128, help="input tokens of an example")
    group.add_argument("--batch-size", type=SIZE, default=16, help="examples of a step")
    group.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw", help="of the matrices in the blocks")
    group.add_argument("--learning-rate", type=POSITIVE, default=3e-3, help="the highest one of AdamW")
    group.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of the products")
    group.add_argument("--seed", type=SEED, default=0, help="of weights, order and noise")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--temperature", type=POSITIVE, default=0.8, help="below 1: safer, above: wilder")
    parser.add_argument("--top-k", type=COUNT, help="only from the k likeliest")
    parser.add_argument("--top-p", type=PROBABILITY, help="only from the likeliest that make up this probability")
    parser.add_argument("--greedy", action="store_true", help="always the likeliest")
    parser.add_argument("--seed", type=SEED, default=0, help="another seed says something else")


# --------------------------------------------------------------------------- commands


def _train(args: argparse.Namespace, explicit: dict[str, Any]) -> int:
    from .training import (
        Processes,
        TrainConfig,
        TrainResult,
        init_processes,
        prepare,
        prepare_stream,
        read_run,
        train,
    )
    from .training.run import seeded_model

    run = args.run or Path("runs") / args.objective
    if args.resume:
        args = _resumed(run, read_run(run).get("description"), explicit)
    elif (run / "run.json").exists():
        raise InputError(f"{run} already holds a run: go on with it by --resume, or choose another folder by --run")
    if args.workers and not args.stream:
        raise InputError(
            "--workers tokenise a stream ahead: without --stream all text is tokenised before the first step"
        )
    _refuse_idle(args, explicit)
    objective = _objective(args.objective, args)
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
    corpus = _corpus(args)
    if args.resume:
        corpus |= {"tokenizer": str(run / "tokenizer.json"), "sentinels": 0}  # as it is
    told = {key: value for key, value in vars(args).items() if key not in ("command", "run", "resume", "workers")}

    def run_it(processes: Processes) -> TrainResult:
        if args.stream:
            prepared = prepare_stream(**corpus, processes=processes)
        else:
            prepared = prepare(**corpus, progress=sys.stderr.isatty(), processes=processes)
        return train(
            objective,
            seeded_model(objective, prepared.tokenizer.vocab_size, args.size, args.seed).to(processes.device),
            prepared.tokenizer,
            prepared.text,
            prepared.heldout,
            config,
            run=run,
            resume=args.resume,
            progress=True,
            description={"command": told},
            processes=processes,
            workers=args.workers,
        )

    with init_processes(sharded=args.sharded) as processes:
        result = run_it(processes)  # whose model is gone before the processes part
    if not result.finished:
        if processes.is_main:
            told = f"stopped after step {result.step}, all saved in {run}; go on: clozelab train --run {run} --resume"
            print(escape_control_characters(told))
        return 130
    assert result.heldout is not None
    per_byte = "" if result.heldout.bits_per_byte is None else f", {result.heldout.bits_per_byte:.3f} bits per byte"
    if processes.is_main:
        told = f"{args.objective}: held-out loss {result.heldout.nats:.4f} nats per paid position{per_byte}, in {run}"
        print(escape_control_characters(told))
    return 0


def _resumed(run: Path, description: Any, explicit: dict[str, Any]) -> argparse.Namespace:
    """The flags that a run was begun with, read from its description by the parser that read them then."""
    command = description.get("command") if isinstance(description, dict) else None
    if not isinstance(command, dict):
        raise InputError(f"{run} was not begun by `clozelab train`: resume it from your code")
    words = ["train", "--resume"]
    for name, value in command.items():
        if name in ("help", "version"):
            raise InputError(f"the command in {run / 'run.json'} is damaged: it holds {name}")
        if value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    try:
        args = build_parser().parse_args(words)
    except InputError as error:
        raise InputError(f"the command in {run / 'run.json'} is damaged: {error}") from error
    args.workers = explicit.pop("workers", 0)  # who reads changes nothing in what is read
    for name, value in explicit.items():
        if getattr(args, name) != value:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{run} was begun with {flag} {getattr(args, name)}, not {value}: a resumed run goes on as it began "
                f"(its learning rate follows its length); leave {flag} out, or begin another run"
            )
    return args


def _pack(args: argparse.Namespace, explicit: dict[str, Any]) -> int:
    from .data import pack_shards
    from .training import prepare_stream

    prepared = prepare_stream(**_corpus(args))
    packed = pack_shards(
        prepared.text.documents, list(prepared.corpus.heldout), prepared.tokenizer, args.out, workers=args.workers
    )
    print(
        f"{len(packed):,} tokens of {packed.documents:,} documents ({packed.bytes:,} bytes) in {len(packed.shards)} "
        f"shards: clozelab train --corpus {args.out}"
    )
    return 0


def _compare(args: argparse.Namespace, explicit: dict[str, Any]) -> int:
    from .display import print_comparison, save_comparison
    from .training import TrainConfig, compare, prepare

    if args.out.exists() and any(args.out.glob("*/run.json")):
        raise InputError(f"{args.out} already holds a comparison: choose another folder by --out")
    config = TrainConfig(
        length=args.length,
        batch_size=args.batch_size,
        optimizer=args.optimizer,
        learning_rate=args.learning_rate,
        precision=args.precision,
        seed=args.seed,
    )
    _refuse_idle(args, explicit)
    prepared = prepare(**_corpus(args), progress=sys.stderr.isatty())
    rows = compare(
        [_objective(name, args) for name in NAMES],
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


def _floors(args: argparse.Namespace, explicit: dict[str, Any]) -> int:
    from .display import print_floors, save_floors
    from .evaluation.floor_experiment import EXERCISES, train_to_entropy_floor

    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for name in NAMES if args.objective is None else (args.objective,):
        for seed in range(args.seeds):
            print(f"training {name}, seed {seed} ...", file=sys.stderr)
            results.append(train_to_entropy_floor(EXERCISES[name], seed=seed, steps=args.steps))
            save_floors(results, args.out)  # after each, so that an interruption costs one
    print_floors(results)
    print(escape_control_characters(f"figures and curves: {args.out}/floors.json, {args.out}/floors.png"))
    return 1 if any(result.verdict.startswith("LEAK") for result in results) else 0


def _show(args: argparse.Namespace, explicit: dict[str, Any]) -> int:
    from rich.console import Console

    from .data import load_tokenizer
    from .display import show_objective, word_tokenizer

    _refuse_idle(args, explicit)
    tokenizer = word_tokenizer(args.text) if args.tokenizer is None else load_tokenizer(args.tokenizer)
    console = Console()
    for name in NAMES if args.objective is None else (args.objective,):
        console.print(show_objective(_objective(name, args), tokenizer, args.text, seed=args.seed))
    return 0


def _check(args: argparse.Namespace, explicit: dict[str, Any]) -> int:
    from .data import load_tokenizer
    from .testing import CheckFailed, target

    special = load_tokenizer(args.tokenizer).special if args.tokenizer else None
    try:
        report = target.check(target.load(args.target), rate=args.rate, special=special, skip=args.skip)
    except CheckFailed as failed:
        print(escape_control_characters(str(failed.report)))
        return 1
    print(escape_control_characters(str(report)))
    return 0


def _course(args: argparse.Namespace, explicit: dict[str, Any]) -> int:
    from .course import claims_table, print_results, read_results

    results = read_results(args.folder)
    if args.markdown:
        print(escape_control_characters(claims_table(results)))
    else:
        print_results(results)
    return 0


def _plan(args: argparse.Namespace, explicit: dict[str, Any]) -> int:
    from .display import plan_notes, plan_table
    from .models import model_config
    from .planning import Machine, config_near, plan

    _refuse_idle(args, explicit)
    machine = Machine(
        devices=args.devices,
        flops=args.device_flops,
        memory=args.device_memory,
        network=args.network,
        utilisation=args.utilisation,
        kind=args.kind,
    )
    plans = []
    for name in NAMES if args.objective is None else (args.objective,):
        objective = _objective(name, args)
        if args.size is None:
            config = config_near(args.params, objective.architecture, args.vocab_size)
        else:
            config = model_config(objective.architecture, args.size, args.vocab_size)
        plans.append(
            plan(
                objective,
                config,
                tokens=args.tokens,
                length=args.length,
                batch_tokens=args.batch_tokens,
                machine=machine,
                precision=args.precision,
                optimizer=args.optimizer,
                delivered=args.delivered,
            )
        )
    print(plan_table(plans, markdown=args.markdown))
    for note in [note for made in plans for note in plan_notes(made)]:
        print(f"\n{note}" if args.markdown else note)
    return 0


def _generate(args: argparse.Namespace, explicit: dict[str, Any]) -> int:
    from .training import load_run

    _refuse_idle(args, explicit)
    trained = load_run(args.run, expected=("causal",))
    answer = trained.objective.complete(
        trained.model, trained.tokenizer, args.prompt, max_new_tokens=args.tokens, **_sampling(args)
    )
    print(escape_control_characters(str(answer)))
    return 0


def _fill(args: argparse.Namespace, explicit: dict[str, Any]) -> int:
    from .training import load_run

    _refuse_idle(args, explicit)
    trained = load_run(args.run, expected=("masked", "span"))
    more = {} if args.order is None else {"order": args.order}
    if more and trained.objective.name != "masked":
        raise InputError(f"--order is for masked models; {args.run} holds a {trained.objective.name} objective")
    answer = trained.objective.complete(trained.model, trained.tokenizer, args.text, **more, **_sampling(args))
    print(escape_control_characters(str(answer)))
    return 0


def _refuse_idle(args: argparse.Namespace, explicit: dict[str, Any]) -> None:
    """Refuse a flag that was given and would change nothing: whoever gave it thinks that it does."""
    objective, own = getattr(args, "objective", None), getattr(args, "tokenizer", None)
    idle = {
        "noise_density": (objective == "causal", "causal hides no share of the tokens"),
        "mean_noise_span_length": (objective in ("causal", "masked"), f"{objective} hides no spans"),
        "vocab_size": (own not in (None, "bpe"), "this tokenizer has the size that it has"),
        "column": (getattr(args, "corpus", None) == "builtin", "the builtin corpus has no columns"),
        "steps": ("minutes" in explicit, "--minutes ends the run instead"),
    }
    idle |= dict.fromkeys(("temperature", "top_k", "top_p"), ("greedy" in explicit, "--greedy draws nothing"))
    for name, (changes_nothing, why) in idle.items():
        if name in explicit and changes_nothing:
            raise InputError(f"--{name.replace('_', '-')} {explicit[name]} would change nothing: {why}; leave it out")


def _objective(name: str, args: argparse.Namespace) -> Any:
    from .objectives import CausalLM, MaskedLM, SpanCorruption

    density, mean_noise_span_length = getattr(args, "noise_density", 0.15), getattr(args, "mean_noise_span_length", 3.0)
    if name == "masked":
        return MaskedLM(mask_rate=density)
    return (
        SpanCorruption(noise_density=density, mean_noise_span_length=mean_noise_span_length)
        if name == "span"
        else CausalLM()
    )


def _corpus(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "source": args.corpus,
        "text_column": args.column,
        "split": args.split,
        "tokenizer": args.tokenizer,
        "vocab_size": args.vocab_size,
        "sentinels": args.sentinels,
    }


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    return {
        "temperature": args.temperature,
        "top_k": args.top_k,
        "top_p": args.top_p,
        "greedy": args.greedy,
        "generator": torch.Generator().manual_seed(args.seed),
    }


COMMANDS = {
    "train": _train,
    "pack": _pack,
    "compare": _compare,
    "floors": _floors,
    "show": _show,
    "check": _check,
    "course": _course,
    "plan": _plan,
    "generate": _generate,
    "fill": _fill,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0, 2 for bad input, 130 if stopped, 1 for what went wrong on the way."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that knows only ASCII
    try:
        args = build_parser().parse_args(arguments)
        code = COMMANDS[args.command](args, _explicit(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output has left, which is their right
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (InputError, OSError) as error:
        return _refuse(error)
    except (NotFinite, ProcessLost) as error:
        print(f"clozelab: {escape_control_characters(str(error))}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        print("clozelab: not enough memory: choose a smaller --size, --length or --micro-batch", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("clozelab: stopped; what was saved before is kept", file=sys.stderr)
        return 130


def _explicit(arguments: Sequence[str] | None) -> dict[str, Any]:
    """The flags that were given, without defaults: a resumed run takes the rest from its description."""
    bare = build_parser()
    for action in bare._subparsers._group_actions[0].choices.values():  # type: ignore[union-attr]
        for option in action._actions:
            option.default = argparse.SUPPRESS
    given = vars(bare.parse_args(arguments))
    return {key: value for key, value in given.items() if key not in ("command", "run", "resume")}


def _refuse(error: Exception) -> int:
    """One line, exit code 2; what all processes of a run refuse alike, the first one says."""
    if isinstance(error, InputError) and os.environ.get("RANK", "0") != "0":
        return 2
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""  # a name may be anything
        text = f"{error.strerror}{where}"
        if error.errno in FULL:
            text = (
                f"no space left on the disk{where}: free some and go on, with a run by --resume; what was complete "
                "before is kept"
            )
    text = escape_control_characters(" ".join(text.split()))
    print(f"clozelab: {text if len(text) < 1000 else text[:1000] + '...'}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
