"""The cross-entropy of the loss positions, without ever holding all their logits at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

Terms = dict[str, Tensor]
"""The named terms of a loss: scalars, each a weighted sum over positions, nats."""

CHUNK = {"cpu": 2**22, "cuda": 2**25}
"""Logits that are held at once, by the kind of device: 16 MB on a processor, so that they stay in its cache, and
128 MB elsewhere. On an H100 four times as many took a fifth less time and 2.6 times the memory, in a loop like this."""


class SoftLabels(NamedTuple):
    """A distribution over the vocabulary at each position, by the few ids that have a probability at all."""

    ids: Tensor
    """(..., K) int64; none may stand twice with a probability."""
    probabilities: Tensor
    """(..., K): they sum to 1; 0 for an id that fills up the row."""


def loss_terms(
    logits: Tensor,
    labels: Tensor | SoftLabels,
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> tuple[Tensor, Terms, Tensor]:
    """The loss of logits (N, V) at labels (N,): its sum over the N positions, its terms, and each position's cost (N,).

    Nats. Each position is multiplied by its weight (N,), 1 where None. `label_smoothing` and `z_loss` are those of
    `Objective`; each is a term of its own where it is not zero. Terms and costs are detached. `SoftLabels` (N, K) are
    distributions that are predicted instead of single ids.

    >>> import torch
    >>> from clozelab.objectives.cross_entropy import loss_terms
    >>> loss, terms, costs = loss_terms(torch.zeros(2, 8), torch.tensor([3, 5]), torch.tensor([1.0, 2.0]))
    >>> round(float(loss), 4), costs
    (6.2383, tensor([2.0794, 4.1589]))
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if isinstance(labels, SoftLabels):
        each = {"cross_entropy": -(labels.probabilities * logits.log_softmax(-1).gather(1, labels.ids)).sum(1)}  # (N,)
    else:
        each = {"cross_entropy": F.cross_entropy(logits, labels, reduction="none")}
    if label_smoothing > 0:
        uniform = -F.log_softmax(logits, -1).mean(-1)  # cross-entropy with the uniform distribution
        each["label_smoothing"] = label_smoothing * (uniform - each["cross_entropy"])
    if z_loss > 0:
        each["z_loss"] = z_loss * logits.logsumexp(-1).square()
    if weights is not None:
        each = {name: term * weights for name, term in each.items()}
    costs = torch.stack(tuple(each.values())).sum(0)  # (N,)
    return costs.sum(), {name: term.detach().sum() for name, term in each.items()}, costs.detach()


