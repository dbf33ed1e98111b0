"""Lesson 11: it runs, examples are memorised, and the test questions are none of the examples."""

import torch

from clozelab.languages.skills import World


def test_it_runs_to_its_end(lesson, trial):
    for name in lesson.WORLDS:
        assert trial[f"copying {name}, 0 examples, whole"] == 0.0  # no question was ever answered


def test_examples_are_memorised_and_the_base_model_does_not_change(lesson):
    world = World(0)
    base = lesson.pretrain(world, 20)
    before = base.embedding.weight.clone()
    examples = world.exercises("translation", 2, held_out=False, draw=1)
    taught = lesson.finetune(base, world, examples, 60)
    assert torch.equal(base.embedding.weight, before)
    assert lesson.shares_right(base, world, examples)[0] == 0.0
    assert lesson.shares_right(taught, world, examples) == (1.0, 1.0)


def test_no_test_question_is_an_example(lesson):
    world = World(0)
    exam = world.exercises("translation", 100)
    taught = world.exercises("translation", 1000, held_out=False, draw=1)
    assert (len(exam), len(taught)) == (100, 1000)
    assert not {exercise.prompt[:2] for exercise in exam} & {exercise.prompt[:2] for exercise in taught}
