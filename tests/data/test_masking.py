"""Which tokens are hidden: tables, invariances, and statistics with their tolerance."""

import math
from collections import Counter
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clozelab import MaskedLM, SpanCorruption
from clozelab.data import (
    Examples,
    Noise,
    SpecialIds,
    bernoulli_mask,
    exact_count_mask,
    random_spans_mask,
    scheme_mask,
    span_counts,
    whole_word_mask,
)
from clozelab.data.masking import hidden_count
from clozelab.data.span_masking import planned_spans_mask
from clozelab.errors import InputError

MASKS = {
    "bernoulli": partial(bernoulli_mask, rate=0.15),
    "bernoulli, half": partial(bernoulli_mask, rate=0.5),
    "exact count": partial(exact_count_mask, rate=0.15),
    "exact count, 60%": partial(exact_count_mask, rate=0.6),
    "spans": partial(random_spans_mask, noise_density=0.15, mean_noise_span_length=3.0),
    "short spans, half": partial(random_spans_mask, noise_density=0.5, mean_noise_span_length=1.5),
}
every_mask = pytest.mark.parametrize("draw", MASKS.values(), ids=MASKS)


def everything(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def uniform(rows: int, n: int, seed: int = 0) -> torch.Tensor:
    return Noise.of(seed, 0, range(rows)).uniform(0, n)


@every_mask
@given(maskable=st.lists(st.booleans(), min_size=0, max_size=40), seed=st.integers(0, 99))
def test_protected_positions_stay_and_every_row_has_a_target(draw, maskable, seed):
    maskable = torch.tensor(maskable, dtype=torch.bool)
    mask = draw(maskable, uniform(1, len(maskable), seed)[0])
    assert mask.shape == maskable.shape
    assert mask.dtype == torch.bool
    assert not (mask & ~maskable).any()
    assert mask.any() == maskable.any()


@every_mask
def test_a_row_is_masked_alike_alone_and_in_a_batch(draw):
    noise = uniform(8, 30)
    maskable = everything(8, 30)
    maskable[3, 5:9] = False
    maskable[6] = False
    batch = draw(maskable, noise)
    for b in range(8):
        assert torch.equal(batch[b], draw(maskable[b : b + 1], noise[b : b + 1])[0])
        assert torch.equal(batch[b], draw(maskable[b], noise[b]))


@every_mask
def test_inputs_are_not_changed(draw):
    maskable, noise = everything(4, 30), uniform(4, 30)
    maskable[1, 3] = False
    before = maskable.clone(), noise.clone()
    draw(maskable, noise)
    assert torch.equal(maskable, before[0])
    assert torch.equal(noise, before[1])


# ------------------------------------------------------------------ independent tokens


@pytest.mark.parametrize(
    ("n", "hidden"), [(1, 1), (2, 1), (10, 2), (20, 3), (30, 4), (37, 6), (50, 8), (128, 19), (512, 77)]
)
def test_exact_count_hides_what_googles_bert_hides(n, hidden):
    assert (exact_count_mask(everything(50, n), uniform(50, n), 0.15).sum(1) == hidden).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_an_exact_count_is_pythons_round_at_every_length_and_rate(dtype):
    """190 tokens at 0.15 are 28.5, so 28, half to even; in float32 they would be 28.500002, and 29."""
    rates = [*(percent / 100 for percent in range(1, 101)), 1 / 3, 0.125, 0.004, 1e-9, 0.999]
    n = torch.arange(601)
    torch.set_default_dtype(dtype)
    try:
        for rate in rates:
            assert hidden_count(n, rate).tolist() == [min(k, max(1, round(k * rate))) for k in range(601)], rate
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("draw", [exact_count_mask, bernoulli_mask])
def test_at_a_rate_of_one_everything_is_hidden(draw):
    maskable = everything(3, 20)
    maskable[1, 4] = False
    assert torch.equal(draw(maskable, uniform(3, 20), 1.0), maskable)


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


def test_bernoulli_in_short_rows_hides_as_often_as_its_docstring_states():
    n, rows = 8, 50_000
    mask = bernoulli_mask(everything(rows, n), uniform(rows, n), 0.15)
    p = 0.15 + 0.85**n / n
    assert mask.any(1).all()
    assert abs(mask.double().mean() - p) < 5 * math.sqrt(p * (1 - p) / (rows * n))


def test_no_position_is_preferred_by_independent_tokens():
    for draw in (bernoulli_mask, exact_count_mask):
        by_position = draw(everything(20_000, 40), uniform(20_000, 40), 0.15).double().mean(0)
        assert (by_position - 0.15).abs().max() < 5 * math.sqrt(0.15 * 0.85 / 20_000)


# ------------------------------------------------------------------ T5's random spans


def runs(mask: torch.Tensor) -> torch.Tensor:
    starts = mask.clone()
    starts[:, 1:] &= ~mask[:, :-1]
    return starts.sum(1)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 20, 64, 100, 568])
