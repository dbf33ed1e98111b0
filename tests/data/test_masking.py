"""Which tokens are hidden: tables, invariances, and statistics with their tolerance."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clozelab.data import (
    Bernoulli,
    ExactCount,
    Noise,
    RandomSpans,
    WholeWords,
    bernoulli_mask,
    exact_count_mask,
    random_spans_mask,
    span_counts,
    whole_word_mask,
)
from clozelab.errors import InputError

SCHEMES = [Bernoulli(), Bernoulli(0.5), ExactCount(), ExactCount(0.6), RandomSpans(), RandomSpans(0.5, 1.5)]


def everything(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def uniform(rows: int, n: int, seed: int = 0) -> torch.Tensor:
    return Noise.of(seed, 0, range(rows)).uniform(0, n)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@given(maskable=st.lists(st.booleans(), min_size=0, max_size=40), seed=st.integers(0, 99))
def test_protected_positions_stay_and_every_row_has_a_target(scheme, maskable, seed):
    maskable = torch.tensor(maskable, dtype=torch.bool)
    mask = scheme(torch.zeros(len(maskable)), maskable, torch.Generator().manual_seed(seed))
    assert mask.shape == maskable.shape
    assert mask.dtype == torch.bool
    assert not (mask & ~maskable).any()
    assert mask.any() == maskable.any()


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_row_is_masked_alike_alone_and_in_a_batch(scheme):
    noise = uniform(8, 30)
    maskable = everything(8, 30)
    maskable[3, 5:9] = False
    maskable[6] = False
    batch = scheme.batch(maskable, noise)
    for b in range(8):
        assert torch.equal(batch[b], scheme.batch(maskable[b : b + 1], noise[b : b + 1])[0])


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_inputs_are_not_changed(scheme):
    maskable, noise = everything(4, 30), uniform(4, 30)
    maskable[1, 3] = False
    before = maskable.clone(), noise.clone()
    scheme.batch(maskable, noise)
    assert torch.equal(maskable, before[0])
    assert torch.equal(noise, before[1])


# ------------------------------------------------------------------ independent tokens


@pytest.mark.parametrize(
    ("n", "hidden"), [(1, 1), (2, 1), (10, 2), (20, 3), (30, 4), (37, 6), (50, 8), (128, 19), (512, 77)]
)
def test_exact_count_hides_what_googles_bert_hides(n, hidden):
    assert (exact_count_mask(everything(50, n), uniform(50, n), 0.15).sum(1) == hidden).all()


def test_exact_count_chooses_every_subset_alike():
    """C(5, 2) = 10 subsets, chi-square with 9 degrees of freedom: 1 in 10,000 samples exceeds 34."""
    masks = exact_count_mask(everything(20_000, 5), uniform(20_000, 5), 0.4)
    counts = Counter(tuple(mask) for mask in masks.tolist())
    assert len(counts) == 10
    assert sum((count - 2000) ** 2 / 2000 for count in counts.values()) < 34


def test_bernoulli_keeps_its_rate_and_its_spread():
    """The number hidden of 64 is binomial but for the minimum of one; five standard errors are allowed."""
    counts = bernoulli_mask(everything(20_000, 64), uniform(20_000, 64), 0.15).sum(1).double()
    assert abs(counts.mean() - (64 * 0.15 + 0.85**64)) < 5 * math.sqrt(64 * 0.15 * 0.85 / 20_000)
    assert abs(counts.var() / (64 * 0.15 * 0.85) - 1) < 5 * math.sqrt(2 / 20_000)


def test_bernoulli_at_short_rows_hides_as_often_as_its_docstring_says():
    n, rows = 8, 50_000
    mask = bernoulli_mask(everything(rows, n), uniform(rows, n), 0.15)
    p = 0.15 + 0.85**n / n
    assert mask.any(1).all()
    assert abs(mask.double().mean() - p) < 5 * math.sqrt(p * (1 - p) / (rows * n))


def test_no_position_is_preferred_by_independent_tokens():
    for mask_function in (bernoulli_mask, exact_count_mask):
        by_position = mask_function(everything(20_000, 40), uniform(20_000, 40), 0.15).double().mean(0)
        assert (by_position - 0.15).abs().max() < 5 * math.sqrt(0.15 * 0.85 / 20_000)


# ------------------------------------------------------------------ T5's random spans


def runs(mask: torch.Tensor) -> torch.Tensor:
    starts = mask.clone()
    starts[:, 1:] &= ~mask[:, :-1]
    return starts.sum(1)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 20, 64, 100, 568])
@pytest.mark.parametrize("density", [0.05, 0.15, 0.3, 0.5, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("mean_noise_span_length", [1.0, 1.5, 3.0, 8.0, 64.0])
def test_the_sampler_keeps_the_plan_at_every_setting(n, density, mean_noise_span_length):
    hidden, spans = span_counts(n, density, mean_noise_span_length)
    mask = random_spans_mask(everything(5, n), uniform(5, n), density, mean_noise_span_length)
    assert (mask.sum(1) == hidden).all()
    assert (runs(mask) == spans).all()


def test_all_nine_masks_of_eight_tokens_are_equally_likely():
    """8 tokens, 4 hidden in 2 spans: C(3,1) x C(3,1) = 9 masks; chi-square(8): 1 in 10,000 exceeds 32."""
    masks = random_spans_mask(everything(18_000, 8), uniform(18_000, 8), 0.5, 2.0)
    counts = Counter(tuple(mask) for mask in masks.tolist())
    assert len(counts) == 9
    assert sum((count - 2000) ** 2 / 2000 for count in counts.values()) < 32


def test_t5_never_hides_the_first_token_and_always_the_last():
    """The closed forms of the field at 568 tokens: 0, 27/482, ..., 57/84, 1."""
    rows = 20_000
    by_position = random_spans_mask(everything(rows, 568), uniform(rows, 568), 0.15, 3.0).double().mean(0)
    assert by_position[0] == 0
    assert by_position[-1] == 1
    for position, p in ((1, 27 / 482), (-2, 57 / 84)):
        assert abs(by_position[position] - p) < 5 * math.sqrt(p * (1 - p) / rows)


def test_at_twenty_tokens_t5_can_only_hide_the_last_three():
    mask = random_spans_mask(everything(100, 20), uniform(100, 20), 0.15, 3.0)
    assert (mask == (torch.arange(20) >= 17)).all()


def test_protected_tokens_split_spans_but_keep_the_count():
    maskable = everything(50, 40)
    maskable[:, 10::7] = False
    mask = random_spans_mask(maskable, uniform(50, 40), 0.5, 3.0)
    assert (mask.sum(1) == span_counts(35, 0.5, 3.0)[0]).all()
    assert not mask[:, 10::7].any()


# ------------------------------------------------------------------ whole words

WORDS = torch.tensor([-1, 0, 1, 1, 1, 2, 3, 3, 4, 5, 5, -1])


def test_words_are_hidden_whole_or_not_at_all():
    maskable = everything(12)
    for seed in range(50):
        mask = whole_word_mask(maskable, uniform(1, 12, seed)[0], 0.4, WORDS)
        for word in range(6):
            assert mask[word == WORDS].unique().numel() == 1
        assert not mask[WORDS == -1].any()
        assert 1 <= mask.sum() <= round(0.4 * 12)


def test_a_word_with_a_protected_part_is_left_alone():
    maskable = everything(12)
    maskable[3] = False
    for seed in range(30):
        assert not whole_word_mask(maskable, uniform(1, 12, seed)[0], 0.6, WORDS)[2:5].any()


def test_one_word_longer_than_the_budget_is_still_hidden():
    assert whole_word_mask(everything(5), uniform(1, 5)[0], 0.15, torch.zeros(5, dtype=torch.long)).all()


def test_every_word_gets_its_turn():
    hidden = sum(whole_word_mask(everything(12), uniform(1, 12, seed)[0], 0.3, WORDS).long() for seed in range(200))
    assert (hidden[WORDS >= 0] > 0).all()


def test_whole_words_without_word_ids_say_where_to_get_them():
    with pytest.raises(InputError, match=r"word_ids"):
        WholeWords().batch(everything(1, 4), uniform(1, 4))


# ------------------------------------------------------------------ bad settings


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5, 15, float("nan")])
@pytest.mark.parametrize("scheme", [Bernoulli, ExactCount, RandomSpans, WholeWords])
def test_a_share_outside_zero_to_one_is_refused(scheme, value):
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        scheme(value)


def test_a_mean_span_below_one_token_is_refused():
    with pytest.raises(InputError, match="at least 1 token"):
        RandomSpans(0.15, 0.5)


def test_every_setting_changes_the_statistics():
    """A parameter that is accepted and ignored is a classic (catalogue of mistakes, row 14)."""
    maskable, noise = everything(200, 100), uniform(200, 100)

    def statistics(scheme):
        mask = scheme.batch(maskable, noise)
        return mask.double().mean().item(), runs(mask).double().mean().item()

    assert statistics(Bernoulli(0.3))[0] > 1.5 * statistics(Bernoulli(0.15))[0]
    assert statistics(ExactCount(0.3))[0] == 2 * statistics(ExactCount(0.15))[0]
    assert statistics(RandomSpans(0.3, 3.0))[0] == 2 * statistics(RandomSpans(0.15, 3.0))[0]
    assert statistics(RandomSpans(0.15, 1.0))[1] == 3 * statistics(RandomSpans(0.15, 3.0))[1]
