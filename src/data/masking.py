"""Which tokens are hidden: pure functions from (what may be masked, noise) to a boolean mask.

Each scheme comes twice. As a pure function it takes `maskable` (..., T) and the noise as an argument, for
any number of rows at once. As a handle (`Bernoulli`, `ExactCount`, `RandomSpans`, `WholeWords`) it carries
its settings and can be called like any scheme that a user writes:

    scheme(tokens, maskable, generator) -> bool[T]

True means hidden. No scheme hides a position that is not maskable, and each hides at least one position of
a row that has any: a row without a target would be paid for and teach nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..checks import FLAGS, REAL, WHOLE, same_shape, tensor, whole_number
from ..errors import InputError

MaskScheme = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""A scheme: (tokens (T,), maskable (T,), generator) to a boolean mask (T,)."""


@runtime_checkable
class BatchScheme(Protocol):
    """A scheme that can also mask a whole batch at once, from noise that it is given."""

    def batch(self, maskable: Tensor, noise: Tensor, word_ids: Tensor | None = None) -> Tensor:
        """(B, T) maskable, (B, T) noise, (B, T) word ids or None, to a mask (B, T)."""
        ...


def scheme_name(scheme: MaskScheme | BatchScheme | None) -> str | None:
    """What to call a scheme in messages and records: its settings if it is one of ours, a function's name otherwise."""
    if scheme is None or isinstance(scheme, BatchScheme):
        return None if scheme is None else repr(scheme)
    return getattr(scheme, "__name__", type(scheme).__name__)


# --------------------------------------------------------------------------- independent tokens


def bernoulli_mask(maskable: Tensor, noise: Tensor, rate: float) -> Tensor:
    """Hide each maskable token with probability `rate`, independently; at least one in a row.

    Independent draws leave a row of n maskable tokens without any target with probability (1 - rate)^n: 27%
    at n = 8. So the token with the smallest noise is always hidden. It would be the first to be hidden if
    the rate were raised, and where any token is hidden it already is. A token's chance is thereby
    rate + (1 - rate)^n / n instead of `rate`: 0.184 for 0.15 at n = 8, 0.1500005 at n = 64.

    Shapes: maskable (..., T) bool and noise (..., T) in [0, 1) to (..., T) bool.

    >>> noise = torch.tensor([0.9, 0.1, 0.5, 0.0])
    >>> bernoulli_mask(torch.tensor([True, True, True, False]), noise, rate=0.15)
    tensor([False,  True, False, False])
    >>> bernoulli_mask(torch.tensor([True, False, True, False]), noise, rate=0.15)  # none below 0.15
    tensor([False, False,  True, False])

    Source: Devlin et al. 2018 (BERT), section 3.1, in the form that Hugging Face uses, plus the minimum.
    """
    _check_share("rate", rate)
    _check_noise(maskable, noise)
    if maskable.shape[-1] == 0:
        return torch.zeros_like(maskable)
    smallest = noise.masked_fill(~maskable, 2.0).amin(-1, keepdim=True)
    return maskable & ((noise < rate) | (noise == smallest))


def exact_count_mask(maskable: Tensor, noise: Tensor, rate: float) -> Tensor:
    """Hide max(1, round(rate * n)) of a row's n maskable tokens, every choice equally likely.

    The tokens with the smallest noise are the hidden ones. `round` is half to even, as in Python. Google's
    BERT counts [CLS] and [SEP] in n although it never hides them; here n counts what may be hidden.

    Shapes: maskable (..., T) bool and noise (..., T) to (..., T) bool.

    >>> noise = torch.tensor([0.9, 0.1, 0.5, 0.0])
    >>> exact_count_mask(torch.tensor([True, True, True, False]), noise, rate=0.6)  # round(1.8) = 2
    tensor([False,  True,  True, False])

    Source: `create_masked_lm_predictions` of Google's BERT.
    """
    _check_share("rate", rate)
    _check_noise(maskable, noise)
    counts = hidden_count(maskable.sum(-1), rate)  # (...)
    most = int(counts.max()) if counts.numel() else 0
    in_order = bool((counts != most).any())  # where all rows hide as many, which of them comes first is all one
    smallest = noise.masked_fill(~maskable, 2.0).topk(most, largest=False, sorted=in_order).indices  # (..., most)
    chosen = torch.arange(most, device=maskable.device) < counts[..., None]
    return torch.zeros_like(maskable).scatter(-1, smallest, chosen)


