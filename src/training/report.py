"""What a run says of itself: metrics as JSON lines, a progress bar, a sample now and then."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..checks import check_path
from ..data.corpora.cache import full_disk_named, written_whole
from ..errors import InputError
from ..escape import escape_control_characters
from ..evaluation import HeldOut


class Metrics:
    """Appends one JSON object a line to `metrics.jsonl`; says nothing where there is no run folder.

    A run that goes on from step n first drops what was written after n, so that no step stands there twice.
    """

    def __init__(self, run: Path | None, resume_at: int = 0) -> None:
        self.path = None if run is None else run / "metrics.jsonl"
        self.evaluated: set[int] = set()
        if self.path is not None and self.path.exists():
            if not self.path.is_file():
                raise InputError(f"expected a file of metrics, but {self.path} is none")
            with open(self.path, "rb") as before, written_whole(self.path) as file:
                for line in before:
                    metrics = _metrics(line)
                    if metrics is None and line.endswith(b"\n"):
                        file.write(line)  # not ours to throw away
                    elif metrics is not None and metrics["step"] <= resume_at:
                        file.write(line.rstrip(b"\n") + b"\n")
                        self.evaluated |= {metrics["step"]} if "heldout" in metrics else set()

    def write_heldout(self, step: int, result: HeldOut) -> None:
        """Add the line of an evaluation, once."""
        if step not in self.evaluated:
            self.write(step, heldout=result.nats, bits_per_byte=result.bits_per_byte, paid=result.count)
            self.evaluated.add(step)

    def write(self, step: int, **values: Any) -> None:
        """Add one line, at once on the disk as far as the system goes."""
        if self.path is not None:
            with full_disk_named(self.path), open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; what is no such line, as a last one that was cut off, is left out."""
    lines = (_metrics(line) for line in check_path(path, "a file of metrics").read_bytes().splitlines())
    return [line for line in lines if line is not None]


def _metrics(line: bytes) -> dict[str, Any] | None:
    if len(line) > 2**20:  # no line of ours
        return None
    try:
        metrics = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return metrics if isinstance(metrics, dict) and isinstance(metrics.get("step"), int) else None


class _Console(Console):
    """One that falls silent where rich's own ends the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Bar:
    """The progress bar's handle: `Bar.show` after each step, `Bar.say` for a line above the bar.

    Where nobody listens any more (a closed terminal, a pipe whose reader left) it falls silent: no run dies of that.
    """

    def __init__(self, progress: Progress | None, task: TaskID | None, bytes_per_token: float | None) -> None:
        self.progress, self.task, self.bytes_per_token = progress, task, bytes_per_token

    def show(self, step: int, nats: float, tokens_per_second: float) -> None:
        """Loss in nats, bits per byte where that is defined, and speed."""
        if self.progress is None or self.task is None:
            return
        loss = f"loss {nats:.3f} nats"
        if self.bytes_per_token:
            loss += f", {nats / math.log(2) / self.bytes_per_token:.3f} bits per byte"
        with suppress(OSError):
            self.progress.update(self.task, completed=step, loss=loss, speed=f"{tokens_per_second:,.0f} tokens/s")

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.progress is not None:
            with suppress(OSError):
                self.progress.console.print(escape_control_characters(text), highlight=False, markup=False)


@contextmanager
def progress_bar(
    name: str, steps: int | None, done: int, visible: bool, bytes_per_token: float | None
) -> Iterator[Bar]:
    """A bar on standard error, or one that keeps silent; `steps` None where the clock ends the run."""
    if not visible:
        yield Bar(None, None, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
    )
    progress = Progress(*columns, console=_Console(stderr=True), refresh_per_second=4)
    with suppress(OSError):
        progress.start()
    try:
        yield Bar(progress, progress.add_task(name, total=steps, completed=done, loss="", speed=""), bytes_per_token)
    finally:
        with suppress(OSError):
            progress.stop()
