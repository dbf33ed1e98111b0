"""Languages whose entropy is known exactly."""

import math

import pytest
import torch

from clozelab.errors import InputError
from clozelab.languages.markov import MarkovSource


def test_the_stationary_distribution_stays_where_it_is():
    source = MarkovSource.random(7, entropy=1.0, seed=3)
    assert torch.allclose(source.stationary @ source.transition, source.stationary, atol=1e-10)
    assert source.stationary.sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize(("symbols", "entropy"), [(2, 0.1), (2, 0.69), (5, 0.5), (16, 1.2), (40, 3.0)])
def test_a_random_chain_has_the_requested_entropy(symbols, entropy):
    for seed in range(3):
        assert MarkovSource.random(symbols, entropy=entropy, seed=seed).entropy_rate == pytest.approx(entropy, abs=1e-6)


def test_the_entropy_rate_is_what_the_textbook_says():
    """A coin that stays with probability 0.9: H(0.1) = 0.3251 nats; an honest one: ln 2."""
    sticky = MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    assert sticky.entropy_rate == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert MarkovSource(torch.full((2, 2), 0.5)).entropy_rate == pytest.approx(math.log(2))


def test_samples_follow_the_chain():
    """Five standard errors on each transition, from 200,000 symbols."""
    source = MarkovSource.random(4, entropy=1.0, seed=1)
    text = source.sample(2000, 100, seed=0)
    counts = torch.zeros(4, 4, dtype=torch.float64)
    counts.index_put_((text[:, :-1].flatten(), text[:, 1:].flatten()), torch.ones(()).double(), accumulate=True)
    seen = counts / counts.sum(1, keepdim=True)
    spread = (source.transition * (1 - source.transition) / counts.sum(1, keepdim=True)).sqrt()
    assert ((seen - source.transition).abs() < 5 * spread + 1e-9).all()
    first = torch.bincount(text[:, 0], minlength=4) / 2000
    assert (first - source.stationary).abs().max() < 5 * math.sqrt(0.25 / 2000)


def test_samples_depend_on_their_seed_alone():
    source = MarkovSource.random(4, entropy=1.0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    a = source.sample(3, 20, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a, source.sample(3, 20, seed=5))
    assert not torch.equal(a, source.sample(3, 20, seed=6))


def test_the_probabilities_of_all_texts_of_a_length_sum_to_one():
    source = MarkovSource.random(3, entropy=0.8)
    texts = torch.cartesian_prod(*[torch.arange(3)] * 5)
    assert source.log_prob(texts).exp().sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MarkovSource(torch.tensor([[0.5, 0.6], [0.5, 0.5]])), "rows are probabilities"),
        (lambda: MarkovSource(torch.tensor([[1.5, -0.5], [0.5, 0.5]])), "rows are probabilities"),
        (lambda: MarkovSource(torch.ones(2, 3) / 3), "square matrix"),
        (lambda: MarkovSource(torch.tensor([[1.0, 0.0], [1.0, 0.0]])), "never reached"),
        (lambda: MarkovSource.random(4, entropy=1.5), "between 0 and ln 4"),
        (lambda: MarkovSource.random(4, entropy=0.0), "between 0 and ln 4"),
    ],
)
def test_a_matrix_that_is_not_a_chain_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
