"""A loss curve beside what it must beat, as an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 20, 48
MOST = 240
"""Points of a training curve that are drawn, each the mean of as many steps."""


@dataclass(frozen=True)
class Level:
    """A loss to be compared with: a horizontal line."""

    label: str
    nats: float
    kind: str
    """"floor", "unigram" or "uniform": a class of the style sheet."""


@dataclass
class Chart:
    """One objective's held-out loss (x, nats), its levels, and the loss of its training steps."""

    curve: Sequence[tuple[float, float]]
    levels: Sequence[Level]
    x_label: str
    y_label: str = "nats"
    at_most: str = ""
    """Stands before the loss, where it is a bound."""
    training: Sequence[tuple[float, float]] = ()
    ceiling: float = 0.0
    """The top of the scale, at least: charts side by side have the same one."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = field(default=LEFT, init=False)

    @property
    def highest(self) -> float:
        """The top of the scale: above the curve and the levels; a training loss may leave it."""
        return max(self.ceiling, 1.08 * max([1e-9, *(y for _, y in self.curve), *(one.nats for one in self.levels)]))

    @property
    def furthest(self) -> float:
        """The right end of the scale."""
        return max([1e-9, *(x for x, _ in self.curve), *(x for x, _ in self.training)])

    def x(self, value: float) -> float:
        """Where a value stands, in pixels."""
        return round(LEFT + (self.width - LEFT - RIGHT) * value / self.furthest, 1)

    def y(self, nats: float) -> float:
        """Where a loss stands, in pixels."""
        return round(self.base - (self.base - TOP) * min(nats / self.highest, 1.0), 1)

    @property
    def base(self) -> int:
        """Where a loss of zero stands, in pixels."""
        return self.height - BOTTOM

    @property
    def right(self) -> int:
        """The right end of the levels, in pixels."""
        return self.width - RIGHT

    def points(self, curve: Sequence[tuple[float, float]]) -> str:
        """A curve as a polyline has it."""
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in curve)

    @property
    def thinned(self) -> Sequence[tuple[float, float]]:
        """The training curve by means of as many steps each."""
        size = math.ceil(len(self.training) / MOST) or 1
        parts = (self.training[at : at + size] for at in range(0, len(self.training), size))
        return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]

    @property
    def labels(self) -> Iterator[tuple[Level, float]]:
        """Each level, from above, and the baseline of its label: above its line, and clear of the label before it."""
        before = -math.inf
        for level in sorted(self.levels, key=lambda one: -one.nats):
            before = max(self.y(level.nats) - 5, before + 16)
            yield level, before

    @property
    def end(self) -> tuple[float, float]:
        """Where the last point stands."""
        x, nats = self.curve[-1]
        return self.x(x), self.y(nats)

    @property
    def says(self) -> str:
        """The picture in a sentence."""
        levels = "".join(f", {one.label} {one.nats:.3f}" for one in self.levels)
        if not self.curve:
            return f"no held-out loss was measured{levels}"
        first, last = self.curve[0][1], self.curve[-1][1]
        fell = f"held-out loss {self.at_most}{last:.3f} {self.y_label}"
        return f"{fell}{f', {first:.3f} at first' if len(self.curve) > 1 else ''}{levels}"


def ticks(highest: float, most: int = 6) -> list[float]:
    """Round numbers from 0 up to the highest, at most `most` of them besides 0.

    >>> from clozelab.display.pages.chart import ticks
    >>> ticks(8.9), ticks(0.75)
    ([0.0, 2.0, 4.0, 6.0, 8.0], [0.0, 0.2, 0.4, 0.6])
    """
    power = 10.0 ** math.floor(math.log10(highest / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if highest / (power * factor) <= most)
    return [round(step * n, 12) for n in range(math.floor(highest / step) + 1)]
