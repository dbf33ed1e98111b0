"""Lesson 11: it runs, no test question is an example, and its exercises come out as it says."""

import pytest

from clozelab.course.worlds import BASE_STEPS, Bases
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


def test_single_words_are_counted(lesson, monkeypatch):
    monkeypatch.setattr(lesson, "words_right", lambda *_: [[True, True, False], [True]])
    assert lesson.share_of_words(None, World(0), [], lesson.question) == 0.75


def test_exercise_1_twice_as_many_words(lesson):
    assert "Right" in lesson.LESSON.check(1, lesson.GUESS["translation"] / 2)


@pytest.mark.slow
@pytest.mark.parametrize(("exercise", "name"), [(2, "present"), (3, "absent")])
def test_exercises_2_and_3_six_examples(lesson, exercise, name):
    world = World(lesson.FIRST_SEED, lesson.WORLDS["present"])
    base = Bases()(World(lesson.FIRST_SEED, lesson.WORLDS[name]), BASE_STEPS)
    exam = {each: world.exercises(each, 100) for each in lesson.SKILLS}
    marks = lesson.teach(base, world, 6, exam, (0, 100))
    assert "Right" in lesson.LESSON.check(exercise, marks["translation", 100])
