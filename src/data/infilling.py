"""Text infilling: spans of Poisson lengths, zero among them, and the text in which a mask stands for each.

    text      Thank you for inviting me to your party last week .
    spans           ^^^^^^^^^^^^^^^^           |     ^^^^             lengths 3, 0 and 1
    source    Thank [M] me to your [M] party [M] week .

A span of no tokens is a mask that stands for nothing: the model must learn how many tokens are missing, also none.

Source: Lewis et al. 2020 (BART), section 2.2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..checks import REAL, WHOLE, check_number, check_same_shape, check_tensor
from ..errors import InputError
from .masking import check_rate


def poisson_lengths(mean: float, most: int) -> Tensor:
    """(most + 1,) float64: the probability of each length 0 .. most of a Poisson distribution.

    >>> from clozelab.data.infilling import poisson_lengths
    >>> poisson_lengths(3.0, 3)
    tensor([0.0498, 0.1494, 0.2240, 0.2240], dtype=torch.float64)
    """
    lengths = torch.arange(most + 1, dtype=torch.float64)
    return (lengths * math.log(mean) - mean - (lengths + 1).lgamma()).exp()


def hidden_budget(n: Tensor, mask_rate: float) -> Tensor:
    """How many of n units (...) are hidden: `mask_rate` of them, rounded up, as in BART's code."""
    return (n.double() * mask_rate - 1e-9).ceil().long()  # 0.1 x 30 is above 3 in floating point


def poisson_spans(
    n: Tensor, mask_rate: float, mean_noise_span_length: float, length_noise: Tensor, place_noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Spans of rows of n (B,) units, which are tokens or words: starts and lengths (B, M); start -1 is no span.

    Lengths are drawn one after the other until they cover the budget of a row, ceil(mask_rate n); the last is cut to
    fit, and so is the one that makes as many spans as hidden units, so that no source is longer than its text. Then the
    visible units and the masks are brought into a random order, each equally likely: spans never overlap. A span of
    length 0 starts before the unit of that number, or at n, behind the last.

    Shapes: both noises (B, T), T >= n.

    >>> import torch
    >>> from clozelab.data.infilling import poisson_spans
    >>> length_noise = torch.tensor([[0.3, 0.01, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5]])  # lengths 2, 0 and 5, cut to 1
    >>> place_noise = torch.tensor([[0.9, 0.4, 0.8, 0.7, 0.1, 0.6, 0.3, 0.5]])  # in the slots 4, 6 and 1 of 8
    >>> poisson_spans(torch.tensor([8]), 0.3, 3.0, length_noise, place_noise)
    (tensor([[4, 7, 1]]), tensor([[2, 0, 1]]))

    Raises `InputError` for a rate outside (0, 1], a mean that is not positive, and for shapes that do not fit.

    Source: Lewis et al. 2020 (BART), section 2.2. fairseq lets spans overlap, and hides 27% for a budget of 30%.
    """
    check_rate("mask_rate", mask_rate)
    if not 0 < check_number(mean_noise_span_length, "mean_noise_span_length") < math.inf:
        raise InputError(f"mean_noise_span_length must be positive and finite, got {mean_noise_span_length!r}")
    check_same_shape(lengths=check_tensor(length_noise, "length_noise", "(B, T)", REAL), places=place_noise)
    if check_tensor(n, "n", "(B)", WHOLE).shape != length_noise.shape[:1] or bool((n > length_noise.shape[1]).any()):
        raise InputError(
            f"expected a number of units for each row, at most T, got {n.tolist()} for {length_noise.shape}"
        )
    budget = hidden_budget(n, mask_rate)[:, None]  # (B, 1)
    most = int(budget.max()) if len(budget) else 0
    at_most = poisson_lengths(mean_noise_span_length, most).cumsum(0)
    drawn = torch.searchsorted(at_most, length_noise[:, :most].double().contiguous(), right=True)  # (B, M)
    number = torch.arange(most)
    ends = torch.where(number < budget - 1, drawn.cumsum(1), budget).minimum(budget)  # units hidden so far
    lengths = torch.diff(ends, dim=1, prepend=torch.zeros_like(budget))
    is_span = ends - lengths < budget

    slots = n[:, None] - budget + is_span.sum(1, keepdim=True)  # (B, 1): one for each visible unit and each mask
    beyond = torch.arange(place_noise.shape[1]) >= slots
    slot = place_noise.masked_fill(beyond, 2.0).argsort(1)[:, :most]  # (B, M), of each span in the order of its noise
    units = torch.ones_like(beyond, dtype=torch.int64).scatter_(1, slot, torch.where(is_span, lengths, 1))  # (B, T)
    starts = (units.cumsum(1) - units).gather(1, slot)
    return starts.masked_fill(~is_span, -1), lengths.masked_fill(~is_span, 0)


def mask_places(unit: Tensor, starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(hidden, opening, inserted) of spans (B, M) over tokens whose `unit` (B, T) is given, -1 for those never hidden.

    `hidden` (B, T) bool; `opening` (B, T) bool: hidden tokens before which a mask stands, since they begin a span; one
    that is divided by a token of no unit is two. `inserted` (B, M): the token before which the mask of a span of length
    0 stands, -1 for all others; behind the last unit it is the token after it, or T.

    >>> import torch
    >>> from clozelab.data.infilling import mask_places
    >>> unit = torch.tensor([[0, 1, 2, -1, 3, 4]])
    >>> hidden, opening, inserted = mask_places(unit, torch.tensor([[2, 5]]), torch.tensor([[2, 0]]))
    >>> hidden.long(), opening.long(), inserted
    (tensor([[0, 0, 1, 0, 1, 0]]), tensor([[0, 0, 1, 0, 1, 0]]), tensor([[-1,  6]]))
    """
    b, t = unit.shape
    free, empty, full = unit >= 0, (starts >= 0) & (lengths == 0), (starts >= 0) & (lengths > 0)
    n = unit.amax(1, keepdim=True) + 1 if t else torch.zeros(b, 1, dtype=torch.int64)
    change = torch.zeros(b, t + 2, dtype=torch.int64)  # of the number of spans over a unit; the last column is waste
    change.scatter_add_(1, starts.where(full, t + 1), full.long())
    begins = change.clone() > 0
    change.scatter_add_(1, (starts + lengths).where(full, t + 1), -full.long())
    of_token = unit.clamp(min=0)
    hidden = free & (change.cumsum(1) > 0).gather(1, of_token)
    before = torch.nn.functional.pad(unit, (1, 0), value=-1)[:, :-1].cummax(1).values  # the last unit before a token
    first = free & (unit > before)
    gap = ~torch.nn.functional.pad(hidden, (1, 0))[:, :-1]
    opening = hidden & (gap | first & begins.gather(1, of_token))

    columns = torch.arange(t).expand(b, t)
    where = torch.zeros(b, t + 2, dtype=torch.int64)
    where.scatter_(1, unit.where(first, t + 1), columns)  # the first token of each unit
    behind = (columns + 1).where(free, 0).amax(1, keepdim=True) if t else n
    where.scatter_(1, n, behind)
    return hidden, opening, where.gather(1, starts.clamp(min=0)).masked_fill(~empty, -1)
