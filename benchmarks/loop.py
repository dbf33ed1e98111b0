"""What is around the steps: the loop itself, Muon, and the time until a command has begun."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch
from measure import Processes, Spread, alternate, ratio
from results import Result
from steps import QUICK, _batch

from clozelab.data import Collator, load_tokenizer, pack
from clozelab.objectives import OBJECTIVES, LossModule
from clozelab.training import Optimizers, TrainConfig, clip_and_step, optimizer_of, seeded_model, train
from clozelab.training.muon import Muon
from clozelab.training.precision import uses_bfloat16
from clozelab.training.report import Report

PARTS = ("forward", "backward", "optimiser")
"""What a step cannot do without; all else of its time is outside. Clipping the gradients is a part of the optimiser:
every recipe has it, it is arithmetic on all gradients, and no loop can do without."""


class Stopwatch:
    """Processor time of each step from end to end, and how much of it each part took.

    The loop that is measured is the real one: functions that it calls are wrapped while it runs. What other programs
    take is not counted.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.now: dict[str, float] = {}
        self.last: float | None = None

    def run(self, objective: torch.nn.Module, work: Callable[[], Any]) -> None:
        """Do the work and take the time."""

        def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def inner(*arguments: Any, **settings: Any) -> Any:
                started = time.process_time()
                try:
                    return function(*arguments, **settings)
                finally:
                    if torch.is_grad_enabled():  # an evaluation is no step
                        self.now[part] = self.now.get(part, 0.0) + time.process_time() - started

            return inner

        def ended(optimizer: Optimizers) -> None:
            clear(optimizer)
            now = time.process_time()
            if self.last is not None:
                self.steps.append({**self.now, "all": now - self.last})
            self.last, self.now = now, {}

        clear = timed("optimiser", Optimizers.zero_grad)
        parts = [
            (LossModule, "forward", "forward"),
            (objective, "counts", "counts"),
            (torch.Tensor, "backward", "backward"),
            (torch.nn.utils, "clip_grad_norm_", "optimiser"),
            (Optimizers, "step", "optimiser"),
            (Collator, "block", "batch"),
            (Report, "step", "metrics"),
        ]
        with ExitStack() as wrapped:
            for owner, name, part in parts:
                wrapped.enter_context(mock.patch.object(owner, name, timed(part, getattr(owner, name))))
            wrapped.enter_context(mock.patch.object(Optimizers, "zero_grad", ended))
            work()


def shares(
    objective: str, tokenizer: str, repeats: int, config: dict[str, Any], shape: dict[str, int]
) -> dict[str, Any]:
    """Of several runs: the share of the steps' time outside of `PARTS`; seconds of a step and of what is in it."""
    ours = load_tokenizer(tokenizer, sentinels=0, roles=OBJECTIVES[objective].roles)
    texts = [f"The number {n} comes before {n + 1} and after {n - 1}." for n in range(3000)]
    outside, steps = [], []
    with tempfile.TemporaryDirectory() as folder:
        text, heldout = (pack(part, ours, cache_dir=folder) for part in (texts[:2500], texts[2500:]))
        for repeat in range(repeats):
            kind = OBJECTIVES[objective]()
            model = seeded_model(kind, ours.vocab_size, "tiny", 0, **shape)
            settings = TrainConfig(eval_every=0, eval_rows=1, optimizer="adamw", **config)
            run, watch = Path(folder) / f"run{repeat}", Stopwatch()
            watch.run(kind, lambda: train(kind, model, ours, text, heldout, settings, run=run))  # noqa: B023
            outside.append(
                1 - sum(sum(step[part] for part in PARTS) / step["all"] for step in watch.steps) / len(watch.steps)
            )
            steps += watch.steps
    parts = ("all", *PARTS, "batch", "counts", "metrics")
    return {"outside": outside, "seconds": {part: Spread.of([s[part] for s in steps]).median for part in parts}}


def loop(processes: Processes, tokenizer: str) -> Iterator[Result]:
    """Share of a step's time that is neither forward nor backward nor optimiser, at the default model and length."""
    how: dict[str, Any] = {"repeats": 2, "config": {"steps": 9}, "shape": {}}
    if processes.quick:
        how = {"repeats": 1, "config": {"steps": 2, "length": 32, "batch_size": 2}, "shape": QUICK}
    collating = {}
    for objective in OBJECTIVES:
        measured = processes.call("loop:shares", objective=objective, tokenizer=tokenizer, **how)
        seconds = measured["seconds"]
        collating[objective] = seconds["batch"] / seconds["all"]
        milliseconds = {part: f"{1e3 * value:.2f}" for part, value in seconds.items()}
        yield Result(
            "loop",
            f"{objective}: share of a step outside forward, backward and optimiser",
            "",
            Spread.of(measured["outside"]),
            "%",
            0.02,
            least=False,
            detail=f"of {milliseconds['all']} ms the batch takes {milliseconds['batch']}, the count of what is "
            f"predicted {milliseconds['counts']}, the metrics {milliseconds['metrics']}",
        )
    worst = max(collating, key=collating.__getitem__)
    yield Result(
        "loop",
        "the collator's share of a step, the greatest of all objectives",
        "",
        Spread.of([collating[worst]]),
        "%",
        0.02,
        least=False,
        ours=worst,
        detail=", ".join(f"{objective} {100 * share:.1f}%" for objective, share in collating.items()),
    )