@pytest.mark.parametrize("noise_density", [0.05, 0.15, 0.3, 0.5, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("mean_noise_span_length", [1.0, 1.5, 3.0, 8.0, 64.0])
def test_the_sampler_keeps_the_plan_at_every_setting(n, noise_density, mean_noise_span_length):
    hidden, spans = span_counts(n, noise_density, mean_noise_span_length)
    mask = random_spans_mask(everything(5, n), uniform(5, n), noise_density, mean_noise_span_length)
    assert (mask.sum(1) == hidden).all()
    assert (runs(mask) == spans).all()


def test_all_nine_masks_of_eight_tokens_are_equally_likely():
    """8 tokens, 4 hidden in 2 spans: C(3,1) x C(3,1) = 9 masks; chi-square(8): 1 in 10,000 exceeds 32."""
    masks = random_spans_mask(everything(18_000, 8), uniform(18_000, 8), 0.5, 2.0)
    counts = Counter(tuple(mask) for mask in masks.tolist())
    assert len(counts) == 9
    assert sum((count - 2000) ** 2 / 2000 for count in counts.values()) < 32


def test_t5_never_hides_the_first_token_and_always_the_last():
    """The closed forms at 568 tokens: 0, 27/482, ..., 57/84, 1."""
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


def test_rows_with_plans_of_their_own_are_what_each_is_alone():
    """Protected tokens, other lengths, other densities, and a row that stays visible, in one batch."""
    maskable, noise = everything(5, 40), uniform(5, 40)
    maskable[1, 10::7] = False
    maskable[2, 9:] = False
    settings = [(0.15, 3.0), (0.5, 3.0), (0.5, 8.0), (0.15, 64.0)]
    plans = [span_counts(int(row.sum()), *lengths) for row, lengths in zip(maskable, settings)]
    masks = planned_spans_mask(maskable, noise, [*plans, (0, 0)])
    for b, lengths in enumerate(settings):
        assert torch.equal(masks[b], random_spans_mask(maskable[b], noise[b], *lengths))
    assert len(set(plans)) == 4
    assert not masks[4].any()


# ------------------------------------------------------------------ whole words

WORDS = torch.tensor([-1, 0, 1, 1, 1, 2, 3, 3, 4, 5, 5, -1])


def test_words_are_hidden_whole_or_not_at_all():
    for seed in range(50):
        mask = whole_word_mask(everything(12), uniform(1, 12, seed)[0], 0.4, WORDS)
        for word in range(6):
            assert mask[word == WORDS].unique().numel() == 1
        assert not mask[WORDS == -1].any()
        assert 1 <= mask.sum() <= round(0.4 * 12)


def test_a_word_with_a_protected_part_is_left_alone():
    maskable = everything(12)
    maskable[3] = False
    for seed in range(30):
        assert not whole_word_mask(maskable, uniform(1, 12, seed)[0], 0.6, WORDS)[2:5].any()


def test_a_word_longer_than_the_budget_is_hidden_where_half_of_the_row_stays_visible():
    words = torch.tensor([0, 0, 0, 1, 1, 1])
    mask = whole_word_mask(everything(6), uniform(1, 6)[0], 0.15, words)
    assert mask.tolist() in ([True] * 3 + [False] * 3, [False] * 3 + [True] * 3)


def test_a_piece_of_more_than_half_of_the_row_is_no_word_and_hides_a_run_of_the_budget():
    """As a Llama tokenizer makes one piece of a text. 0.1 hid all of it: nothing was left to read."""
    one_piece = torch.zeros(400, 40, dtype=torch.long)
    mask = whole_word_mask(everything(400, 40), uniform(400, 40), 0.15, one_piece)
    assert (mask.sum(1) == 6).all()
    runs = mask.long().diff(dim=1).clamp(min=0).sum(1) + mask[:, 0]
    assert (runs == 1).all()
    assert mask.any(0).all()  # at any place


def test_every_word_is_hidden_at_some_time():
    hidden = sum(whole_word_mask(everything(12), uniform(1, 12, seed)[0], 0.3, WORDS).long() for seed in range(200))
    assert (hidden[WORDS >= 0] > 0).all()


def test_a_word_is_a_run_of_one_id_so_documents_that_number_their_words_alike_are_hidden_apart():
    """Two documents of eight words each, numbered 0 .. 7 in both, 2 of 16 hidden: the k-th word of one is hidden with
    the k-th of the other in 8 of the C(16, 2) pairs, 1 in 15. Grouped by the value of the id it would be always."""
    words = torch.arange(8).repeat(2).expand(6000, 16)
    mask = whole_word_mask(everything(6000, 16), uniform(6000, 16), 0.125, words)
    assert (mask.sum(1) == 2).all()
    together = (mask[:, :8] & mask[:, 8:]).any(1).double().mean()
    assert abs(together - 1 / 15) < 5 * math.sqrt(1 / 15 * 14 / 15 / 6000)


def test_a_repeated_id_after_another_begins_a_new_word():
    words = torch.tensor([0, 0, 1, 0, 0])
    masks = {tuple(whole_word_mask(everything(5), uniform(1, 5, s)[0], 0.4, words).int().tolist()) for s in range(60)}
    assert masks == {(1, 1, 0, 0, 0), (0, 0, 0, 1, 1), (0, 0, 1, 0, 0)}


# ------------------------------------------------------------------ a scheme of one's own


def test_a_scheme_sees_one_example_without_its_padding():
    seen = []

    def scheme(tokens, maskable, generator):
        seen.append((tokens.tolist(), maskable.tolist()))
        return maskable

    tokens = torch.tensor([[5, 6, 7], [8, 0, 0], [1, 1, 1]])
    is_token = torch.tensor([[True] * 3, [True, False, False], [True] * 3])
    maskable = torch.tensor([[True, False, True], [True, False, False], [False] * 3])
    special = SpecialIds(vocab_size=10, pad=0, eos=1)
    examples = Examples(tokens, is_token, maskable, Noise.of(0, 0, [1, 2, 3]), special)
    assert torch.equal(scheme_mask(scheme, examples, maskable, 0), maskable)
    assert seen == [([5, 6, 7], [True, False, True]), ([8], [True])]  # nothing maskable: not called


# ------------------------------------------------------------------ bad settings


@pytest.mark.parametrize("value", [0.0, -0.1, 1.5, 15, float("nan"), True, "0.1", None])
@pytest.mark.parametrize("draw", [bernoulli_mask, exact_count_mask])
def test_a_rate_outside_zero_to_one_is_refused(draw, value):
    with pytest.raises(InputError, match=r"rate must lie in \(0, 1\]"):
        draw(everything(1, 4), uniform(1, 4), value)
    with pytest.raises(InputError, match=r"rate must lie in \(0, 1\]"):
        whole_word_mask(everything(1, 4), uniform(1, 4), value, torch.zeros(1, 4).long())


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5, 15, float("nan"), True])
def test_a_noise_density_of_nothing_or_everything_is_refused(value):
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        random_spans_mask(everything(1, 4), uniform(1, 4), value, 3.0)


