"""Lesson 18: a head that looks further ahead has a floor of its own, and what it teaches the trunk."""

import pytest
import torch

from clozelab.languages import MarkovSource
from clozelab.objectives import MultiTokenPrediction


def test_it_runs_to_its_end(trial):
    assert trial


def test_exercise_1_far_ahead_only_frequencies_are_known(lesson):
    source = lesson.language(0)
    assert lesson.LESSON.check(1, lesson.k_step_entropy(source, 50) - source.entropy).startswith("Right")


def test_exercise_2_a_head_loses_what_the_language_loses(lesson):
    coin = MarkovSource(torch.tensor([[0.001, 0.999], [0.999, 0.001]]))
    one, two = (lesson.k_step_entropy(coin, steps) for steps in (1, 2))
    assert two > one
    assert lesson.LESSON.check(2, two - one).startswith("Right")


def test_exercise_3_heads_without_weight_teach_nothing(lesson):
    def mean(objective):
        return sum(lesson.train(objective, lesson.language(0), 0, 100)[1]) / 10

    idle = MultiTokenPrediction(depth=2, design="parallel", ahead_weight=0.0)
    alone = mean(lesson.CAUSAL)
    assert lesson.LESSON.check(3, mean(idle) - alone).startswith("Right")
    assert lesson.LESSON.check(3, mean(lesson.DESIGNS["parallel"]) - alone).startswith("Not yet")


def test_floors_rise_only_where_nothing_is_told(lesson):
    source = lesson.language(0)
    parallel, sequential = (lesson.floors(design, source) for design in ("parallel", "sequential"))
    assert parallel[0] == pytest.approx(source.entropy_rate)
    assert parallel == sorted(parallel)
    assert sequential == pytest.approx([source.entropy_rate] * 3)


@pytest.mark.slow
def test_the_next_token_is_learned_by_all(fast):
    names = ("causal", "parallel", "sequential")
    assert all(fast[f"{name} at 100%"] < fast["frequency"] - fast["rate"] - 0.3 for name in names)
