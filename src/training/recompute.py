"""Activation checkpointing: less is kept for the backward, and computed again when it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..checks import check_type


def blocks(model: nn.Module) -> list[nn.Module]:
    """The members of a model's lists of modules, those inside of another member left out.

    They are what is sharded, and computed again, one at a time.

    >>> from torch import nn
    >>> from clozelab.training.recompute import blocks
    >>> len(blocks(nn.ModuleDict({"head": nn.Linear(2, 2), "layers": nn.ModuleList([nn.Linear(2, 2)] * 3)})))
    3
    """
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for part in check_type(model, nn.Module, "the model").modules():  # outer modules come before inner ones
        if isinstance(part, nn.ModuleList) and part not in inside:
            found += part
            inside.update(module for block in part for module in block.modules())
    return found


@contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Inside, each block keeps its inputs alone for the backward, which computes the block's forward once more.

    The gradients are the same, bit for bit, dropout included: the random state of the first time is restored.

    >>> import torch
    >>> from torch import nn
    >>> from clozelab.training.recompute import recomputed
    >>> layers = nn.ModuleList([nn.Linear(2, 2)])
    >>> with recomputed(layers):
    ...     layers[0](torch.ones(1, 2)).sum().backward()
    >>> layers[0].weight.grad
    tensor([[1., 1.],
            [1., 1.]])

    Source: Chen et al. 2016, section 4.
    """
    parts = blocks(model)
    own = [vars(part).get("forward") for part in parts]
    for part in parts:
        part.forward = partial(checkpoint, part.forward, use_reentrant=False)
    try:
        yield
    finally:
        for part, forward in zip(parts, own):
            del part.forward
            if forward is not None:
                part.forward = forward
