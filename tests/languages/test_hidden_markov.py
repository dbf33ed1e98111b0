"""A hidden Markov model as a language: its states, and what can be known of them."""

import itertools

import pytest
import torch

from clozelab.errors import InputError
from clozelab.languages import HiddenMarkovSource, MarkovSource, masked_posteriors


@pytest.fixture
def source() -> HiddenMarkovSource:
    """Two states, three symbols."""
    chain = MarkovSource(torch.tensor([[0.9, 0.1], [0.3, 0.7]]))
    return HiddenMarkovSource(chain, torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.4, 0.5]]))


def joint(source, text):
    """ln p(text, states) of every sequence of states, and these sequences (2^T, T): by the definition alone."""
    states = torch.tensor(list(itertools.product(range(2), repeat=len(text))))
    return source.states.log_prob(states) + source.emission.log()[states, text].sum(1), states


def test_the_probabilities_of_all_texts_of_a_length_sum_to_one(source):
    texts = torch.cartesian_prod(*[torch.arange(3)] * 5)
    assert source.log_prob(texts).exp().sum().item() == pytest.approx(1.0)


def test_the_probability_of_a_text_is_the_sum_over_its_states(source):
    for text in torch.tensor([[0, 1, 2, 2], [1, 1, 0, 2]]):
        assert source.log_prob(text[None]).item() == pytest.approx(joint(source, text)[0].logsumexp(0).item())


@pytest.mark.parametrize("reads", ["token", "left", "both"])
def test_the_posterior_of_a_state_is_bayes_rule_on_what_is_read(source, reads):
    text = torch.tensor([0, 1, 2, 1, 2])
    found = source.posterior(text[None], reads)[0]
    for t in range(5):
        first, last = {"token": (t, t), "left": (0, t), "both": (0, 4)}[reads]
        chances, states = joint(source, text[first : last + 1])  # the chain is stationary wherever it begins
        by_hand = torch.stack([chances[states[:, t - first] == z].logsumexp(0) for z in range(2)]).softmax(0)
        assert torch.allclose(found[t], by_hand)


def test_the_most_probable_state_is_right_as_often_as_its_probability_says_and_more_often_with_more_to_read(source):
    """Five standard errors, 20,000 tokens in the middle of texts."""
    text, states = source.sample(20_000, 9, seed=0)
    right = []
    for reads in ("token", "left", "both"):
        probability, guess = source.posterior(text, reads)[:, 4].max(1)
        right.append((guess == states[:, 4]).double().mean().item())
        assert right[-1] == pytest.approx(probability.mean().item(), abs=5 * 0.5 / 20_000**0.5)
    assert right[0] + 0.02 < right[1] < right[2] - 0.02


def test_symbols_follow_their_states_and_states_their_chain(source):
    """Five standard errors, 40,000 tokens."""
    text, states = source.sample(4000, 10, seed=3)
    for z in range(2):
        emitted = text[states == z]
        shares = torch.bincount(emitted, minlength=3) / len(emitted)
        assert (shares - source.emission[z]).abs().max() < 5 * (0.25 / len(emitted)) ** 0.5
    stays = (states[:, 1:] == states[:, :-1])[states[:, :-1] == 0]
    assert stays.double().mean().item() == pytest.approx(0.9, abs=5 * (0.09 / len(stays)) ** 0.5)


def test_samples_depend_on_their_seed_alone(source):
    before = torch.get_rng_state()
    one, same, other = (source.sample(5, 20, seed=seed)[0] for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_hidden_symbol_is_as_probable_as_the_texts_that_hold_it(source):
    """The last column stands for the mask: p(x[1] | the rest) is a ratio of sums of probabilities of texts."""
    visible, hidden = torch.eye(3, 4).double(), torch.eye(4).double()[3].expand(3, 4)
    found = masked_posteriors(source, torch.tensor([[0, 3, 2, 3]]), visible + hidden, hidden)[0, 1]
    texts = torch.tensor([[0, x, 2, y] for x in range(3) for y in range(3)])
    by_hand = source.log_prob(texts).exp().view(3, 3).sum(1)
    assert torch.allclose(found, by_hand / by_hand.sum())


def test_states_that_emit_one_symbol_each_are_a_markov_source(source):
    plain = HiddenMarkovSource(source.states, torch.eye(2))
    texts = torch.cartesian_prod(*[torch.arange(2)] * 4)
    assert torch.allclose(plain.log_prob(texts), source.states.log_prob(texts))


@pytest.mark.parametrize(
    ("emission", "message"),
    [
        (torch.ones(2, 3), "row sums"),
        (torch.full((3, 2), 0.5), "a row of probabilities for each of 2 states"),
        (torch.tensor([[1.5, -0.5], [0.5, 0.5]]), "expected a row of probabilities"),
    ],
    ids=["sums", "rows", "negative"],
)
def test_rows_that_are_no_probabilities_are_refused(source, emission, message):
    with pytest.raises(InputError, match=message):
        HiddenMarkovSource(source.states, emission)


def test_other_readers_and_other_symbols_are_refused(source):
    with pytest.raises(InputError, match="reads must be one of token, left, both"):
        source.posterior(torch.tensor([[0]]), "right")
    with pytest.raises(InputError, match=r"symbols must lie in 0 \.\. 2"):
        source.log_prob(torch.tensor([[3]]))
