"""Planted faults of masking schemes (tokens, maskable, generator) -> bool[T]."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from clozelab.testing import check_mask_scheme

from .catalogue import faults_of, plant

RATE = 0.15
DEAR = {"variety", "short texts", "spans"}
"""Checks that are left out where they are not the ones that must find a fault."""
STREAM = np.random.default_rng(0)


def scheme(*checks: str, says: str = "", **settings: Any) -> Callable[[Callable], Callable]:
    """Plant a scheme that is meant to hide 15%."""

    def decorate(function: Callable) -> Callable:
        asked = {"rate": RATE, "count": 100, "skip": DEAR - {*checks}, **settings}
        plant("scheme", function, checks, lambda: faults_of(check_mask_scheme, function, **asked), says)
        return function

    return decorate


def right(tokens, maskable, generator):
    """What the faults are made from: each token by itself, and at least one."""
    noise = torch.rand(len(tokens), generator=generator).masked_fill(~maskable, 2)
    return maskable & ((noise < RATE) | (noise == (noise.min() if len(noise) else 0)))


# ------------------------------------------------------------------ the form of the mask


@scheme("returns")
def integers(tokens, maskable, generator):
    """A mask of 0 and 1, as numpy code passes it on: it indexes instead of selecting."""
    return right(tokens, maskable, generator).long()


@scheme("returns")
def places(tokens, maskable, generator):
    """The places of the hidden tokens instead of a mask, as `random.sample` gives them."""
    return right(tokens, maskable, generator).nonzero()[:, 0]


@scheme("returns")
def one_short(tokens, maskable, generator):
    """A mask without the first place, where somebody took [CLS] off."""
    return right(tokens, maskable, generator)[1:]


@scheme("returns", says="raises")
def dies_on_short_texts(tokens, maskable, generator):
    """A span of a fixed length has no place in a text that is shorter."""
    start = int(torch.randint(len(tokens) - 4, (1,), generator=generator))
    return maskable & (torch.arange(len(tokens)).sub(start).abs() < 3)


@scheme("returns")
def buffer_of_32(tokens, maskable, generator):
    """Noise of a fixed length, which a longer text outgrows."""
    return maskable[:32] & (torch.rand(32, generator=generator)[: len(tokens)] < RATE)


# ------------------------------------------------------------------ what may be hidden


@scheme("protected")
def hides_protected(tokens, maskable, generator):
    """`maskable` is never looked at, as in a scheme that was tried on plain text."""
    return torch.rand(len(tokens), generator=generator) < 0.5


@scheme("protected")
def known_specials_only(tokens, maskable, generator):
    """Special ids are taken to be those below 5, as in BERT's vocabulary, instead of what the caller protects."""
    return right(tokens, tokens > 4, generator)


@scheme("protected")
def minimum_at_the_first(tokens, maskable, generator):
    """Where nothing was drawn the first token is hidden, and that is [CLS]."""
    mask = maskable & (torch.rand(len(tokens), generator=generator) < RATE)
    if len(mask) and not mask.any():
        mask[0] = True
    return mask


@scheme("protected")
def span_over_specials(tokens, maskable, generator):
    """The start of a span is maskable, and what follows it is not looked at (SpanBERT in a hurry)."""
    mask = right(tokens, maskable, generator)
    mask[1:] |= mask[:-1].clone()
    return mask


@scheme("unchanged")
def mutates(tokens, maskable, generator):
    """The mask token is written into the caller's text."""
    mask = right(tokens, maskable, generator)
    tokens[mask] = 0
    return mask


@scheme("unchanged")
def takes_over_maskable(tokens, maskable, generator):
    """`&=` on the caller's flags."""
    maskable &= right(tokens, maskable, generator)
    return maskable


# ------------------------------------------------------------------ how much


@scheme("targets")
def no_minimum(tokens, maskable, generator):
    """Independent draws leave short texts without a target, as Hugging Face's collator does."""
    return maskable & (torch.rand(len(tokens), generator=generator) < RATE)


@scheme("protected rate")
def count_of_all_tokens(tokens, maskable, generator):
    """round(n * rate) of all tokens, where only some may be hidden."""
    count = max(1, round(RATE * len(tokens)))
    noise = torch.rand(len(tokens), generator=generator).masked_fill(~maskable, 2)
    return (noise.argsort().argsort() < count) & maskable


@scheme("rate", count=300)
def drawn_twice(tokens, maskable, generator):
    """Two draws are joined, so nearly twice as much is hidden."""
    return right(tokens, maskable, generator) | right(tokens, maskable, generator)


@scheme("rate", count=300)
def percent_for_a_share(tokens, maskable, generator):
    """The rate is 15 where 0.15 is meant, so everything is hidden."""
    return maskable & (torch.rand(len(tokens), generator=generator) < 100 * RATE)


@scheme("rate", count=300)
def rounded_down(tokens, maskable, generator):
    """int(n * rate): a count that is always too small."""
    count = max(1, int(RATE * int(maskable.sum())))
    noise = torch.rand(len(tokens), generator=generator).masked_fill(~maskable, 2)
    return (noise.argsort().argsort() < count) & maskable


