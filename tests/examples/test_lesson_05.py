"""Lesson 05: it runs, its ranks and worths are right, and its exercises come out as it says."""

import math

import pytest

from clozelab.course.worlds import Bases, share_right, statement, untrained
from clozelab.languages.skills import World


def test_it_runs_to_its_end(lesson, trial):
    assert {f"held out, {skill}" for skill in lesson.ALL} <= trial.keys()


def test_a_skill_appears_when_it_is_half_way_from_a_guess(lesson):
    exams = {10: {"agreement": 0.7, "copying": 0.4}, 20: {"agreement": 0.8, "copying": 0.6}}
    assert lesson.appears(exams, "agreement") == lesson.appears(exams, "copying") == 20
    assert lesson.appears({10: {"agreement": 0.7}}, "agreement") == math.inf
    assert lesson.when([{"exams": exams}, {"exams": {10: {"agreement": 0.7}}}], "agreement") == "20 to never"


def test_what_a_skill_is_worth_by_counting_its_sentences(lesson):
    words = World(0, lesson.BROAD).words(lesson.WORLD.text(1, 40_000))
    lists = sum(word == "copy" and words[n - 1] != "you" for n, word in enumerate(words))  # statements
    asked = sum(words[n : n + 3] == ["ask", "can", "you"] for n in range(len(words)))
    counted = (lists + asked) * 3 * math.log(len(lesson.COPIED)) / 400
    assert lesson.worth("copying") == pytest.approx(counted, rel=0.1)


def test_rank_correlation(lesson):
    assert lesson.rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1.0)
    assert lesson.rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert lesson.rank_correlation([1, 2, 3, 4], [0, -math.inf, -math.inf, 1]) == pytest.approx(0.316, abs=1e-3)
    assert lesson.rank_correlation([1, 2, 3], [5, 5, 5]) == 0.0


def test_exercise_1_two_words_instead_of_three(lesson):
    assert "Right" in lesson.LESSON.check(1, lesson.worth("copying") * 2 / 3)
    assert "Not yet" in lesson.LESSON.check(1, lesson.worth("copying"))


@pytest.mark.slow
def test_exercise_2_what_appears_in_a_hundred_steps(lesson):
    exams = lesson.study(0, Bases(None), 100, 8, 60, (100,))["exams"]
    assert "Right" in lesson.LESSON.check(2, sum(lesson.appears(exams, skill) < 101 for skill in lesson.SKILLS))


def test_exercise_3_nothing_is_right_by_chance(lesson):
    world = World(0, lesson.BROAD)
    right = share_right(untrained(world), world, world.exercises("translation", 60), statement)
    assert "Right" in lesson.LESSON.check(3, right)
