"""What a run reports: metrics as JSON lines and as a table, a progress bar, a sample now and then."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..checks import check_path
from ..data.corpora.cache import full_disk_named, written_whole
from ..errors import InputError
from ..escape import escape_control_characters
from ..evaluation.heldout import HeldOut
from ..progress import Bar, progress_bar
from .step import StepResult
from .tensorboard import Scalars

_log = logging.getLogger(__name__)

COLUMNS = ("step", "loss", "heldout", "bits_per_byte", "lr", "grad_norm", "seconds")
"""Of `losses.csv`."""


class Report:
    """The lines of `metrics.jsonl` and the progress bar of a run; either may be absent, and so may TensorBoard's files.

    A resumed run first drops the lines after its checkpoint, so that no step is reported twice.
    """

    def __init__(
        self, name: str, run: Path | None, bar: Bar, resume_at: int = 0, scalars: Scalars | None = None
    ) -> None:
        self.name, self.bar, self.scalars = name, bar, scalars
        self.path = None if run is None else run / "metrics.jsonl"
        self.evaluated: dict[int, float] = {}
        """Held-out nats of the steps whose evaluation has its line."""
        if self.path is not None and self.path.exists():
            if not self.path.is_file():
                raise InputError(f"expected a file of metrics, but {self.path} is none")
            with written_whole(self.path) as file:
                for line, metrics in _lines(self.path):
                    if metrics is None and line.endswith(b"\n"):
                        file.write(line)  # not ours to throw away
                    elif metrics is not None and metrics["step"] <= resume_at:
                        file.write(line.rstrip(b"\n") + b"\n")
                        if isinstance(nats := metrics.get("heldout"), float):
                            self.evaluated[metrics["step"]] = nats

    def step(self, step: int, result: StepResult, *, lr: float, seconds: float, tokens_per_second: float) -> None:
        """A training step."""
        nats = float(result.loss.mean)
        parts = {name: {"mean": float(part.mean), "count": int(part.count)} for name, part in result.loss.items()}
        self._write(step, loss=nats, **_counted(parts), lr=lr, grad_norm=result.grad_norm, seconds=round(seconds, 3))
        self.bar.update(step, f"loss {nats:.3f} nats, {tokens_per_second:,.0f} tokens/s")

    def heldout(self, step: int, result: HeldOut) -> None:
        """An evaluation: its line is written once."""
        if step not in self.evaluated:
            values: dict[str, Any] = {"heldout": result.nats, "bits_per_byte": result.bits_per_byte}
            values |= _counted({name: asdict(part) for name, part in result.parts.items()})
            if result.breakdown:
                values["breakdown"] = result.breakdown
            if result.corpora:
                values["corpora"] = result.corpora
            self._write(step, **values)
            self.evaluated[step] = result.nats
        loss = f"held-out loss {result.nats:.4f} nats{result.by_part}{result.per_byte}"
        self.bar.print_line(f"{self.name}, step {step}: {loss}")

    def sample(self, step: int, text: str) -> None:
        """What the model generated."""
        self._write(step, sample=text)
        self.bar.print_line(f"{self.name}, step {step}: {text}")

    def _write(self, step: int, **values: Any) -> None:
        """Append one line."""
        if self.scalars is not None:
            self.scalars.add(step, **values)
        if self.path is not None:
            with full_disk_named(self.path), open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")


def _counted(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The count of the only part, or all parts."""
    return {"count": next(iter(parts.values()))["count"]} if len(parts) == 1 else {"parts": parts}


@contextmanager
def run_report(
    name: str, run: Path | None, total_steps: int | None, step: int, visible: bool, tensorboard: bool = False
) -> Iterator[Report]:
    """The report of a run that goes on from `step`; `total_steps` is None where the clock ends it.

    When the run ends or is stopped, its metrics are written as a table too.
    """
    scalars = Scalars(run if tensorboard else None, resume_at=step)
    report = Report(name, run, Bar(), resume_at=step, scalars=scalars)  # before the bar is drawn: an error is one line
    try:
        with progress_bar(name, total_steps, step, visible=visible) as report.bar:
            yield report
    finally:
        scalars.close()
    if report.path is not None and report.path.exists():
        write_losses(report.path)


def write_losses(metrics: Path) -> None:
    """Write `losses.csv` beside a `metrics.jsonl`: a row for each step, with its evaluation if it had one.

    Numbers are those of the lines; `heldout` and `bits_per_byte` are empty where a step was not evaluated.
    """
    rows: dict[int, dict[str, Any]] = {}
    for _, line in _lines(metrics, logged=False):
        if line is not None:
            rows.setdefault(line["step"], {}).update({name: line[name] for name in COLUMNS if name in line})
    with written_whole(metrics.with_name("losses.csv")) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        table: csv.DictWriter[str] = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(row for _, row in sorted(rows.items()) if len(row) > 1)
        text.detach()  # the file stays open: its writer renames it


def read_metrics(path: str | Path, *, logged: bool = True) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; others are left out, and logged unless told not to, but for a last line that was
    cut off."""
    return [metrics for _, metrics in _lines(check_path(path, "a file of metrics"), logged) if metrics is not None]


def _lines(path: Path, logged: bool = True) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """(line, its metrics or None) of a `metrics.jsonl`; at the end it logs which lines had none, unless told not to.

    The last line may be cut off, where a run was stopped as it wrote.
    """
    numbers = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            metrics = _metrics(line)
            if metrics is None and line.strip() and line.endswith(b"\n"):
                numbers.append(number)
            yield line, metrics
    if numbers and logged:
        which = f"lines {', '.join(map(str, numbers[:3]))}" if len(numbers) > 1 else f"line {numbers[0]}"
        more = f" and {len(numbers) - 3:,} more" if len(numbers) > 3 else ""
        _log.warning(
            escape_control_characters(f"{path}, {which}{more}: damaged, or not of this run; kept there and not read")
        )


def _metrics(line: bytes) -> dict[str, Any] | None:
    if len(line) > 2**20:  # not a line of ours
        return None
    try:
        metrics = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return metrics if isinstance(metrics, dict) and isinstance(metrics.get("step"), int) else None
