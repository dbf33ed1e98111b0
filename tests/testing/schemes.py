"""Masking schemes that are right, for tests of the kit."""

import torch

from clozelab.data import bernoulli_mask, exact_count_mask, random_spans_mask


def noise_of(tokens, generator):
    return torch.rand(len(tokens), generator=generator, dtype=torch.float64)


def bernoulli(tokens, maskable, generator):
    """BERT's 15%, each token by itself."""
    return bernoulli_mask(maskable, noise_of(tokens, generator), 0.15)


def exact_count(tokens, maskable, generator):
    """An exact count."""
    return exact_count_mask(maskable, noise_of(tokens, generator), 0.15)


def random_spans(tokens, maskable, generator):
    """T5's spans, which never hide the first token and always the last."""
    return random_spans_mask(maskable, noise_of(tokens, generator), 0.15, 3.0)


def window(tokens, maskable, generator):
    """Three neighbours, anywhere."""
    free = maskable.nonzero()[:, 0]
    start = int(torch.randint(len(free), (1,), generator=generator))
    mask = torch.zeros_like(maskable)
    mask[free[start : start + 3]] = True
    return mask


def one_multiple_of_ten(tokens, maskable, generator):
    """Few masks of a text, and others of each text, whatever its documents are."""
    found = (maskable & (tokens % 10 == 0)).nonzero()[:, 0]
    found = found if len(found) else maskable.nonzero()[:, 0]
    mask = torch.zeros_like(maskable)
    mask[found[torch.randint(len(found), (1,), generator=generator)]] = True
    return mask
