"""A held-out loss by the kinds of rows, or positions, that `Objective.breakdown` names."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..data import Batch
from ..errors import InputError
from ..objectives import Loss, Objective

BINS = 6
"""Of a breakdown, at most."""


class Bin(NamedTuple):
    """The rows, or positions, whose value of a breakdown lies in a range."""

    low: int
    high: int
    nats: float
    """Nats per count of these rows together."""

    def __str__(self) -> str:
        return f"{self.low}{'' if self.low == self.high else f'..{self.high}'} {self.nats:.3f}"


class Split:
    """Sums and counts of the rows, or positions, of each value, by part."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, str], tuple[float, float, int]] = {}  # (value, part) -> (weight, nats, count)

    def add(self, values: Tensor, loss: Loss, objective: Objective, batch: Batch) -> None:
        """Add a batch, whose rows (B,) or positions (B, T) have these values.

        Raises `InputError` for a loss that is not known by row.
        """
        targets = objective.targets(batch)
        for name, part in loss.items():
            if part.costs is None or part.row_sums is None or name not in targets:
                raise InputError(f"{objective.name} has a breakdown, but its part {name} has no loss by row")
            if values.dim() == 1:
                each = values, part.row_sums, targets[name].row_counts
            else:
                here = targets[name].loss_mask
                each = values[here], part.costs[here], torch.ones_like(values[here])
            each = [one.cpu() for one in each]  # not every device has float64
            for value in each[0].unique().tolist():
                chosen = each[0] == value
                _, before, counted = self.sums.get((value, name), (part.weight, 0.0, 0))
                nats, count = float(each[1][chosen].double().sum()), int(each[2][chosen].sum())
                self.sums[value, name] = part.weight, before + nats, counted + count

    def merge(self, other: Split) -> None:
        """Add the sums and counts of other rows."""
        for key, (weight, nats, count) in other.sums.items():
            _, before, counted = self.sums.get(key, (weight, 0.0, 0))
            self.sums[key] = weight, before + nats, counted + count

    def means(self) -> dict[int, float]:
        """The mean of the total by value, ascending."""
        values = sorted({value for value, _ in self.sums})
        return dict(zip(values, self._means([[value] for value in values])))

    def bins(self) -> list[Bin]:
        """The mean of the total by ranges of values."""
        values = sorted({value for value, _ in self.sums})
        n = min(BINS, len(values))
        ranges = [values[len(values) * k // n : len(values) * (k + 1) // n] for k in range(n)]
        return [Bin(few[0], few[-1], nats) for few, nats in zip(ranges, self._means(ranges))]

    def _means(self, ranges: list[list[int]]) -> list[float]:
        """The mean of the total over the rows of each range: of each part by its own count, weighted, then added."""
        parts = {part: weight for (_, part), (weight, _, _) in self.sums.items()}
        means = []
        for values in ranges:
            mean = 0.0
            for part, weight in parts.items():
                of_part = [self.sums[value, part] for value in values]
                mean += weight * sum(nats for _, nats, _ in of_part) / max(sum(count for *_, count in of_part), 1)
            means.append(mean)
        return means
