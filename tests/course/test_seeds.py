"""A quantity over seeds: its mean, its spread, and whether a difference is significant."""

import math
from statistics import stdev

import pytest
import torch

from clozelab.course import Seeds
from clozelab.errors import InputError


def test_mean_and_spread_are_those_of_a_sample():
    seeds = Seeds((1.0, 2.0, 6.0))
    assert seeds.mean == 3.0
    assert seeds.spread == pytest.approx(stdev([1, 2, 6])) == pytest.approx(math.sqrt(7))
    assert Seeds((4,)).spread == 0.0


def test_a_measure_is_called_once_for_each_seed_in_order():
    asked = []
    assert Seeds.of(lambda seed: asked.append(seed) or seed * 0.5, [3, 1, 2]).values == (1.5, 0.5, 1.0)
    assert asked == [3, 1, 2]


@pytest.mark.parametrize(
    ("values", "significant", "above", "below"),
    [
        ((1.0, 1.1, 0.9), True, True, False),
        ((-1.0, -1.1, -0.9), True, False, True),
        ((0.1, 0.2, -0.01), False, False, False),  # one seed has the other sign
        ((0.1, 0.1, 3.0), False, False, False),  # they agree, but the mean is 1.1 standard errors from zero
        ((1.0, 1.0, 1.0), True, True, False),  # no spread at all
        ((0.0, 0.0, 0.0), False, False, False),
        ((5.0,), False, False, False),  # a single seed is never significant
    ],
)
def test_significant_differences_are_large_and_of_one_sign(values, significant, above, below):
    seeds = Seeds(values)
    assert (seeds.significant, seeds.above, seeds.below) == (significant, above, below)


def test_the_border_is_at_two_standard_errors():
    """Values m - d, m, m + d: a standard deviation of d, so that the border is m = 2 d / sqrt(3)."""
    border = 2 / math.sqrt(3)
    assert Seeds((border * 1.001 - 1, border * 1.001, border * 1.001 + 1)).above
    assert not Seeds((border * 0.999 - 1, border * 0.999, border * 0.999 + 1)).significant


@pytest.mark.parametrize(("count", "chance"), [(3, 0.1835), (5, 0.06)])
def test_how_often_chance_alone_is_significant(count, chance):
    """Of 3 seeds the probability that |t| > 2 with two degrees of freedom (then all agree); 5 must agree as well.
    4000 draws, within 3 standard errors."""
    draws = torch.randn(4000, count, generator=torch.Generator().manual_seed(0)).tolist()
    share = sum(Seeds(row).significant for row in draws) / 4000
    assert abs(share - chance) < 3 * math.sqrt(chance * (1 - chance) / 4000)


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
        (f"{Seeds((0.1, 0.2, 0.3))}", "0.200 ± 0.100"),
        (f"{Seeds((0.1, 0.2, 0.3)):.1f}", "0.2 ± 0.1"),
        (f"{Seeds((0.1, 0.2, 0.3)):.0%}", "20% ± 10%"),
        (f"{Seeds((0.25,)):.2f}", "0.25"),
        (f"{Seeds((0.1, 0.2, 0.3)):+.1f}", "+0.2 ± 0.1"),
        (f"{Seeds((-0.1, -0.3)):+.0%}", "-20% ± 14%"),
        (str(Seeds((2,))), "2.000"),
    ],
)
def test_mean_and_spread_follow_the_format(text, expected):
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
