"""What training came to, as a page: curves, floors and guesses, numbers, samples, and what was asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...escape import escape_control_characters
from ...objectives import Likelihood, Objective
from ..comparison import CLEARLY, LINES, WAYS, budget_of, how_to_read, said_of_first_look
from ..picture import options_line
from .chart import Chart, Level
from .colours import css_variables
from .page import rendered

if TYPE_CHECKING:
    from ...training import Compared, TrainResult

SMALLER = "give fewer objectives, or shorter examples"
SAMPLES = 12
"""Of a run, the last ones that are shown."""


@dataclass(frozen=True)
class Panel:
    """One objective of a report."""

    objective: Objective
    chart: Chart
    verdict: str
    facts: Sequence[str] = ()

    @property
    def style(self) -> str:
        """The colour of the objective."""
        return css_variables(self.objective.colour)


def comparison_page(
    rows: Sequence[Compared],
    corpus: str,
    equal: str = "tokens",
    *,
    asked: Mapping[str, Any] | None = None,
    floors: Mapping[str, float] | None = None,
    first_look: bool = False,
) -> str:
    """A comparison as one HTML page: a curve for each objective, the numbers, the samples, and what each was asked.

    `floors` are entropy floors in nats by the name of the objective, where they are known; `asked` is what
    `heldout_data` makes of the held-out text. `equal` and `first_look` are those of `print_comparison`. Raises
    `InputError` where there is no row.
    """
    if not rows:
        raise InputError("there is nothing to compare: expected at least one objective")
    floors = floors or {}
    panels = []
    ceiling = 1.08 * max([row.uniform for row in rows] + [nats for row in rows for _, nats in row.curve])
    for row in rows:
        guesses = row.unigram, row.uniform
        chart = Chart(
            [(tokens / 1e6, nats) for tokens, nats in row.curve],
            levels_of(*guesses, floors.get(row.objective.name)),
            "tokens of text seen (millions)",
            at_most=_at_most(row.objective),
            ceiling=ceiling,
        )
        panels.append(Panel(row.objective, chart, verdict(row.heldout, row.unigram, floors.get(row.objective.name))))
    lines = [(label, cells) for label, cell in LINES if any(cells := [cell(row) for row in rows])]
    samples = [
        (f"The same text {title}", [(row.objective, *_completed(row, way)) for row in rows])
        for way, title in WAYS.items()
    ]
    names = ", ".join(row.objective.name for row in rows)
    return rendered(
        "report.html",
        SMALLER,
        title=f"Comparison: {names}",
        heading=f"{len(rows)} objectives compared" if len(rows) > 1 else f"The {names} objective",
        lead=f"On {escape_control_characters(corpus)}, {budget_of(rows, equal)}.",
        warning=said_of_first_look(rows) if first_look else "",
        panels=panels,
        kinds=_kinds(panels),
        columns=[(row.objective.name, row.objective.canonical) for row in rows],
        lines=lines,
        notes=[f"{text[0].upper()}{text[1:]}." for text in [how_to_read(rows)]],
        samples=samples,
        asked=asked,
        embedded=False,
    )


def run_page(
    objective: Objective,
    result: TrainResult,
    metrics: Iterable[Mapping[str, Any]],
    *,
    corpus: str,
    where: str,
    uniform: float,
    unigram: float | None = None,
    floor: float | None = None,
    asked: Mapping[str, Any] | None = None,
) -> str:
    """A training run as one HTML page: its curve, its numbers, samples along the way, and what it was asked.

    `metrics` are the lines of its `metrics.jsonl` (see `read_metrics`), `where` is its folder. `uniform` and `unigram`
    are the losses of guesses and `floor` the entropy floor, in nats, those that are known. Raises `InputError` for a
    run without an evaluation.
    """
    if result.heldout is None or not result.curve:
        raise InputError("expected a run that was evaluated, which each is at its end")
    metrics = [*metrics]
    heldout = result.heldout
    losses = [(one["step"], one["loss"]) for one in metrics if isinstance(one.get("loss"), float)]
    chart = Chart(
        result.curve,
        levels_of(unigram, uniform, floor),
        "optimiser steps",
        at_most=_at_most(objective),
        training=losses,
        width=1180,
        height=360,
    )
    panels = [Panel(objective, chart, verdict(heldout.nats, unigram, floor))]
    numbers = {
        "held-out loss": f"{_at_most(objective)}{heldout.nats:.4f} nats{heldout.by_part or ' per predicted token'}",
        "bits per byte": heldout.per_byte.removeprefix(", ").removesuffix(" bits per byte"),
        "entropy floor": "" if floor is None else f"{floor:.4f}",
        "unigram guess": "" if unigram is None else f"{unigram:.4f}",
        "uniform guess": f"{uniform:.4f}",
        "by kind": heldout.by_kind,
        "by corpus": ", ".join(f"{name} {nats:.4f}" for name, nats in heldout.corpora.items()),
        "steps": f"{result.step:,}",
        "text seen": f"{result.tokens:,} tokens",
        "tokens a second": f"{result.tokens_per_second:,.0f}",
        "options": options_line(objective).removeprefix("with "),
    }
    said = [(one["step"], one["sample"]) for one in metrics if isinstance(one.get("sample"), str)]
    samples = [(objective, f"step {step:,}", escape_control_characters(text)) for step, text in said[-SAMPLES:]]
    title = f"The last {SAMPLES} of {len(said)} samples" if len(said) > SAMPLES else "Samples along the way"
    return rendered(
        "report.html",
        SMALLER,
        title=f"{objective.name}: training run",
        heading=f"The {objective.name} objective, trained",
        lead=f"On {escape_control_characters(corpus)}, in {escape_control_characters(where)}.",
        warning="",
        panels=panels,
        kinds=_kinds(panels),
        columns=[],
        lines=[(name, [escape_control_characters(text)]) for name, text in numbers.items() if text],
        notes=["Losses are on held-out text whose masks never change; a guess reads nothing."],
        samples=[(title, samples)] if samples else [],
        asked=asked,
        embedded=False,
    )


def levels_of(unigram: float | None, uniform: float, floor: float | None) -> list[Level]:
    """The lines that a curve is drawn beside, those that are known."""
    known = [
        ("uniform guess", uniform, "uniform"),
        ("unigram guess", unigram, "unigram"),
        ("entropy floor", floor, "floor"),
    ]
    return [Level(label, nats, kind) for label, nats, kind in known if nats is not None]


def verdict(nats: float, unigram: float | None, floor: float | None) -> str:
    """What a loss means beside the guess by frequency, and the floor.

    >>> from clozelab.display.pages.report import verdict
    >>> verdict(4.1, 6.6, None)
    '2.50 nats below a guess by token frequencies.'
    >>> verdict(1.02, 1.4, 1.0)
    '0.38 nats below a guess by token frequencies, and 0.02 above the entropy floor.'
    """
    parts = []
    if unigram is not None:
        below = unigram - nats
        parts.append(
            f"{below:.2f} nats below a guess by token frequencies"
            if below >= CLEARLY
            else "No better yet than a guess by token frequencies"
        )
    if floor is not None:
        parts.append(f"{nats - floor:.2f} above the entropy floor")
    return f"{', and '.join(parts)}." if parts else ""


def _kinds(panels: Sequence[Panel]) -> dict[str, str]:
    """The levels of the charts by kind, for the key below them."""
    return {level.kind: level.label for panel in panels for level in panel.chart.levels}


def _completed(row: Compared, way: str) -> tuple[str, str]:
    """A word about what a model made of the text, and the text."""
    done = row.completions.get(way)
    text = row.cannot.get(way, "not tried") if done is None else done
    return "cannot" if done is None else "", escape_control_characters(" ".join(text.split()))


def _at_most(objective: Objective) -> str:
    return "at most " if objective.likelihood is Likelihood.BOUND else ""
