"""Spans of drawn lengths: golden distributions, budgets, words, places, and what wrong variants do."""

import math
from bisect import bisect_right
from collections import Counter
from itertools import accumulate, groupby, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clozelab.data import Noise, drawn_span_lengths, drawn_spans_mask
from clozelab.data.drawn_spans import WEIGHTS
from clozelab.data.masking import hidden_count
from clozelab.errors import InputError

GOLDEN = {
    "n-grams": [60 / 137, 30 / 137, 20 / 137, 15 / 137, 12 / 137],
    "geometric-spans": [0.2241, 0.1792, 0.1434, 0.1147, 0.0918, 0.0734, 0.0587, 0.0470, 0.0376, 0.0301],
    "uniform-spans": [1 / 3] * 3,
}
MEANS = {"n-grams": 2.19, "geometric-spans": 3.797, "uniform-spans": 2.0}
CRITICAL = {1: 15.1, 2: 18.4, 4: 23.5, 9: 33.7}
"""Chi-square by degrees of freedom: 1 of 10,000 samples exceeds it."""

each_kind = pytest.mark.parametrize("kind", GOLDEN)


def everything(*shape):
    return torch.ones(*shape, dtype=torch.bool)


def draw(kind, maskable, rate=0.15, words=None, seed=0, longest=None):
    noise = Noise.of(seed, 0, range(len(maskable)))
    n = maskable.shape[1]
    return drawn_spans_mask(
        maskable, noise.uniform(0, n), noise.uniform(1, n), rate, drawn_span_lengths(kind, longest), words
    )


def runs(mask):
    """The lengths of all runs of a mask (B, T)."""
    edges = torch.nn.functional.pad(mask.long(), (1, 1)).diff(dim=1)
    return ((edges == -1).nonzero()[:, 1] - (edges == 1).nonzero()[:, 1]).tolist()


def expected_runs(probabilities, budget):
    """How many spans of each length a row has on average: drawn until the budget is reached, the last one cut."""
    reached, counts = [1.0] + [0.0] * budget, [0.0] * (len(probabilities) + 1)
    for hidden in range(budget):
        for length, p in enumerate(probabilities, start=1):
            kept = min(length, budget - hidden)
            reached[hidden + kept] += p * reached[hidden]
            counts[kept] += p * reached[hidden]
    return counts[1:]


def chi_square(lengths, expected):
    found = Counter(lengths)
    return sum((found[n] - many) ** 2 / many for n, many in enumerate(expected, start=1))


# ------------------------------------------------------------------ lengths


@each_kind
def test_the_golden_probabilities(kind):
    probabilities = drawn_span_lengths(kind)
    assert probabilities == pytest.approx(GOLDEN[kind], abs=5e-5)
    assert sum(n * p for n, p in enumerate(probabilities, start=1)) == pytest.approx(MEANS[kind], abs=5e-3)
    assert len(drawn_span_lengths(kind, 7)) == 7


@each_kind
def test_the_spans_of_long_rows_have_the_golden_lengths(kind):
    """A budget of 300 tokens: one span of about a hundred is cut."""
    lengths = runs(draw(kind, everything(30, 2000)))
    expected = [p * len(lengths) for p in GOLDEN[kind]]
    assert chi_square(lengths, expected) < CRITICAL[len(expected) - 1]


@each_kind
def test_the_spans_of_short_rows_have_the_lengths_that_the_budget_leaves(kind):
    """Of 60 tokens 9 are hidden: exactly the lengths of draws that stop at 9, the last one cut."""
    rows, budget = 1500, 9
    lengths = runs(draw(kind, everything(rows, 60)))
    expected = [rows * count for count in expected_runs(drawn_span_lengths(kind), budget)]
    expected = expected[:budget]
    # The number of spans varies from row to row, less than a Poisson count: the statistic is below a chi-square's.
    assert chi_square(lengths, expected) < CRITICAL[{3: 2, 5: 4, 9: 9}[len(expected)]]


def test_lengths_that_are_drawn_otherwise_are_told_apart():
    """The wrong variants: a geometric distribution that is clipped at 10 rather than renormalised, and p ~ 1 / n^2."""
    long = everything(60, 2000)
    noise = Noise.of(0, 0, range(60))
    clipped = [0.2 * 0.8 ** (n - 1) for n in range(1, 10)] + [0.8**9]
    for wrong, kind in ((clipped, "geometric-spans"), ([1 / n**2 for n in range(1, 6)], "n-grams")):
        lengths = runs(drawn_spans_mask(long, noise.uniform(0, 2000), noise.uniform(1, 2000), 0.15, wrong))
        expected = [p * len(lengths) for p in GOLDEN[kind]]
        assert chi_square(lengths, expected) > 2 * CRITICAL[len(expected) - 1]