@scheme("rate", count=300)
def drawn_with_replacement(tokens, maskable, generator):
    """`randint` draws round(n * rate) places, some of them twice, so too few are hidden."""
    free, mask = maskable.nonzero()[:, 0], torch.zeros_like(maskable)
    if len(free):
        mask[free[torch.randint(len(free), (max(1, round(RATE * len(free))),), generator=generator)]] = True
    return mask


@scheme("rate", count=300)
def spans_overlap(tokens, maskable, generator):
    """Spans of three are begun independently, at a third of the rate, and overlap."""
    starts = torch.rand(len(tokens) + 2, generator=generator) < 2 * RATE / 3
    mask = maskable & (starts[2:] | starts[1:-1] | starts[:-2])
    return mask if mask.any() else right(tokens, maskable, generator)


# ------------------------------------------------------------------ where the noise comes from


@scheme("generator", "global state")
def draws_from_torch(tokens, maskable, generator):
    """torch.rand without the generator."""
    return right(tokens, maskable, torch.default_generator)


@scheme("global state")
def draws_from_numpy(tokens, maskable, generator):
    """np.random.rand, which every worker copies."""
    mask = torch.from_numpy(np.random.rand(len(tokens)) < RATE)  # noqa: NPY002
    return maskable & (mask | right(tokens, maskable, generator))


@scheme("global state")
def draws_from_random(tokens, maskable, generator):
    """One number more from the module `random`."""
    extra = int(random.random() * len(tokens)) if len(tokens) else 0
    return maskable & (right(tokens, maskable, generator) | (torch.arange(len(tokens)) == extra))


@scheme("global state")
def seeds_the_world(tokens, maskable, generator):
    """torch.manual_seed in every call: whatever else is random starts again with it."""
    torch.manual_seed(int(torch.randint(10**6, (1,), generator=generator)))
    return right(tokens, maskable, torch.default_generator)


@scheme("generator")
def stream_of_its_own(tokens, maskable, generator):
    """A numpy generator that was made once, when the module was imported."""
    noise = torch.from_numpy(STREAM.random(len(tokens))).masked_fill(~maskable, 2)
    return maskable & ((noise < RATE) | (noise == (noise.min() if len(noise) else 0)))


@scheme("generator")
def seed_of_the_moment(tokens, maskable, generator):
    """`generator.seed()`, meant to begin afresh, takes a seed from the operating system."""
    generator.seed()
    return right(tokens, maskable, generator)


@scheme("varies")
def always_the_same(tokens, maskable, generator):
    """A seed inside the scheme, to be reproducible."""
    return right(tokens, maskable, torch.Generator().manual_seed(7))


@scheme("varies")
def seeded_by_length(tokens, maskable, generator):
    """Seeded by how long the text is."""
    return right(tokens, maskable, torch.Generator().manual_seed(len(tokens)))


@scheme("varies")
def seeded_by_the_text(tokens, maskable, generator):
    """Seeded by a hash of the text: each text has a mask of its own, and keeps it for ever."""
    return right(tokens, maskable, torch.Generator().manual_seed(hash(tuple(tokens.tolist())) % 2**31))


@scheme("varies")
def largest_ids(tokens, maskable, generator):
    """The rarest tokens are hidden, always the same ones."""
    count = max(1, round(RATE * int(maskable.sum())))
    return (tokens.masked_fill(~maskable, -1).argsort(descending=True).argsort() < count) & maskable


# ------------------------------------------------------------------ where


@scheme("position", count=300)
def never_the_last(tokens, maskable, generator):
    """`randint(0, n - 1)`, whose end is exclusive already: the last token is never hidden, and so never learned."""
    free = maskable.nonzero()[:, 0]
    draws = torch.rand(len(free), generator=generator)
    mask = torch.zeros_like(maskable)
    if len(free):
        count, most = max(1, round(RATE * len(free))), max(1, len(free) - 1)
        mask[free[draws[:most].argsort()[:count]]] = True
    return mask


@scheme("words")
def cuts_words(tokens, maskable, generator, word_ids):
    """Whole words up to the budget, the last of them cut where it is used up."""
    words = [(word_ids == word).nonzero()[:, 0].tolist() for word in word_ids[word_ids >= 0].unique().tolist()]
    order = torch.randperm(len(words), generator=generator).tolist()
    places = [t for word in order for t in words[word] if maskable[t]][: max(1, round(RATE * int(maskable.sum())))]
    return torch.zeros_like(maskable).index_fill_(0, torch.tensor(places, dtype=torch.int64), True)


@scheme("words")
def words_by_value(tokens, maskable, generator, word_ids):
    """Tokens of one word id are one word, though ids begin again at 0 with the second text of a row."""
    words = word_ids[maskable].unique()
    order = words[torch.randperm(len(words), generator=generator)].tolist()
    mask, budget = torch.zeros_like(maskable), max(1, round(RATE * int(maskable.sum())))
    for word in order:
        here = maskable & (word_ids == word)
        if not mask.any() or int((mask | here).sum()) <= budget:
            mask |= here
    return mask
