"""What a training step costs in arithmetic, so that objectives can be compared at equal compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..errors import InputError
from ..models import LanguageModel, measuring
from ..models.layers import Attention
from ..objectives import Objective


def training_flops(objective: Objective, model: nn.Module, batch: Mapping[str, Tensor]) -> int:
    """Floating-point operations of one training step on this batch: forward, and twice as many backward.

    Counted while the model reads the batch: 2 for each weight and each position that meets it, 4 D for each pair of
    a query and a key (whether or not it may be read), and 2 V D for each *paid* position, since only those are compared
    with the vocabulary. So a causal model pays for its table at every position, an encoder at 15% of them. What the
    optimiser does, norms and activations are left out.

    >>> import torch
    >>> from clozelab.objectives import CausalLM
    >>> objective, text = CausalLM(), torch.arange(8)[None]
    >>> model = objective.build_model(10, "tiny", width=16, layers=1, heads=1)
    >>> inside, pairs, paid = model.parameter_count(vocabulary=False), 8 * 8, 7
    >>> training_flops(objective, model, {"input_ids": text, "labels": text}) == 3 * (
    ...     2 * inside * 8 + 4 * 16 * pairs + 2 * 10 * 16 * paid
    ... )
    True

    Raises `InputError` for a model that is not one of ours, of which it is not known who attends to whom.
    Source: Kaplan et al. 2020, section 2.1.
    """
    if not isinstance(model, LanguageModel):
        raise InputError(f"only the arithmetic of our own models can be counted, got {type(model).__name__}")
    forward = 2 * model.unembedding.numel() * int(objective.paid(batch).sum())

    def count(part: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        nonlocal forward
        if isinstance(part, nn.Linear):
            forward += 2 * part.weight.numel() * inputs[0][..., 0].numel()
        else:
            read, visible = inputs[:2]  # (B, T, D)
            forward += 4 * read.shape[-1] * len(read) * visible.queries * visible.keys

    counted = [part for part in model.modules() if isinstance(part, (nn.Linear, Attention))]
    hooks = [part.register_forward_hook(count) for part in counted]
    try:
        with measuring(model):
            objective(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return 3 * forward