# ------------------------------------------------------------------ budget


@each_kind
@settings(max_examples=30)
@given(maskable=st.lists(st.booleans(), min_size=0, max_size=40), seed=st.integers(0, 99), percent=st.integers(1, 100))
def test_the_budget_of_tokens_is_met_exactly_and_protected_tokens_stay(kind, maskable, seed, percent):
    maskable = torch.tensor([maskable], dtype=torch.bool)
    mask = draw(kind, maskable, percent / 100, seed=seed)
    assert torch.equal(mask.sum(1), hidden_count(maskable.sum(1), percent / 100))
    assert not (mask & ~maskable).any()


@each_kind
def test_no_two_spans_touch_while_there_is_room(kind):
    for rate in (0.15, 0.3):
        assert max(runs(draw(kind, everything(200, 100), rate))) <= len(GOLDEN[kind])


@each_kind
def test_a_row_is_masked_alike_alone_and_in_a_batch(kind):
    maskable = everything(6, 40)
    maskable[2, 5:9] = False
    noise = Noise.of(0, 0, range(6))
    words = (noise.uniform(7, 40) < 0.6).cumsum(1)
    for own in (None, words):
        batch = draw(kind, maskable, words=own)
        for b in range(6):
            lengths, places = noise.uniform(0, 40)[b], noise.uniform(1, 40)[b]
            one = None if own is None else own[b]
            alone = drawn_spans_mask(maskable[b], lengths, places, 0.15, drawn_span_lengths(kind), one)
            assert torch.equal(batch[b], alone)


def test_a_span_stands_alike_at_every_place_where_it_fits():
    """A span of 3 in a row of 10: eight places, chi-square with 7 degrees of freedom."""
    rows = 3200
    noise = Noise.of(0, 0, range(rows))
    mask = drawn_spans_mask(everything(rows, 10), noise.uniform(0, 10), noise.uniform(1, 10), 0.3, [0, 0, 1])
    starts = Counter(mask.long().argmax(1).tolist())
    assert set(starts) == set(range(8))
    assert sum((count - 400) ** 2 / 400 for count in starts.values()) < 30


def test_a_protected_token_is_the_end_of_a_text_and_no_span_goes_over_it():
    maskable = everything(300, 20)
    maskable[:, [6, 13]] = False
    noise = Noise.of(0, 0, range(300))
    mask = drawn_spans_mask(maskable, noise.uniform(0, 20), noise.uniform(1, 20), 0.28, [0, 0, 0, 0, 1])
    assert set(runs(mask)) == {5}  # three texts of six tokens: five of 18 tokens, in one of them


def test_spans_may_stand_on_both_sides_of_a_protected_token():
    maskable = torch.tensor([True, False, True, True, True])
    mask = drawn_spans_mask(maskable, torch.zeros(5), torch.zeros(5), 0.5, [1.0])  # each at the first place
    assert mask.tolist() == [True, False, True, False, False]


# ------------------------------------------------------------------ row by row


def by_definition(maskable, lengths, places, rate, probabilities, words):
    """The hidden tokens of one row, one span after the other."""
    units = [
        [t for t, _ in own]
        for word, own in groupby(enumerate(words), key=lambda pair: pair[1] if pair[1] >= 0 else pair)
    ]
    may_go = {u for u, tokens in enumerate(units) if all(maskable[t] and words[t] >= 0 for t in tokens)}
    budget, longest = int(hidden_count(torch.tensor(sum(maskable)), rate)), len(probabilities)
    hidden, apart_from, limits = set(), set(), list(accumulate(probabilities))[:-1]

    def places_of(n):
        spans = [(u, set(range(u, u + n))) for u in range(len(units)) if len(units[u]) <= budget]
        return [u for u, span in spans if span <= may_go - hidden and not {u - 1, u + n} & apart_from]

    for length, place in zip(lengths, places):
        drawn = min(1 + bisect_right(limits, length), longest)
        n = next((n for n in range(drawn, 0, -1) if places_of(n)), 0)
        if n == 0:
            apart_from, longest, n = set(), 1, 1
        if not places_of(n):
            break
        first = places_of(n)[int(place * len(places_of(n)))]
        for u in range(first, first + n):
            if len(units[u]) > budget:
                break
            hidden.add(u)
            apart_from.add(u)
            budget -= len(units[u])
    return [t for u in hidden for t in units[u]]


