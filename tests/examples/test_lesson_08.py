"""Lesson 08: it runs, no question of the test was taught, and its exercises come out as it says."""

import pytest
import torch

from clozelab.course.worlds import BASE_STEPS, BROAD, Bases, untrained
from clozelab.languages.skills import World


def test_it_runs_to_its_end(lesson, trial):
    assert {f"two kinds, {kind}" for kind in lesson.KINDS} <= trial.keys()


def test_none_of_the_questions_asked_was_among_the_examples(lesson):
    world = World(0, BROAD)
    taught = lesson.examples_of(world, ("copying", "translation"))
    assert len(taught) == lesson.EXAMPLES
    assert [exercise.skill for exercise in taught[:4]] == ["copying", "translation"] * 2
    asked = lesson.questions(world, "translation", 40, taught)
    assert len(asked) == 40
    assert not {exercise.question for exercise in asked} & {exercise.question for exercise in taught}
    assert len({exercise.question for exercise in lesson.questions(world, "facts", 40, taught)}) == 16


def test_what_counts_as_asking(lesson, monkeypatch):
    world = World(0)
    [exercise] = world.exercises("arithmetic", 1)
    question = ("what", "is", "3", "+", "4", "?")
    for words, expected in (
        (question, 1),
        (("say", "7", "."), 0),
        (("say", "7", ".", *question), 0),
        (("how", "do", "swedes", "say"), 1),
        ((), 0),
    ):
        monkeypatch.setattr(lesson, "generate_answers", lambda *_, words=words, **__: [world.ids(words)])
        assert lesson.asks(torch.nn.Identity(), world, [exercise]) == expected


@pytest.fixture(scope="module")
def base(lesson):
    """The base model of seed 0, trained where no run of a lesson has kept it."""
    return Bases()(World(lesson.FIRST_SEED, BROAD), BASE_STEPS)


@pytest.mark.slow
def test_exercise_1_a_form_that_the_corpus_does_not_have(lesson, base, monkeypatch):
    world = World(lesson.FIRST_SEED, BROAD)
    monkeypatch.setattr(lesson, "FORM", "{}")
    taught = lesson.teach(base, world, ("copying", "translation"), 60)
    assert "Right" in lesson.LESSON.check(1, lesson.right(taught, world, lesson.questions(world, "facts", 40, [])))


@pytest.mark.slow
def test_exercise_2_more_demonstrations_do_not_say_who_lives_where(lesson):
    world = World(lesson.FIRST_SEED, BROAD)
    taught = lesson.teach(untrained(world), world, ("copying", "translation"), 200)
    assert "Right" in lesson.LESSON.check(2, lesson.right(taught, world, lesson.questions(world, "facts", 40, [])))


@pytest.mark.slow
def test_exercise_3_the_base_model_asks(lesson, base):
    world = World(lesson.FIRST_SEED, BROAD)
    assert "Right" in lesson.LESSON.check(3, lesson.asks(base, world, lesson.questions(world, "facts", 40, [])))
