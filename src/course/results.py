"""What the lessons measured last, as their scripts wrote it down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..data.cache import written_whole
from ..errors import InputError

VERDICTS = ("held", "held in part", "contradicted", "not judged")
"""What can become of a claim. "not judged": too few seeds, as in a fast run."""


@dataclass(frozen=True)
class Result:
    """A lesson's claim and what became of it."""

    lesson: str
    """Two digits, as the script's name begins."""
    script: str
    """The name of the script."""
    title: str
    claim: str
    verdict: str
    """One of `VERDICTS`."""
    finding: str
    """What was measured, in a sentence with its figures."""
    figures: dict[str, list[float]]
    """Each figure by name, a value for each seed."""
    headings: list[str]
    rows: list[list[str]]
    """The lesson's table, as it was printed."""
    seeds: list[int]
    seconds: float
    """Processor time of the whole script: wall time would tell more of the machine's other work."""
    arguments: list[str]
    """Those that the script was run with."""
    torch: str
    """Version."""

    @property
    def command(self) -> str:
        """What runs the lesson again."""
        return " ".join(["python", f"examples/{self.script}", *self.arguments])

    def save(self, folder: Path) -> Path:
        """As JSON, under the script's name."""
        path = folder / f"{Path(self.script).stem}.json"
        with written_whole(path) as file:
            file.write((json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode())
        return path

    @classmethod
    def load(cls, path: Path) -> Result:
        """Raises `InputError` for a file that no lesson wrote."""
        try:
            result = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} is no result of a lesson: {error!s:.200}") from error
        if result.verdict not in VERDICTS:
            raise InputError(f"{path} is no result of a lesson: its verdict is {result.verdict!r}")
        return result


def read_results(folder: str | Path) -> list[Result]:
    """The results in a folder, by number. Raises `InputError` where there is none."""
    paths = sorted(Path(folder).glob("[0-9][0-9]_*.json"))
    if not paths:
        raise InputError(
            f"{folder} holds no results of lessons (NN_name.json): run a script of examples/ first, or say --folder"
        )
    return [Result.load(path) for path in paths]


def claims_table(results: Sequence[Result]) -> str:
    """Claim, measured, verdict: Markdown, as it stands in the README."""
    lines = ["| lesson | the claim | measured | verdict |", "|---|---|---|---|"]
    for result in results:
        name = f"[{result.lesson} {result.title}](examples/{result.script})"
        lines.append(f"| {name} | {result.claim} | {result.finding} | **{result.verdict}** |")
    return "\n".join(lines)


def print_results(results: Sequence[Result]) -> None:
    """A block for each lesson, on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_lines=False, pad_edge=False)
    for heading, settings in _COLUMNS.items():
        table.add_column(heading, **settings)
    for result in results:
        took = f"{result.seconds / 60:.1f}"
        table.add_row(f"{result.lesson} {result.title}", result.claim, result.finding, result.verdict, took)
    table.caption = "min: processor minutes of the whole script; ± standard deviation over seeds"
    Console().print(table)


_COLUMNS: dict[str, dict[str, Any]] = {
    "lesson": {"ratio": 3},
    "the claim": {"ratio": 4},
    "measured": {"ratio": 6},
    "verdict": {"min_width": 12},
    "min": {"justify": "right"},
}