@pytest.mark.parametrize("value", [0.5, 0, float("nan"), float("inf"), True])
def test_a_mean_span_below_one_token_is_refused(value):
    with pytest.raises(InputError, match="at least 1 token"):
        random_spans_mask(everything(1, 4), uniform(1, 4), 0.15, value)


def test_every_option_changes_the_statistics():
    """An option that is accepted and ignored is a classic mistake."""
    special = SpecialIds(vocab_size=200, pad=0, eos=1, mask=2)
    tokens = torch.arange(10, 110).expand(200, 100)
    examples = Examples(tokens, everything(200, 100), everything(200, 100), Noise.of(0, 0, range(200)), special)

    def statistics(objective):
        more = () if isinstance(objective, SpanCorruption) else (examples.text_maskable,)
        mask = objective.choose(examples, *more)
        return mask.double().mean().item(), runs(mask).double().mean().item()

    for scheme in ("bernoulli", "exact-count"):
        assert statistics(MaskedLM(mask_rate=0.3, scheme=scheme))[0] > 1.5 * statistics(MaskedLM(scheme=scheme))[0]
    assert statistics(MaskedLM(mask_rate=0.3))[0] == 2 * statistics(MaskedLM())[0]
    assert statistics(SpanCorruption(noise_density=0.3))[0] == 2 * statistics(SpanCorruption())[0]
    assert statistics(SpanCorruption(mean_noise_span_length=1.0))[1] == 3 * statistics(SpanCorruption())[1]
