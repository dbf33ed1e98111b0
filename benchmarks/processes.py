"""Is a run on several processes the run on one? The loss curves of 1, 2 and 4, on top of one another.

    python benchmarks/processes.py --publish     10 minutes on two cores
    python benchmarks/processes.py --quick       a minute: two steps, 1 and 2 processes

Every objective, small models on the builtin corpus, the same batches of ragged counts: 6 examples of a step, which 4
processes share as 2, 2, 1, 1. Each way is a real `torchrun` on this machine's processor; what is compared is the
training loss of each step, and the held-out loss at the end.

In double precision, so that what differs is no rounding of single precision: training makes much of little. How much
is shown by one process that differs by its rounding alone, since it adds up the same batch in micro-batches. The last
rows are the same in single precision.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from long_runs import ONE_PROCESS, processes_table
from matplotlib.figure import Figure
from measure import busy, provenance
from report import publish

from clozelab.objectives import OBJECTIVES
from clozelab.training import TrainConfig, init_processes, prepare, read_metrics, seeded_model, train

WAYS: dict[str, tuple[int, list[str]]] = {
    "1 process": (1, []),
    "1 in micro-batches": (1, ["--micro-batch-size", "2"]),
    "2 replicated": (2, []),
    "4 replicated": (4, []),
    "2 sharded": (2, ["--sharded"]),
    "4 sharded": (4, ["--sharded"]),
}
"""Processes and flags, in double precision."""
SINGLE_PRECISION: dict[str, tuple[int, list[str]]] = {
    "1 process, single": (1, ["--single"]),
    "1 in micro-batches, single": (1, ["--single", "--micro-batch-size", "2"]),
    "2 replicated, single": (2, ["--single"]),
}
"""The same in single precision."""
STYLES = dict(
    zip(
        [*WAYS, *list(SINGLE_PRECISION)[1:]],
        ("-", (0, (1, 1)), "--", ":", "-.", (0, (1, 3)), (0, (5, 1)), (0, (3, 1, 1, 1))),
    )
)


def curve(objective: str, way: str, steps: int, folder: Path) -> dict[str, Any]:
    """The losses of one run."""
    count, flags = {**WAYS, **SINGLE_PRECISION}[way]
    run = folder / f"{objective}-{way.replace(' ', '-').replace(',', '')}"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count, "--", __file__, "--one-of"]
    words = [sys.executable, *launcher, objective, "--out", run, "--steps", steps, *flags]
    done = subprocess.run(
        list(map(str, words)), env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{objective}, {way}, failed:\n{done.stderr[-2000:]}")
    lines = read_metrics(run / "metrics.jsonl")
    return {
        "objective": objective,
        "way": way,
        "losses": [line["loss"] for line in lines if "loss" in line],
        "heldout": [line["heldout"] for line in lines if "heldout" in line][-1],
    }


def one_of(args: argparse.Namespace) -> None:
    """What each process of a run does."""
    objective = OBJECTIVES[args.one_of]()
    config = TrainConfig(
        steps=args.steps,
        batch_size=6,
        length=64,
        micro_batch_size=args.micro_batch_size,
        optimizer="adamw",
        precision="float32",
        eval_every=0,
        checkpoint_every=0,
        warmup=0.05,
        decay=0.4,
    )
    with init_processes(sharded=args.sharded) as processes:
        prepared = prepare("builtin", vocab_size=1024, roles=objective.roles, processes=processes)
        torch.set_default_dtype(torch.float32 if args.single else torch.float64)
        model = seeded_model(objective, prepared.tokenizer.vocab_size, "tiny", 0)
        texts = prepared.tokenizer, prepared.text, prepared.heldout
        train(objective, model, *texts, config, run=args.out, processes=processes)


def draw(record: dict[str, Any], path: Path) -> None:
    """All curves on one plot, and below how far each is from that of one process of its precision."""
    figure = Figure(figsize=(7.5, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    curves = {(row["objective"], row["way"]): row["losses"] for row in record["rows"]}
    for (objective, way), losses in curves.items():
        steps, look = (
            range(1, len(losses) + 1),
            {"color": OBJECTIVES[objective].colour, "linestyle": STYLES.get(way, "-")},
        )
        if way in WAYS:
            above.plot(steps, losses, **look, label=f"{objective}, {way}", linewidth=1.5)
        if way not in ONE_PROCESS:
            one = curves[objective, ONE_PROCESS[way in SINGLE_PRECISION]]
            apart = [max(abs(a - b), 1e-16) for a, b in zip(losses, one)]
            below.plot(steps, apart, **look, label=way if way in SINGLE_PRECISION else None, linewidth=1)
    above.set_ylabel("training loss, nats")
    figure.legend(*above.get_legend_handles_labels(), loc="outside upper center", fontsize=7, ncols=3)
    below.set_yscale("log")
    below.set_ylabel("apart from one process, nats")
    below.set_xlabel("step")
    if below.get_legend_handles_labels()[0]:
        below.legend(fontsize=7, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run every objective in every way, print how far apart they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=["causal", "masked", "span"])
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/processes"))
    parser.add_argument("--publish", action="store_true", help="also put figures and picture into the repository")
    parser.add_argument("--one-of", choices=OBJECTIVES, help=argparse.SUPPRESS)
    parser.add_argument("--sharded", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--single", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--micro-batch-size", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_of:
        one_of(args)
        return
    if args.publish and args.quick:
        parser.error("a quick run is not published")
    if args.out.exists():
        parser.error(f"{args.out} exists: choose another folder by --out")
    before, rows = busy(), []
    for objective in args.objectives:
        single = SINGLE_PRECISION if objective == "causal" else {}
        for way in list(WAYS)[:3:2] if args.quick else [*WAYS, *single]:
            rows.append(curve(objective, way, 2 if args.quick else args.steps, args.out))
            print(f"{objective}, {way}: {rows[-1]['losses'][-1]:.12f} nats at the last step", flush=True)
    record = {**provenance(before), "steps": len(rows[0]["losses"]), "rows": rows}
    print(f"\n{processes_table(rows)}")
    (args.out / "processes.json").write_text(json.dumps(record, indent=1))
    draw(record, args.out / "processes.png")
    if args.publish:
        publish("processes", record, lambda path: draw(record, path))


if __name__ == "__main__":
    main()
