"""Sentences in a random order, and texts that begin at a random token: what stays, what moves, and how likely."""

import itertools
from collections import Counter

import pytest
import torch

from clozelab.data.sentence_order import permuted_sentences, rotated
from clozelab.errors import InputError

# bos, two tokens and a full stop, one and a full stop, three and a full stop, eos
TEXT = torch.tensor([[0, 10, 11, 7, 12, 7, 13, 14, 15, 7, 2]])
FIXED = (TEXT == 0) | (TEXT == 2)


def keyed(**keys):
    """Noise (1, T) with these numbers at these columns, and elsewhere some that must not be read."""
    noise = torch.full(TEXT.shape, 0.999)
    for column, key in keys.items():
        noise[0, int(column[1:])] = key
    return noise


def test_the_golden_order_of_three_sentences():
    """As fairseq has it: the third, the first, the second; bos and eos stay."""
    order = permuted_sentences(FIXED, TEXT == 7, keyed(c1=0.5, c4=0.9, c6=0.1))
    assert TEXT.gather(1, order).tolist() == [[0, 13, 14, 15, 7, 10, 11, 7, 12, 7, 2]]


def test_the_golden_rotation():
    """By four in fairseq, which counts bos: the text begins with 12."""
    order = rotated(FIXED, keyed(c1=3.5 / 9))
    assert TEXT.gather(1, order).tolist() == [[0, 12, 7, 13, 14, 15, 7, 10, 11, 7, 2]]


@pytest.mark.parametrize("length", range(6))
def test_orders_are_permutations_in_which_nothing_moves_past_a_fixed_token(length):
    """Of every choice of fixed tokens and ends of sentences in short texts; no sentence is cut."""
    noise = torch.rand(1, length, generator=torch.Generator().manual_seed(length))
    for flags in itertools.product([False, True], repeat=2 * length):
        fixed, ends = torch.tensor([flags[:length]]).bool(), torch.tensor([flags[length:]]).bool()
        for order in (permuted_sentences(fixed, ends, noise)[0].tolist(), rotated(fixed, noise)[0].tolist()):
            assert sorted(order) == list(range(length))
            for t in fixed[0].nonzero()[:, 0].tolist():
                assert order[t] == t
                assert set(order[:t]) == set(range(t))
        order = permuted_sentences(fixed, ends, noise)[0].tolist()
        for a, b in itertools.pairwise(range(length)):  # neighbours within a sentence stay neighbours
            if not (ends[0, a] or fixed[0, a] or fixed[0, b]):
                assert order.index(b) == order.index(a) + 1


def test_each_order_of_sentences_and_each_rotation_is_equally_likely():
    rows, generator = 6000, torch.Generator().manual_seed(0)
    wide = FIXED.expand(rows, -1)
    noise = torch.rand(rows, TEXT.shape[1], generator=generator)
    orders = Counter(map(tuple, permuted_sentences(wide, (TEXT == 7).expand(rows, -1), noise).tolist()))
    turns = Counter(rotated(wide, noise)[:, 1].tolist())
    for counts, many, limit in ((orders, 6, 20.5), (turns, 9, 26.1)):  # chi-square, p = 0.001
        assert len(counts) == many
        assert sum((n - rows / many) ** 2 / (rows / many) for n in counts.values()) < limit


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="expected ends_sentence of the shape"):
        permuted_sentences(FIXED, FIXED[:, :3], torch.zeros(1, 11))
    with pytest.raises(InputError, match="noise"):
        rotated(FIXED, torch.zeros(1, 3))
