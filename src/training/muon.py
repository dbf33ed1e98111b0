"""Muon: each step of a matrix is made orthogonal, so that it is as long in every direction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from .eager_optimizers import EagerOptimizer

ROUNDS = 5
"""Of Newton and Schulz, in each step."""
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial of each round, steep at zero: singular values come to lie between about 0.7 and 1.2."""
STACKED = 2**24
"""Numbers that are made orthogonal at once; larger matrices gain nothing by company."""


class Muon(EagerOptimizer):
    """What `torch.optim.Muon` does, in the precision of the step and with all matrices of one shape at once.

    PyTorch's multiplies in bfloat16 whatever the processor can do, and one matrix after the other. Here a matrix is
    made orthogonal in bfloat16 where `bfloat16` says that the hardware multiplies in it, and else in its own type.

    Sharded matrices (FSDP2) are gathered for it, so that each step is that of one device.

    >>> import torch
    >>> from clozelab.training.muon import Muon
    >>> weight = torch.nn.Parameter(torch.zeros(3, 3))
    >>> optimizer = Muon([weight], lr=1.0, weight_decay=0.0)
    >>> weight.grad = torch.diag(torch.tensor([100.0, 10.0, 1.0]))  # very unlike in size
    >>> optimizer.step()
    >>> bool(((-weight.diag() > 0.6) & (-weight.diag() < 1.3)).all())  # the steps are not
    True

    Source: Jordan et al. 2024 (Muon), "Definition"; the factor for tall matrices as in his code.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        *,
        bfloat16: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.bfloat16 = bfloat16

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move each matrix that has a gradient."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            for weights in _of_one_shape(moved):
                steps = orthogonal([self._averaged(p, group["momentum"]) for p in weights], bfloat16=self.bfloat16)
                for weight, step in zip(weights, steps):
                    rows, columns = weight.shape
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(_cut_like(weight, step), alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))

    def _averaged(self, weight: Tensor, momentum: float) -> Tensor:
        """The gradient, averaged over the steps, and looking one step ahead (Nesterov); whole where it was cut."""
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(average, momentum)
        return getattr(ahead, "full_tensor", lambda: ahead)()


def orthogonal(matrices: list[Tensor], *, bfloat16: bool = False) -> list[Tensor]:
    """The nearest orthogonal matrix of each, about: singular vectors stay, singular values become nearly 1.

    All are (A, B) alike. Five rounds of Newton and Schulz; in bfloat16, or in the matrices' own type.

    Source: Jordan et al. 2024 (Muon), "Definition".
    """
    own = matrices[0].dtype
    stack = torch.stack(matrices).to(torch.bfloat16 if bfloat16 else own)
    tall = stack.shape[1] > stack.shape[2]
    x = stack.mT if tall else stack
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return list((x.mT if tall else x).to(own))


def _of_one_shape(weights: list[Tensor]) -> Iterator[list[Tensor]]:
    """The weights, those of one shape together, a bounded number at once."""
    for shape, alike in groupby(sorted(weights, key=lambda w: tuple(w.shape)), key=lambda w: tuple(w.shape)):
        group = list(alike)
        size = max(1, STACKED // math.prod(shape))
        yield from (group[start : start + size] for start in range(0, len(group), size))


def _cut_like(weight: Tensor, whole: Tensor) -> Tensor:
    """This process's share of a whole step, where the weight is cut."""
    if not hasattr(weight, "full_tensor"):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(weight, DTensor)
    return distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)
