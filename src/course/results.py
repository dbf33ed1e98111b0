"""The results of lessons, as their scripts recorded them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checks import check_path
from ..data.corpora.cache import written_whole
from ..errors import InputError
from ..escape import escape_control_characters, shorten, shown
from .judgement import VERDICTS, summary


@dataclass(frozen=True)
class Result:
    """A lesson's claim, what was measured, and the verdict."""

    lesson: str
    """The two digits that the script's name begins with."""
    script: str
    """The file name in `examples/`."""
    title: str
    question: str
    claim: str
    verdict: str
    """One of `VERDICTS`."""
    reason: str
    """Why the claim was not simply held."""
    number: str
    """One figure beside its baseline, in at most 20 words."""
    finding: str
    """What was measured, in sentences with their numbers."""
    gates: list[list[str]]
    """What had to be true before judging, with its figure; "passed" or "not passed"."""
    parts: list[list[str]]
    """The parts of the claim, with the difference; "held", "contradicted" or "cannot tell"."""
    literature: str
    """What others measured."""
    previous: str
    """What version 0.1 concluded, and why this is another verdict or the same."""
    figures: dict[str, list[float]]
    """The measured numbers by name, one value for each seed."""
    headings: list[str]
    rows: list[list[str]]
    """The lesson's table, as printed."""
    seeds: list[int]
    seconds: float
    """Processor time of the whole script, which other work on the machine hardly changes, unlike wall time."""
    arguments: list[str]
    """The arguments that the script was run with."""
    torch: str
    """The version of PyTorch."""
    machine: str
    """Kind of processor."""
    commit: str
    """Of the sources."""

    @property
    def command(self) -> str:
        """The command that runs the lesson again."""
        return " ".join(["python", f"examples/{self.script}", *self.arguments])

    @property
    def summary(self) -> str:
        """The verdict; where it is held in part, with how many parts held."""
        return summary(self.verdict, [outcome for _, outcome in self.parts])

    def save(self, folder: Path) -> Path:
        """Write the result as JSON into a folder, under the script's name, and return its path."""
        path = folder / f"{Path(self.script).stem}.json"
        with written_whole(path) as file:
            file.write((json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode())
        return path

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read the result that `save` wrote; raises `InputError` for any other file."""
        try:
            result = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{path} is no result of a lesson: {shorten(error, 200)}") from error
        for name, fits in _FITS.items():
            if not fits(getattr(result, name)):
                raise InputError(f"{path} is no result of a lesson: {name} is {shown(getattr(result, name))}")
        return result


def _list_of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(one, kinds) for one in value)


_WORDS, _NUMBERS = _list_of(str), _list_of(int, float)
_TEXTS = ("lesson", "script", "title", "question", "claim", "reason", "number", "finding", "literature", "previous")
_TEXTS += ("torch", "machine", "commit")
_FITS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(_TEXTS, lambda value: isinstance(value, str)),
    "verdict": lambda value: value in VERDICTS,
    "figures": lambda value: isinstance(value, dict) and all(map(_NUMBERS, value.values())),
    "headings": _WORDS,
    **dict.fromkeys(("rows", "gates", "parts"), lambda value: isinstance(value, list) and all(map(_WORDS, value))),
    "seeds": _list_of(int),
    "seconds": lambda value: isinstance(value, (int, float)),
    "arguments": _WORDS,
}
"""What is required of each field of a file."""


def read_results(folder: str | Path) -> list[Result]:
    """The results in a folder, by number. Raises `InputError` where there is none."""
    paths = sorted(check_path(folder, "the folder of results").glob("[0-9][0-9]_*.json"))
    if not paths:
        raise InputError(
            f"{folder} holds no results of lessons (NN_name.json): run a script of examples/ first, or give --folder"
        )
    return [Result.load(path) for path in paths]


def claims_table(results: Sequence[Result]) -> str:
    """The table of claims, one number each and verdicts in the README, as Markdown."""
    lines = ["| lesson | the claim | measured | verdict |", "|---|---|---|---|"]
    for result in results:
        name = f"[{result.lesson} {result.title}](examples/{result.script})"
        cells = (
            name,
            result.claim,
            result.number,
            f"**{result.verdict}**{result.summary.removeprefix(result.verdict)}",
        )
        lines.append(f"| {' | '.join(map(_in_a_cell, cells))} |")
    return "\n".join(lines)


def _in_a_cell(text: str) -> str:
    """Text for a cell: on one line, with its bars escaped."""
    return " ".join(text.split()).replace("|", "\\|")


INSTALLED = Path(__file__).parents[1] / "lessons"
"""Where a wheel has the scripts of `examples/`, and what they recorded."""


def lessons_folder() -> Path:
    """The folder of the lessons' scripts, with `results/` in it: in a clone `examples/`, installed `clozelab/lessons/`.

    >>> from clozelab.course import lessons_folder, read_results
    >>> read_results(lessons_folder() / "results")[0].lesson
    '01'

    Raises `InputError` where neither is there.
    """
    clone = INSTALLED.parents[1] / "examples"
    for folder in (INSTALLED, clone):
        if (folder / "results").is_dir():
            return folder
    raise InputError(f"the lessons are missing: expected {INSTALLED}, as in a wheel, or {clone}, as in a clone")


def print_results(results: Sequence[Result]) -> None:
    """Print a line for each result on standard output: lesson, verdict, processor time."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("lesson")
    table.add_column("verdict", min_width=12)
    table.add_column("minutes", justify="right")
    for result in results:
        name = escape_control_characters(f"{result.lesson} {result.title}")
        table.add_row(name, result.summary, f"{result.seconds / 60:.1f}")
    Console(markup=False, emoji=False, highlight=False).print(table)  # "[mask]" is text, not markup


def print_result(result: Result) -> None:
    """Print one result on standard output: its table, the claim, what was measured, and the verdict."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    plain = escape_control_characters
    console = Console(markup=False, emoji=False, highlight=False)

    def table(plus_minus: str) -> Table:
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in result.headings:
            made.add_column(plain(heading), overflow="fold")
        for row in result.rows:
            made.add_row(*(plain(cell).replace(" ± ", plus_minus) for cell in row))
        return made

    wide = console.options.update(max_width=10_000)
    loose, tight = (console.measure(table(plus_minus), options=wide) for plus_minus in (" ± ", "±"))
    # Without its spaces a number stays on one line, unless even that is too long for its column.
    without_spaces = loose.maximum > console.width >= tight.minimum
    console.print(plain(f"{result.lesson} {result.title}"), style="bold")
    console.print(table("±" if without_spaces else " ± "))
    lines = [f"claim:    {result.claim}", f"measured: {result.finding}"]
    alone = len(result.seeds) == 1  # from one seed no test has an outcome
    for text, outcome in result.parts:
        lines.append(f"{'part:' if alone else outcome + ':':<9} {text.removesuffix(f', {outcome}')}")
    for text, outcome in result.gates:
        lines.append(f"{'gate:' if alone or outcome == 'passed' else 'NOT PASSED:':<9} {text}")
    lines += [f"others:   {result.literature}"] * bool(result.literature)
    for line in lines:
        console.print(plain(line))
    seeds = "one seed, no test" if alone else f"{len(result.seeds)} seeds, ± half of the 95% interval"
    console.print(f"verdict:  {result.summary} ({seeds}, {result.seconds:.0f} s of processor time)")
