"""A loss curve beside the baselines that it must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..training import Compared

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {"causal": "#0072B2", "masked": "#D55E00", "span": "#009E73"}


def draw_loss(axes: Axes, row: Compared) -> Axes:
    """One objective's held-out loss over the tokens that it saw, with the uniform and the unigram guess."""
    colour = COLOURS.get(row.objective.name, "#000000")
    tokens, nats = zip(*row.curve)
    axes.plot([n / 1e6 for n in tokens], nats, color=colour, marker="o", markersize=3, label="held-out loss")
    axes.axhline(row.unigram, color="#555555", linestyle="--", linewidth=1, label=f"unigram guess {row.unigram:.2f}")
    axes.axhline(row.uniform, color="#555555", linestyle=":", linewidth=1, label=f"uniform guess {row.uniform:.2f}")
    axes.annotate(
        f"{nats[-1]:.2f}", (tokens[-1] / 1e6, nats[-1]), xytext=(-2, 7), textcoords="offset points", ha="right"
    )
    axes.set_title(f"{row.objective.name} ({row.objective.canonical})\npredicts {row.objective.predicts}", fontsize=10)
    axes.set_xlabel("tokens of text seen (millions)")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, loc="lower left")
    return axes
