"""Trained models beside the least loss that is possible, as a table, a JSON file and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..objectives import OBJECTIVES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..evaluation.floor_experiment import FloorResult


def print_floors(results: Sequence[FloorResult]) -> None:
    """A line for each run, on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title="the least loss that is possible, and what was reached", box=box.SIMPLE_HEAD)
    for heading in ("objective", "seed", "floor", "reached", "ratio", "above the floor by", "verdict"):
        table.add_column(heading)
    for result in results:
        above = f"{result.nats - result.floor:+.4f} ± {result.error:.4f}"
        numbers = (f"{result.floor:.4f}", f"{result.nats:.4f}", f"{result.ratio:.4f}", above)
        table.add_row(result.objective, str(result.seed), *numbers, result.verdict)
    table.caption = "nats per paid position on 4000 fresh texts; ± one standard error"
    Console().print(table)


def save_floors(results: Sequence[FloorResult], folder: str | Path) -> None:
    """`floors.json` and `floors.png` in a folder."""
    from dataclasses import asdict

    from ..data.corpora.cache import written_whole

    folder = Path(folder)
    with written_whole(folder / "floors.json") as file:
        import json

        lines = [{**asdict(result), "ratio": result.ratio, "verdict": result.verdict} for result in results]
        file.write(json.dumps(lines, indent=1).encode())
    draw_floors(results, folder / "floors.png")


def draw_floor(axes: Axes, results: Sequence[FloorResult]) -> Axes:
    """The runs of one objective: how far above its floor each is, in percent, as it learns."""
    colour = OBJECTIVES[results[0].objective].colour
    for result, style in zip(results, ("-", "--", "-.", ":") * len(results)):
        steps, ratios = zip(*result.curve)
        above = [100 * (ratio - 1) for ratio in ratios]
        axes.plot(steps, above, style, color=colour, label=f"seed {result.seed}: ends {above[-1]:+.2f}%")
    axes.axhline(0, color="#000000", linewidth=1)
    axes.annotate("floor: nobody can be lower", (0.02, 0.03), xycoords="axes fraction", fontsize=8)
    axes.axhline(2, color="#555555", linewidth=1, linestyle=":")
    axes.annotate("2%", (0.95, 2.1), xycoords=("axes fraction", "data"), fontsize=8)
    axes.set_title(results[0].objective)
    axes.set_xlabel("step")
    axes.set_yscale("symlog", linthresh=2)
    axes.set_yticks([0, 1, 2, 5, 10, 20], ["0", "1", "2", "5", "10", "20"])
    axes.set_ylim(bottom=-1)
    axes.legend(fontsize=8)
    return axes


def draw_floors(results: Sequence[FloorResult], path: str | Path) -> None:
    """All objectives in one picture, a panel each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(result.objective for result in results))
    figure = Figure(figsize=(4.2 * len(names), 3.6), layout="tight")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names):
        draw_floor(axes, [result for result in results if result.objective == name])
    panels[0].set_ylabel("loss above the floor (%)")
    figure.savefig(str(path), dpi=140)
