"""What paid positions cost, and how to know it without ever holding all their logits at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Terms = dict[str, Tensor]
"""The named parts of a loss: scalars, each a sum over positions, nats."""

CHUNK = {"cpu": 2**22, "cuda": 2**28}
"""Logits that are held at once, by the kind of device: 16 MB on a processor, so that they stay in its cache."""


def loss_terms(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, z_loss: float = 0.0) -> Terms:
    """What logits (N, V) cost for labels (N,), summed over the N positions. The loss is the sum of these terms.

    `label_smoothing` and `z_loss` are those of `Objective`; each is a term of its own where it is not zero.

    >>> {name: round(float(term), 4) for name, term in loss_terms(torch.zeros(2, 8), torch.tensor([3, 5])).items()}
    {'cross_entropy': 4.1589}
    """
    logits = logits.float()
    cross_entropy = F.cross_entropy(logits, labels, reduction="sum")
    terms = {"cross_entropy": cross_entropy}
    if label_smoothing > 0:
        uniform = -F.log_softmax(logits, -1).mean(-1).sum()  # cross-entropy with the uniform distribution
        terms["label_smoothing"] = label_smoothing * (uniform - cross_entropy)
    if z_loss > 0:
        terms["z_loss"] = z_loss * logits.logsumexp(-1).square().sum()
    return terms


def unembedded_terms(
    hidden: Tensor, table: Tensor, labels: Tensor, terms: Callable[[Tensor, Tensor], Terms] = loss_terms
) -> tuple[Tensor, Terms]:
    """`terms(hidden @ table.T, labels)` for hidden states (N, D) and a table (V, D): the loss, and its parts, detached.

    The N x V logits are most of the memory of a small model's step, and moving them is much of its time. But the loss
    is a sum over positions, and so is its gradient: each chunk of positions is back-propagated as soon as its loss is
    known, and its logits are forgotten. The loss can be back-propagated once; gradients of gradients are not kept.

    `F.linear_cross_entropy` of PyTorch has the same idea. In 2.13 its value is wrong for bfloat16 on a processor
    (9.19 nats for 9.33 at V = 8192, the gradient right), it is slower there, and it has no z-loss.

    >>> hidden, table, labels = torch.randn(6, 4), torch.randn(9, 4), torch.arange(6)
    >>> loss, terms = unembedded_terms(hidden, table, labels)
    >>> torch.allclose(loss, loss_terms(hidden @ table.T, labels)["cross_entropy"])
    True
    """
    rows = max(1, CHUNK.get(hidden.device.type, CHUNK["cuda"]) // len(table))
    total, names, *parts = _Chunked.apply(hidden, table, labels, terms, rows, torch.is_grad_enabled())
    return total, dict(zip(names, parts))


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, labels: Tensor, terms: Any, rows: int, grad: bool) -> Any:
        d_hidden, d_table = torch.empty_like(hidden), torch.zeros_like(table)
        sums: Terms = {}
        with torch.set_grad_enabled(grad):
            table = table.detach().requires_grad_(grad)
            for start in range(0, max(len(hidden), 1), rows):
                here = slice(start, start + rows)
                h = hidden[here].detach().requires_grad_(grad)  # (rows, D)
                parts = terms(F.linear(h, table), labels[here])
                if grad:
                    d_hidden[here], of_table = torch.autograd.grad(sum(parts.values()), (h, table))
                    d_table += of_table
                for name, part in parts.items():
                    sums[name] = sums.get(name, 0) + part.detach()
        ctx.save_for_backward(d_hidden, d_table)
        ctx.mark_non_differentiable(*sums.values())
        return sum(sums.values()), tuple(sums), *sums.values()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor, *_: Any) -> Any:
        d_hidden, d_table = ctx.saved_tensors
        return d_loss * d_hidden, d_loss * d_table, None, None, None, None