def hidden_count(n: Tensor, rate: float) -> Tensor:
    """How many of n maskable tokens an exact count hides: max(1, round(rate * n)), and 0 of 0."""
    return (n * rate).round().long().clamp(min=1).minimum(n)


# --------------------------------------------------------------------------- T5's random spans


def span_counts(n: int, density: float, mean_span: float) -> tuple[int, int]:
    """(hidden tokens, spans) that T5 plans for a row of n tokens: shared by the sampler and the length solver.

    At least one token is hidden and one is not; there are at least one span, at most as many as hidden
    tokens, and at most as many as tokens to stand before them. A lone token is hidden.

    >>> span_counts(568, density=0.15, mean_span=3.0)
    (85, 28)

    Source: `random_spans_noise_mask` of Raffel et al. 2020 (T5), which raises at densities above about 0.6
    where the spans outnumber what can stand between them; the last bound is ours.
    """
    _check_share("noise density", density)
    _check_mean_span(mean_span)
    n = whole_number(n, "the number of tokens", 0, 2**62)
    if n <= 1:
        return n, n
    hidden = min(max(round(n * density), 1), n - 1)
    spans = min(max(round(hidden / mean_span), 1), hidden, n - hidden)
    return hidden, spans


def random_spans_mask(maskable: Tensor, noise: Tensor, density: float, mean_span: float) -> Tensor:
    """T5's spans: a fixed number of hidden tokens, cut into a fixed number of spans at random places.

    The hidden tokens are cut into `spans` non-empty parts, and so are the visible ones, each of the
    C(hidden - 1, spans - 1) x C(visible - 1, spans - 1) results equally likely; then the parts alternate,
    visible first. Two consequences, both true of T5's own code: **the first token is never hidden and the
    last one always is**. At 568 tokens the second is hidden with probability 27/482 = 0.056 and the one
    before the last with 57/84 = 0.68. Not a mistake in this function: unit-test your own scheme for it.

    The plan is made for the maskable tokens alone, so a protected token inside a span splits it in two.

    Shapes: maskable (B, T) or (T,) bool and noise of the same shape to a mask of that shape.

    >>> noise = torch.tensor([[0.3, 0.9, 0.1, 0.7, 0.8, 0.2, 0.6, 0.4]])
    >>> random_spans_mask(torch.ones(1, 8, dtype=torch.bool), noise, density=0.5, mean_span=2.0).long()
    tensor([[0, 0, 0, 1, 1, 1, 0, 1]])

    Source: Raffel et al. 2020 (T5), section 3.1.4, and `random_spans_noise_mask` of its code.
    """
    _check_noise(maskable, noise, "(B, T)" if isinstance(maskable, Tensor) and maskable.dim() != 1 else "(T)")
    if maskable.dim() == 1:
        return random_spans_mask(maskable[None], noise[None], density, mean_span)[0]
    counts = maskable.sum(1)  # (B,)
    mask = torch.zeros_like(maskable)
    for n in counts.unique().tolist():  # one round when nothing is protected or padded
        rows = counts == n
        drawn = _spans_of(n, noise[rows], density, mean_span)  # (rows, n)
        mask.masked_scatter_(maskable & rows[:, None], drawn)
    return mask


