"""A loss curve beside the baselines that it must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..objectives import Likelihood

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..training import Compared


def draw_loss(axes: Axes, row: Compared) -> Axes:
    """One objective's held-out loss, in nats, over the tokens of text that it saw, with the uniform and unigram guess.

    A loss that is an upper bound of the likelihood is labelled "at most".
    """
    objective = row.objective
    tokens, nats = zip(*row.curve)
    at_most = "at most " if objective.likelihood is Likelihood.BOUND else ""
    grey = {"color": "#555555", "linewidth": 1}
    axes.plot([n / 1e6 for n in tokens], nats, color=objective.colour, marker="o", markersize=3, label="held-out loss")
    axes.axhline(row.unigram, linestyle="--", label=f"unigram guess {row.unigram:.2f}", **grey)
    axes.axhline(row.uniform, linestyle=":", label=f"uniform guess {row.uniform:.2f}", **grey)
    axes.annotate(
        f"{at_most}{nats[-1]:.2f}", (tokens[-1] / 1e6, nats[-1]), xytext=(-2, 7), textcoords="offset points", ha="right"
    )
    axes.set_title(f"{objective.name} ({objective.canonical})\npredicts {objective.predicts}", fontsize=10)
    axes.set_xlabel("tokens of text seen (millions)")
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", nbins=5)
    axes.legend(fontsize=8)
    return axes
