"""What a run says of itself: metrics as JSON lines, a progress bar, a sample now and then."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..data.cache import written_whole


class Metrics:
    """Appends one JSON object a line to `metrics.jsonl`; says nothing where there is no run folder.

    A run that goes on from step n first drops what was written after n, so that no step stands there twice.
    """

    def __init__(self, run: Path | None, resume_at: int = 0) -> None:
        self.path = None if run is None else run / "metrics.jsonl"
        if self.path is not None and self.path.exists():
            kept = [line for line in read_metrics(self.path) if line["step"] <= resume_at]
            with written_whole(self.path) as file:
                file.write("".join(json.dumps(line) + "\n" for line in kept).encode())

    def write(self, step: int, **values: Any) -> None:
        """Add one line, at once on the disk as far as the system goes."""
        if self.path is not None:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; a last line that was cut off in the middle is left out."""
    lines = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in lines if isinstance(line, dict) and "step" in line]


class Bar:
    """The progress bar's handle: `Bar.show` after each step, `Bar.say` for a line above the bar."""

    def __init__(self, progress: Progress | None, task: TaskID | None, bytes_per_token: float | None) -> None:
        self.progress, self.task, self.bytes_per_token = progress, task, bytes_per_token

    def show(self, step: int, nats: float, tokens_per_second: float) -> None:
        """Loss in nats, bits per byte where that is defined, and speed."""
        if self.progress is None or self.task is None:
            return
        loss = f"loss {nats:.3f} nats"
        if self.bytes_per_token:
            loss += f", {nats / math.log(2) / self.bytes_per_token:.3f} bits per byte"
        self.progress.update(self.task, completed=step, loss=loss, speed=f"{tokens_per_second:,.0f} tokens/s")

    def say(self, text: str) -> None:
        """A line that stays."""
        if self.progress is not None:
            self.progress.console.print(text, highlight=False, markup=False)


@contextmanager
def progress_bar(name: str, steps: int, done: int, visible: bool, bytes_per_token: float | None) -> Iterator[Bar]:
    """A bar on standard error, or one that keeps silent."""
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
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        task = progress.add_task(name, total=steps, completed=done, loss="", speed="")
        yield Bar(progress, task, bytes_per_token)