def unembedded_terms(
    hidden: Tensor,
    table: Tensor,
    labels: Tensor | SoftLabels,
    weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> tuple[Tensor, Terms, Tensor]:
    """`loss_terms(hidden @ table.T, labels, ...)` for hidden states (N, D) and a table (V, D).

    The N x V logits are most of the memory of a small model's step, and moving them is much of its time. But the loss
    is a sum over positions, and so is its gradient: the gradient of each chunk of positions is computed as soon as its
    loss is known, in the memory of its logits, which the next chunk overwrites. Under `create_graph=True` the gradient
    is computed once more with all logits held, so that gradients of gradients are right.

    `F.linear_cross_entropy` of PyTorch has the same idea. In 2.13 its value is wrong for bfloat16 on a processor
    (9.19 nats for 9.33 at V = 8192, the gradient right), it is slower there, and it has no z-loss and no weights.

    >>> import torch
    >>> from clozelab.objectives.cross_entropy import loss_terms, unembedded_terms
    >>> hidden, table, labels = torch.randn(6, 4), torch.randn(9, 4), torch.arange(6)
    >>> loss, terms, costs = unembedded_terms(hidden, table, labels)
    >>> torch.allclose(loss, loss_terms(hidden @ table.T, labels)[0])
    True

    Raises `InputError` for weights or soft labels that ask for a gradient: theirs is not computed here.
    """
    ids, probabilities = labels if isinstance(labels, SoftLabels) else (labels[:, None], None)
    if any(given is not None and given.requires_grad for given in (weights, probabilities)):
        raise InputError(
            "weights and soft labels that ask for a gradient would get none here: detach them, or let the model return "
            "logits instead of states and a table"
        )
    cross_entropy, smoothing, z, costs = _Chunked.apply(
        hidden, table, ids, probabilities, weights, label_smoothing, z_loss, torch.is_grad_enabled()
    )
    terms = {"cross_entropy": cross_entropy.detach()}
    if label_smoothing > 0:
        terms["label_smoothing"] = smoothing
    if z_loss > 0:
        terms["z_loss"] = z
    # All gradients are those of the first result; the others are but numbers.
    return cross_entropy + smoothing + z, terms, costs


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        ids: Tensor,
        probabilities: Tensor | None,
        weights: Tensor | None,
        label_smoothing: float,
        z_loss: float,
        grad: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = max(1, min(len(hidden), _compute.held(hidden.device) // len(table)))
        low = F.linear(hidden[:0], table[:0]).dtype  # what autocast, if it is on, makes of a product
        wide = torch.promote_types(low, torch.float32)
        h, table_low = hidden.to(low), table.to(low)  # (N, D) and (V, D)
        d_hidden = torch.empty_like(h)
        # A sum over all chunks: in bfloat16 it would lose a little with each of them.
        d_table = torch.zeros_like(table, dtype=torch.promote_types(table.dtype, torch.float32))
        # Two buffers for the logits of a chunk: as the product gives them, and in the precision of the loss.
        products = h.new_empty(rows, len(table))
        scores = None if _compute.compiled else products.to(wide)
        terms, costs = hidden.new_zeros(3, dtype=wide), hidden.new_zeros(len(h), dtype=wide)
        for start in range(0, len(h), rows):
            here = slice(start, start + rows)
            product = products[: len(h[here])]  # (n, V)
            torch.mm(h[here], table_low.t(), out=product)
            share = None if probabilities is None else probabilities[here].to(wide)  # (n, K)
            weight = None if weights is None else weights[here, None].to(wide)  # (n, 1)
            room = None if scores is None else scores[: len(product)]
            each = _compute.chunk(product, ids[here], share, weight, label_smoothing, z_loss, grad, room)  # (n, 3)
            costs[here] = each.sum(1)
            terms += each.sum(0)
            if not grad:
                continue
            torch.mm(product, table_low, out=d_hidden[here])
            if low == d_table.dtype:
                d_table.addmm_(product.t(), h[here])
            else:
                d_table.add_(product.t() @ h[here])
        total, smoothing, z = terms.unbind()
        d_hidden, d_table = d_hidden.to(hidden.dtype), d_table.to(table.dtype)
        ctx.save_for_backward(hidden, table, ids, probabilities, weights, d_hidden, d_table)
        ctx.settings = label_smoothing, z_loss, low
        ctx.mark_non_differentiable(smoothing, z, costs)
        return total, smoothing, z, costs

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        d_loss, (hidden, table, ids, probabilities, weights, d_hidden, d_table) = grad_outputs[0], ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the stored gradients are constants, which have no curvature
            label_smoothing, z_loss, low = ctx.settings
            logits = F.linear(hidden.to(low), table.to(low)).to(torch.promote_types(low, torch.float32))  # (N, V)
            share = torch.ones_like(ids, dtype=logits.dtype) if probabilities is None else probabilities.to(logits)
            target = torch.zeros_like(logits).scatter_add_(1, ids, share)
            target = (1 - label_smoothing) * target + label_smoothing / len(table)
            d_logits = (1 + 2 * z_loss * logits.logsumexp(1, keepdim=True)) * logits.softmax(1) - target
            d_logits = (d_logits if weights is None else d_logits * weights[:, None]).to(low)
            d_hidden, d_table = (d_logits @ table.to(low)).to(hidden), (d_logits.t() @ hidden.to(low)).to(table)
        return d_loss * d_hidden, d_loss * d_table, None, None, None, None, None, None


def _terms_and_gradient(
    logits: Tensor,
    ids: Tensor,
    probabilities: Tensor | None,
    weight: Tensor | None,
    label_smoothing: float,
    z_loss: float,
    grad: bool,
    scores: Tensor | None,
) -> Tensor:
    """The three terms of each position (n, 3); with `grad` the logits (n, V) become d loss / d logits.

    `ids` and `probabilities` are (n, K), `weight` is (n, 1). `scores` (n, V), in the precision of the loss, is memory
    that each chunk uses again; None: this one asks for its own.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    s = logits.to(wide) if scores is None else scores.copy_(logits)
    share = torch.ones_like(ids, dtype=wide) if probabilities is None else probabilities
    of_label, highest = (s.gather(1, ids) * share).sum(1, keepdim=True), s.amax(1, keepdim=True)  # (n, 1)
    mean = s.mean(1, keepdim=True) if label_smoothing else of_label
    s = s.sub_(highest).exp_()
    sums = s.sum(1, keepdim=True)
    log_z = highest + sums.log()
    z = z_loss * log_z.square() if z_loss else torch.zeros_like(log_z)  # 0 times an overflow would be no number
    each = torch.cat((log_z - of_label, label_smoothing * (of_label - mean), z), 1)
    if weight is not None:
        each = each * weight
    if not grad:
        return each
    # d loss / d logits = (1 + 2 z log Z) softmax - the label, smoothed; times the weight
    slope = 1 + 2 * z_loss * log_z
    s = s.mul_(slope / sums)
    if label_smoothing:
        s = s.sub_(label_smoothing / s.shape[1])
    if probabilities is not None:
        s = s.scatter_add_(1, ids, (label_smoothing - 1) * share)
    if weight is not None:
        s = s.mul_(weight)
    logits.copy_(s)
    if probabilities is None:  # the label's own, apart, so that a compiler can make one kernel of all the rest
        at_label = slope * (of_label - log_z).exp() - label_smoothing / s.shape[1] + (label_smoothing - 1)
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        logits[rows, ids] = (at_label if weight is None else at_label * weight).to(logits.dtype)
    return each


class _Compute:
    """How a chunk is computed: in about ten passes over its memory, or, compiled, in two."""

    def __init__(self) -> None:
        self.chunk: Callable[..., Tensor] = _terms_and_gradient

    @property
    def compiled(self) -> bool:
        """Whether a chunk is computed by kernels of torch.compile."""
        return self.chunk is not _terms_and_gradient

    def held(self, device: torch.device) -> int:
        """Logits of a chunk: compiled twice as many, as those of bfloat16 need no copy in the precision of the loss."""
        return CHUNK.get(device.type, CHUNK["cuda"]) * (2 if self.compiled else 1)


_compute = _Compute()


@contextmanager
def compiled_loss() -> Iterator[None]:
    """Inside, `unembedded_terms` computes each chunk by kernels of torch.compile, which read its logits only twice.

    >>> import torch
    >>> from clozelab.objectives.cross_entropy import compiled_loss, unembedded_terms
    >>> with compiled_loss():
    ...     pass  # steps of training
    """
    before, _compute.chunk = _compute.chunk, torch.compile(_terms_and_gradient)
    try:
        yield
    finally:
        _compute.chunk = before
