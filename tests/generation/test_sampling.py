"""How a token is chosen: as often as its probability says, and from the generator alone."""

import pytest
import torch

from clozelab.errors import InputError, NotFinite
from clozelab.generation import sample_token, token_probabilities


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 9}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_p": 0.05}, [1, 0, 0, 0]),  # at least one
        ({"top_p": 0.39}, [1, 0, 0, 0]),
        ({"top_p": 0.41}, [4 / 7, 3 / 7, 0, 0]),  # the fewest that hold at least so much
        ({"top_p": 0.69}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.71}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_p": 1.0}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 2, "top_p": 0.5}, [1, 0, 0, 0]),  # of the two that are left, the first holds 4/7
        ({"greedy": True}, [1, 0, 0, 0]),
    ],
    ids=str,
)
def test_tokens_are_chosen_as_often_as_they_should_be(settings, expected):
    """Of 20,000 draws four standard deviations; the probabilities themselves to rounding."""
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    drawn = sample_token(logits.expand(20_000, 4), generator=seeded(), **settings).bincount(minlength=4) / 20_000
    assert drawn.tolist() == pytest.approx(expected, abs=0.015)
    if "greedy" not in settings:
        assert token_probabilities(logits, **settings).tolist() == pytest.approx(expected)


def test_probabilities_sum_to_one_in_double_precision():
    logits = 30 * torch.randn(50, 200, generator=seeded())
    for settings in ({}, {"temperature": 0.01}, {"top_k": 7}, {"top_p": 0.9}, {"top_k": 7, "top_p": 0.9}):
        probabilities = token_probabilities(logits, **settings)
        assert probabilities.dtype == torch.float64
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(50).double(), rtol=1e-13, atol=0)


def test_ties_do_not_widen_top_k():
    assert sample_token(torch.zeros(5000, 4), top_k=2, generator=seeded()).unique().numel() == 2


def test_impossible_tokens_are_never_chosen():
    logits = torch.zeros(5000, 4)
    logits[:, 1] = -torch.inf
    for settings in ({}, {"top_k": 4}, {"top_p": 1.0}, {"top_k": 4, "top_p": 0.99}):
        assert 1 not in sample_token(logits, generator=seeded(), **settings)


def test_without_a_generator_the_seed_is_zero_and_the_global_state_stays():
    logits, before = torch.randn(100, 50, generator=seeded()), torch.get_rng_state()
    first = sample_token(logits)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, sample_token(logits, generator=seeded(0)))
    assert not torch.equal(first, sample_token(logits, generator=seeded(1)))


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
    ],
    ids=str,
)
@pytest.mark.parametrize("greedy", [True, False])
def test_settings_that_mean_nothing_are_refused(settings, greedy):
    with pytest.raises(InputError, match=next(iter(settings))):
        sample_token(torch.zeros(1, 4), greedy=greedy, **settings)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("greedy", [True, False])
def test_logits_that_are_no_numbers_are_refused(value, greedy):
    with pytest.raises(NotFinite, match="are the weights finite"):
        sample_token(torch.tensor([[0.0, value]]), greedy=greedy)
