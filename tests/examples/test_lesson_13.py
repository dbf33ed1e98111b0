"""Lesson 13: the tasks that all settings are evaluated on, what counts as a difference, and a short run."""

import pytest
import torch

from clozelab.course import Seeds


@pytest.mark.slow  # six models
def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.slow
def test_a_mask_that_never_changes_is_memorised(lesson):
    once, afresh = (
        lesson.nats_at_masks(lesson.trained(setting, 10, 120), 10)["nats"]
        for setting in (lesson.masked(passes=20), lesson.masked(passes=20, masks=20))
    )
    assert once > afresh + 0.1
    assert afresh > 0  # no model is better than the best possible


@pytest.mark.slow
def test_a_model_that_never_sees_a_mask_does_not_know_it(lesson):
    for setting, right in ((lesson.masked(mask=0.0, random=1.0), True), (lesson.MASKED, False)):
        nats = lesson.nats_at_masks(lesson.trained(setting, 10, 120), 10)["nats"]
        assert lesson.LESSON.check(1, nats).startswith("Right") == right, nats


def test_the_least_nats_of_a_run_are_those_of_its_two_neighbours(lesson):
    """By the forward and backward messages as by the powers of the transition matrix."""
    source = lesson.SOURCE
    batch, least = lesson.run_of(3, 0)
    text = source.sample(400, 32, seed=1000)
    a, (x, y, z), b = text[:, 11], text[:, 12:15].T, text[:, 15]
    p = source.transition
    posterior = p[a, x] * p[x, y] * p[y, z] * p[z, b] / torch.linalg.matrix_power(p, 4)[a, b]
    assert least == pytest.approx(float(-posterior.log().mean() / 3), rel=1e-6)
    assert batch["labels"].tolist()[0][1:4] == [x[0], y[0], z[0]]


def test_longer_runs_are_harder_and_all_easier_than_a_guess(lesson):
    one, three, eight = (lesson.run_of(length, 0)[1] for length in lesson.RUNS)
    assert one < three < eight < lesson.SOURCE.entropy


def test_two_exercises_have_their_answers(lesson):
    """The first one trains a model: see the slow test above."""
    for number, answer in ((2, lesson.cost_of_distrust(10)), (3, lesson.run_of(8, 10)[1])):
        assert lesson.LESSON.check(number, answer).startswith("Right"), answer


def seeds(*values):
    return Seeds(values)


def test_an_extreme_setting_must_cost_more_than_half_of_the_steps_and_a_moderate_one_less(lesson):
    worse = {("share hidden", "5%"): seeds(0.3, 0.31, 0.32), ("share hidden", "50%"): seeds(0.01, -0.02, 0.0)}
    half = {"masked": seeds(0.2, 0.21, 0.2), "span": seeds(0.6, 0.6, 0.6)}
    assert [part.outcome for part in lesson.parts_of(worse, half)] == ["held", "held"]
    turned = dict(zip(worse, reversed(worse.values())))
    assert [part.outcome for part in lesson.parts_of(turned, half)] == ["contradicted", "contradicted"]
    either_way = {("share hidden", "50%"): seeds(0.4, -0.4, 0.0)}  # zero in the mean, and not in the seeds
    assert [part.outcome for part in lesson.parts_of(either_way, half)] == ["cannot tell"]


def test_each_setting_but_the_usual_one_is_compared(lesson):
    one = {"nats": seeds(0.1, 0.2)}
    found = {knob: dict.fromkeys(settings, one) for knob, settings in lesson.KNOBS.items()}
    assert set(lesson.differences(found)) > lesson.EXTREME
    assert len(lesson.differences(found)) == 8
