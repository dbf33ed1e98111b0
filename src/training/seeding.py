"""Randomness that belongs to a run: the first weights, and what a model draws in a step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..data import Noise
from ..objectives import Objective


def seeded_model(objective: Objective, vocab_size: int, size: str, seed: int, **overrides: Any) -> nn.Module:
    """The objective's model with weights drawn from `seed`, on the processor: the same for every device.

    The global random state stays as it was. `size` is one of `clozelab.models.PRESETS`, `overrides` are fields of
    `ModelConfig`.

    >>> from clozelab import CausalLM
    >>> from clozelab.training import seeded_model
    >>> model = seeded_model(CausalLM(), vocab_size=50, size="tiny", seed=0, d_model=16, n_layers=1, n_heads=1)
    >>> model.config.d_model
    16
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return objective.build_model(vocab_size, size, **overrides)


@contextmanager
def seeded_rng(seed: int, step: int, device: torch.device, rank: int = 0) -> Iterator[None]:
    """Inside, dropout and the like depend on (seed, step, process) alone; the random state outside stays as it was."""
    process = f" in process {rank}" if rank else ""
    [generator] = Noise.of(seed, step, [f"what the model draws{process}"]).generators(0)
    seed, devices = generator.initial_seed(), [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type):
        torch.default_generator.manual_seed(seed)
        for one in devices:
            torch.get_device_module(one).manual_seed(seed)
        yield
