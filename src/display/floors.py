"""Trained models beside their entropy floors, as a table, a JSON file and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..escape import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..evaluation.floor_experiment import BreakdownRow, FloorResult


def print_floors(results: Sequence[FloorResult]) -> None:
    """A line for each run, on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from ..evaluation.floor_experiment import ROWS

    table = Table(title="trained loss and entropy floor", box=box.SIMPLE_HEAD)
    for heading in ("objective", "seed", "floor", "loss", "ratio", "difference", "verdict"):
        table.add_column(heading)
    for result in results:
        above = f"{result.nats - result.floor:+.4f} ± {result.error:.4f}"
        numbers = (f"{result.floor:.4f}", f"{result.nats:.4f}", f"{result.ratio:.4f}", above)
        table.add_row(result.objective, str(result.seed), *numbers, result.verdict)
    table.caption = f"nats per predicted token on {ROWS} fresh texts; ± one standard error"
    Console().print(table)


def save_floors(results: Sequence[FloorResult], folder: str | Path) -> None:
    """`floors.json` and `floors.png` in a folder."""
    from ..data.corpora.cache import write_json

    folder = Path(folder)
    lines = [{**asdict(result), "ratio": result.ratio, "verdict": result.verdict} for result in results]
    for line, result in zip(lines, results):
        line["breakdown"] = {name: [row._asdict() for row in rows] for name, rows in result.breakdown.items()}
    write_json(folder / "floors.json", lines)
    draw_floors(results, folder / "floors.png")


def draw_floor(axes: Axes, results: Sequence[FloorResult]) -> Axes:
    """The runs of one objective: how far above its floor each is, in percent, during training."""
    colour = _colour_of(results[0].objective)
    for result, style in zip(results, ("-", "--", "-.", ":") * len(results)):
        steps, ratios = zip(*result.curve)
        above = [100 * (ratio - 1) for ratio in ratios]
        axes.plot(steps, above, style, color=colour, label=f"seed {result.seed}: ends {above[-1]:+.2f}%")
    axes.axhline(0, color="#000000", linewidth=1)
    axes.annotate("entropy floor", (0.02, 0.03), xycoords="axes fraction", fontsize=8)
    axes.axhline(2, color="#555555", linewidth=1, linestyle=":")
    axes.annotate("2%", (0.95, 2.1), xycoords=("axes fraction", "data"), fontsize=8)
    axes.set_title(results[0].objective)
    axes.set_xlabel("step")
    axes.set_yscale("symlog", linthresh=2)
    axes.set_yticks([0, 1, 2, 5, 10, 20], ["0", "1", "2", "5", "10", "20"])
    axes.set_ylim(bottom=-1)
    axes.legend(fontsize=8)
    return axes


def draw_breakdown(axes: Axes, objective: str, name: str, rows: Sequence[BreakdownRow]) -> Axes:
    """The trained loss beside the floor, by the value of a breakdown: as by the number of hidden tokens."""
    values = [row.value for row in rows]
    axes.plot(values, [row.floor for row in rows], color="#000000", linewidth=1, label="entropy floor")
    trained = [row.nats for row in rows]
    axes.plot(values, trained, "o", color=_colour_of(objective), markersize=4, label="trained model")
    axes.set_title(f"{objective}, by {name}")
    axes.set_xlabel(name)
    axes.set_ylabel("nats")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    return axes


def draw_floors(results: Sequence[FloorResult], path: str | Path) -> None:
    """All objectives in one picture: a panel for each, and one for each breakdown of its first run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    by_name: dict[str, list[FloorResult]] = {}
    for result in results if all(hasattr(one, "objective") for one in results) else ():
        by_name.setdefault(result.objective, []).append(result)
    if not by_name:
        raise InputError(f"expected at least one result of train_to_entropy_floor to draw, got {shown(results)}")
    breakdowns = [(name, *item) for name, runs in by_name.items() for item in runs[0].breakdown.items()]
    panels = len(by_name) + len(breakdowns)
    columns = min(panels, 4)
    figure = Figure(figsize=(4.2 * columns, 3.6 * -(-panels // columns)), layout="tight")
    FigureCanvasAgg(figure)
    for panel, runs in enumerate(by_name.values()):
        axes = draw_floor(figure.add_subplot(-(-panels // columns), columns, panel + 1), runs)
        axes.set_ylabel("loss above the floor (%)")
    for panel, (objective, name, rows) in enumerate(breakdowns, len(by_name)):
        draw_breakdown(figure.add_subplot(-(-panels // columns), columns, panel + 1), objective, name, rows)
    figure.savefig(str(path), dpi=140)


def _colour_of(name: str) -> str:
    from ..objectives import OBJECTIVES, Objective

    return OBJECTIVES.get(name, Objective).colour