@pytest.mark.parametrize("of_words", [False, True], ids=["tokens", "words"])
@each_kind
def test_the_masks_of_a_batch_are_those_of_its_rows_one_span_after_the_other(kind, of_words):
    for seed, rate in product(range(6), (0.15, 0.4, 0.8)):
        noise = Noise.of(seed, 0, range(5))
        maskable, lengths, places = noise.uniform(4, 25) < 0.9, noise.uniform(0, 25), noise.uniform(1, 25)
        words = (noise.uniform(7, 25) < 0.6).long().cumsum(1).masked_fill(noise.uniform(8, 25) < 0.1, -1)
        words = words if of_words else torch.arange(25).expand(5, 25)
        probabilities = drawn_span_lengths(kind)
        mask = drawn_spans_mask(maskable, lengths, places, rate, probabilities, words if of_words else None)
        for row, *own in zip(mask, maskable.tolist(), lengths.tolist(), places.tolist(), words.tolist()):
            expected = by_definition(*own[:3], rate, probabilities, own[3])
            if expected or not of_words:  # a row whose words all exceed the budget is masked otherwise
                assert row.nonzero()[:, 0].tolist() == sorted(expected)


# ------------------------------------------------------------------ words


def words_like(rows, n, seed=0):
    """Words of one to four tokens."""
    return (Noise.of(seed, 1, range(rows)).uniform(3, n) < 0.6).long().cumsum(1)


@each_kind
@settings(max_examples=30)
@given(seed=st.integers(0, 99), percent=st.integers(1, 100), protected=st.sets(st.integers(0, 29), max_size=6))
def test_every_word_is_whole_or_untouched_and_what_is_left_of_the_budget_is_less_than_any(
    kind, seed, percent, protected
):
    maskable, words = everything(1, 30), words_like(1, 30, seed)
    maskable[0, list(protected)] = False
    mask, budget = draw(kind, maskable, percent / 100, words, seed)[0], hidden_count(maskable.sum(1), percent / 100)
    sizes = Counter(words[0].tolist())
    of_words = {w: {bool(m) for m, own in zip(mask, words[0]) if own == w} for w in sizes}
    broken = {int(words[0, t]) for t in protected}
    whole = {w for w in sizes if w not in broken}
    if min((sizes[w] for w in whole), default=99) > budget:
        return  # no word fits: whole_word_mask has that row
    assert all(len(found) == 1 for found in of_words.values())
    assert all(of_words[w] == {False} for w in broken)
    rest = int(budget - mask.sum())
    assert 0 <= rest < min((sizes[w] for w in whole if of_words[w] == {False}), default=math.inf)


@each_kind
def test_the_spans_of_long_rows_have_the_golden_lengths_in_words(kind):
    words = words_like(30, 3000)
    mask = draw(kind, everything(30, 3000), words=words)
    begins = torch.nn.functional.pad(words.diff(dim=1), (1, 0), value=1) > 0
    edges = torch.nn.functional.pad(mask.long(), (1, 0)).diff(dim=1)
    of_span = edges.eq(1).long().cumsum(1) + 1000 * torch.arange(30)[:, None]
    lengths = list(Counter(of_span[mask & begins].tolist()).values())
    expected = [p * len(lengths) for p in GOLDEN[kind]]
    assert chi_square(lengths, expected) < CRITICAL[len(expected) - 1]


def test_a_row_of_one_long_word_hides_a_run_of_the_budget():
    mask = draw("n-grams", everything(50, 40), words=torch.zeros(50, 40, dtype=torch.long))
    assert (mask.sum(1) == 6).all()
    assert runs(mask) == [6] * 50


# ------------------------------------------------------------------ bad settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: drawn_span_lengths("bigrams"), "expected spans among n-grams, geometric-spans, uniform-spans"),
        (lambda: drawn_span_lengths("n-grams", 0), "longest"),
        (lambda: drawn_spans_mask(everything(4), torch.zeros(4), torch.zeros(4), 0.5, []), "the probabilities"),
        (lambda: drawn_spans_mask(everything(4), torch.zeros(4), torch.zeros(4), 0.5, [0.0]), "the probabilities"),
        (lambda: drawn_spans_mask(everything(4), torch.ones(4), torch.zeros(4), 0.5, [1.0]), r"noise must lie in"),
        (lambda: drawn_spans_mask(everything(4), torch.zeros(3), torch.zeros(4), 0.5, [1.0]), "shape"),
        (lambda: drawn_spans_mask(everything(4), torch.zeros(4), torch.zeros(4), 15, [1.0]), "rate must lie in"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_every_kind_is_tested():
    assert GOLDEN.keys() == WEIGHTS.keys()
