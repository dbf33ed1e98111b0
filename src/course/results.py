"""What the lessons measured last, as their scripts wrote it down."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checks import check_path
from ..data.corpora.cache import written_whole
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
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{path} is no result of a lesson: {error!s:.200}") from error
        for name, fits in _FITS.items():
            if not fits(getattr(result, name)):
                raise InputError(f"{path} is no result of a lesson: its {name} is {getattr(result, name)!r:.80}")
        return result


def _list_of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(one, kinds) for one in value)


_WORDS, _NUMBERS = _list_of(str), _list_of(int, float)
_FITS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("lesson", "script", "title", "claim", "finding", "torch"), lambda value: isinstance(value, str)),
    "verdict": lambda value: value in VERDICTS,
    "figures": lambda value: isinstance(value, dict) and all(map(_NUMBERS, value.values())),
    "headings": _WORDS,
    "rows": lambda value: isinstance(value, list) and all(map(_WORDS, value)),
    "seeds": _list_of(int),
    "seconds": lambda value: isinstance(value, (int, float)),
    "arguments": _WORDS,
}
"""What each field must be, whoever wrote the file."""


def read_results(folder: str | Path) -> list[Result]:
    """The results in a folder, by number. Raises `InputError` where there is none."""
    paths = sorted(check_path(folder, "the folder of results").glob("[0-9][0-9]_*.json"))
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
        cells = (name, result.claim, result.finding, f"**{result.verdict}**")
        lines.append(f"| {' | '.join(map(_in_a_cell, cells))} |")
    return "\n".join(lines)


def _in_a_cell(text: str) -> str:
    """On one line, its bars not taken for the end of the cell."""
    return " ".join(text.split()).replace("|", "\\|")


def print_results(results: Sequence[Result]) -> None:
    """A block for each lesson, on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_lines=False, pad_edge=False)
    for heading, settings in _COLUMNS.items():
        table.add_column(heading, **settings)
    for result in results:
        took = f"{result.seconds / 60:.1f}"
        told = (f"{result.lesson} {result.title}", result.claim, result.finding, result.verdict)
        table.add_row(*map(plain, told), took)
    table.caption = "min: processor minutes of the whole script; ± standard deviation over seeds"
    Console(markup=False, emoji=False).print(table)  # "[mask]" is a word here


_COLUMNS: dict[str, dict[str, Any]] = {
    "lesson": {"ratio": 3},
    "the claim": {"ratio": 4},
    "measured": {"ratio": 6},
    "verdict": {"min_width": 12},
    "min": {"justify": "right"},
}
