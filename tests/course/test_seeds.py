"""A quantity over seeds: its mean, its interval, and what the interval says."""

import math

import pytest
import torch

from clozelab.course import Seeds, rank_correlation
from clozelab.course.seeds import LEVEL, t_quantile
from clozelab.errors import InputError


def test_the_interval_is_students():
    """Three values 1, 2, 6: mean 3, standard deviation sqrt(7), t of two degrees of freedom 4.303."""
    seeds = Seeds((1.0, 2.0, 6.0))
    assert seeds.mean == 3.0
    assert seeds.half_width == pytest.approx(4.303 * math.sqrt(7 / 3))
    assert seeds.interval == pytest.approx((3 - seeds.half_width, 3 + seeds.half_width))
    assert Seeds((4,)).half_width == math.inf  # one seed says nothing of others


@pytest.mark.parametrize("degrees", [1, 2, 4, 9, 30, 31, 50, 200])
def test_a_fortieth_lies_above_the_quantile(degrees):
    """The density of Student's t, integrated from zero to the quantile: 47.5%."""
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    t = torch.linspace(0, t_quantile(degrees), 100_001, dtype=torch.float64)
    density = scale * (1 + t * t / degrees) ** (-(degrees + 1) / 2)
    assert float(torch.trapezoid(density, t)) == pytest.approx(0.475, abs=2e-5)


def test_a_measure_is_called_once_for_each_seed_in_order():
    asked = []
    assert Seeds.of(lambda seed: asked.append(seed) or seed * 0.5, [3, 1, 2]).values == (1.5, 0.5, 1.0)
    assert asked == [3, 1, 2]


@pytest.mark.parametrize(
    ("values", "above", "below"),
    [
        ((1.0, 1.1, 0.9), True, False),
        ((-1.0, -1.1, -0.9), False, True),
        ((0.1, 0.2, -0.01), False, False),
        ((0.5, 1.0, 1.5), False, False),  # 3.5 standard errors: enough for two standard errors, not for three seeds
        ((1.0, 1.0, 1.0), True, False),  # no spread at all
        ((0.0, 0.0, 0.0), False, False),
        ((5.0,), False, False),  # a single seed is never significant
    ],
)
def test_a_difference_is_significant_where_the_interval_excludes_zero(values, above, below):
    assert (Seeds(values).above, Seeds(values).below) == (above, below)


def test_equivalence_is_more_than_no_difference():
    noisy, quiet = Seeds((0.5, -0.6, 0.1)), Seeds((0.005, -0.006, 0.001))
    assert not noisy.above
    assert not noisy.below
    assert not noisy.within(0.02)  # nothing is shown
    assert quiet.within(0.02)
    assert not (quiet - 0.1).within(0.02)
    assert not Seeds((0.0,)).within(0.02)  # a single seed shows nothing


@pytest.mark.parametrize("count", [2, 3, 5])
def test_chance_alone_is_significant_in_one_of_twenty(count):
    """4000 draws, within 3 standard errors; two standard errors would let 18% of three seeds pass."""
    draws = torch.randn(4000, count, generator=torch.Generator().manual_seed(0)).tolist()
    found = [Seeds(row) for row in draws]
    share = sum(one.above or one.below for one in found) / 4000
    assert abs(share - LEVEL) < 3 * math.sqrt(LEVEL * (1 - LEVEL) / 4000)


def test_differences_are_of_the_same_seed():
    """A large spread over seeds hides a mean, and not a difference within each seed."""
    right, wrong = Seeds((1.0, 5.0, 9.0)), Seeds((1.5, 5.4, 9.6))
    assert (wrong - right).values == pytest.approx((0.5, 0.4, 0.6))
    assert (wrong - right).above
    assert (wrong / right).values == pytest.approx((1.5, 1.08, 9.6 / 9))
    assert (wrong - 1).values == pytest.approx((0.5, 4.4, 8.6))
    assert (wrong / 2).values == pytest.approx((0.75, 2.7, 4.8))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{Seeds((0.1, 0.2, 0.3))}", "0.200 ± 0.248"),
        (f"{Seeds((0.1, 0.2, 0.3)):.1f}", "0.2 ± 0.2"),
        (f"{Seeds((0.1, 0.2, 0.3)):.0%}", "20% ± 25%"),
        (f"{Seeds((0.25,)):.2f}", "0.25"),
        (f"{Seeds((0.1, 0.2, 0.3)):+.1f}", "+0.2 ± 0.2"),
        (f"{Seeds((-0.1, -0.3)):+.0%}", "-20% ± 127%"),
        (str(Seeds((2,))), "2.000"),
    ],
)
def test_mean_and_half_width_follow_the_format(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Seeds(()), "got none"),
        (lambda: Seeds((1.0, math.nan)), "did the run of a seed diverge"),
        (lambda: Seeds((math.inf,)), "did the run of a seed diverge"),
        (lambda: Seeds(3.0), "a number for each seed"),
        (lambda: Seeds("abc"), "a number for each seed"),
        (lambda: Seeds((None,)), "a number for each seed"),
        (lambda: Seeds((1, 2)) - Seeds((1, 2, 3)), "as many seeds on both sides, got 2 and 3"),
        (lambda: Seeds((1, 2)) / Seeds((1,)), "as many seeds on both sides, got 2 and 1"),
    ],
)
def test_values_that_are_not_finite_numbers_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_function_is_applied_seed_by_seed():
    a, b = Seeds((1.0, 4.0)), Seeds((3.0, 2.0))
    assert a.map(min, b).values == (1.0, 2.0)
    assert a.map(lambda x: -x).values == (-1.0, -4.0)
    with pytest.raises(InputError, match="as many seeds on both sides"):
        a.map(min, Seeds((1.0,)))


def test_a_single_seed_has_no_error_bar():
    assert Seeds((1.0,)).error == 0
    assert Seeds((1.0, 2.0)).error == Seeds((1.0, 2.0)).half_width


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3], [10, 20, 40], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 1, 1], [3, 2, 1], 0.0),
        ([1, 2, 2, 4], [1, 3, 2, 4], 0.9486832980505138),  # ties share a rank: by argsort alone 1.0 or 0.8
    ],
)
def test_rank_correlation(a, b, expected):
    assert rank_correlation(a, b) == pytest.approx(expected)


def test_a_rank_correlation_needs_pairs():
    with pytest.raises(InputError, match="as many values on both sides, got 2 and 3"):
        rank_correlation([1, 2], [1, 2, 3])
