"""Lesson 05: it runs, its worths are right, and its exercises come out as it says."""

import math

import pytest

from clozelab.course.worlds import Bases, share_of_words, statement, untrained
from clozelab.languages.skills import World


def test_it_runs_to_its_end(lesson, trial):
    assert {f"held out, {skill}" for skill in lesson.SKILLS} <= trial.keys()


def test_a_skill_appears_when_it_is_half_way_from_a_guess(lesson):
    exams = {10: {"agreement": 0.7, "copying": 0.4}, 20: {"agreement": 0.8, "copying": 0.6}}
    assert lesson.appears(exams, "agreement") == lesson.appears(exams, "copying") == 20
    assert lesson.appears({10: {"agreement": 0.7}}, "agreement") == math.inf
    assert lesson.when([{"exams": exams}, {"exams": {10: {"agreement": 0.7}}}], "agreement") == "20 to never"


def test_the_most_frequent_sum_is_a_tenth_of_all_sums(lesson):
    sums = [a + b for a in range(10) for b in range(10)]
    assert max(map(sums.count, sums)) / len(sums) == lesson.GUESS["arithmetic"]


def test_what_a_skill_is_worth_by_counting_its_sentences(lesson):
    words = World(0).words(lesson.WORLD.text(1, 40_000))
    lists = sum(word == "copy" and words[n - 1] != "you" for n, word in enumerate(words))  # statements
    asked = sum(words[n : n + 3] == ["ask", "can", "you"] for n in range(len(words)))
    counted = (lists + asked) * 3 * math.log(len(lesson.COPIED)) / 400
    assert lesson.worth("copying") == pytest.approx(counted, rel=0.1)


def test_exercise_1_two_words_instead_of_three(lesson):
    assert "Right" in lesson.LESSON.check(1, lesson.worth("copying") * 2 / 3)
    assert "Not yet" in lesson.LESSON.check(1, lesson.worth("copying"))


@pytest.mark.slow
def test_exercise_2_what_appears_in_a_hundred_steps(lesson):
    exams = lesson.study(0, Bases(None), 100, 8, 60, (100,))["exams"]
    assert "Right" in lesson.LESSON.check(2, sum(lesson.appears(exams, skill) < 101 for skill in lesson.SKILLS))


def test_exercise_3_a_verb_comes_next_must_be_learned_too(lesson):
    agreement = lesson.WORLD.exercises("agreement", 60)
    right = share_of_words(untrained(lesson.WORLD), lesson.WORLD, agreement, statement)
    assert "Right" in lesson.LESSON.check(3, right)
    assert "Not yet" in lesson.LESSON.check(3, lesson.GUESS["agreement"])
