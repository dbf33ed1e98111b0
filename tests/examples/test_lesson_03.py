"""Lesson 03: without its mask a decoder's loss falls below what is possible, and its text is worse."""

import math

import pytest

from clozelab.course import Seeds


def test_it_runs_to_its_end(trial):
    assert trial


def test_only_the_decoder_without_a_mask_leaks(lesson):
    *correct, (name, leaky) = lesson.leaks_of_the_three()
    assert len(correct) == 4
    assert all(report.passed for _, report in correct)
    assert name == "causal, without its mask"
    assert len(leaky.leaks) == 12 * 11 / 2  # all pairs above the diagonal


@pytest.mark.slow
def test_the_loss_without_a_mask_is_below_what_is_possible(lesson, fast):
    assert fast["trained without it: loss, read without a mask"] < lesson.SOURCE.entropy_rate - 0.2
    assert fast["trained with the mask: loss, read with it"] > lesson.SOURCE.entropy_rate - 0.02


@pytest.mark.slow
def test_the_text_that_it_generates_is_worse(fast):
    correct = fast["trained with the mask: its text, with the mask"]
    assert fast["trained without it: its text, with the mask"] > correct + 0.2
    assert fast["trained without it: its text, rereading"] > correct + 0.2


@pytest.mark.parametrize(("seen", "verdict"), [(0.01, "held"), (1.2, "held in part")], ids=["impossible", "possible"])
def test_a_loss_that_is_possible_does_not_support_the_claim(lesson, seen, verdict):
    losses = {"with the mask": (3.0, lesson.LEAST + 0.01, 1.3, 1.01), "without it": (seen, 8.0, 4.0, 4.1)}
    spread = (-0.001, 0.0, 0.001)
    f = {
        way: {what: Seeds(tuple(v + d for d in spread)) for what, v in zip(lesson.MEASURED, values)}
        for way, values in losses.items()
    }
    assert lesson.verdict(f).verdict == verdict
    f["with the mask"][lesson.MEASURED[1]] = Seeds((lesson.LEAST - 0.2,) * 3)  # then the yardstick is wrong
    assert lesson.verdict(f).verdict == "cannot tell"


def test_the_answers_of_the_exercises(lesson):
    assert lesson.LESSON.check(1, 100 * (1 - 49 / 50)).startswith("Right")
    _, report = lesson.leaks_of_the_three(length=16)[-1]
    assert lesson.LESSON.check(2, len(report.leaks)).startswith("Right")
    assert lesson.LESSON.check(3, math.log(lesson.SYMBOLS)).startswith("Right")


def test_the_weights_are_shared_and_not_copied(lesson):
    model = lesson.CAUSAL.build_model(8, d_model=32, n_layers=2, n_heads=2)
    ours, theirs = (dict(one.named_parameters()) for one in (model, lesson.without_mask(model)))
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
