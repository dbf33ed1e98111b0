"""Lesson 14: masked diffusion gives the nats of a text, in any order, and loses fluency in few rounds."""

import pytest
import torch

from clozelab.languages import MarkovSource


def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.parametrize("text", [[0, 2, 1, 1], [3, 3, 3, 3]])
def test_exercise_1_the_mean_over_all_masks_is_the_text_itself(lesson, text):
    source, text = lesson.language(0), torch.tensor(text)
    difference = lesson.bound_of_all_masks(source, text) + float(source.log_prob(text))
    assert lesson.LESSON.check(1, difference).startswith("Right")


def test_exercise_2_nothing_is_lost_where_nothing_depends(lesson):
    source = MarkovSource(torch.full((4, 4), 0.25))
    model = lesson.Perfect(source)
    one, many = (lesson.nats_of(source, lesson.written(model, source, rounds, 100)) for rounds in (1, 16))
    assert lesson.LESSON.check(2, one - many).startswith("Right")


def test_exercise_3_less_dependence_is_less_to_lose(lesson, monkeypatch):
    usual = lesson.nats_of_one_round(lesson.language(0)) - lesson.own_nats(lesson.language(0))
    monkeypatch.setattr(lesson, "ENTROPY", 1.2)
    source = lesson.language(0)
    text = lesson.written(lesson.Perfect(source), source, 1, 2000)
    more = lesson.nats_of(source, text) - lesson.own_nats(source)
    assert lesson.LESSON.check(3, more).startswith("Right")
    assert not lesson.LESSON.check(3, usual).startswith("Right")


def test_a_perfect_model_pays_for_rounds_alone(lesson):
    source = lesson.language(0)
    model = lesson.Perfect(source)
    one, some, all_ = (lesson.nats_of(source, lesson.written(model, source, rounds, 500)) for rounds in (1, 4, 16))
    assert one == pytest.approx(lesson.nats_of_one_round(source), abs=0.2)
    assert all_ == pytest.approx(lesson.own_nats(source), abs=0.05)
    assert all_ + 0.1 < some < one - 0.1


def test_a_perfect_model_costs_the_same_in_every_order(lesson):
    source = lesson.language(0)
    texts = source.sample(50, lesson.LENGTH, seed=1)
    for order in lesson.ORDERS.values():
        cost = lesson.cost_in_order(lesson.Perfect(source), source, texts, order)
        assert cost == pytest.approx(lesson.nats_of(source, texts), abs=1e-4)


@pytest.mark.slow
def test_the_bound_falls_towards_the_exact_nats(fast):
    assert fast["exact"] - 0.02 < fast["diffusion: bound"] < fast["frequency"] - 0.1
