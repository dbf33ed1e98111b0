"""The comparison of objectives as a table, a JSON file and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..escape import escape_control_characters
from ..training.checkpoint import write_json
from .curves import draw_loss

if TYPE_CHECKING:
    from ..training import Compared


def print_comparison(rows: Sequence[Compared], corpus: str) -> None:
    """The table on standard output, then what each model does with the same prompt."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        raise InputError("there is nothing to compare: expected at least one objective")
    tokens = rows[0].result.tokens
    table = Table(
        title=Text(
            f"three objectives on {escape_control_characters(corpus)}, {tokens / 1e6:.2f} M tokens of text each"
        ),
        caption="nats per paid position on held-out text; objectives answer different questions, "
        "so compare each with its own baselines",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("", style="bold")
    for row in rows:
        table.add_column(f"{row.objective.name} ({row.objective.canonical})", overflow="fold")
    for label, cell in LINES:
        table.add_row(label, *(cell(row) for row in rows))
    console = Console()
    console.print(table)
    console.print("The same text, in brackets what the model says:", style="bold")
    for row in rows:
        console.print(
            f"{row.objective.name:8}",
            escape_control_characters(" ".join(row.sample.split())),
            markup=False,
            highlight=False,
        )


def _per_byte(row: Compared) -> str:
    bits = row.result.heldout and row.result.heldout.bits_per_byte
    return f"{bits:.3f}" if bits else "not defined"


LINES = [
    ("hides", lambda row: row.objective.hides),
    ("reads", lambda row: row.objective.reads),
    ("predicts", lambda row: row.objective.predicts),
    ("model", lambda row: f"{row.objective.architecture}, {row.parameters / 1e6:.2f} M"),
    ("positions paid", lambda row: f"{row.share_paid:.1%}"),
    ("held-out loss", lambda row: f"{row.heldout:.3f}"),
    ("unigram guess", lambda row: f"{row.unigram:.3f}"),
    ("uniform guess", lambda row: f"{row.uniform:.3f}"),
    ("bits per byte", _per_byte),
    ("tokens per second", lambda row: f"{row.result.tokens_per_second:,.0f}"),
]
"""(label, what stands there)"""


def save_comparison(rows: Sequence[Compared], folder: str | Path) -> None:
    """`comparison.json` and `comparison.png` in a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    described = [
        {
            "objective": row.objective.name,
            "settings": row.objective.settings,
            "parameters": row.parameters,
            "share_paid": row.share_paid,
            "heldout": asdict(row.result.heldout) if row.result.heldout else None,
            "uniform": row.uniform,
            "unigram": row.unigram,
            "tokens": row.result.tokens,
            "tokens_per_second": row.result.tokens_per_second,
            "curve": row.curve,
            "sample": row.sample,
        }
        for row in rows
    ]
    write_json(folder / "comparison.json", described)
    draw_comparison(rows, folder / "comparison.png")


def draw_comparison(rows: Sequence[Compared], path: str | Path) -> None:
    """The loss curves in one picture, one panel each: the losses answer different questions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(rows), 3.9), layout="tight")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    for axes, row in zip(panels, rows):
        draw_loss(axes, row)
    panels[0].set_ylabel("nats per paid position")
    figure.savefig(str(path), dpi=140)
