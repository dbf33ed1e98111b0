"""Lesson 09: each measure is right for a model that knows the language, and for one that knows nothing."""

import pytest
import torch


def test_each_objective_is_measured_in_each_use(lesson, trial):
    assert {f"{name}: {use}" for name in lesson.OBJECTIVES for use in lesson.USES} <= trial.keys()


def test_compute_is_equal(lesson):
    def cost(name):
        task, batch = lesson.task_of(name, 0)
        return lesson.training_flops(task, lesson.build(name, 0), map(batch, range(8)))

    spent = [lesson.equal_steps(name, 100) * cost(name) for name in lesson.OBJECTIVES]
    assert max(spent) < 1.02 * min(spent)
    assert lesson.equal_steps("span", 100) < 100  # its blanks are counted


class PerfectModel(torch.nn.Module):
    """A causal model with the exact probabilities of the next symbol, given as states that are logits already."""

    def __init__(self, language):
        super().__init__()
        self.language = language

    def forward(self, input_ids):
        return self.language.transition.log()[input_ids]

    def unembed(self, states):
        return states


def test_a_perfect_model_has_the_best_possible_scores(lesson):
    perfect = PerfectModel(lesson.LANGUAGE)
    assert lesson.excess_nats("causal", perfect, 20) == pytest.approx(0, abs=1e-9)
    found = lesson.nats_above_posterior("causal", perfect, 100)
    assert found == pytest.approx(lesson.lost_on_the_left(100), abs=1e-9)
    assert found > 0.1  # the left side alone is not enough


def test_an_untrained_model_does_not(lesson):
    for name in lesson.OBJECTIVES:
        model = lesson.build(name, 0)
        assert lesson.excess_nats(name, model, 50) > 0.4
        assert lesson.nats_above_posterior(name, model, 50) > 0.4
        assert lesson.share_of_own_task(name, model, 40) < 0  # worse than the frequencies


def test_an_encoder_decoder_gets_the_gap_in_the_form_of_span_corruption(lesson):
    """As its collator would hide it, with what it has written so far."""
    seen = []

    class Recorder(torch.nn.Module):
        def forward(self, input_ids, decoder_input_ids):
            seen.append((input_ids.tolist(), decoder_input_ids.tolist()))
            return torch.zeros(len(input_ids), 1, 1)

        def unembed(self, states):
            return states.expand(-1, lesson.SYMBOLS)

    one, two, nothing = torch.tensor([[1, 2]]), torch.tensor([[3]]), torch.zeros(1, 0, dtype=torch.int64)
    x, y, start, end = lesson.FIRST, lesson.SECOND, lesson.SPECIAL["decoder_start"], lesson.SPECIAL.eos
    lesson.next_logits("span", Recorder(), one, two, 1, torch.tensor([[4]]))
    lesson.next_logits("span", Recorder(), one, nothing, 1, nothing)
    assert seen == [([[1, 2, x, 4, y, end]], [[start, x, 3]]), ([[1, 2, x, end]], [[start, x]])]


def test_changed_texts_differ_in_one_symbol_and_bayes_rule_finds_them_best(lesson):
    text, changed = lesson.half_changed(100)
    whole = lesson.LANGUAGE.sample(100, 12, seed=-3)
    assert ((text != whole).sum(1) == changed).all()
    assert lesson.probed(lesson.build("masked", 0), 300) + 5 < lesson.best_possible(1000)


def test_the_answers_of_the_exercises(lesson):
    found = [
        lesson.lost_on_the_left(100, right=0),
        lesson.best_possible(2000, length=24),
        lesson.nats_above_posterior("masked", lesson.build("masked", 0), 100),
    ]
    for exercise, value in enumerate(found, start=1):
        assert lesson.LESSON.check(exercise, value).startswith("Right"), value
    assert lesson.LESSON.check(1, lesson.lost_on_the_left(100)).startswith("Not yet")
    assert lesson.LESSON.check(2, lesson.best_possible(2000)).startswith("Not yet")
