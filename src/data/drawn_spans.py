"""Spans whose lengths are drawn one by one until enough is hidden: n-grams (XLNet), SpanBERT's, GPT-BERT's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..checks import REAL, WHOLE, check_int, check_number, check_same_shape, check_tensor
from ..errors import InputError
from ..escape import shown
from .masking import check_noise, check_rate, hidden_count, whole_word_mask

WEIGHTS = {
    "n-grams": (lambda n: 1 / n, 5),
    "geometric-spans": (lambda n: 0.8 ** (n - 1), 10),
    "uniform-spans": (lambda n: 1.0, 3),
}
"""By the name of a distribution: the weight of a span of n, and the longest span of the paper that it is from."""


def drawn_span_lengths(kind: str, longest: int | None = None) -> list[float]:
    """The probabilities of the lengths 1, 2, ..., `longest`; the longest of the paper where None.

    - "n-grams": p ~ 1 / n, up to 5 (Yang et al. 2019, XLNet; ALBERT has 3);
    - "geometric-spans": p ~ 0.8^(n - 1), up to 10 (Joshi et al. 2020, SpanBERT, section 3.1), 3.8 in the mean;
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
    maskable tokens with one that stays, visible or protected, on both sides. What exceeds the budget is cut off the
    last span. So without words the budget is met exactly, and the lengths are those of the distribution but for the
    last one. Where no place is left that long, the longest is taken that there is; where every visible token stands
    beside a span, at rates of about a half, spans grow together. A span that stops at the ends of a text covers the
    first and last tokens less often than others.

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
    Source: Joshi et al. 2020 (SpanBERT), section 3.1; its code cuts the last word at the budget, and lets spans touch.
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
    budgets, words = hidden_count(maskable.sum(1), rate), None if word_ids is None else word_ids.numpy()
    unit, sizes, may_go = _units(maskable.numpy(), words)
    hidden = _hidden_units(sizes, may_go, len(probabilities), budgets.numpy(), drawn, places.numpy())
    mask = torch.from_numpy(np.take_along_axis(hidden, unit, 1))
    missing = (budgets > 0) & ~mask.any(1)
    if word_ids is not None and bool(missing.any()):
        mask[missing] = whole_word_mask(maskable[missing], places[missing], rate, word_ids[missing])
    return mask


def _cumulative(probabilities: Sequence[float]) -> np.ndarray:
    """(N - 1,) the limits in [0, 1) between the lengths."""
    weights = np.array([check_number(p, "each probability") for p in probabilities])
    if not len(weights) or (weights < 0).any() or not weights.sum() > 0:
        raise InputError(f"expected the probabilities of the lengths 1, 2, ..., got {shown(list(probabilities))}")
    return (weights.cumsum() / weights.sum())[:-1]


def _units(free: np.ndarray, word_ids: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What spans are made of, tokens or words: (B, T) the unit of each token, (B, W) how many tokens a unit has, and
    (B, W) bool, whether it may be hidden."""
    rows, columns = free.shape
    if word_ids is None:
        return np.broadcast_to(np.arange(columns), free.shape), np.ones(free.shape, dtype=np.int32), free
    begins = (np.diff(word_ids, axis=1, prepend=-1) != 0) | (word_ids < 0)
    unit = begins.cumsum(1) - 1
    width = int(unit.max(initial=-1)) + 1
    of_all = unit + width * np.arange(rows)[:, None]
    sizes, free_tokens = (
        np.bincount(of_all[here], minlength=rows * width).reshape(rows, width)
        for here in (np.ones_like(free), free & (word_ids >= 0))
    )
    return unit, sizes, (sizes > 0) & (free_tokens == sizes)


def _room(may_go: np.ndarray, longest: int) -> np.ndarray:
    """(B, W): how many units a span that begins with each may have, at most `longest`: up to the next break."""
    columns = np.arange(may_go.shape[1], dtype=np.int32)
    breaks = np.where(may_go, columns[-1] + 1, columns)
    next_break = np.minimum.accumulate(breaks[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(next_break - columns, longest)


def _hidden_units(
    sizes: np.ndarray, may_go: np.ndarray, longest: int, budgets: np.ndarray, lengths: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """(B, W) bool: the hidden units. Each round draws a span for every row; one whose budget is spent hides nothing."""
    width = may_go.shape[1]
    longest = min(longest, width)
    margin = (0, 0), (longest, longest + 1)  # so that what surrounds a span lies within the arrays
    sizes, may_go = np.pad(sizes, margin, constant_values=1), np.pad(may_go, margin)
    room, hidden, budget = _room(may_go, longest), np.zeros_like(may_go), budgets[:, None].copy()  # budget (B, 1)
    row, within, around = np.arange(len(sizes))[:, None], np.arange(longest), np.arange(-longest, longest + 1)
    differ = bool((sizes != 1).any())
    for length, place in zip(lengths.T.astype(np.int32), places.T):  # (B,)
        if differ:
            room[sizes > budget] = 0
        fits = room >= length[:, None]
        counts = np.count_nonzero(fits, axis=1)
        if len(stuck := np.flatnonzero((counts == 0) & (budget[:, 0] > 0))):
            left = may_go[stuck] & ~hidden[stuck] & (sizes[stuck] <= budget[stuck])  # beside a span, if nowhere else
            room[stuck] = np.where(room[stuck].any(1, keepdims=True), room[stuck], left)
            length[stuck] = room[stuck].max(1)
            budget[stuck, 0] *= length[stuck] > 0
            fits[stuck] = room[stuck] >= np.maximum(length[stuck], 1)[:, None]
            counts = np.count_nonzero(fits, axis=1)
        if not budget.any():
            break
        chosen = np.cumsum(counts) - counts + (place * counts).astype(np.int64)
        first = np.flatnonzero(fits).take(chosen, mode="clip")[:, None] % fits.shape[1]  # (B, 1)
        span = first + within  # (B, longest)
        tokens = sizes[row, span]
        taken = (within < length[:, None]) & (tokens.cumsum(1) <= budget)
        hidden[row, span] |= taken
        budget -= (tokens * taken).sum(1, keepdims=True)
        behind = np.where(around <= taken.sum(1, keepdims=True), 0, longest)
        near = first + around
        room[row, near] = np.minimum(room[row, near], np.where(around < 0, -1 - around, behind))
    return hidden[:, longest : longest + width]
