"""Lesson 13: the tasks that all settings are evaluated on, what counts as a difference, and a short run."""

import pytest
import torch

from clozelab.course import Part, Seeds


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
    thrice = lesson.nats_at_masks(lesson.trained(lesson.masked(passes=3), 10, 120), 10)["nats"]
    assert lesson.LESSON.check(1, thrice).startswith("Right"), thrice


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


def test_counts_of_symbols_do_not_show_the_direction(lesson):
    text, backwards = lesson.clean_texts(0)
    counts = [torch.bincount(text[backwards == way].flatten(), minlength=12) / (2000 * 5) for way in (0, 1)]
    assert (counts[0] - counts[1]).abs().max() < 0.02
    assert 0.85 < lesson.best_accuracy(0) < 0.99


def seeds(*values):
    return Seeds(values)


def test_each_setting_is_a_part_and_80_10_10_has_two(lesson):
    usual = {"nats": seeds(0.1, 0.1, 0.1), "accuracy": seeds(0.6, 0.6, 0.6)}
    other = {"nats": seeds(0.3, 0.31, 0.32), "accuracy": seeds(0.61, 0.6, 0.6)}
    parts = lesson.parts_of({"share hidden": {"15%": usual, "5%": other}, "replacement": {"80": usual, "100": other}})
    assert [part.outcome for part in parts["share hidden"]] == ["contradicted"]
    assert [part.outcome for part in parts["replacement"]] == ["contradicted", "held"]
    assert lesson.largest(parts["replacement"]) == "replacement, 100 less 80 +0.21 ± 0.02"


def test_a_knob_matters_if_one_of_its_settings_does_and_does_not_if_none_can(lesson):
    matters, small, unknown = (
        Part("", one, within=0.02) for one in (seeds(0.3, 0.31), seeds(0.0, 0.001), seeds(0.1, -0.1))
    )
    assert lesson.summary([small, unknown, matters]) == "matters"
    assert lesson.summary([small, small]) == "does not matter"
    assert lesson.summary([small, unknown]) == "cannot tell"
