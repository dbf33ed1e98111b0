"""The comparison of objectives as a table, a JSON file and a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..escape import escape_control_characters, shown
from ..objectives import Likelihood
from .curves import draw_loss
from .plan import quantity

if TYPE_CHECKING:
    from rich.table import Table

    from ..training import Compared

PANELS = 3
"""In a row of the picture, at most."""
CLEARLY = 0.1
"""Nats by which a loss must lie below a guess, to be told from it: held-out losses on so few examples are about as
uncertain."""
MARGIN, COLUMN = 18, 20
"""Terminal cells of the labels, and of the least column of an objective."""


def print_comparison(rows: Sequence[Compared], corpus: str, equal: str = "tokens", *, first_look: bool = False) -> None:
    """The table on standard output, then what each model makes of the same text.

    `equal` is what `compare` gave each as much of: "tokens" or "compute". With `first_look` the table says what so
    short a comparison cannot tell. More objectives than the terminal has room
    for are several tables. Raises `InputError` where there is no row.
    """
    from rich.console import Console

    if not rows:
        raise InputError("there is nothing to compare: expected at least one objective")
    number = f"{len(rows)} objectives" if len(rows) > 1 else "one objective"
    console = Console(markup=False, emoji=False, highlight=False)
    corpus = escape_control_characters(corpus)
    console.print(f"{number} on {corpus}, {budget_of(rows, equal)}", style="bold")
    lines = [(label, cells) for label, cell in LINES if any(cells := [cell(row) for row in rows])]
    together = max(1, (console.width - MARGIN) // COLUMN)
    for first in range(0, len(rows), together):
        part = slice(first, first + together)
        console.print(_table(rows[part], [(label, cells[part]) for label, cells in lines]))
    console.print(how_to_read(rows))
    if first_look:
        console.print(said_of_first_look(rows), style="bold")
    margin = max(len(row.objective.name) for row in rows) + 2
    for way, title in WAYS.items():
        console.print(f"The same text {title}, in brackets what the model generated:", style="bold")
        for row in rows:
            done = row.completions.get(way)
            text = f"cannot: {row.cannot.get(way, 'not tried')}" if done is None else done
            console.print(f"{row.objective.name:{margin}}{escape_control_characters(' '.join(text.split()))}")


def how_to_read(rows: Sequence[Compared]) -> str:
    """What the numbers are, and what can be compared."""
    return (
        f"Losses are nats per predicted token on held-out text{_of_parts(rows)}. In the loss: loss positions per token "
        "of text, over all outputs. Losses of two objectives are not comparable, since they predict different tokens "
        "from different contexts: compare each with its own guesses. Bits per byte are those of the predicted text "
        "given the rest, and are defined only where the loss is a likelihood or a bound on one"
    )


def said_of_first_look(rows: Sequence[Compared]) -> str:
    """What a short comparison shows, and what it cannot."""
    early = [row.objective.name for row in rows if row.heldout > row.unigram - CLEARLY]
    still = (
        f"; {', '.join(early)} still {'guess' if len(early) > 1 else 'guesses'} by token frequencies" if early else ""
    )
    return (
        f"This is a first look, {budget_of(rows[:1], 'tokens')}, with one seed{still}. It shows what each objective "
        "does, reads and costs. It cannot tell yet what each learns in longer training, which one suits a use, or how "
        "well its model completes a text: run it without --quick for that"
    )


def _of_parts(rows: Sequence[Compared]) -> str:
    """What is said of losses of several parts, where there are some."""
    if not any(map(_by_part, rows)):
        return ""
    return (
        "; a loss of several parts is their weighted sum, each divided by its own count, and bits per byte are those "
        "of the first"
    )


def _by_part(row: Compared) -> str:
    return row.result.heldout.weighted_parts if row.result.heldout else ""


def _in_loss(row: Compared) -> str:
    """As `clozelab objectives` says it."""
    from ..planning import row_of

    made = row_of(row.objective, row.length)
    return f"{made.loss_positions / made.text:.1%}"


def budget_of(rows: Sequence[Compared], equal: str) -> str:
    """What each objective got as much of."""
    first = rows[0]
    text = f"{quantity(first.result.tokens)} tokens of text"
    if equal != "compute" or first.flops is None:
        return f"{text} each"
    return (
        f"{quantity(first.flops, 'FLOP')} of training each, the cost of {text} for {first.objective.name}; to the "
        "nearest step, and each schedule spans its own steps"
    )


def _table(rows: Sequence[Compared], lines: Sequence[tuple[str, Sequence[str]]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    for row in rows:
        table.add_column(f"{row.objective.name} ({row.objective.canonical})", overflow="fold")
    for label, cells in lines:
        table.add_row(label, *cells)
    return table


def _at_most(row: Compared) -> str:
    return "at most " if row.objective.likelihood is Likelihood.BOUND else ""


def _per_byte(row: Compared) -> str:
    bits = row.result.heldout and row.result.heldout.bits_per_byte
    return f"{_at_most(row)}{bits:.3f}" if bits else "not defined"


LINES: list[tuple[str, Callable[[Compared], str]]] = [
    ("hides", lambda row: row.objective.hides),
    ("reads", lambda row: row.objective.attends_to),
    ("predicts", lambda row: row.objective.predicts),
    ("model", lambda row: row.objective.architecture),
    ("parameters", lambda row: f"{row.parameters / 1e6:.2f} M"),
    ("text seen", lambda row: f"{quantity(row.result.tokens)} tokens"),
    ("training", lambda row: "" if row.flops is None else quantity(row.flops, "FLOP")),
    ("in the loss", _in_loss),
    ("held-out loss", lambda row: f"{_at_most(row)}{row.heldout:.3f}"),
    ("by part", _by_part),
    ("by kind", lambda row: row.result.heldout.by_kind if row.result.heldout else ""),
    ("unigram guess", lambda row: f"{row.unigram:.3f}"),
    ("uniform guess", lambda row: f"{row.uniform:.3f}"),
    ("bits per byte", _per_byte),
    ("tokens a second", lambda row: f"{row.result.tokens_per_second:,.0f}"),
]
"""(label, the cell of a row); a line of empty cells is left out"""

WAYS = {"continue": "continued", "fill": "with a blank filled"}
"""What a model may be able to do with a text, as `Objective.completes` names it, in words."""


def save_comparison(rows: Sequence[Compared], folder: str | Path) -> None:
    """`comparison.json` and `comparison.png` in a folder, which is made where it does not exist."""
    from ..data.corpora.cache import write_json

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    described = [
        {
            "objective": row.objective.name,
            "options": row.objective.options(),
            "parameters": row.parameters,
            "loss_share": row.result.heldout.loss_share if row.result.heldout else None,
            "heldout": asdict(row.result.heldout) | {"likelihood": row.objective.likelihood.value}
            if row.result.heldout
            else None,
            "uniform": row.uniform,
            "unigram": row.unigram,
            "tokens": row.result.tokens,
            "tokens_per_second": row.result.tokens_per_second,
            "curve": row.curve,
            "flops": row.flops,
            "completions": dict(row.completions),
            "cannot": dict(row.cannot),
        }
        for row in rows
    ]
    write_json(folder / "comparison.json", described)
    draw_comparison(rows, folder / "comparison.png")


def draw_comparison(rows: Sequence[Compared], path: str | Path) -> None:
    """The loss curves in one picture, a panel each: the losses answer different questions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not len(rows) or not all(hasattr(row, "objective") for row in rows):
        raise InputError(f"expected at least one row of a comparison to draw, got {shown(rows)}")
    lines = math.ceil(len(rows) / PANELS)
    columns = math.ceil(len(rows) / lines)
    figure = Figure(figsize=(4.2 * columns, 3.9 * lines), layout="tight")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, row in zip(panels.flat, rows):
        draw_loss(axes, row)
    for axes in panels.flat[len(rows) :]:
        axes.remove()
    for axes in panels[:, 0]:
        axes.set_ylabel("nats" if any(map(_by_part, rows)) else "nats per predicted token")
    figure.savefig(str(path), dpi=140)
