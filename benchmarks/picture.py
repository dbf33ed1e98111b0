"""The table as one picture: ratios as bars beside their goals, shares and times as bars, growth as lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from results import Result, shown

from clozelab.objectives import OBJECTIVES

MET, MISSED, NO_GOAL = "#0072B2", "#D55E00", "#777777"  # of Okabe and Ito's palette
MARKERS = dict(zip(OBJECTIVES, "os^vDP*X"))


def draw(kind: str, results: list[Result], path: Path) -> None:
    """Of one kind of machine: left all ratios, right what has another unit, below both how a step grows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = [result for result in results if result.figure is not None]
    ratios = [result for result in found if result.unit == "x"]
    others = [result for result in found if result.unit != "x" and result.curves is None]
    grown = [result for result in found if result.curves is not None]
    rows, bars = -(-len(grown) // 6), 1.2 + 0.26 * max(len(ratios), len(others), 4)
    figure = Figure(figsize=(20, bars + 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = (figure, None) if not grown else figure.subfigures(2, 1, height_ratios=(bars, 3.4 * rows))
    left, right = upper.subfigures(1, 2)
    if ratios:
        _bars(left.subplots(), ratios, of_goal=False)
        left.suptitle(f"{kind}: how many times as good as the peer; the black mark is the goal", fontsize=11)
    if others:
        _bars(right.subplots(), others, of_goal=True)
        right.suptitle(f"{kind}: how many times as good as the goal", fontsize=11)
    if lower is not None:
        panels = lower.subplots(rows, 6, squeeze=False).flat
        for panel, result in zip(panels, grown):
            _growth(panel, result)
        lower.suptitle(f"{kind}: one training step as T, V or B grows; grey: linear", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(str(path), dpi=100)


def _of_goal(result: Result, value: float) -> float:
    """Above 1 where the goal is met, whichever way it points."""
    goal = result.goal or value
    return value / goal if result.least else goal / max(value, 1e-9)


def _bars(axes: Any, figures: list[Result], *, of_goal: bool) -> None:
    """A bar from 1 for each figure: quartiles as a thin line, the goal as a mark; or how far it is from its goal."""
    for place, result in enumerate(figures):
        assert result.figure is not None
        low, middle, high = vars(result.figure).values()
        if of_goal:
            low, middle, high = sorted(_of_goal(result, value) for value in (low, middle, high))
        goal = None if of_goal else result.goal
        colour = {True: MET, False: MISSED, None: NO_GOAL}[result.met]
        axes.barh(place, middle - 1, left=1, color=colour, height=0.7)
        axes.plot([low, high], [place, place], color="#000000", linewidth=1.5)
        if goal is not None:
            axes.plot([goal] * 2, [place - 0.45, place + 0.45], color="#000000", linewidth=2.5)
        sign = "\u2265" if result.least else "\u2264"
        goal_text = "" if result.goal is None else f"   goal {sign} {shown(result.goal, result.unit)}"
        axes.annotate(
            shown(result.figure.median, result.unit) + goal_text + ("   missed" if result.met is False else ""),
            (max(middle, high, goal or 1, 1), place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.45)  # room for what stands behind the bars
    axes.axvline(1, color="#000000", linewidth=1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_yticks(range(len(figures)), [_label(result) for result in figures], fontsize=8)
    axes.set_ylim(len(figures) - 0.4, -0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _label(result: Result) -> str:
    """The name, and which setting of the peer it was held against where there are two."""
    _, _, setting = result.against.partition(", its ")
    return result.name.replace("`", "") + (f" (peer: {setting})" if setting else "")


def _growth(axes: Any, result: Result) -> None:
    """One line for each objective, its slope at the end in the legend, and a grey one that is linear."""
    assert result.curves is not None
    what, unit, scale = ("time", "ms", 1e3) if " time " in result.name else ("memory", "MB", 1e-6)
    labels = result.ours.split(", ")
    lowest = min(values[0] for _, values in result.curves.values())
    sizes: list[int] = []
    for label, (name, (at, values)) in zip(labels, result.curves.items()):
        scaled = [value * scale for value in values]
        axes.loglog(at, scaled, marker=MARKERS[name], markersize=4, color=OBJECTIVES[name].colour, label=f"{label}")
        sizes = at
    axes.loglog(sizes, [lowest * scale * n / sizes[0] for n in sizes], color="#bbbbbb", linewidth=1, zorder=0)
    axes.set_title(f"{what} ({unit}) with {result.name.split(' with ')[1]}", fontsize=8)
    axes.set_xticks(sizes, [str(n) for n in sizes], fontsize=7)
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    axes.tick_params(axis="y", which="both", labelsize=7)
    axes.legend(fontsize=6.5, title="slope at the end", title_fontsize=6.5)
