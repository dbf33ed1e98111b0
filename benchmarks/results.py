"""What a measurement came to, and how it is written down."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from measure import Spread


@dataclass(frozen=True)
class Result:
    """One figure, beside its goal."""

    row: str
    """Which row of the table it belongs to: a key of `rows.ROWS`."""
    name: str
    """What was done."""
    against: str
    """Whom it was held against."""
    figure: Spread | None
    """Over the rounds: what the goal is about. None where it was not measured, and `detail` says why."""
    unit: str
    """Of the figure: "x" for a ratio in our favour."""
    goal: float | None
    """None for a figure without a goal."""
    least: bool = True
    """Whether the goal is the least that will do, or else the most."""
    ours: str = ""
    theirs: str = ""
    """What each side did, with its unit."""
    memory: tuple[int, int] | None = None
    """Bytes that a fresh process of ours and of theirs grew by at most."""
    wall: float | None = None
    """The same ratio of wall times."""
    detail: str = ""
    """What else was seen."""
    curves: dict[str, Any] | None = None
    """{objective: [sizes, values]}, where a picture is drawn of them."""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met by the median; None where there is none."""
        if self.goal is None or self.figure is None:
            return None
        return self.figure.median >= self.goal if self.least else self.figure.median <= self.goal

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "met": self.met}

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> Result:
        """The inverse of `as_json`; whether the goal is met follows from the figure."""
        fields = {key: value for key, value in fields.items() if key != "met"}
        memory = fields["memory"] and tuple(fields["memory"])
        return cls(**{**fields, "figure": fields["figure"] and Spread(**fields["figure"]), "memory": memory})

    @classmethod
    def skipped(cls, row: str, name: str, why: str) -> Result:
        """What a machine cannot do in reasonable time: a line of the table all the same."""
        return cls(row, name, "", None, "", None, detail=why)


def shown(value: float, unit: str) -> str:
    """A figure as one reads it: 12.3x, 1.4 s, 63%.

    >>> shown(12.34, "x"), shown(0.634, "%"), shown(1.4, "s")
    ('12.3x', '63%', '1.4 s')
    """
    if unit == "%":
        return f"{100 * value:.1f}%" if value < 0.1 else f"{100 * value:.0f}%"
    number = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number}{'' if unit == 'x' else ' '}{unit}".rstrip()


def speed(tokens: float, seconds: list[float]) -> str:
    """Tokens a second, by the median time."""
    rate = tokens / Spread.of(seconds).median
    return f"{rate / 1e6:.3g} M tokens/s" if rate >= 1e6 else f"{rate / 1e3:.3g} k tokens/s"


HEAD = ["what", "against", "ours", "theirs", "goal", "figure (quartiles)", "wall", "peak memory", "met"]


def line(result: Result) -> str:
    """A figure as a line of the table."""
    figure = result.figure
    if figure is None:
        return cells(result.name, result.against, "", "", "", f"skipped: {result.detail}", "", "", "")
    goal = "" if result.goal is None else ("≥ " if result.least else "≤ ") + shown(result.goal, result.unit)
    spread = f"**{shown(figure.median, result.unit)}**"
    if figure.low != figure.high:
        unit = "%" if result.unit == "%" else ""
        spread += f" ({shown(figure.low, unit)} to {shown(figure.high, unit)})"
    wall = "" if result.wall is None else shown(result.wall, "x")
    memory = "" if result.memory is None else " / ".join(f"{size / 1e6:.0f}" for size in result.memory) + " MB"
    met = {None: "", True: "yes", False: "**no**"}[result.met]
    return cells(result.name, result.against, result.ours, result.theirs, goal, spread, wall, memory, met)


def table(results: list[Result]) -> str:
    """Markdown: a line for each figure."""
    return "\n".join([*head(), *map(line, results)])


def head() -> list[str]:
    """The first two lines of the table."""
    return [cells(*HEAD), cells(*["---"] * len(HEAD))]


def cells(*values: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, values))} |"


def notes(results: list[Result], explanations: dict[str, str]) -> str:
    """What else was seen, and for each row that missed a goal, why."""
    lines = [f"- {result.name}: {result.detail}" for result in results if result.detail and result.figure is not None]
    missed = list(dict.fromkeys(result.row for result in results if result.met is False))
    if missed:
        lines += ["", "#### Goals that were missed", ""]
        lines += [f"- **{row}**: {explanations.get(row, 'not yet explained.')}" for row in missed]
    return "\n".join(lines)