def _spans_of(n: int, noise: Tensor, density: float, mean_span: float) -> Tensor:
    """(B, n) masks for rows of n maskable tokens; noise (B, >= n - 2)."""
    hidden, spans = span_counts(n, density, mean_span)
    if n <= 1:
        return torch.ones(len(noise), n, dtype=torch.bool, device=noise.device)
    hidden_lengths = _cut(hidden, spans, noise[:, : hidden - 1])  # (B, spans)
    visible_lengths = _cut(n - hidden, spans, noise[:, hidden - 1 : n - 2])  # (B, spans)
    lengths = torch.stack([visible_lengths, hidden_lengths], 2).flatten(1)  # (B, 2 spans): visible first
    ends = lengths.cumsum(1)[:, :-1]
    turns = torch.zeros(len(noise), n, dtype=torch.long, device=noise.device).scatter_(1, ends, 1)
    return turns.cumsum(1) & 1 == 1


def _cut(total: int, parts: int, noise: Tensor) -> Tensor:
    """(B, parts) lengths >= 1 that sum to `total`, each composition equally likely; noise (B, total - 1)."""
    places = noise.topk(parts - 1, largest=False, sorted=False).indices
    cuts = places.sort(1).values + 1  # (B, parts - 1), each in 1 .. total - 1
    ends = torch.full((len(noise), 1), total, device=noise.device)
    return torch.diff(torch.cat([torch.zeros_like(ends), cuts, ends], 1))


# --------------------------------------------------------------------------- whole words


def whole_word_mask(maskable: Tensor, noise: Tensor, rate: float, word_ids: Tensor) -> Tensor:
    """Hide whole words, drawn in random order, up to max(1, round(rate * n)) of a row's n maskable tokens.

    `word_ids` (..., T) says which word each token belongs to, as the tokenizer that split the text says it
    (`Tokenizer.word_ids`, or `word_ids()` of a Hugging Face encoding); -1 where a token belongs to none, and
    such a token is never hidden. A word that would overshoot the budget is passed over, as in BERT; if every
    word would, the first one drawn is hidden. A word of which any part is protected is left alone; a row that
    has no other words hides one token.

    Shapes: maskable, noise, word_ids (B, T) or (T,) to a mask of that shape.

    >>> noise = torch.tensor([0.9, 0.1, 0.5, 0.3])
    >>> whole_word_mask(torch.ones(4, dtype=torch.bool), noise, 0.5, torch.tensor([0, 0, 1, 2]))
    tensor([False, False,  True,  True])

    Source: the whole-word option of Google's BERT (May 2019); without the rule of Hugging Face, which takes
    a word to begin where characters are missing between tokens and finds one single word in Chinese.
    """
    _check_noise(maskable, noise, "(B, T)" if isinstance(maskable, Tensor) and maskable.dim() != 1 else "(T)")
    same_shape(maskable=maskable, word_ids=tensor(word_ids, "word_ids", "(..., T)", WHOLE))
    if maskable.dim() == 1:
        return whole_word_mask(maskable[None], noise[None], rate, word_ids[None])[0]
    _check_share("rate", rate)
    mask = torch.zeros_like(maskable)
    budgets = hidden_count(maskable.sum(1), rate).tolist()
    for b, budget in enumerate(budgets):
        words: dict[int, list[int]] = {}
        for t, word in enumerate(word_ids[b].tolist()):
            if word >= 0:
                words.setdefault(word, []).append(t)
        free, draws = maskable[b].tolist(), noise[b].tolist()
        whole = [places for places in words.values() if all(free[t] for t in places)]
        whole.sort(key=lambda places, draws=draws: draws[places[0]])  # random order
        taken: list[int] = []
        for places in whole:
            if len(taken) + len(places) <= budget:
                taken += places
        alone = sorted((t for places in words.values() for t in places if free[t]), key=draws.__getitem__)[:1]
        mask[b, taken or (whole[0] if whole else alone)] = True
    return mask


# --------------------------------------------------------------------------- handles


def _check_share(name: str, value: float) -> None:
    if not isinstance(value, (int, float)) or not 0.0 < value < 1.0:
        raise InputError(
            f"{name} must lie strictly between 0 and 1, got {value!r}: it is a share of the tokens, "
            "0.15 where one means 15 percent"
        )


