"""Lesson 01: loss positions and operations are counted right, compute is interpolated, exercises have their answers."""

import pytest

from clozelab import MaskedLM, SpanCorruption
from clozelab.data import IGNORED

BITS = "bits to learn for a MFLOP"


@pytest.fixture(scope="module")
def accounts(lesson):
    """What a step of each objective has and costs."""
    return {name: lesson.Student(name, seed=0, rows=40).account() for name in lesson.OBJECTIVES}


def test_each_objective_has_the_loss_positions_that_its_definition_says(accounts):
    assert accounts["causal"]["loss positions"] == pytest.approx(63 / 64)  # all but the first of 64
    assert accounts["masked"]["loss positions"] == pytest.approx(0.15, abs=0.02)
    assert accounts["span"]["loss positions"] == pytest.approx(14 / 64)  # 10 hidden, 3 sentinels, an end of text
    assert accounts["span"]["positions computed"] == pytest.approx((54 + 3 + 1 + 14) / 64)


def test_the_second_task_of_the_span_model_is_in_its_cost(accounts):
    assert accounts["span"]["MFLOP"] > 2 * accounts["causal"]["MFLOP"]


def test_causal_lm_has_several_times_the_signal_for_its_compute(accounts):
    for what in ("loss positions for a MFLOP", BITS):
        assert accounts["causal"][what] > 3 * accounts["masked"][what]


@pytest.mark.slow  # six models
def test_it_runs_to_its_end(trial):
    assert trial


def test_the_count_of_operations_is_that_of_the_matrices(lesson):
    student = lesson.Student("causal", seed=0, rows=10)
    matrices = student.model.parameter_count(vocabulary=False)
    attention = 2 * 2 * 64 * 32 * 2  # scores and their use, 64 keys of 32 numbers, 2 layers, multiply and add
    forward_and_twice_backward = 3 * 1024 * (2 * matrices + attention)
    assert student.flops == pytest.approx(forward_and_twice_backward, rel=0.03)


def test_the_control_drops_loss_positions_and_nothing_else(lesson):
    whole, part = (lesson.Student("causal", seed=0, rows=10, share=share) for share in (1.0, 0.15))
    batch, control = whole.batch(3), part.batch(3)
    assert (batch["input_ids"] == control["input_ids"]).all()
    kept = control["labels"] != IGNORED
    assert (control["labels"] == batch["labels"])[kept].all()
    assert float(kept.float().mean()) == pytest.approx(0.15, abs=0.045)  # 4 standard errors of 1,024
    assert (part.batch(4)["labels"] != IGNORED).ne(kept).any()  # others in the next step


def test_compute_until_a_share_is_learned(lesson):
    curve = [(1.0, 0.0), (2.0, 0.8), (3.0, 0.3), (4.0, 0.9)]
    assert lesson.compute_until(curve, 0.4) == pytest.approx(1.5)
    assert lesson.compute_until(curve, 0.85) == pytest.approx(3 + 0.55 / 0.6)
    assert lesson.compute_until(curve, 0.95) == 4.0  # never: all that was spent


def test_every_language_holds_something_to_learn(lesson):
    assert all(lesson.language(seed).entropy - lesson.language(seed).entropy_rate > 0.3 for seed in range(5))


def test_the_exercises_have_their_answers(lesson, monkeypatch):
    with_less = lesson.Student("causal", 0, 200, share=0.15).account()[BITS]
    third = with_less / lesson.Student("masked", 0, 200).account()[BITS]
    monkeypatch.setitem(lesson.OBJECTIVES, "masked", MaskedLM(mask_rate=0.3, scheme="bernoulli"))
    monkeypatch.setitem(lesson.OBJECTIVES, "span", SpanCorruption(mean_noise_span_length=1.0))
    first, second = (lesson.Student(name, 0, 200).account()["loss positions"] for name in ("masked", "span"))
    for number, answer in enumerate((first, second, third), start=1):
        assert lesson.LESSON.check(number, answer).startswith("Right"), answer
