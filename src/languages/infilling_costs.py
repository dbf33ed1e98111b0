"""What a text costs a model that knows how BART infilled it: a sum over the lengths behind each mask, zero included."""

from __future__ import annotations

import torch
from torch import Tensor

from ..checks import WHOLE, check_tensor, check_type
from ..data.examples import IGNORED
from ..data.infilling import poisson_lengths
from ..data.special_ids import SpecialIds
from ..errors import InputError
from .costs import chain_costs
from .markov import MarkovSource


def infilling_costs(
    source: MarkovSource, inputs: Tensor, labels: Tensor, special: SpecialIds, mean_noise_span_length: float
) -> Tensor:
    """(B,) float64: -ln p(text | inputs) of text infilling, as `poisson_spans` draws it.

    The masks do not say how many tokens stand behind each, and the text does not always show it: of 0 0 0 and 0 [M] any
    two may be hidden. So

        -ln p(text | inputs) = ln (sum over texts, and lengths that fit them) - ln (sum over lengths that fit the text)

    where both sum p(text) p(lengths). Lengths come in a random order, in which one of them, the last that was drawn,
    fills the budget: it has the probability of its length or more, and every place is as likely to be its own. The
    others are Poisson. The number of ways in which masks and visible tokens can be ordered is the same in both sums.

    Going through the inputs from the left, it is enough to know how many tokens were hidden so far, whether the last
    draw is among them, and in the first sum which symbol stands there.

    Shapes: inputs (B, S) and labels (B, L) as the collator makes them. The length of the text is taken to be known, as
    it is where all rows are of one length.

    Raises `InputError` for labels that are no symbols before an end of text, and inputs that are not theirs.
    """
    check_type(source, MarkovSource, "the source")
    inputs, labels = check_tensor(inputs, "inputs", "(B, S)", WHOLE), check_tensor(labels, "labels", "(B, L)", WHOLE)
    n = (labels != IGNORED).sum(1) - 1  # (B,), without the end of text
    if len(inputs) != len(labels) or bool((labels.gather(1, n.clamp(min=0)[:, None]) != special.eos).any()):
        raise InputError("expected inputs and labels of as many rows, each text with its end")
    real = torch.arange(labels.shape[1]) < n[:, None]
    text = labels.where(real, 0)
    is_mask = inputs == special["mask"]
    visible = ~is_mask & (inputs != special.eos) & (inputs != special.pad)
    hidden, masks = n - visible.sum(1), is_mask.sum(1)
    if bool((masks > hidden).any()):
        raise InputError("expected inputs that hide as many tokens as they have masks, or more: are the labels theirs?")
    most = int(hidden.max()) if len(hidden) else 0
    drawn = poisson_lengths(mean_noise_span_length, most)
    or_more = 1 - torch.cat([torch.zeros(1).double(), drawn.cumsum(0)[:-1]])
    last = torch.where(masks[:, None] < hidden[:, None], or_more.clamp(min=0), torch.ones(most + 1).double())
    last[:, 0] = 0  # (B, h + 1) a draw of no tokens fills no budget
    any_text = _all_texts(source, inputs, is_mask, visible, drawn, last)
    same_text = _one_text(text, inputs, is_mask, visible, drawn, last)
    any_text, same_text = (one.gather(1, hidden[:, None])[:, 0] for one in (any_text, same_text))
    if bool((same_text == 0).any()):
        raise InputError("expected inputs and the text that they were made of, got visible tokens that do not fit")
    return any_text.log() - same_text.log() + (chain_costs(source, text) * real).sum(1)


def _all_texts(
    source: MarkovSource, inputs: Tensor, is_mask: Tensor, visible: Tensor, drawn: Tensor, last: Tensor
) -> Tensor:
    """(B, h + 1), by hidden tokens: the sum over lengths of their weight times the probability of texts that fit."""
    k, size = source.symbols, len(drawn)
    step = torch.zeros(k + 1, k + 1, dtype=torch.float64)  # state K is the beginning, before the first symbol
    step[:k, :k], step[k, :k] = source.transition, source.stationary
    powers = torch.stack([torch.linalg.matrix_power(step, length) for length in range(size)])  # (h + 1, K + 1, K + 1)
    state = torch.zeros(len(inputs), 2, size, k + 1, dtype=torch.float64)  # by last drawn, hidden so far, symbol
    state[:, 0, 0, k] = 1
    for s in range(inputs.shape[1]):
        after = _after_mask(state, drawn, last, lambda one, length: one @ powers[length])
        moved = state @ step  # (B, 2, h + 1, K + 1)
        symbol = inputs[:, s].clamp(max=k)[:, None, None, None].expand(-1, 2, size, 1)
        read = torch.zeros_like(state).scatter_(3, symbol, moved.gather(3, symbol))
        state = _where(is_mask[:, s], after, _where(visible[:, s], read, state))
    return state[:, 1].sum(-1)


def _one_text(text: Tensor, inputs: Tensor, is_mask: Tensor, visible: Tensor, drawn: Tensor, last: Tensor) -> Tensor:
    """(B, h + 1), by hidden tokens: the sum over the lengths that fit the text of their weight."""
    size = len(drawn)
    state = torch.zeros(len(inputs), 2, size, dtype=torch.float64)  # by last drawn, hidden so far
    state[:, 0, 0] = 1
    seen = visible.cumsum(1) - visible.long()  # (B, S): visible tokens before each
    for s in range(inputs.shape[1]):
        after = _after_mask(state, drawn, last, lambda one, length: one)
        place = (seen[:, s, None] + torch.arange(size)).clamp(max=max(text.shape[1] - 1, 0))  # (B, h + 1)
        fits = text.gather(1, place) == inputs[:, s, None]
        state = _where(is_mask[:, s], after, _where(visible[:, s], state * fits[:, None], state))
    return state[:, 1]


def _after_mask(state: Tensor, drawn: Tensor, last: Tensor, move) -> Tensor:
    """The states (B, 2, h + 1, ...) behind a mask, of any length that the budget leaves."""
    size, after = len(drawn), torch.zeros_like(state)
    for length in range(size):
        moved = move(state[:, :, : size - length], length)
        weight = last[:, length].view(-1, *[1] * (moved.dim() - 2))
        after[:, :, length:] += drawn[length] * moved
        after[:, 1, length:] += weight * moved[:, 0]
    return after


def _where(rows: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (one.dim() - 1)), one, other)
