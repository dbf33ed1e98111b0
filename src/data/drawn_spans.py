"""Spans whose lengths are drawn one by one until enough is hidden: n-grams (XLNet), SpanBERT's, GPT-BERT's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..checks import REAL, WHOLE, check_int, check_number, check_same_shape, check_tensor
from ..errors import InputError
from ..escape import shown
from .masking import check_noise, check_rate, hidden_count, whole_word_mask, word_runs

WEIGHTS = {
    "n-grams": (lambda n: 1 / n, 5),
    "geometric-spans": (lambda n: 0.8 ** (n - 1), 10),
    "uniform-spans": (lambda n: 1.0, 3),
}
"""By the name of a distribution: the weight of a span of n, and the longest span of the paper that it is from."""


def drawn_span_lengths(kind: str, longest: int | None = None) -> list[float]:
    """The probabilities of the lengths 1, 2, ..., `longest`; the longest of the paper where None.

    - "n-grams": p ~ 1 / n, up to 5 (Yang et al. 2019, XLNet; ALBERT has 3);
    - "geometric-spans": p ~ 0.8^(n - 1), up to 10 (Joshi et al. 2020, SpanBERT, section 2.1), 3.8 in the mean;
    - "uniform-spans": all alike, up to 3 (Charpentier and Samuel 2024, GPT-BERT).

    >>> from clozelab.data import drawn_span_lengths
    >>> [round(p, 3) for p in drawn_span_lengths("n-grams")]
    [0.438, 0.219, 0.146, 0.109, 0.088]

    Raises `InputError` for an unknown kind, and for a longest span below 1.
    """
    if kind not in WEIGHTS:
        raise InputError(f"expected spans among {', '.join(WEIGHTS)}, got {shown(kind)}")
    weight, usual = WEIGHTS[kind]
    weights = [weight(n) for n in range(1, 1 + (usual if longest is None else check_int(longest, "longest", 1, 2**20)))]
    return [one / sum(weights) for one in weights]


def drawn_spans_mask(
    maskable: Tensor,
    lengths: Tensor,
    places: Tensor,
    rate: float,
    probabilities: Sequence[float],
    word_ids: Tensor | None = None,
) -> Tensor:
    """Hide spans until max(1, round(rate * n)) of a row's n maskable tokens are hidden, no two of them side by side.

    A length is drawn by `probabilities` (of 1, 2, ...), then a place for it, each one alike where it fits among the
    maskable tokens with a visible token on both sides. What exceeds the budget is cut off the last span. So without
    words the budget is met exactly, and the lengths are those of the distribution but for the last one. Where no place
    is left that long, the longest is taken that there is; where every visible token stands beside a span, at rates of
    about a half, spans grow together. A span that stops at the ends of a text covers the first and last tokens less
    often than others.

    With `word_ids` (see `whole_word_mask`) lengths are counted in words, and the budget in tokens still. A word is
    hidden whole or not at all: the budget is never exceeded, and what is left of it is less than any visible word. A
    row whose words all exceed it is masked by `whole_word_mask`.

    Shapes: maskable, lengths, places, word_ids (B, T) or (T,) to a mask of that shape; `lengths` and `places` are noise
    in [0, 1), of which the i-th of a row belong to its i-th span.

    >>> import torch
    >>> from clozelab.data import drawn_span_lengths, drawn_spans_mask
    >>> maskable, noise = torch.ones(10, dtype=torch.bool), torch.tensor([0.7, 0.2] + [0.0] * 8)
    >>> drawn_spans_mask(maskable, noise, noise, 0.3, drawn_span_lengths("uniform-spans")).long()  # 3 at place 5
    tensor([0, 0, 0, 0, 0, 1, 1, 1, 0, 0])

    Raises `InputError` for shapes and types that do not fit, a rate outside (0, 1], and no probabilities.
    Source: Joshi et al. 2020 (SpanBERT), section 2.1; its code cuts the last word at the budget, and lets spans touch.
    """
    shape = "(B, T)" if isinstance(maskable, Tensor) and maskable.dim() != 1 else "(T)"
    check_noise(maskable, places, shape)
    check_same_shape(maskable=maskable, lengths=check_tensor(lengths, "lengths", shape, REAL))
    check_noise(maskable, lengths, shape)
    if word_ids is not None:
        check_same_shape(maskable=maskable, word_ids=check_tensor(word_ids, "word_ids", shape, WHOLE))
    if maskable.dim() == 1:
        words = None if word_ids is None else word_ids[None]
        return drawn_spans_mask(maskable[None], lengths[None], places[None], rate, probabilities, words)[0]
    check_rate("rate", rate)
    drawn = 1 + np.searchsorted(_cumulative(probabilities), lengths.numpy(), side="right")  # (B, T)
    budgets, mask = hidden_count(maskable.sum(1), rate), torch.zeros_like(maskable)
    for b, budget in enumerate(budgets.tolist()):
        free = maskable[b].numpy()
        own = np.arange(len(free)) if word_ids is None else word_ids[b].numpy()
        mask[b] = torch.from_numpy(_spans_of_row(free, own, budget, drawn[b], places[b].numpy()))
        if budget and not bool(mask[b].any()) and word_ids is not None:
            mask[b] = whole_word_mask(maskable[b], places[b], rate, word_ids[b])
    return mask


def _cumulative(probabilities: Sequence[float]) -> np.ndarray:
    """(N - 1,) the limits in [0, 1) between the lengths."""
    weights = np.array([check_number(p, "each probability") for p in probabilities])
    if not len(weights) or (weights < 0).any() or not weights.sum() > 0:
        raise InputError(f"expected the probabilities of the lengths 1, 2, ..., got {shown(list(probabilities))}")
    return (weights.cumsum() / weights.sum())[:-1]


def _spans_of_row(
    free: np.ndarray, word_ids: np.ndarray, budget: int, lengths: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """(T,) bool: the hidden tokens of one row."""
    mask = np.zeros(len(free), dtype=bool)
    begins, ends = word_runs(word_ids)
    protected = np.append(0, np.cumsum(~free))
    whole = protected[begins] == protected[ends]
    begins, ends = begins[whole], ends[whole]
    sizes, order = ends - begins, np.arange(len(begins))
    # room[w]: how many words a span that begins with word w may have. At first as many as follow without a break.
    breaks = np.append(begins[1:] != ends[:-1], True)[: len(begins)]
    room = np.flatnonzero(breaks)[np.cumsum(breaks) - breaks] - order + 1 if len(order) else order
    visible = np.ones(len(order), dtype=bool)
    for length, place in zip(lengths, places):
        room[sizes > budget] = 0
        if not room.any():  # no place is left but beside a span
            room = (visible & (sizes <= budget)).astype(room.dtype)
        if not room.any():
            break
        fits = np.flatnonzero(room >= min(length, room.max()))
        first = fits[int(place * len(fits))]
        span = slice(first, first + min(length, room[first]))
        within = np.searchsorted(sizes[span].cumsum(), budget, side="right")  # words that the budget allows
        last = first + within - 1
        mask[begins[first] : ends[last]] = True
        visible[first : last + 1] = False
        budget -= int(ends[last] - begins[first])
        room[:first] = np.minimum(room[:first], first - 1 - order[:first])
        room[max(first - 1, 0) : last + 2] = 0
    return mask
