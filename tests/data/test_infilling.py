"""Text infilling: how many tokens are hidden, how long spans are, where they stand, and what an empty one leaves."""

import itertools

import pytest
import torch

from clozelab.data import Noise
from clozelab.data.infilling import hidden_budget, mask_places, poisson_lengths, poisson_spans
from clozelab.errors import InputError


def drawn(rows, n, rate=0.3, mean=3.0, seed=0):
    noise = Noise.of(seed, 0, range(rows))
    return poisson_spans(torch.full((rows,), n), rate, mean, noise.uniform(0, n), noise.uniform(1, n))


def test_the_budget_is_hidden_exactly_and_no_spans_overlap():
    """fairseq's overlap: there a budget of 30% hides 27%."""
    for n in range(1, 40):
        starts, lengths = drawn(50, n)
        assert (lengths.sum(1) == hidden_budget(torch.tensor(n), 0.3)).all()
        for row, sizes in zip(starts.tolist(), lengths.tolist()):
            spans = [(start, size) for start, size in zip(row, sizes) if start >= 0]
            covered = [start + k for start, size in spans for k in range(size)]
            assert len(set(covered)) == len(covered)
            assert all(0 <= one < n for one in covered)
            assert len(spans) <= len(covered)  # so that no source is longer than its text


@pytest.mark.parametrize(("n", "rate", "budget"), [(10, 0.3, 3), (11, 0.3, 4), (30, 0.1, 3), (1, 0.3, 1), (0, 0.3, 0)])
def test_the_budget_is_rounded_up(n, rate, budget):
    assert hidden_budget(torch.tensor([n]), rate).tolist() == [budget]


def test_lengths_are_poisson_and_one_in_twenty_is_empty():
    """Of a text so long that the last span, which is cut, hardly counts."""
    _, lengths = drawn(40, 1000)
    starts, _ = drawn(40, 1000)
    found = lengths[starts >= 0]
    expected = poisson_lengths(3.0, 9) * len(found)
    counts = torch.bincount(found.clamp(max=10), minlength=11)[:10]
    assert len(found) > 3900
    assert ((counts - expected) ** 2 / expected).sum().item() < 27.9  # 9 degrees of freedom, p = 0.001


def test_every_order_of_masks_and_visible_units_is_equally_likely():
    """Among rows of 4 units with two hidden: two spans of one each, one of two, ...; given the lengths in any order."""
    rows = 40_000
    starts, lengths = drawn(rows, 4, rate=0.5, mean=1.0)
    count = (starts >= 0).sum(1)
    assert set(count.tolist()) == {1, 2}
    one = starts[count == 1][:, 0]
    shares = torch.bincount(one, minlength=3) / len(one)  # before, between and behind two visible units
    assert torch.allclose(shares, torch.full((3,), 1 / 3), atol=4 * (2 / 9 / len(one)) ** 0.5)
    two = (count == 2) & (lengths == 1).all(1)
    pairs = starts[two].sort(1).values
    slots = {pair: 0 for pair in itertools.product(range(4), repeat=2) if pair[0] < pair[1]}  # 6 orders of M M v v
    for pair in pairs.tolist():
        slots[tuple(pair)] += 1
    expected = len(pairs) / 6
    assert sum((n - expected) ** 2 / expected for n in slots.values()) < 20.5  # 5 degrees of freedom, p = 0.001


def test_the_spans_of_a_row_do_not_depend_on_the_others():
    lengths, places = torch.rand(2, 3, 30, generator=torch.Generator().manual_seed(0))
    n = torch.tensor([30, 7, 0])
    together = poisson_spans(n, 0.3, 3.0, lengths, places)
    for b, one in enumerate(n.tolist()):
        alone = poisson_spans(n[b : b + 1], 0.3, 3.0, lengths[b : b + 1, :one], places[b : b + 1, :one])
        for whole, part in zip(together, alone):
            assert whole[b, : part.shape[1]].tolist() == part[0].tolist()
            assert (whole[b, part.shape[1] :] == whole[2, 0]).all()  # no span


def by_hand(unit, spans):
    """The source as a list of token numbers and "M", written from the left."""
    n, source = max(unit, default=-1) + 1, []
    behind = max((t + 1 for t, u in enumerate(unit) if u >= 0), default=0)
    owner = {start + k: number for number, (start, size) in enumerate(spans) for k in range(size)}
    first = {u: unit.index(u) for u in range(n)} | {n: behind}
    open_span = None
    for t in range(len(unit) + 1):
        source += ["M" for start, size in spans if size == 0 and first[start] == t]
        if t == len(unit):
            return source
        span = owner.get(unit[t]) if unit[t] >= 0 else None
        source += [t] if span is None else ["M"] if span != open_span else []
        open_span = span


@pytest.mark.parametrize("unit", [[0, 1, 2, 3], [0, 0, 1, -1, 2], [-1, 0, -1, 1, 1], [0, 1, -1]])
def test_every_choice_of_two_spans_leaves_the_source_that_is_written_by_hand(unit):
    """Words of two tokens, and tokens that are never hidden, which divide a span into two masks."""
    n, tried = max(unit) + 1, 0
    for spans in itertools.product(itertools.product(range(n + 1), range(n + 1)), repeat=2):
        covered = [start + k for start, size in spans for k in range(size)]
        if len(set(covered)) < len(covered) or any(start + size > n for start, size in spans):
            continue
        tried += 1
        starts, lengths = (torch.tensor([column]) for column in zip(*spans))
        hidden, opening, inserted = mask_places(torch.tensor([unit]), starts, lengths)
        source = []
        for t in range(len(unit) + 1):
            source += ["M"] * int((inserted == t).sum())
            if t < len(unit):
                source += ["M"] * int(opening[0, t]) + [t] * int(not hidden[0, t])
        assert source == by_hand(unit, spans)
    assert tried > 10


def test_what_does_not_fit_is_refused_with_the_reason():
    n, noise = torch.tensor([4]), torch.zeros(1, 4)
    with pytest.raises(InputError, match=r"mask_rate must lie in \(0, 1\], got 30"):
        poisson_spans(n, 30, 3.0, noise, noise)
    with pytest.raises(InputError, match="must be positive and finite, got 0"):
        poisson_spans(n, 0.3, 0, noise, noise)
    with pytest.raises(InputError, match="at most T"):
        poisson_spans(torch.tensor([5]), 0.3, 3.0, noise, noise)
