"""A language of several kinds of text."""

import pytest
import torch

from clozelab.errors import InputError
from clozelab.languages import MixtureSource
from clozelab.languages.markov import MarkovSource


@pytest.fixture
def mixture() -> MixtureSource:
    return MixtureSource([MarkovSource.random(3, entropy=0.8, seed=seed) for seed in range(3)])


def test_the_probabilities_of_all_texts_of_a_length_sum_to_one(mixture):
    texts = torch.cartesian_prod(*[torch.arange(3)] * 5)
    assert mixture.log_prob(texts).exp().sum().item() == pytest.approx(1.0)


def test_the_posterior_is_bayes_rule(mixture):
    texts = torch.cartesian_prod(*[torch.arange(3)] * 4)
    likelihoods = torch.stack([source.log_prob(texts).exp() for source in mixture.sources], -1)
    assert torch.allclose(mixture.posterior(texts), likelihoods / likelihoods.sum(-1, keepdim=True))


def test_kinds_are_equally_frequent_and_the_posterior_knows_how_often_it_is_right(mixture):
    """Five standard errors, 20,000 texts."""
    texts, kinds = mixture.sample(20_000, 12, seed=0)
    assert (torch.bincount(kinds) / 20_000 - 1 / 3).abs().max() < 5 * (2 / 9 / 20_000) ** 0.5
    sure, guess = mixture.posterior(texts).max(-1)
    assert (guess == kinds).double().mean().item() == pytest.approx(sure.mean().item(), abs=5 * 0.5 / 20_000**0.5)


def test_texts_are_drawn_from_the_source_of_their_kind(mixture):
    texts, kinds = mixture.sample(3000, 100, seed=1)
    for kind, source in enumerate(mixture.sources):
        nats = -source.log_prob(texts[kinds == kind]).mean().item() / 100
        assert nats == pytest.approx(source.entropy_rate, abs=0.03)


def test_samples_depend_on_their_seed_alone(mixture):
    before = torch.get_rng_state()
    a, b, other = (mixture.sample(5, 20, seed=seed)[0] for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(a, b)
    assert not torch.equal(a, other)


def test_fewer_than_two_sources_of_one_size_are_refused():
    small, large = (MarkovSource.random(n, entropy=0.5) for n in (2, 3))
    for sources in ([small], [], [small, large]):
        with pytest.raises(InputError, match="at least two sources of as many symbols"):
            MixtureSource(sources)
