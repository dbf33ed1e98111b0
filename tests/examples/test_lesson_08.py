"""Lesson 08: it runs, no question of the test was taught, and its exercises come out as it says."""

import pytest
import torch

from clozelab.course.worlds import BASE_STEPS, BROAD, Bases, gentle, thorough, untrained
from clozelab.languages.skills import World


def test_it_runs_to_its_end(lesson, trial):
    assert {f"two kinds, {kind}" for kind in lesson.KINDS} <= trial.keys()


def test_none_of_the_questions_asked_was_among_the_examples(lesson):
    world = World(0, BROAD)
    taught = lesson.examples_of(world, ("copying", "translation"))
    assert len(taught) == lesson.EXAMPLES
    assert [len(lesson.examples_of(world, kinds)) for kinds in (("facts",), ("facts", "copying"))] == [28, 56]
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


TWO = ("copying", "translation")


@pytest.fixture(scope="module")
def world(lesson):
    return World(lesson.LESSON.first_seed, BROAD)


@pytest.fixture(scope="module")
def base(world):
    """The base model of the first seed, trained where no run of a lesson has kept it."""
    return Bases()(world, BASE_STEPS)


@pytest.mark.slow
def test_exercise_1_a_form_that_the_corpus_does_not_have(lesson, world, base, monkeypatch):
    facts, few = lesson.questions(world, "facts", 40, []), gentle(60, 3e-4)
    assert "Not yet" in lesson.LESSON.check(1, lesson.right(lesson.teach(base, world, TWO, few), world, facts))
    monkeypatch.setattr(lesson, "FORM", "{}")
    assert "Right" in lesson.LESSON.check(1, lesson.right(lesson.teach(base, world, TWO, few), world, facts))


@pytest.mark.slow
def test_exercise_2_a_few_small_steps_teach_random_weights_little(lesson, world):
    examples = lesson.examples_of(world, TWO)
    little, much = (lesson.teach(untrained(world), world, TWO, way) for way in (gentle(60, 3e-4), thorough(60)))
    assert "Right" in lesson.LESSON.check(2, lesson.right(little, world, examples))
    assert "Not yet" in lesson.LESSON.check(2, lesson.right(much, world, examples))


@pytest.mark.slow
def test_exercise_3_the_base_model_asks_until_it_is_taught(lesson, world, base):
    facts = lesson.questions(world, "facts", 40, [])
    assert "Not yet" in lesson.LESSON.check(3, lesson.asks(base, world, facts))
    assert "Right" in lesson.LESSON.check(
        3, lesson.asks(lesson.teach(base, world, TWO, gentle(60, 3e-4)), world, facts)
    )
