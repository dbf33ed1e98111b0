"""A leak report as a picture: which outputs moved with which inputs, and which may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..evaluation.leaks import LeakReport

# Okabe and Ito's palette, which colour-blind readers can tell apart; the marks do without colour.
KINDS = (
    ("neither", "#FFFFFF", ""),
    ("moves, as declared", "#56B4E9", ""),
    ("declared, did not move", "#F0E442", "o"),
    ("LEAK: moves and may not", "#D55E00", "x"),
)
"""(label, colour, mark) of the cells 0 .. 3."""


def draw_leaks(axes: Axes, report: LeakReport) -> Axes:
    """What moved and what is declared in one matrix: a cell for each output t and input s.

    Blue moved as declared, white did neither; a cross is a leak, a ring is declared and did not move.

    >>> import torch
    >>> from clozelab.display import draw_leaks
    >>> from matplotlib.figure import Figure
    >>> from clozelab.evaluation import LeakReport
    >>> report = LeakReport(torch.ones(2, 2).bool(), torch.ones(2, 2).tril().bool())
    >>> draw_leaks(Figure().subplots(), report).get_title()
    'LEAK: output 0 moves with input 1, which it may not read'
    """
    from textwrap import fill

    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.lines import Line2D

    moved, declared = report.moved, report.declared
    cells = torch.zeros(moved.shape, dtype=torch.int64)
    cells[moved & declared], cells[declared & ~moved], cells[moved & ~declared] = 1, 2, 3
    outputs, inputs = cells.shape
    colours = ListedColormap([colour for _, colour, _ in KINDS])
    axes.imshow(cells.numpy(), cmap=colours, norm=BoundaryNorm(range(len(KINDS) + 1), len(KINDS)), aspect="equal")
    size = max(8 - max(outputs, inputs) / 10, 2)
    legend = []
    for kind, (label, colour, mark) in enumerate(KINDS):
        at = (cells == kind).nonzero()
        if mark and len(at):
            axes.plot(at[:, 1].numpy(), at[:, 0].numpy(), mark, color="black", markersize=size, fillstyle="none")
        if len(at):
            legend.append(
                Line2D(
                    [], [], linestyle="", marker="s", markersize=9, color=colour, markeredgecolor="black", label=label
                )
            )
            if mark:
                legend[-1].set_label(f"{label} ({'cross' if mark == 'x' else 'ring'})")
    if max(outputs, inputs) <= 40:
        for edge in range(1, outputs):
            axes.axhline(edge - 0.5, color="#BBBBBB", linewidth=0.5)
        for edge in range(1, inputs):
            axes.axvline(edge - 0.5, color="#BBBBBB", linewidth=0.5)
    axes.set_xlabel(f"input position ({report.perturbed})")
    axes.set_ylabel("output position")
    axes.locator_params(integer=True)
    axes.set_title(fill(report.verdict, 60), fontsize=9)
    axes.legend(handles=legend, fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0)
    return axes
