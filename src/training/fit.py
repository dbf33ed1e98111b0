"""The loop at its barest: batches in, a trained model out. No corpus, no files, no checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ..checks import check_type
from ..device import autocast
from ..errors import NotFinite
from ..objectives import Loss
from ..progress import current_bar
from .config import TrainConfig
from .optimizers import optimizer_of
from .precision import flushed_denormals, uses_bfloat16
from .seeding import seeded_rng
from .step import StepResult, clip_and_step

LossFn = Callable[[nn.Module, Any], Loss]
"""An objective, or any function (model, batch) -> Loss."""


def fit(
    loss_fn: LossFn,
    model: nn.Module,
    batch_at: Callable[[int], Any],
    config: TrainConfig,
    *,
    callback: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a model on `batch_at(0)`, `batch_at(1)`, ...; returns the mean training loss of each step, in nats.

    For text that is made as it is needed (a `MarkovSource`), for fine-tuning on pairs, for a loss of your own; `train`
    does the same for a corpus, with a run folder. Of `config` it reads steps, learning rates, schedule, optimizer,
    max_grad_norm, precision and seed (for dropout and the like). A batch is whatever `loss_fn(model, batch)` takes; its
    tensors, where it is a mapping, are moved to the model's device. `callback(step, nats)` is called after each step,
    the first being 1. Gradients that the model has are cleared first, and it is left in training mode.

    >>> import torch
    >>> from clozelab import CausalLM
    >>> from clozelab.training import TrainConfig, fit
    >>> objective, text = CausalLM(), torch.arange(8).repeat(4, 2)
    >>> model = objective.build_model(8, "tiny", d_model=16, n_layers=1, n_heads=1)
    >>> batch = {"input_ids": text, "labels": text}
    >>> curve = fit(objective, model, lambda step: batch, TrainConfig(steps=60, optimizer="adamw", learning_rate=1e-2))
    >>> len(curve), curve[-1] < 0.2 < curve[0]
    (60, True)

    Raises `NotFinite` for a loss or a gradient that is infinite or NaN; that step changed no weight.
    """
    optimizer = optimizer_of(model, config)
    device = next(model.parameters()).device
    bfloat16 = uses_bfloat16(config.precision, device)
    bar, curve = current_bar(), list[float]()
    model.train()
    model.zero_grad()
    with flushed_denormals():
        for step in range(config.steps):
            optimizer.set_lr_scale(config.schedule((step + 0.5) / config.steps))
            batch = batch_at(step)
            if isinstance(batch, Mapping):
                batch = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
            with seeded_rng(config.seed, step, device), autocast(device, bfloat16=bfloat16):
                loss = check_type(loss_fn(model, batch), Loss, "what the loss function returns")
            loss.mean.backward()
            result = StepResult(loss.detach(), clip_and_step(optimizer, loss, config.max_grad_norm))
            curve.append(float(result.loss.mean))
            if not result.is_finite:
                raise NotFinite(
                    f"step {step + 1}: the loss is {curve[-1]} and the gradient's norm {result.grad_norm}; this step "
                    "changed no weight; a lower learning rate is the usual cure"
                )
            bar.doing(f"step {step + 1:,} of {config.steps:,}, loss {curve[-1]:.3f} nats")
            if callback is not None:
                callback(step + 1, curve[-1])
    return curve