def _check_mean_span(value: float) -> None:
    if not isinstance(value, (int, float)) or not 1.0 <= value < float("inf"):
        raise InputError(f"mean_span must be at least 1 token, and finite, got {value!r}")


def _check_noise(maskable: Tensor, noise: Tensor, shape: str = "(..., T)") -> None:
    tensor(maskable, "maskable", shape, FLAGS)
    same_shape(maskable=maskable, noise=tensor(noise, "noise", shape, REAL))
    if not bool(((noise >= 0) & (noise < 1)).all()):
        raise InputError("noise must lie in [0, 1): it is drawn uniformly, by Noise.uniform or torch.rand")


def _draw(maskable: Tensor, generator: torch.Generator) -> Tensor:
    tensor(maskable, "maskable", "(..., T)", FLAGS)
    return torch.rand(maskable.shape, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Bernoulli:
    """Each token independently: `bernoulli_mask` with its rate."""

    rate: float = 0.15
    """Probability that a token is hidden."""

    def __post_init__(self) -> None:
        _check_share("rate", self.rate)

    def batch(self, maskable: Tensor, noise: Tensor, word_ids: Tensor | None = None) -> Tensor:
        """See `bernoulli_mask`."""
        return bernoulli_mask(maskable, noise, self.rate)

    def __call__(self, tokens: Tensor, maskable: Tensor, generator: torch.Generator) -> Tensor:
        return self.batch(maskable, _draw(maskable, generator))


@dataclass(frozen=True)
class ExactCount:
    """An exact number of tokens, each choice equally likely: `exact_count_mask` with its rate."""

    rate: float = 0.15
    """Share of the maskable tokens that is hidden."""

    def __post_init__(self) -> None:
        _check_share("rate", self.rate)

    def batch(self, maskable: Tensor, noise: Tensor, word_ids: Tensor | None = None) -> Tensor:
        """See `exact_count_mask`."""
        return exact_count_mask(maskable, noise, self.rate)

    def __call__(self, tokens: Tensor, maskable: Tensor, generator: torch.Generator) -> Tensor:
        return self.batch(maskable, _draw(maskable, generator))


@dataclass(frozen=True)
class RandomSpans:
    """T5's contiguous spans: `random_spans_mask` with its density and mean length."""

    density: float = 0.15
    """Share of the tokens that is hidden (T5: noise density)."""
    mean_span: float = 3.0
    """Mean length of a hidden span, in tokens."""

    def __post_init__(self) -> None:
        _check_share("noise density", self.density)
        _check_mean_span(self.mean_span)

    def batch(self, maskable: Tensor, noise: Tensor, word_ids: Tensor | None = None) -> Tensor:
        """See `random_spans_mask`."""
        return random_spans_mask(maskable, noise, self.density, self.mean_span)

    def __call__(self, tokens: Tensor, maskable: Tensor, generator: torch.Generator) -> Tensor:
        return self.batch(maskable, _draw(maskable, generator))


@dataclass(frozen=True)
class WholeWords:
    """Whole words: `whole_word_mask` with its rate. Rows must bring their `word_ids`."""

    rate: float = 0.15
    """Share of the maskable tokens that is hidden, as nearly as whole words allow."""

    def __post_init__(self) -> None:
        _check_share("rate", self.rate)

    def batch(self, maskable: Tensor, noise: Tensor, word_ids: Tensor | None = None) -> Tensor:
        """See `whole_word_mask`; raises `InputError` when the rows have no word ids."""
        if word_ids is None:
            raise InputError(
                "whole-word masking needs to know the words, but the rows have no 'word_ids': add them with "
                "Tokenizer.word_ids(text), or word_ids() of a Hugging Face encoding, -1 for special tokens"
            )
        return whole_word_mask(maskable, noise, self.rate, word_ids)

    def __call__(self, tokens: Tensor, maskable: Tensor, generator: torch.Generator) -> Tensor:
        """Raises `InputError`: tokens alone do not tell their words; in the collator they do."""
        return self.batch(maskable, _draw(maskable, generator))
