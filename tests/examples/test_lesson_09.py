"""Lesson 09: each measure is right for a model that knows the language, and for one that knows nothing."""

import pytest
import torch


def test_each_objective_is_measured_in_each_use(lesson, trial):
    assert {f"{name}: {use}" for name in lesson.OBJECTIVES for use in lesson.USES} <= trial.keys()


def test_compute_is_equal(lesson, monkeypatch):
    monkeypatch.setattr(lesson, "fit", lambda task, model, batch, config: steps.append(config.steps))
    steps = []
    for name in lesson.OBJECTIVES:
        lesson.pretrained(name, 0, 100)
    spent = [n * lesson.flops(name) for n, name in zip(steps, lesson.OBJECTIVES)]
    assert max(spent) < 1.02 * min(spent)
    assert steps[2] < steps[0] == 100  # the blanks of span corruption are counted


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
    assert lesson.excess_nats("causal", perfect, 0, 20) == pytest.approx(0, abs=1e-9)
    found = lesson.nats_above_posterior("causal", perfect, 0, 100)
    assert found == pytest.approx(lesson.lost_on_the_left(0, 100), abs=1e-9)
    assert found > 0.1  # the left side alone is not enough


def test_an_untrained_model_does_not(lesson):
    for name in lesson.OBJECTIVES:
        model = lesson.build(name, 0)
        assert lesson.excess_nats(name, model, 0, 50) > 0.4
        assert lesson.nats_above_posterior(name, model, 0, 50) > 0.4
        assert lesson.share_of_own_task(name, model, 0, 40) < 0  # worse than the frequencies


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


def test_each_seed_and_use_has_its_own_texts(lesson):
    texts = [lesson.new_text(seed, use, 50, 12) for seed in (0, 1, 30) for use in (1, 2, 3, 4)]
    assert len({str(text.tolist()) for text in texts}) == len(texts)


def test_changed_texts_differ_in_one_symbol_and_bayes_rule_finds_them_best(lesson):
    text, changed = lesson.half_changed(2, 100)
    whole = lesson.new_text(2, 3, 100, 12)
    assert ((text != whole).sum(1) == changed).all()
    assert lesson.probed(lesson.build("masked", 0), 2, 300) + 5 < lesson.best_possible(2, 1000)


def test_the_answers_of_the_exercises(lesson):
    found = [
        lesson.lost_on_the_left(0, 1000, right=0),
        lesson.best_possible(0, 2000, length=24),
        lesson.nats_above_posterior("masked", lesson.build("masked", 0), 0, 1000),
    ]
    for exercise, value in enumerate(found, start=1):
        assert lesson.LESSON.check(exercise, value).startswith("Right"), value
    assert lesson.LESSON.check(1, lesson.lost_on_the_left(0, 1000)).startswith("Not yet")
    assert lesson.LESSON.check(2, lesson.best_possible(0, 2000)).startswith("Not yet")
