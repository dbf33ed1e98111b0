"""Lesson 03: without its mask a decoder's loss falls below what is possible, and its text is worse."""

import pytest


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


def test_the_weights_are_shared_and_not_copied(lesson):
    model = lesson.CAUSAL.build_model(8, d_model=32, n_layers=2, n_heads=2)
    ours, theirs = (dict(one.named_parameters()) for one in (model, lesson.without_mask(model)))
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
