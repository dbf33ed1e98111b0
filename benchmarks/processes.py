"""Is a run on several processes the run on one? The loss curves of 1, 2 and 4, on top of one another.

    python benchmarks/processes.py --publish     5 minutes on two cores
    python benchmarks/processes.py --quick       a minute: two steps, 1 and 2 processes

Every objective, small models on the builtin corpus, the same batches of ragged counts: 6 examples of a step, which 4
processes share as 2, 2, 1, 1. Each way is a real `torchrun` on this machine's processor; what is compared is the
training loss of each step, and the held-out loss at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from measure import busy, told
from report import processes_table, publish

from clozelab.training import read_metrics

WAYS: dict[str, tuple[int, list[str]]] = {
    "1 process": (1, []),
    "2 replicated": (2, []),
    "4 replicated": (4, []),
    "2 sharded": (2, ["--sharded"]),
    "4 sharded": (4, ["--sharded"]),
}
"""Processes and flags."""
STYLES = dict(zip(WAYS, ("-", "--", ":", "-.", (0, (1, 3)))))
COLOURS = {"causal": "#0072B2", "masked": "#D55E00", "span": "#009E73"}


def curve(objective: str, way: str, steps: int, folder: Path) -> dict[str, Any]:
    """The losses of one run."""
    count, flags = WAYS[way]
    run = folder / f"{objective}-{way.replace(' ', '-')}"
    train = ["train", "--objective", objective, "--steps", steps, "--batch-size", 6, "--length", 64, "--run", run]
    train += ["--vocab-size", 1024, "--precision", "float32", "--sample-every", 0, "--checkpoint-every", 0]
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", count, "-m", "--", "clozelab.cli"]
    words = [sys.executable, "-m", *launcher, *train, "--eval-every", 0, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, words)), env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{objective}, {way}, failed:\n{done.stderr[-2000:]}")
    lines = read_metrics(run / "metrics.jsonl")
    return {
        "objective": objective,
        "way": way,
        "losses": [line["loss"] for line in lines if "loss" in line],
        "heldout": [line["heldout"] for line in lines if "heldout" in line][-1],
    }


def draw(record: dict[str, Any], path: Path) -> None:
    """All curves on one plot, and below how far each is from that of one process."""
    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    alone = {row["objective"]: row["losses"] for row in record["rows"] if row["way"] == "1 process"}
    for row in record["rows"]:
        colour, style = COLOURS[row["objective"]], STYLES[row["way"]]
        steps = range(1, len(row["losses"]) + 1)
        label = f"{row['objective']}, {row['way']}"
        above.plot(steps, row["losses"], linestyle=style, color=colour, label=label, linewidth=1.5)
        if row["way"] != "1 process":
            apart = [max(abs(a - b), 1e-9) for a, b in zip(row["losses"], alone[row["objective"]])]
            below.plot(steps, apart, linestyle=style, color=colour, linewidth=1)
    above.set_ylabel("training loss, nats")
    above.legend(fontsize=7, ncols=3)
    below.set_yscale("log")
    below.set_ylabel("apart from one\nprocess, nats")
    below.set_xlabel("step")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run every objective in every way, print how far apart they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument("--out", type=Path, default=Path("runs/processes"))
    parser.add_argument("--publish", action="store_true", help="also put figures and picture into the repository")
    args = parser.parse_args()
    if args.publish and args.quick:
        parser.error("a quick run is not published")
    if args.out.exists():
        parser.error(f"{args.out} exists: choose another folder by --out")
    before, rows = busy(), []
    for objective in COLOURS:
        for way in list(WAYS)[: 2 if args.quick else None]:
            rows.append(curve(objective, way, 2 if args.quick else args.steps, args.out))
            print(f"{objective}, {way}: {rows[-1]['losses'][-1]:.6f} nats at the last step", flush=True)
    record = {**told(before), "steps": len(rows[0]["losses"]), "rows": rows}
    print(f"\n{processes_table(rows)}")
    (args.out / "processes.json").write_text(json.dumps(record, indent=1))
    draw(record, args.out / "processes.png")
    if args.publish:
        publish("processes", record, lambda path: draw(record, path))


if __name__ == "__main__":
    main()
