"""One optimiser step: count, back-propagate, clip, step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

from ..data import Batch
from ..device import autocast
from ..errors import InputError
from ..objectives import Loss, total_counts
from .optimizers import Optimizers
from .parallel import loss_module_of, micro_batch
from .processes import SINGLE, Processes


class StepResult(NamedTuple):
    """The result of a step."""

    loss: Loss
    """Of all micro-batches of all processes, detached."""
    grad_norm: float
    """Of the gradient before clipping."""

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are, so that the weights were moved."""
        return math.isfinite(self.grad_norm) and all(bool(part.sum.isfinite()) for part in self.loss.values())


def train_step(
    loss_module: nn.Module,
    micro_batches: Iterable[Batch],
    optimizer: Optimizers,
    *,
    max_grad_norm: float,
    device: torch.device,
    bfloat16: bool = False,
    processes: Processes = SINGLE,
) -> StepResult:
    """One step on the mean over everything that all micro-batches of all processes predict.

    The counts of the whole step are known before its first forward pass, so each micro-batch back-propagates its exact
    share of the mean, and no gradient is divided afterwards: 8 rows at once and 8 times one row are the same step, for
    losses of several parts with different counts too. DDP and FSDP2 average gradients over the processes, hence the
    factor `world_size`.

    `loss_module` is a `LossModule`, or what `parallel.wrap` put around it. A loss or gradient norm that is not finite
    changes no weight: check `StepResult.is_finite`.
    """
    device = torch.device(device)
    batches = [{key: value.to(device) for key, value in batch.items()} for batch in micro_batches]
    objective = loss_module_of(loss_module).objective
    if not batches:
        raise InputError("a step needs at least one micro-batch, got none")
    counts = processes.all_sum(total_counts(objective.counts(batch) for batch in batches))
    losses = []
    for number, batch in enumerate(batches, start=1):
        with micro_batch(loss_module, processes, last=number == len(batches)):
            with autocast(device, bfloat16=bfloat16):
                value, loss = loss_module(batch, counts)
            (value * processes.world_size).backward()
        losses.append(loss)
    total = processes.total(sum(losses[1:], losses[0]))
    return StepResult(total, clip_and_step(optimizer, total, max_grad_norm))


def clip_and_step(optimizer: Optimizers, loss: Loss, max_grad_norm: float) -> float:
    """Clip the gradients to a norm, move the weights, clear the gradients; returns the norm before clipping.

    Where the loss or the norm is not finite, no weight moves.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    result = StepResult(loss, float(getattr(norm, "full_tensor", lambda: norm)()))  # of shards: over all processes
    if result.is_finite:
        optimizer.step()
    optimizer.zero_grad()
    return result.grad_norm
