"""Train each objective down to its entropy floor: how near its model comes to the least loss that is possible."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..checks import check_int, check_type
from ..data import Batch
from ..device import find_device
from ..errors import InputError
from ..escape import shown
from ..languages import MarkovSource
from ..models import eval_mode
from ..models.language_model import device_of
from ..objectives import OBJECTIVES, FloorExercise, Loss, Objective, Target
from ..training.config import TrainConfig
from ..training.fit import fit
from ..training.seeding import seeded_model

ROWS = 4000
"""Fresh texts that the trained model is measured on,"""
GROUP = 50
"""in groups of so many, whose spread gives the standard error."""
CURVE_ROWS = 500
"""Those of the fresh texts that are measured along the way."""
SENTINELS = 20
"""In the vocabulary of every exercise, whether its objective has spans or not."""
NEAR = 1.02
"""A ratio of loss to floor that counts as having reached it."""
LEAK_ERRORS = 4.0
"""Standard errors below the floor that count as a leak: 1 run in 30,000 without one."""


class BreakdownRow(NamedTuple):
    """The rows of a batch that share one value of a breakdown, such as 3 hidden tokens."""

    value: int | str
    """A number, or the kind of the rows."""
    floor: float
    """Nats per count."""
    nats: float
    """Nats per count that the trained model costs."""


@dataclass(frozen=True)
class FloorResult:
    """One model of one objective, trained on a source and measured on fresh text."""

    objective: str
    seed: int
    floor: float
    """Nats per predicted token, or per count of the objective, of the best possible model on the same batches."""
    nats: float
    """The same of the trained model."""
    error: float
    """Standard error of the difference between the two, over the groups of texts."""
    curve: list[tuple[int, float]]
    """(step, loss over floor, both on the same 500 of the fresh texts) during training."""
    breakdown: dict[str, list[BreakdownRow]] = field(default_factory=dict)
    """Loss and floor by each breakdown of the objective, such as the number of "hidden tokens"."""

    @property
    def ratio(self) -> float:
        """Loss over floor: 1 is perfect."""
        return self.nats / self.floor

    @property
    def verdict(self) -> str:
        """ "reached", "not reached", or "LEAK: ..." where the loss is lower than any model without a leak can have."""
        if self.nats < self.floor - LEAK_ERRORS * self.error:
            return "LEAK: below the floor, so the model depends on what it must predict"
        return "reached" if self.ratio <= NEAR else "not reached"


def train_to_entropy_floor(
    objective: type[Objective] | str,
    *,
    seed: int = 0,
    steps: int | None = None,
    rows: int = ROWS,
    exercise: FloorExercise | None = None,
    model: nn.Module | None = None,
    device: str | None = None,
    callback: Callable[[int, float], object] | None = None,
) -> FloorResult:
    """Train the model of an objective on fresh text of a `MarkovSource`, and compare its loss with the entropy floor.

    - `objective`: a class, or its name in `OBJECTIVES`;
    - `seed` of the language, the weights, the text and the noise; no text is seen twice;
    - `steps`: optimiser steps, those of the exercise where None;
    - `rows`: fresh texts that the trained model is measured on, a multiple of 50;
    - `exercise`: how it is trained, the `exercise` of the class where None;
    - `model`: instead of the one that fits the objective, to see a leak found;
    - `device` that the latter is trained on, as `find_device` takes it;
    - `callback(step, nats)` is called after each step.

    Raises `InputError`, before any training, for an unknown name, an objective without an exact floor, and a device
    that this machine does not have.
    """
    cls = _class_of(objective)
    exercise = cls.exercise if exercise is None else check_type(exercise, FloorExercise, "the exercise")
    steps = exercise.steps if steps is None else check_int(steps, "steps", 1)
    if check_int(rows, "rows", 2 * GROUP) % GROUP:
        raise InputError(f"rows must be a multiple of {GROUP}, got {rows}")
    trained = cls(**exercise.options)
    source = MarkovSource.random(exercise.symbols, entropy=exercise.entropy, seed=seed)
    special = source.special_ids(SENTINELS, roles=trained.roles)
    collate = trained.collator(special, seed=seed)
    length = trained.source_length(exercise.length)
    groups = []
    for group in range(rows // GROUP):
        ids = range(2**64 - GROUP * (group + 1), 2**64 - GROUP * group)  # the last ones: training counts from 0
        batch = collate.block(source.sample(GROUP, length, seed=-1 - group), ids)
        groups.append(_Group(batch, trained.targets(batch), trained.entropy_floor(source, batch, special)))
    if model is None:
        model = seeded_model(trained, special.vocab_size, "tiny", seed, **exercise.model).to(find_device(device))
    curve: list[tuple[int, float]] = []

    def batch_at(step: int) -> Batch:
        text = source.sample(exercise.batch_size, length, seed=seed * 10**6 + step)
        return collate.block(text, range(step * exercise.batch_size, (step + 1) * exercise.batch_size))

    def measure(step: int, nats_of_step: float) -> None:
        if callback is not None:
            callback(step, nats_of_step)
        if step % max(1, steps // 20) == 0:
            few = groups[: CURVE_ROWS // GROUP]
            floor, nats = _totals(few, _losses(trained, model, few))
            curve.append((step, sum(nats) / sum(floor)))

    config = TrainConfig(
        steps=steps,
        optimizer="adamw",
        learning_rate=exercise.learning_rate,
        weight_decay=0.0,
        decay=0.6,
        precision="float32",
        seed=seed,
        warmup=0.05,
    )
    fit(trained, model, batch_at, config, callback=measure)
    losses = _losses(trained, model, groups)
    floor, nats = _totals(groups, losses)
    differences = torch.tensor(nats, dtype=torch.float64) - torch.tensor(floor, dtype=torch.float64)
    error = float(differences.std()) * math.sqrt(len(groups))  # of their sum, groups being independent
    by = _breakdown(trained, groups, losses)
    return FloorResult(trained.name, seed, sum(floor), sum(nats), error, curve, by)


class _Group(NamedTuple):
    """A batch of fresh text."""

    batch: Batch
    targets: dict[str, Target]
    floors: dict[str, Tensor]
    """(B,) nats, by part."""


def _class_of(objective: type[Objective] | str) -> type[Objective]:
    if isinstance(objective, str):
        if objective not in OBJECTIVES:
            raise InputError(f"expected an objective among {', '.join(OBJECTIVES)}, got {shown(objective)}")
        return OBJECTIVES[objective]
    if not (isinstance(objective, type) and issubclass(objective, Objective)):
        raise InputError(f"expected the class of an objective, or its name, got {shown(objective)}")
    return objective


def _losses(objective: Objective, model: nn.Module, groups: Sequence[_Group]) -> list[Loss]:
    with eval_mode(model):
        device = device_of(model)
        batches = ({key: value.to(device) for key, value in group.batch.items()} for group in groups)
        return [objective(model, batch) for batch in batches]


def _totals(groups: Sequence[_Group], losses: Sequence[Loss]) -> tuple[list[float], list[float]]:
    """Floor and loss in nats: what each group adds to the mean over all, parts weighted, each over its own count."""
    counts = {name: sum(int(group.targets[name].row_counts.sum()) for group in groups) for name in groups[0].targets}
    floor, nats = [], []
    for group, loss in zip(groups, losses):
        shares = [(name, target.weight / counts[name]) for name, target in group.targets.items()]
        floor.append(sum(share * float(group.floors[name].sum()) for name, share in shares))
        nats.append(sum(share * float(loss[name].sum) for name, share in shares))
    return floor, nats


def _breakdown(objective: Objective, groups: Sequence[_Group], losses: Sequence[Loss]) -> dict[str, list[BreakdownRow]]:
    """Loss and floor of the rows that share a value of a breakdown; one by position has no floors of its own."""
    values: dict[str, list[Tensor]] = {}
    for group in groups:
        for name, each in objective.breakdown(group.batch).items():
            if each.dim() == 1:
                values.setdefault(name, []).append(each)
    found: dict[str, list[BreakdownRow]] = {}
    for breakdown, each in values.items():
        by_row = torch.cat(each)  # (rows,)
        for value in by_row.unique().tolist():
            here, floor, nats = by_row == value, 0.0, 0.0
            for part, target in groups[0].targets.items():
                count = torch.cat([group.targets[part].row_counts for group in groups])[here].sum()
                floors = torch.cat([group.floors[part] for group in groups])[here].sum()
                sums = torch.cat([_row_sums(loss, part) for loss in losses])[here].double().sum()
                floor += target.weight * float(floors / count)
                nats += target.weight * float(sums / count)
            found.setdefault(breakdown, []).append(BreakdownRow(objective.kind(breakdown, value), floor, nats))
    return found


def _row_sums(loss: Loss, part: str) -> Tensor:
    row_sums = loss[part].row_sums
    if row_sums is None:
        raise InputError(f"the part {part} of this loss does not say what each row adds: leave its breakdown out")
    return row_sums.cpu()