# --------------------------------------------------------------------------- Muon


def muon_times(objective: str, rows: int, length: int, vocabulary: int, rounds: int) -> dict[str, Any]:
    """Seconds of a step of `tiny` with Muon and with AdamW, in turns, and how much of the former is Muon's."""
    batch, _ = _batch(objective, vocabulary, rows, length)
    kind, inside = OBJECTIVES[objective](), []
    bfloat16 = uses_bfloat16("auto", torch.device("cpu"))

    def step_by(optimizer: str) -> Callable[[], None]:
        model = seeded_model(kind, vocabulary, "tiny", 0)
        by = optimizer_of(model, TrainConfig(optimizer=optimizer))
        counts = kind.counts(batch)

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = kind(model, batch)
            loss.over(counts).backward()
            clip_and_step(by, loss, max_grad_norm=1.0)

        return step

    def timed(self: Muon) -> None:
        started = time.process_time()
        step(self)
        inside.append(time.process_time() - started)

    step = Muon.step
    with mock.patch.object(Muon, "step", timed):
        spent = alternate({name: step_by(name) for name in ("muon", "adamw")}, rounds)
    return {"inside": inside[1:], "precision": "bfloat16" if bfloat16 else "float32"} | {
        name: times.cpu for name, times in spent.items()
    }


def muon(processes: Processes, tokenizer: str) -> Iterator[Result]:
    """Muon's share of a step, in the precision that training uses on this processor."""
    rows, length, vocabulary, rounds = (2, 16, 512, 1) if processes.quick else (16, 128, 4096, 9)
    arguments = {"rows": rows, "length": length, "vocabulary": vocabulary, "rounds": rounds}
    measured = processes.call("loop:muon_times", objective="causal", **arguments)
    inside, whole, other = (Spread.of(measured[key]).median for key in ("inside", "muon", "adamw"))
    yield Result(
        "muon",
        f"Muon's share of a step of `tiny`, {rows} x {length}, V {vocabulary}, {measured['precision']}",
        "",
        ratio(measured["inside"], measured["muon"]),
        "%",
        0.15,
        least=False,
        ours=f"{1e3 * inside:.0f} of {1e3 * whole:.0f} ms",
        detail=f"a step of the same model with AdamW alone takes {1e3 * other:.0f} ms",
    )


# --------------------------------------------------------------------------- from enter to the first words


COMMANDS = {
    "`clozelab --help`": (["--help"], 1.0),
    "`clozelab show`": (["show", "the cat sat on the mat"], 2.0),
    "`clozelab train` from a warm cache to step 1": (["train", "--steps", "1", "--sample-every", "0"], 3.5),
}
"""Words and seconds of processor time at most."""


def start_up(processes: Processes, tokenizer: str) -> Iterator[Result]:
    """Processor seconds of commands, the cache being warm: of `train` until step 1 has its line, else to the end."""
    for name, (words, goal) in COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            if words[0] == "train" and processes.quick:
                corpus = Path(folder) / "corpus.txt"
                corpus.write_text("The cat sat on the mat, and the dog sat on the cat. " * 400)
                words = [*words, "--corpus", str(corpus), "--vocab-size", "400", "--length", "16"]
            runs = [
                Path(folder) / f"run{n}" if words[0] == "train" else None for n in range(2 if processes.quick else 4)
            ]
            spent = [_started(processes, words, run) for run in runs][1:]  # the first one fills the cache
        yield Result(
            "start-up",
            name,
            "",
            Spread.of([seconds["processor"] for seconds in spent]),
            "s",
            goal,
            least=False,
            detail=f"by the clock, beside other work, {Spread.of([s['clock'] for s in spent]).median:.1f} s",
        )


def _started(processes: Processes, command: list[str], run: Path | None) -> dict[str, float]:
    """Seconds of the processor and of the clock until a command had made step 1 of its run, or else ended."""
    code = "import sys; from clozelab.cli import main; sys.exit(main())"
    more = [] if run is None else ["--run", str(run)]
    begun, seconds = time.perf_counter(), {}
    arguments = [sys.executable, "-c", code, *command, *more]
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(arguments, env=processes.whole_environment, stdout=output, stderr=output) as process,
    ):
        while run is not None and process.poll() is None and not seconds:
            time.sleep(0.02)
            metrics = run / "metrics.jsonl"
            if metrics.exists() and '"step": 1' in metrics.read_text():
                used = psutil.Process(process.pid).cpu_times()
                seconds = {"processor": used.user + used.system, "clock": time.perf_counter() - begun}
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if run is None:
            seconds = {"processor": used.ru_utime + used.ru_stime, "clock": time.perf_counter() - begun}
        if process.returncode or not seconds:
            output.seek(0)
            raise RuntimeError(f"clozelab {' '.join(command)} failed: {output.read()[-1000:]!r}")
    return seconds
