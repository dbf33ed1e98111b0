"""Pretraining on a `World` of skills, which several lessons share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..languages import World
from ..objectives import CausalLM
from ..training import TrainConfig, fit


def pretrain(world: World, steps: int) -> nn.Module:
    """Train a causal model on the text of a world: two layers of width 64, 16 rows of 64 tokens a step, Muon, float32.

    The initial weights are drawn from the world's seed.

    >>> import torch
    >>> from clozelab.course.worlds import pretrain
    >>> from clozelab.languages import World
    >>> model = pretrain(World(0), steps=1)
    >>> model(torch.tensor([[1, 2, 3]])).shape  # hidden states (B, T, D)
    torch.Size([1, 3, 64])
    """
    torch.manual_seed(world.seed)
    objective = CausalLM()
    model = objective.build_model(world.special.vocab_size, "tiny", d_model=64, n_layers=2, n_heads=2)

    def batch(step: int) -> dict[str, Tensor]:
        text = world.block(step, 16, 64)
        return {"input_ids": text, "labels": text}

    config = TrainConfig(steps, learning_rate=3e-3, warmup=0.05, decay=0.4, matrix_momentum=0.95, precision="float32")
    fit(objective, model, batch, config)
    return model
