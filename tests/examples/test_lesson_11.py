"""Lesson 11: it runs, no test question is an example, and its exercises come out as it says."""

import pytest

from clozelab.course.worlds import BASE_STEPS, Bases, share_of_words, statement
from clozelab.languages.skills import World


def test_it_runs_to_its_end(lesson, trial):
    assert {f"known, {name}, {skill}" for name in lesson.WORLDS for skill in lesson.SKILLS} <= trial.keys()


def test_no_test_question_is_an_example(lesson):
    world = World(0, lesson.WORLDS["present"])
    taught = lesson.examples_of(world, 2000)
    assert len(taught) == 2000
    for skill, words in (("translation", slice(0, 2)), ("copying", slice(1, 3))):
        exam = world.exercises(skill, 100)
        assert len(exam) == 100
        combined = {exercise.prompt[words] for exercise in taught if exercise.skill == skill}
        assert not {exercise.prompt[words] for exercise in exam} & combined


def test_exercise_1_twice_as_many_words(lesson):
    assert "Right" in lesson.LESSON.check(1, lesson.GUESS["translation"] / 2)


@pytest.mark.slow
@pytest.mark.parametrize(("exercise", "name"), [(2, "present"), (3, "absent")])
def test_exercises_2_and_3_asked_as_in_the_text(lesson, exercise, name):
    world = World(30, lesson.BROAD)
    base = Bases()(World(30, lesson.WORLDS[name]), BASE_STEPS)
    right = share_of_words(base, world, world.exercises("translation", 100), statement)
    assert "Right" in lesson.LESSON.check(exercise, right)
