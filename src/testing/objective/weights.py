"""What an objective weighs: nothing below 0, and each row by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from ...objectives import Loss
from ..report import FAULT, Finding
from .trial import Trial


def below_zero(trial: Trial, loss: Loss) -> Finding | None:
    """A fault where a part, or a position of it, has a weight below 0."""
    targets = trial.objective.targets(trial.batch)
    least = {name: min(part.weight, _least(targets[name].weights)) for name, part in loss.items()}
    return next(
        (
            Finding(
                FAULT,
                f"{name} has a weight of {weight:g}",
                why="what is weighted below 0 is unlearned: the model is paid for a wrong prediction, without end",
            )
            for name, weight in least.items()
            if not weight >= 0
        ),
        None,
    )


def _least(weights: Tensor | None) -> float:
    return 0.0 if weights is None or not weights.numel() else float(weights.min())


def moved_by_neighbours(trial: Trial) -> Finding | None:
    """A fault where what a row must predict, or its weights or count, change with the rows beside it.

    Of many rows, among which those of every kind are.
    """
    rows = len(trial.sample["labels"]) // 3
    part = {key: value[:rows] for key, value in trial.sample.items()}
    alone = trial.objective.targets(part)
    for name, target in trial.objective.targets(trial.sample).items():
        for what in ("labels", "weights", "row_counts"):
            one, other = getattr(target, what), getattr(alone[name], what)
            if one is not None and not torch.allclose(one[:rows].double(), other.double(), rtol=1e-5):
                return Finding(
                    FAULT,
                    f"the {what.replace('row_', '')} of {name} change with the rows beside a row",
                    why="a mean of means over the kinds of rows in a batch, say: each micro-batch has other shares",
                )
    return None
