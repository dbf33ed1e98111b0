"""What a function (model, batch) -> loss is tried on, and what is seen of the model inside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...data import IGNORED
from ...evaluation.perturbation import differ
from ...objectives import Loss
from .outputs import Demand, captured, demand, last_layer, repeated
from .trial import rounding, runnable_copy, tolerance_of


@dataclass(frozen=True, eq=False)
class FunctionTrial:
    """A function, a model and a batch."""

    function: Callable[[nn.Module, Any], Any]
    given: nn.Module
    batch: dict[str, Tensor]
    asked_tolerance: float

    @cached_property
    def model(self) -> nn.Module:
        """A copy in evaluation mode and double precision, or in single precision where it does not run in double."""

        def gradient(model: nn.Module) -> Tensor:
            model.zero_grad()
            self.mean_of(model, self.batch).backward()
            pieces = [torch.zeros(1) if p.grad is None else p.grad for p in model.parameters()]
            return torch.cat([piece.flatten().double() for piece in pieces])

        return runnable_copy(self.given, gradient)

    @property
    def tolerance(self) -> float:
        """Of relative comparisons."""
        return tolerance_of(self.model, self.asked_tolerance)

    @property
    def labels(self) -> Tensor:
        """(B, T)"""
        return self.batch["labels"]

    @property
    def reads_key(self) -> str | None:
        """The key of the input that has a place for each label, if there is one."""
        keys = ("decoder_input_ids", "input_ids") if "decoder_input_ids" in self.batch else ("input_ids",)
        return next((key for key in keys if key in self.batch and self.batch[key].shape == self.labels.shape), None)

    def parts(
        self, batch: Mapping[str, Tensor], model: nn.Module | None = None
    ) -> list[tuple[Tensor, Tensor | None, float]]:
        """(sum, count, weight) of each part; (mean, None, 1) where a scalar is returned."""
        result = self.function(self.model if model is None else model, batch)
        if isinstance(result, Loss):
            return [(part.sum, part.count, part.weight) for part in result.values()]
        if isinstance(result, (tuple, list)) and len(result) == 2:
            return [(result[0], torch.as_tensor(result[1]), 1.0)]
        return [(cast(Tensor, result), None, 1.0)]

    def mean(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of one batch, by itself."""
        return self.mean_of(self.model, batch)

    def mean_of(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of one batch, by a model."""
        parts = self.parts(batch, model)
        return torch.stack([w * (total if n is None else total / n.clamp(min=1)) for total, n, w in parts]).sum()

    def gradient(self, batches: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """The gradient of a step over several batches: sums over all counts, or the mean of means."""
        with torch.no_grad():
            counts = [[n for _, n, _ in self.parts(batch)] for batch in batches]
        totals = [None if each[0] is None else sum(map(int, each)) for each in zip(*counts)]
        self.model.zero_grad()
        for batch in batches:
            for (total, _, weight), count in zip(self.parts(batch), totals):
                (weight * total / (len(batches) if count is None else max(count, 1))).backward(retain_graph=True)
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.model.parameters()]
        return torch.cat([piece.flatten() for piece in pieces])

    @cached_property
    def layer(self) -> tuple[nn.Module, Tensor | None] | None:
        """The module whose outputs the loss is computed from."""
        return last_layer(self.model, lambda: self.mean(self.batch), self.labels.shape)

    @cached_property
    def demand(self) -> Demand | None:
        """Which id each output is trained on, and with what weight."""
        if self.layer is None:
            return None
        return demand(*self.layer, lambda: self.mean(self.batch), self.labels.shape)

    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(B, T, ...) outputs of the model for a batch."""
        assert self.layer is not None
        return captured(self.layer[0], lambda: self.mean(batch), batch["labels"].shape)

    def moved(self, row: int, key: str, value: Tensor) -> Tensor:
        """(S, T) bool: outputs of a row that move when its token s is replaced by `value` (S,)."""
        base = repeated(self.batch, row, self.batch[key].shape[1])
        changed = {**base, key: base[key].diagonal_scatter(value)}
        before, after = (self._outputs_of_first(rows, len(value)) for rows in (base, changed))
        return differ(before, after, rounding(self.model) * float(before.abs().max()))

    def _outputs_of_first(self, rows: Mapping[str, Tensor], n: int) -> Tensor:
        """(n, T, ...): with twice as many other rows of the batch behind them, for a loss that refuses many odd ones.

        Copies of one row are odd where the one token that it hides is kept, and so is half of what is in the loss.
        """
        times = max(1, 2 * n // len(self.labels))
        behind = {key: value.repeat(times, *[1] * (value.dim() - 1)) for key, value in self.batch.items()}
        return self.outputs({key: torch.cat([value, behind[key]]) for key, value in rows.items()})[:n]

    def others(self, row: int, key: str) -> Tensor:
        """(S,): for each token of a row another id that occurs in the batch, and not what stands in its place.

        A strict loss refuses a token that equals its own label.
        """
        ids, row_ids = self.batch[key], self.batch[key][row]
        choice = ids[ids >= 0].unique()
        at = torch.searchsorted(choice, row_ids.clamp(min=0))
        other = choice[(at + 1) % len(choice)]
        opposite = self.batch.get("labels" if key != "labels" else self.reads_key or "")
        if opposite is None or opposite.shape != ids.shape or len(choice) < 3:
            return other
        return torch.where(other == opposite[row], choice[(at + 2) % len(choice)], other)

    @cached_property
    def offset(self) -> int | None:
        """d where output t is trained on the id that its input holds at t + d; None where it holds none."""
        if self.demand is None or self.reads_key is None:
            return None
        ids = self.batch[self.reads_key]
        for d in (1, 0, 2):
            asked, there = self.demand.labels[:, : ids.shape[1] - d], ids[:, d:]
            here = asked != IGNORED
            if int(here.sum()) >= 4 and float((asked == there)[here].double().mean()) > 0.9:
                return d
        return None
