"""`clozelab floors`: objectives on a language of known entropy, down to the least loss that is possible."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..escape import escape_control_characters
from ..progress import Bar, duration, progress_bar
from .parsing import Given, Parser
from .values import COUNT, objective_name, path

if TYPE_CHECKING:
    from ..training import TrainConfig

SUMMARY = "train objectives on a language of known entropy, down to the least loss that is possible"
EXAMPLE = "clozelab floors --seeds 3"


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--objectives",
        nargs="+",
        type=objective_name,
        metavar="NAME",
        help="which  (default: all of which an exact floor is known)",
    )
    parser.add_argument("--seeds", type=COUNT, default=1, help="runs of each objective, on different languages")
    parser.add_argument("--steps", type=COUNT, help="optimiser steps  (default: as each objective needs)")
    parser.add_argument("--out", type=path, default=Path("runs/floors"), help="folder of figures and picture")


def run(args: argparse.Namespace, given: Given) -> int:
    """Train each, print and save the table; 1 where a model went below its floor."""
    from ..display import print_floors, save_floors
    from ..evaluation.floor_experiment import train_to_entropy_floor
    from ..objectives import OBJECTIVES
    from ..training import TrainConfig

    known = [name for name, kind in OBJECTIVES.items() if kind.declares("entropy_floor")]
    for name in args.objectives or ():
        if name not in known:
            raise InputError(f"no exact floor is known for {name}: choose from {', '.join(known)}")
    args.out.mkdir(parents=True, exist_ok=True)
    names = args.objectives or known
    steps = {name: args.steps or OBJECTIVES[name].exercise.steps for name in names}
    left = args.seeds * sum(steps.values())
    results = []
    for name in names:
        for seed in range(args.seeds):
            with progress_bar(f"{name}, seed {seed}", steps[name]) as bar:
                bar.doing("making text, and its floor")
                report = _reporter(bar, TrainConfig(steps=steps[name], eval_every=0), left)
                results.append(train_to_entropy_floor(OBJECTIVES[name], seed=seed, steps=args.steps, callback=report))
            left -= steps[name]
            save_floors(results, args.out)  # after each, so that an interruption costs one
    print_floors(results)
    print(escape_control_characters(f"figures and curves: {args.out}/floors.json, {args.out}/floors.png"))
    return 1 if any(result.verdict.startswith("LEAK") for result in results) else 0


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
            bar.print_line(f"{duration(rest)} left on this machine{others} (--steps N is quicker, and less near)")

    return report
