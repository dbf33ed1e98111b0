"""The loop at its barest: batches in, a trained model out. No corpus, no files, no checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NotFinite
from ..objectives import Loss
from .config import TrainConfig
from .loop import flushed_denormals, seeded_rng, uses_bfloat16
from .optimizers import optimizer_of, step_with_mean

Pay = Callable[[nn.Module, Any], Loss]
"""An objective, or any function that pays like one."""


def learn(
    objective: Pay,
    model: nn.Module,
    batch_at: Callable[[int], Any],
    config: TrainConfig,
    *,
    watch: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a model on `batch_at(0)`, `batch_at(1)`, ...: the training loss of each step, in nats per paid position.

    For text that is made as it is needed (a `MarkovSource`), for fine-tuning on pairs, for a loss of your own; `train`
    does the same for a corpus, with a run folder. Of `config` it takes steps, learning rates, schedule, optimizer,
    clip, precision and seed (of what the model draws, as for dropout). A batch is whatever `objective(model, batch)`
    takes. `watch(step, nats)` is called after each step, the first being 1. Gradients that the model brings are
    forgotten; it is left in training mode.

    >>> from clozelab.objectives import CausalLM
    >>> objective, text = CausalLM(), torch.arange(8).repeat(4, 2)
    >>> model = objective.build_model(8, "tiny", d_model=16, n_layers=1, n_heads=1)
    >>> batch = {"input_ids": text, "labels": text}
    >>> curve = learn(objective, model, lambda step: batch, TrainConfig(steps=60, learning_rate=1e-2))
    >>> len(curve), curve[-1] < 0.2 < curve[0]
    (60, True)

    Raises `NotFinite` for a loss or a gradient that is no number any more; the step changed no weight.
    """
    optimizer = optimizer_of(model, config)
    device = next(model.parameters()).device
    bfloat16 = uses_bfloat16(config.precision, device)
    curve: list[float] = []
    model.train()
    model.zero_grad()
    with flushed_denormals():
        for step in range(config.steps):
            optimizer.set_lr_scale(config.schedule((step + 0.5) / config.steps))
            batch = batch_at(step)
            if isinstance(batch, Mapping):
                batch = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
            with seeded_rng(config.seed, step, device), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                loss = objective(model, batch)
            loss.sum.backward()
            norm = step_with_mean(model, optimizer, loss, config.clip)
            curve.append(float(loss.mean.detach()))
            if not (math.isfinite(curve[-1]) and math.isfinite(norm)):
                raise NotFinite(
                    f"step {step + 1}: the loss is {curve[-1]} and the gradient's norm {norm}; this step changed no "
                    "weight; a lower learning rate is the usual cure"
                )
            if watch is not None:
                watch(step + 1, curve[-1])
    return curve
