"""Lesson 02: a product of conditionals sums to one over all texts, a pseudo-likelihood does not."""

import pytest
import torch

from clozelab.languages import MarkovSource


def test_the_chain_rule_sums_to_one_over_all_texts(trial):
    """Of models that have hardly learned, too."""
    assert trial["sum causal, all ids"] == pytest.approx(1, abs=1e-4)
    assert trial["sum causal"] < 1  # texts with special ids have the rest


def test_the_pseudo_likelihood_does_not_even_for_a_perfect_model(trial):
    assert trial["sum perfect masked"] > 2


def test_where_tokens_are_independent_both_sum_to_one(lesson):
    independent = MarkovSource(torch.tensor([[0.5, 0.2, 0.2, 0.1]]).expand(4, 4))
    truth = independent.log_prob(lesson.all_texts(4))
    torch.testing.assert_close(lesson.perfect_pseudo(truth), truth)


def test_the_perfect_conditional_of_a_token_depends_on_its_neighbours_alone(lesson):
    source = lesson.language(5)
    texts, p = lesson.all_texts(4), source.transition
    by_hand = torch.zeros(len(texts), dtype=torch.float64)
    for t in range(6):
        left = source.stationary.expand(len(texts), 4) if t == 0 else p[texts[:, t - 1]]
        weights = left * (p.T[texts[:, t + 1]] if t < 5 else 1.0)  # (N, 4), of each symbol in the place of t
        by_hand += (weights / weights.sum(1, keepdim=True)).gather(1, texts[:, t : t + 1])[:, 0].log()
    torch.testing.assert_close(lesson.perfect_pseudo(source.log_prob(texts)), by_hand)


def test_a_token_of_several_letters_costs_more_nats_than_one(trial):
    assert trial["nats a token: BPE"] > 1.5 * trial["nats a token: letters"]
    for name in ("letters", "BPE"):
        assert trial[f"bits a byte: {name}"] > trial["bits a byte: the language"]
