"""How time and memory of a training step grow with the text's length T, the vocabulary V and the batch B."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from measure import DTYPES, Processes, Spread, alternate, resident_peak
from results import Result
from steps import PEERS, _batch, ours

BASE = {"T": 128, "V": 4096, "B": 16}
RANGES = {"T": [64, 128, 256, 512, 1024], "V": [1024, 2048, 4096, 8192, 16384, 32768], "B": [4, 8, 16, 32, 64]}
LINEAR = 1.1
"""Slope in a picture of logarithms that still counts as linear."""
GOALS = {("T", "time"): 1.5, ("T", "memory"): 1.5}
"""Attention is quadratic in T, and joins in towards the end; all else is linear."""


def curves(objective: str, base: dict[str, int], ranges: dict[str, list[int]], shape: dict, rounds: int) -> Any:
    """{what grows: {"at", "time" (processor seconds), "memory" (bytes)}} of a float32 step with fused AdamW."""
    found = {}
    for axis, values in ranges.items():
        found[axis] = {"at": values, "time": [], "memory": []}
        for value in values:
            size = {**base, axis: value}
            batch, _ = _batch(objective, size["V"], size["B"], size["T"])
            step, _ = ours(objective, size["V"], batch, **shape)
            step(DTYPES[0])  # so that the optimiser has its state
            # Smaller than one memory page of the processor's is nothing: growth is of what a step needs on top.
            found[axis]["memory"].append(max(resident_peak(lambda: step(DTYPES[0])), 4096))  # noqa: B023
            [times] = alternate({"": lambda: step(DTYPES[0])}, rounds, warm=False).values()  # noqa: B023
            found[axis]["time"].append(Spread.of(times.cpu).median)
    return found


def slope(at: list[int], values: list[float]) -> float:
    """Of the last three points, both axes logarithmic: 1 is linear, 2 quadratic.

    >>> round(slope([1, 2, 4, 8], [5, 12, 48, 192]), 3)
    2.0
    """
    x, y = [math.log(n) for n in at[-3:]], [math.log(value) for value in values[-3:]]
    middle, level = sum(x) / len(x), sum(y) / len(y)
    return sum((a - middle) * (b - level) for a, b in zip(x, y)) / sum((a - middle) ** 2 for a in x)


def growth(processes: Processes, tokenizer: str) -> Iterator[Result]:
    """A slope for each axis, the steepest of the three objectives; the curves are kept for the picture."""
    quick = processes.quick
    base = {"T": 16, "V": 256, "B": 2} if quick else BASE
    ranges = {"T": [16, 32], "V": [256, 512], "B": [2, 4]} if quick else RANGES
    shape = {"d_model": 32, "n_layers": 1, "n_heads": 2} if quick else {"d_model": 128, "n_layers": 4, "n_heads": 4}
    arguments = {"base": base, "ranges": ranges, "shape": shape, "rounds": 1 if quick else 3}
    found = {objective: processes.call("growth:curves", objective=objective, **arguments) for objective in PEERS}
    for axis in ranges:
        for what in ("time", "memory"):
            slopes = {name: slope(c[axis]["at"], c[axis][what]) for name, c in found.items()}
            yield Result(
                "growth",
                f"growth of {what} with {axis}, {ranges[axis][0]} to {ranges[axis][-1]}",
                "",
                Spread.of([max(slopes.values())]),
                "power",
                GOALS.get((axis, what), LINEAR),
                least=False,
                ours=", ".join(f"{name} {value:.2f}" for name, value in slopes.items()),
                curves={name: [c[axis]["at"], c[axis][what]] for name, c in found.items()},
            )
