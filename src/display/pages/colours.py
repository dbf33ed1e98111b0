"""Colours of objectives that can be seen on light and on dark paper, and the ink that can be read on them."""

from __future__ import annotations

LIGHT_PAPER, DARK_PAPER = "#fbfaf6", "#16181b"
SEEN = 3.2
"""Contrast of a coloured line with the paper (WCAG 2.2, criterion 1.4.11, asks for 3)."""


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21, as WCAG 2.2 defines it.

    >>> from clozelab.display.pages.colours import contrast
    >>> round(contrast("#000000", "#ffffff")), round(contrast("#0072B2", "#ffffff"), 1)
    (21, 5.2)
    """
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def readable(colour: str, paper: str, least: float = SEEN) -> str:
    """The colour, mixed with black or white until its contrast with the paper is at least `least`.

    >>> from clozelab.display.pages.colours import readable
    >>> readable("#0072B2", "#ffffff"), readable("#000000", "#000000")
    ('#0072b2', '#666666')
    """
    ink = ink_on(paper)
    mixes = (_mixed(colour, ink, step / 20) for step in range(21))
    return next(mix for mix in mixes if contrast(mix, paper) >= least)


def ink_on(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour: a contrast of 4.58 or more."""
    return max("#000000", "#ffffff", key=lambda ink: contrast(ink, colour))


def css_variables(colour: str) -> str:
    """The variables of the style sheet for the colour of an objective, on both papers."""
    light, dark = readable(colour, LIGHT_PAPER), readable(colour, DARK_PAPER)
    return f"--c:light-dark({light},{dark});--on:light-dark({ink_on(light)},{ink_on(dark)})"


def _channels(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def _mixed(colour: str, ink: str, share: float) -> str:
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(_channels(colour), _channels(ink)))


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (n / 255 for n in _channels(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
