"""What the pictures of lessons are made of: a bar with its seeds, a line with its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .seeds import Seeds

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def bar(
    axes: Axes,
    place: float,
    figure: Seeds,
    colour: str,
    *,
    width: float = 0.7,
    label: str | None = None,
    number: str = "",
) -> None:
    """Draw a bar up to the mean, and a dot for each seed; with a format as `number`, the mean stands above.

    >>> from matplotlib.figure import Figure
    >>> from clozelab.course import Seeds, bar
    >>> axes = Figure().subplots()
    >>> bar(axes, 0, Seeds((0.5, 0.7)), "#0072B2", number=".1f")
    >>> axes.texts[0].get_text()
    '0.6'
    """
    axes.bar(place, figure.mean, width, color=colour, label=label)
    axes.plot([place] * len(figure.values), figure.values, "o", color="black", markersize=3)
    if number:
        above = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center"}
        axes.annotate(format(figure.mean, number), (place, max(figure.mean, *figure.values)), **above)


def level(
    axes: Axes, value: float, words: str, *, style: str = "--", at: float = 1.0, below: bool = False, size: float = 9
) -> None:
    """Draw a horizontal line through a panel, and its name above or below it, at a share `at` of the panel's width.

    >>> from matplotlib.figure import Figure
    >>> from clozelab.course import level
    >>> axes = Figure().subplots()
    >>> level(axes, 1.39, "a unigram guess", below=True)
    >>> axes.texts[0].get_text()
    'a unigram guess'
    """
    axes.axhline(value, color="#555555", linestyle=style, linewidth=1)
    side = "left" if at < 0.3 else "right" if at > 0.7 else "center"
    offset = {"xytext": (0, -3 if below else 3), "textcoords": "offset points", "fontsize": size}
    place = {"xycoords": axes.get_yaxis_transform(), "ha": side, "va": "top" if below else "bottom"}
    axes.annotate(words, (at, value), **place, **offset)
