"""`clozelab floors`: objectives on a language of known entropy, down to the least loss that is possible."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..escape import escape_control_characters
from ..progress import Bar, duration, progress_bar
from ..workers import exit_with_parent
from .parsing import Given, Parser, add_device
from .values import COUNT, objective_name, path

if TYPE_CHECKING:
    from ..evaluation.floor_experiment import FloorResult
    from ..training import TrainConfig

SUMMARY = "train objectives on a language of known entropy, down to the least possible loss"
EXAMPLE = "clozelab floors --seeds 3 --processes 2"


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--objectives",
        nargs="+",
        type=objective_name,
        metavar="NAME",
        help="objectives to train  (default: all with a known exact floor)",
    )
    parser.add_argument("--seeds", type=COUNT, default=1, help="runs of each objective, on different languages")
    parser.add_argument("--steps", type=COUNT, help="optimiser steps  (default: what each objective needs)")
    parser.add_argument("--processes", type=COUNT, default=1, help="runs in parallel, the slowest objectives first")
    add_device(parser)
    parser.add_argument("--out", type=path, default=Path("runs/floors"), help="folder for figures and picture")


def run(args: argparse.Namespace, given: Given) -> int:
    """Train each, print and save the table; 1 where a model went below its floor."""
    from ..device import find_device
    from ..display import print_floors, save_floors
    from ..objectives import OBJECTIVES

    known = [name for name, kind in OBJECTIVES.items() if kind.declares("entropy_floor")]
    for name in args.objectives or ():
        if name not in known:
            raise InputError(f"no exact floor is known for {name}: choose from {', '.join(known)}")
    find_device(args.device)  # before anything is written
    args.out.mkdir(parents=True, exist_ok=True)
    runs = [(name, seed) for name in args.objectives or known for seed in range(args.seeds)]
    results: list[FloorResult] = []
    for result in (_one_by_one if args.processes == 1 else _side_by_side)(runs, args):
        results = sorted([*results, result], key=lambda each: runs.index((each.objective, each.seed)))
        save_floors(results, args.out)  # after each, so that an interruption costs no more than what is under way
    print_floors(results)
    print(escape_control_characters(f"figures and curves: {args.out}/floors.json, {args.out}/floors.png"))
    return 1 if any(result.verdict.startswith("LEAK") for result in results) else 0


def _steps(name: str, args: argparse.Namespace) -> int:
    from ..objectives import OBJECTIVES

    return args.steps or OBJECTIVES[name].exercise.steps


def _one_by_one(runs: Sequence[tuple[str, int]], args: argparse.Namespace) -> Iterator[FloorResult]:
    from ..evaluation.floor_experiment import train_to_entropy_floor
    from ..training import TrainConfig

    left = sum(_steps(name, args) for name, _ in runs)
    for name, seed in runs:
        steps = _steps(name, args)
        with progress_bar(f"{name}, seed {seed}", steps) as bar:
            bar.doing("making text, and its floor")
            report = _reporter(bar, TrainConfig(steps=steps, eval_every=0), left)
            yield train_to_entropy_floor(name, seed=seed, steps=args.steps, device=args.device, callback=report)
        left -= steps


def _side_by_side(runs: Sequence[tuple[str, int]], args: argparse.Namespace) -> Iterator[FloorResult]:
    """In processes of their own, each with its share of the processor's cores."""
    from ..evaluation.floor_experiment import train_to_entropy_floor

    processes = min(args.processes, len(runs))
    threads = max(1, (os.cpu_count() or 1) // processes)
    fresh = multiprocessing.get_context("spawn")  # torch's threads do not live through a fork
    with (
        ProcessPoolExecutor(processes, fresh, _begin, (threads,)) as pool,
        progress_bar("runs of all objectives", len(runs), unit="runs") as bar,
    ):
        bar.doing(f"{processes} side by side")
        slowest_first = sorted(runs, key=lambda run: _steps(run[0], args), reverse=True)
        train = partial(train_to_entropy_floor, steps=args.steps, device=args.device)
        under_way = [pool.submit(train, name, seed=seed) for name, seed in slowest_first]
        try:
            for done, future in enumerate(as_completed(under_way), 1):
                result = future.result()
                bar.print_line(f"{result.objective}, seed {result.seed}: {result.ratio:.4f} times the floor")
                bar.update(done)
                yield result
        except BrokenProcessPool as error:
            raise OSError("a process of these runs died: was there too little memory for so many?") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(threads: int) -> None:
    import torch

    exit_with_parent()
    torch.set_num_threads(threads)


def _reporter(bar: Bar, config: TrainConfig, left: int) -> Callable[[int, float], None]:
    """What is shown after each step of a run; `left` steps are left with it and all runs after it."""
    from ..training.estimate import Estimate

    estimate, begun = Estimate(config), time.perf_counter()

    def report(step: int, nats: float) -> None:
        bar.update(step, "measuring on fresh text" if step == config.steps else f"loss {nats:.3f} nats")
        rest = estimate.after(step, time.perf_counter() - begun, evaluation=0.0)
        if rest is not None:
            whole = rest * (left - step) / (config.steps - step)
            others = "" if left == config.steps else f", {duration(whole)} for all runs if the others are as fast"
            bar.print_line(f"{duration(rest)} left on this machine{others} (fewer --steps are quicker, but end higher)")

    return report
