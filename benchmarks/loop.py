"""What is around the steps: the loop itself, and the time until a command prints something."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measure import Processes, Spread
from results import Result
from steps import PEERS, QUICK

from clozelab.data import load_tokenizer, pack
from clozelab.objectives import OBJECTIVES
from clozelab.training import TrainConfig, seeded_model, train


class Stopwatch:
    """Time of each step from end to end, and how much of it forward, backward and optimiser took.

    The loop that is measured is the real one: hooks of PyTorch start and stop the watch, and `Tensor.backward` and the
    clipping of gradients are wrapped while it runs.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.now: dict[str, float] = {}
        self.last: float | None = None

    def run(self, objective: torch.nn.Module, work: Any) -> None:
        """Do the work and take the time."""
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        started: dict[str, float] = {}

        def start(part: str) -> None:
            started[part] = time.perf_counter()

        def stop(part: str) -> None:
            if torch.is_grad_enabled():  # an evaluation is no step
                self.now[part] = self.now.get(part, 0.0) + time.perf_counter() - started[part]

        def timed(part: str, function: Any) -> Any:
            def inner(*arguments: Any, **settings: Any) -> Any:
                start(part)
                try:
                    return function(*arguments, **settings)
                finally:
                    stop(part)

            return inner

        def end_of_step(*_: Any) -> None:
            stop("optimiser")
            ended = time.perf_counter()
            if self.last is not None:
                self.steps.append({**self.now, "all": ended - self.last})
            self.last, self.now = ended, {}

        hooks = [
            objective.register_forward_pre_hook(lambda *_: start("forward")),
            objective.register_forward_hook(lambda *_: stop("forward")),
            register_optimizer_step_pre_hook(lambda *_: start("optimiser")),
            register_optimizer_step_post_hook(end_of_step),
        ]
        backward, clip = torch.Tensor.backward, torch.nn.utils.clip_grad_norm_
        torch.Tensor.backward = timed("backward", backward)  # pyright: ignore[reportAttributeAccessIssue]
        torch.nn.utils.clip_grad_norm_ = timed("clipping", clip)  # pyright: ignore[reportAttributeAccessIssue]
        try:
            work()
        finally:
            torch.Tensor.backward, torch.nn.utils.clip_grad_norm_ = backward, clip
            for hook in hooks:
                hook.remove()


def shares(
    objective: str, tokenizer: str, repeats: int, run: bool, config: dict[str, Any], shape: dict[str, int]
) -> dict[str, list[float]]:
    """Of several runs: the share of the steps' time that the loop took, and of that the clipping of gradients."""
    ours = load_tokenizer(tokenizer, sentinels=0, roles=OBJECTIVES[objective].roles)
    texts = [f"The number {n} comes before {n + 1} and after {n - 1}." for n in range(3000)]
    outside, clipping = [], []
    with tempfile.TemporaryDirectory() as folder:
        text, heldout = (pack(part, ours, cache_dir=folder) for part in (texts[:2500], texts[2500:]))
        for repeat in range(repeats):
            kind = OBJECTIVES[objective]()
            model = seeded_model(kind, ours.vocab_size, "tiny", 0, **shape)
            settings = TrainConfig(eval_every=0, eval_rows=1, optimizer="adamw", **config)
            place = Path(folder) / f"run{repeat}" if run else None
            watch = Stopwatch()
            watch.run(kind, lambda: train(kind, model, ours, text, heldout, settings, run=place))  # noqa: B023
            total = {part: sum(step[part] for step in watch.steps) for part in watch.steps[0]}
            outside.append(1 - sum(total[part] for part in ("forward", "backward", "optimiser")) / total["all"])
            clipping.append(total["clipping"] / total["all"])
    return {"outside": outside, "clipping": clipping}


def loop(processes: Processes, tokenizer: str) -> list[Result]:
    """Share of a step's time that is neither forward nor backward nor optimiser, at the default model and length."""
    how: dict[str, Any] = {"repeats": 5, "config": {"steps": 40}, "shape": {}}
    if processes.quick:
        how = {"repeats": 1, "config": {"steps": 2, "length": 16, "batch_size": 2}, "shape": QUICK}
    results = []
    for objective in PEERS:
        arguments = {"objective": objective, "tokenizer": tokenizer, **how}
        measured = {run: processes.call("loop:shares", run=run, **arguments) for run in (False, True)}
        clipping = Spread.of(measured[True]["clipping"]).median
        without = Spread.of(measured[False]["outside"]).median
        results.append(
            Result(
                "loop",
                f"{objective}: share of a step outside forward, backward and optimiser",
                "",
                Spread.of(measured[True]["outside"]),
                "%",
                0.02,
                least=False,
                detail=f"with a run folder; without one {100 * without:.1f}%. Clipping of gradients is "
                f"{100 * clipping:.1f}% of the step and counted as outside",
            )
        )
    return results


# --------------------------------------------------------------------------- from enter to the first words


def start_up(processes: Processes, tokenizer: str) -> list[Result]:
    """`clozelab --help`, and `clozelab train` to its first line and its first step, the cache being warm."""
    repeats = 1 if processes.quick else 5
    with tempfile.TemporaryDirectory() as folder:
        train_command = ["train", "--steps", "1", "--sample-every", "0"]
        if processes.quick:
            corpus = Path(folder) / "corpus.txt"
            corpus.write_text("The cat sat on the mat, and the dog sat on the cat. " * 400)
            train_command += ["--corpus", str(corpus), "--vocab-size", "400", "--length", "16"]
        else:
            _started(processes, train_command, Path(folder) / "warm")
        helps = [_started(processes, ["--help"], None) for _ in range(repeats)]
        trains = [_started(processes, train_command, Path(folder) / f"run{n}") for n in range(repeats)]
    first = Spread.of([times["first line"] for times in trains])
    return [
        Result("start-up", "`clozelab --help`", "", Spread.of([t["end"] for t in helps]), "s", 1.0, least=False),
        Result(
            "start-up",
            "`clozelab train` from a warm cache to step 1",
            "",
            Spread.of([times["step 1"] for times in trains]),
            "s",
            5.0,
            least=False,
            detail=f"its first line, of step 0, after {first.median:.1f} s; builtin corpus, all settings as they are",
        ),
    ]


def _started(processes: Processes, command: list[str], run: Path | None) -> dict[str, float]:
    """Seconds after the start at which a command printed its first line, had made step 1, and ended."""
    code = "import sys; from clozelab.cli import main; sys.exit(main())"
    more = [] if run is None else ["--run", str(run)]
    times: dict[str, float] = {}
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code, *command, *more],
        env=processes.whole_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        if run is not None:
            process.stdout.readline()
            times["first line"] = time.perf_counter() - begun
            while process.poll() is None and "step 1" not in times:
                time.sleep(0.005)
                if (run / "metrics.jsonl").exists() and '"step": 1' in (run / "metrics.jsonl").read_text():
                    times["step 1"] = time.perf_counter() - begun
        output = process.stdout.read()
    times["end"] = time.perf_counter() - begun
    if process.returncode or (run is not None and "step 1" not in times):
        raise RuntimeError(f"clozelab {' '.join(command)} failed: {output[-1000:]!r}")
    return times
