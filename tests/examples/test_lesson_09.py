"""Lesson 09: each measure is right for a model that knows the language, and for one that knows nothing."""

import pytest
import torch


def test_each_objective_is_measured_in_each_use(lesson, trial):
    assert {f"{name}: {use}" for name in lesson.OBJECTIVES for use in lesson.NAMED} <= trial.keys()


def test_compute_is_equal(lesson, trial):
    """A step's rounding among 12 is at most 5%."""
    spent = [trial[f"{name}: steps"] * lesson.cost(name) for name in lesson.OBJECTIVES]
    assert max(spent) < 1.1 * min(spent)


class PerfectModel(torch.nn.Module):
    """A causal model with the exact probabilities of the next symbol, whatever came before."""

    def __init__(self, language, vocab_size):
        super().__init__()
        self.language, self.vocab_size, self.weight = language, vocab_size, torch.nn.Parameter(torch.zeros(()))

    def forward(self, input_ids, attention_mask=None):
        logits = torch.full((*input_ids.shape, self.vocab_size), -torch.inf)
        for t in range(input_ids.shape[1]):
            for symbol in range(self.language.symbols):
                after = torch.cat([input_ids[:, : t + 1], torch.full_like(input_ids[:, :1], symbol)], 1)
                logits[:, t, symbol] = (self.language.log_prob(after) - self.language.log_prob(after[:, :-1])).float()
        return logits


def test_a_perfect_model_has_the_best_possible_scores(lesson):
    perfect, causal = PerfectModel(lesson.LANGUAGE, lesson.SPECIAL.vocab_size), lesson.OBJECTIVES["causal"]
    assert lesson.compared(causal, perfect, 50) == 100
    assert lesson.nats_above_posterior(causal, perfect, 10, every_filling=True) == pytest.approx(0, abs=1e-5)
    assert lesson.nats_above_posterior(causal, perfect, 50) > 0.1  # the left side alone is not enough


def test_an_untrained_model_does_not(lesson):
    for objective in lesson.OBJECTIVES.values():
        model = lesson.build(objective, 0)
        assert lesson.excess_nats(objective, model, 0, 100) > 0.2
        assert lesson.nats_above_posterior(objective, model, 50) > 0.2
        assert 20 < lesson.compared(objective, model, 50) < 80


def test_corrupted_texts_differ_in_one_symbol_and_bayes_rule_finds_them_best(lesson):
    text, corrupted = lesson.half_corrupted(100)
    whole = lesson.LANGUAGE.sample(100, lesson.CORRUPTED, seed=-3)
    assert ((text != whole).sum(1) == corrupted).all()
    bag = lesson.probed(lambda text: lesson.bag_of_words(text, None, lesson.SPECIAL.vocab_size), 500)
    assert bag + 5 < lesson.best_possible(1000)
