"""`clozelab floors`: objectives on a language of known entropy, down to the least loss that is possible."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..escape import escape_control_characters
from . import parsing
from .parsing import COUNT, Given, Parser

SUMMARY = "train objectives on a language of known entropy, down to the least loss that is possible"
EXAMPLE = "clozelab floors --seeds 3"


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--objectives",
        nargs="+",
        type=parsing.objective_name,
        metavar="NAME",
        help="which  (default: all of which an exact floor is known)",
    )
    parser.add_argument("--seeds", type=COUNT, default=1, help="runs of each objective, on different languages")
    parser.add_argument("--steps", type=COUNT, help="optimiser steps  (default: as each objective needs)")
    parser.add_argument("--out", type=parsing.path, default=Path("runs/floors"), help="folder of figures and picture")


def run(args: argparse.Namespace, given: Given) -> int:
    """Train each, print and save the table; 1 where a model went below its floor."""
    from ..display import print_floors, save_floors
    from ..evaluation.floor_experiment import train_to_entropy_floor
    from ..objectives import OBJECTIVES, Objective

    known = [name for name, kind in OBJECTIVES.items() if kind.entropy_floor is not Objective.entropy_floor]
    for name in args.objectives or ():
        if name not in known:
            raise InputError(f"no exact floor is known for {name}: choose from {', '.join(known)}")
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    for name in args.objectives or known:
        for seed in range(args.seeds):
            print(f"training {name}, seed {seed} ...", file=sys.stderr)
            results.append(train_to_entropy_floor(OBJECTIVES[name], seed=seed, steps=args.steps))
            save_floors(results, args.out)  # after each, so that an interruption costs one
    print_floors(results)
    print(escape_control_characters(f"figures and curves: {args.out}/floors.json, {args.out}/floors.png"))
    return 1 if any(result.verdict.startswith("LEAK") for result in results) else 0
