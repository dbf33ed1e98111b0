"""The lesson on broad competence runs, and even a short training teaches the easy skill before the hard ones."""

import math

import pytest

from clozelab.languages.skills import SKILLS, VOCABULARY, World


def test_it_runs_to_its_end(trial):
    assert {f"{skill}, held out" for skill in SKILLS} <= trial.keys()


@pytest.mark.slow
def test_agreement_is_learned_first(fast):
    assert fast["agreement, held out"] > max(fast["copying, held out"], fast["translation, held out"])
    assert fast["nats, late"] < 0.6 * math.log(len(VOCABULARY))


def test_the_longer_lists_are_new_and_have_one_right_answer(lesson):
    lists = lesson.longer_lists(World(0), 8)
    assert len(lists) == 8
    assert all(len(set(exercise.answer)) == 6 and exercise.right(exercise.prompt[1:-1]) for exercise in lists)


def test_a_skill_appears_when_it_is_half_way_from_a_guess(lesson):
    exams = {10: {"agreement": 0.7, "copying": 0.4}, 20: {"agreement": 0.8, "copying": 0.6}}
    assert lesson.appears(exams, "agreement") == lesson.appears(exams, "copying") == 20
    assert lesson.appears({10: {"agreement": 0.7}}, "agreement") == math.inf
    assert lesson.when([{"exams": exams}, {"exams": {10: {"agreement": 0.7}}}], "agreement") == "20 to never"
