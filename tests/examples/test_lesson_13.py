"""Lesson 13, fast: two knobs, one seed, 25 steps; and the tasks that all settings are evaluated on."""

import pytest
import torch

from clozelab.course import Seeds


def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.slow
def test_a_mask_that_never_changes_is_memorised(fast):
    once, afresh = (fast[f"masks a text, {masks}: nats"] for masks in ("1", "20"))
    assert once > afresh + 0.1
    assert afresh > 0  # no model is better than the best possible


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


def test_distrust_of_visible_tokens_costs_little_but_not_nothing(lesson):
    assert 0 < lesson.cost_of_distrust(0) < 0.02


def test_counts_of_symbols_do_not_show_the_direction(lesson):
    text, backwards = lesson.clean_texts(0)
    counts = [torch.bincount(text[backwards == way].flatten(), minlength=12) / (2000 * 5) for way in (0, 1)]
    assert (counts[0] - counts[1]).abs().max() < 0.02
    assert 0.85 < lesson.best_accuracy(0) < 0.99


def test_what_counts_as_a_difference(lesson):
    """Significant, and large enough, in one task or the other; the largest first."""
    settings = {
        "usual": {"nats": Seeds((0.1, 0.1, 0.1)), "accuracy": Seeds((0.6, 0.6, 0.6))},
        "small": {"nats": Seeds((0.11, 0.11, 0.112)), "accuracy": Seeds((0.61, 0.62, 0.62))},
        "not significant": {"nats": Seeds((0.9, 0.05, 0.1)), "accuracy": Seeds((0.5, 0.7, 0.9))},
        "large": {"nats": Seeds((0.3, 0.31, 0.32)), "accuracy": Seeds((0.7, 0.7, 0.7))},
    }
    assert lesson.differences(settings) == ["large: +0.21 ± 0.01 nats", "large: +10 ± 0 points of accuracy"]
    assert lesson.differences({"usual": settings["usual"]}) == []
