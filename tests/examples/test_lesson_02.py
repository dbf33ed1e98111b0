"""Lesson 02: a product of conditionals sums to one over all texts, a pseudo-likelihood does not."""

import pytest
import torch

from clozelab.course import Seeds
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


def test_a_masked_model_that_has_not_learned_is_not_judged(lesson):
    f = {
        **{"sum causal, all ids": 1.0, "sum masked": 3.6, "sum perfect masked": 3.8, "order gap": 0.15, "guess": 8.0},
        **{"loss causal": 5.6, "floor causal": 5.5, "loss masked": 3.2, "floor masked": 3.1},
        **{"two texts: causal": 0.99, "two texts: masked": 0.9},
    }
    f = {name: Seeds((value,) * 3) for name, value in f.items()}
    assert lesson.verdict(f).verdict == "held"
    f["loss masked"] = Seeds((5.0,) * 3)
    assert lesson.verdict(f).verdict == "cannot tell"


def test_the_answers_of_the_exercises(lesson):
    texts = lesson.all_texts(4)
    found = [
        lesson.perfect_pseudo(source.log_prob(texts)).exp().sum()
        for source in (MarkovSource(torch.full((4, 4), 0.25)), MarkovSource.random(4, entropy=0.3, seed=0))
    ]
    found.append(lesson.chain_rule(lesson.untrained(lesson.CAUSAL, 0), lesson.all_texts(6)).exp().sum())
    for exercise, value in enumerate(found, start=1):
        assert lesson.LESSON.check(exercise, float(value)).startswith("Right"), value
