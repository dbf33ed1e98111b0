"""Evaluations take less than a twentieth of a run, unless it asks for more, and are the same where it is resumed."""

import shutil
from dataclasses import replace

import pytest

from clozelab.objectives import CausalLM, MaskedLM
from clozelab.training import TrainConfig, read_metrics
from clozelab.training.evaluations import ROW_COST, ROWS, evaluations_of

SHARE = 0.05


def made(config):
    """The steps after which a run is evaluated, of its first `config.steps`."""
    due = evaluations_of(config)
    steps = {step for step in range(1, config.steps + 1) if due.is_due(step, 0.0, 0.0)}
    return sorted(steps | {config.steps} | ({0} if due.at_start else set()))


@pytest.mark.parametrize("batch_size", [4, 16, 64])
@pytest.mark.parametrize("steps", [20, 100, 101, 1000, 4321])
def test_the_default_takes_less_than_a_twentieth_of_the_time_of_training(steps, batch_size):
    config = TrainConfig(steps=steps, batch_size=batch_size)
    due = evaluations_of(config)
    share = ROW_COST * due.rows * len(made(config)) / (steps * batch_size)
    assert share < SHARE or due.rows == ROWS[0]
    assert share > 0.02 or due.rows == ROWS[1]  # and no less than it may
    assert 1 <= len(made(config)) <= 10


def test_the_rule_of_0_1_takes_more(small_run):
    """The wrong variant: 256 rows every 200 steps, before the first step and at the end."""
    old = TrainConfig(steps=100, eval_every=200, eval_rows=256)
    assert ROW_COST * 256 * len(made(old)) / (100 * 16) > 2 * SHARE


def test_what_is_asked_for_is_done():
    config = TrainConfig(steps=100, eval_every=40, eval_rows=7)
    assert evaluations_of(config).rows == 7
    assert made(config) == [0, 40, 80, 100]
    assert made(replace(config, eval_every=0)) == [100]
    assert made(replace(config, eval_every=None)) == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert made(TrainConfig(steps=1000)) == [167, 334, 501, 668, 835, 1000]


def test_how_many_are_left_is_how_many_are_made():
    for config in (TrainConfig(steps=steps, eval_every=every) for steps in (20, 100) for every in (None, 0, 7, 20)):
        for step in (1, 13, 19):
            assert evaluations_of(config).left(step, config.steps) == sum(one > step for one in made(config))


def test_an_extended_run_is_evaluated_on_the_same_rows():
    config = TrainConfig(steps=50)
    assert evaluations_of(config.extend(5000)) == evaluations_of(config)


def test_a_run_by_the_clock_is_evaluated_each_tenth_of_it_or_as_seldom_as_its_speed_demands():
    due = evaluations_of(TrainConfig(minutes=5))
    assert not due.at_start
    assert [due.is_due(1, since, cost=1.0) for since in (29.0, 30.0)] == [False, True]
    assert [due.is_due(1, since, cost=3.0) for since in (74.0, 75.0)] == [False, True]
    assert evaluations_of(TrainConfig(minutes=5, eval_every=3)).is_due(3, 0.0, 0.0)


def test_a_run_begins_with_an_evaluation_where_it_begins_with_weights_of_another(small_run, tmp_path):
    config = replace(small_run.config, eval_every=None, eval_rows=None)
    _, first = small_run(CausalLM(), config, run=tmp_path / "a")
    _, second = small_run(CausalLM(), config, init_from=tmp_path / "a", run=tmp_path / "b")
    assert [step for step, _ in first.curve] == [12]
    assert [step for step, _ in second.curve] == [0, 12]
    assert second.curve[0][1] == pytest.approx(first.curve[-1][1], abs=1e-6)


def test_the_default_is_the_same_in_a_run_that_is_resumed(small_run, tmp_path):
    config = replace(small_run.config, steps=40, eval_every=None, eval_rows=None, checkpoint_every=15)
    for name in ("whole", "cut"):
        _, result = small_run(MaskedLM(), config, run=tmp_path / name)
    shutil.rmtree(tmp_path / "cut/checkpoints/step-00000040")
    _, resumed = small_run(MaskedLM(), config, run=tmp_path / "cut", resume=True)
    assert resumed.curve == result.curve
    assert [step for step, _ in result.curve] == [14, 28, 40]
    lines = [
        [line for line in read_metrics(tmp_path / name / "metrics.jsonl") if "heldout" in line]
        for name in ("whole", "cut")
    ]
    assert lines[0] == lines[1]
