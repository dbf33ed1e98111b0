"""An hour of training: do memory, open files, threads and speed end as they began?

    python benchmarks/soak.py --publish     62 minutes on one core
    python benchmarks/soak.py --quick       ten seconds, to see that it runs

The usual `clozelab train` in a process of its own, with one thread: span corruption on the builtin corpus, evaluated
and sampled every 200 steps, a checkpoint every 500. From outside that process is looked at every few seconds: what
/proc tells of it (so this needs Linux), and which step its metrics have come to. The first minutes, in which libraries
are loaded and the allocator finds its size, stand apart. Of the rest the first sixth is the beginning, and the last
sixth the end.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from long_runs import soak_table
from matplotlib.figure import Figure
from measure import Processes, busy, provenance
from report import publish

from clozelab.objectives import OBJECTIVES
from clozelab.training import read_metrics, read_run

START_UP = 1 / 12
"""Share of the time that stands apart: of an hour five minutes."""
WINDOW = 1 / 6
"""Of what remains, how much is its beginning, and how much its end."""
QUICK = {"steps": 100, "batch-size": 2, "length": 24, "vocab-size": 400}
QUICK |= dict.fromkeys(("eval-every", "sample-every", "checkpoint-every"), 30)
KEYS = ("minute", "memory", "files", "threads", "processor", "step")
"""What is known of a moment: minutes since the start, bytes of memory, open files, threads, processor seconds, step."""


# --------------------------------------------------------------------------- looking on


def state_of(process: int, metrics: Path) -> dict[str, float] | None:
    """Memory, open files, threads, processor time and step of a process; None once it has ended."""
    proc = Path(f"/proc/{process}")
    try:
        status = dict(re.findall(r"(VmRSS|Threads):\s+(\d+)", (proc / "status").read_text()))
        ticks = (proc / "stat").read_text().rpartition(")")[2].split()[11:13]  # in user mode, in the system
        files = len(os.listdir(proc / "fd"))
    except OSError:
        return None
    if "VmRSS" not in status:  # it has ended, and nobody has asked how
        return None
    return {
        "memory": 1024 * int(status["VmRSS"]),
        "files": files,
        "threads": int(status["Threads"]),
        "processor": sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
        "step": last_step(metrics),
    }


def last_step(metrics: Path) -> int:
    """That of the last whole line, 0 where there is none; only the end of the file is read."""
    if not metrics.exists():
        return 0
    with open(metrics, "rb") as file:
        file.seek(max(0, metrics.stat().st_size - 4096))
        steps = re.findall(rb'^\{"step": (\d+), .*\}$', file.read(), re.MULTILINE)
    return int(steps[-1]) if steps else 0


def watched(command: list[str], metrics: Path, every: float, environment: dict[str, str]) -> list[dict[str, float]]:
    """Run a command to its end, looking at it every so many seconds. Raises `RuntimeError` where it fails."""
    seen: list[dict[str, float]] = []
    log = metrics.parent.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as output:
        begun = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        while process.poll() is None:
            state = state_of(process.pid, metrics)
            if state is not None:
                seen.append({"minute": (time.monotonic() - begun) / 60, **state})
            with suppress(subprocess.TimeoutExpired):
                process.wait(every)
    if process.returncode:
        raise RuntimeError(f"training ended with {process.returncode}:\n{log.read_text(encoding='utf-8')[-2000:]}")
    return seen


# --------------------------------------------------------------------------- what it comes to


def windows(samples: list[dict[str, float]]) -> dict[str, list[dict[str, float]]]:
    """The moments of start-up, of the beginning and of the end.

    Start-up is all before the first step, and `START_UP` of the time from there to the last one. What comes after the
    last step, as the end of the process, is in none of them.
    """
    working = [sample for sample in samples if 0 < sample["step"] < samples[-1]["step"]]
    minutes = [sample["minute"] for sample in working]
    steady_from = minutes[0] + START_UP * (minutes[-1] - minutes[0]) if minutes else 0.0
    steady = [sample for sample in working if sample["minute"] >= steady_from]
    size = max(2, round(WINDOW * len(steady)))
    if len(steady) < 2 * size:
        raise RuntimeError(f"{len(steady)} looks at a steady run are too few: let it run longer, or look more often")
    start_up = [sample for sample in samples if sample["minute"] < steady_from]
    return {"start-up": start_up, "beginning": steady[:size], "end": steady[-size:]}


def figures(window: list[dict[str, float]], tokens_per_step: int, seconds: dict[int, float]) -> dict[str, float]:
    """What a window comes to: of memory, files and threads the median, of the speeds the mean.

    `seconds` are those of the training steps alone, by step, as `metrics.jsonl` has them.
    """
    first, last = window[0], window[-1]
    if last["step"] == first["step"]:
        raise RuntimeError(f"no step from minute {first['minute']:.2f} to {last['minute']:.2f}: let it run longer")
    tokens = tokens_per_step * (last["step"] - first["step"])
    return {
        "from": first["minute"],
        "to": last["minute"],
        **{key: statistics.median(sample[key] for sample in window) for key in ("memory", "files", "threads")},
        "speed": tokens / (last["processor"] - first["processor"]),
        "speed_of_steps": tokens / (seconds[int(last["step"])] - seconds[int(first["step"])]),
    }


def record_of(run: Path, samples: list[dict[str, float]]) -> dict[str, Any]:
    """What a watched run comes to."""
    described, lines = read_run(run), read_metrics(run / "metrics.jsonl")
    config, name = described["train"], described["objective"]
    tokens_per_step = config["batch_size"] * OBJECTIVES[name]().source_length(config["length"])
    seconds = {0: 0.0} | {line["step"]: line["seconds"] for line in lines if "seconds" in line}
    parts = windows(samples)
    return {
        "threads": 1,
        "objective": name,
        "minutes": samples[-1]["minute"],
        "steps": max(seconds),
        "evaluations": sum("heldout" in line for line in lines),
        "completions": sum("sample" in line for line in lines),
        "checkpoints": -(-max(seconds) // config["checkpoint_every"]),
        "tokens_per_step": tokens_per_step,
        "peak_of_start_up": max(sample["memory"] for sample in parts["start-up"]),
        **{part: figures(parts[part], tokens_per_step, seconds) for part in ("beginning", "end")},
        "samples": {key: [round(sample[key], 3) for sample in samples] for key in KEYS},
    }


def draw(record: dict[str, Any], path: Path) -> None:
    """Memory above, tokens of each processor second below; beginning and end are shaded."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    seen = {key: record["samples"][key] for key in KEYS}
    above.plot(seen["minute"], [memory / 1e6 for memory in seen["memory"]], color="#0072B2", linewidth=1)
    above.set(ylabel="memory, MB", ylim=(0, None))
    wide = max(1, len(seen["minute"]) // 60)
    pairs = [(i, i + wide) for i in range(len(seen["minute"]) - wide) if seen["step"][i] > 0]
    tokens = [record["tokens_per_step"] * (seen["step"][j] - seen["step"][i]) for i, j in pairs]
    speeds = [n / max(seen["processor"][j] - seen["processor"][i], 1e-9) for n, (i, j) in zip(tokens, pairs)]
    middles = [(seen["minute"][i] + seen["minute"][j]) / 2 for i, j in pairs]
    below.plot(middles, speeds, color="#D55E00", linewidth=1)
    below.set(xlabel="minute", ylabel="tokens a processor second", ylim=(0, None))
    for axes in (above, below):
        for part in ("beginning", "end"):
            axes.axvspan(record[part]["from"], record[part]["to"], color="#999999", alpha=0.2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> dict[str, Any]:
    """Train, look on, compare the end with the beginning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="of training; evaluations come on top")
    parser.add_argument("--objective", choices=tuple(OBJECTIVES), default="span")
    parser.add_argument("--corpus", default="builtin")
    parser.add_argument("--every", type=float, default=15.0, help="seconds between two looks")
    parser.add_argument("--quick", action="store_true", help="only see that it runs")
    parser.add_argument("--run", type=Path, default=Path("runs/soak"))
    parser.add_argument("--publish", action="store_true", help="also put figures and picture into the repository")
    args = parser.parse_args()
    if args.publish and args.quick:
        parser.error("a quick run is not published")
    if args.run.exists():
        parser.error(f"{args.run} exists: choose another folder by --run")
    if not Path("/proc/self/status").exists():
        parser.error("this looks at a process through /proc, which only Linux has")
    flags = {"objective": args.objective, "corpus": args.corpus, "run": args.run}
    flags |= QUICK if args.quick else {"minutes": args.minutes}
    command = [sys.executable, "-m", "clozelab", "train", *(f"--{flag}={value}" for flag, value in flags.items())]
    before, every = busy(), 0.05 if args.quick else args.every
    samples = watched(command, args.run / "metrics.jsonl", every, Processes(threads=1).whole_environment)
    record = {**provenance(before), **record_of(args.run, samples)}
    print(soak_table(record))
    draw(record, args.run / "soak.png")
    if args.publish:
        publish("soak", record, lambda path: draw(record, path))
    return record


if __name__ == "__main__":
    main()
