"""Lesson 08: a base model continues a question with questions, and stops after a few examples."""

import pytest
import torch

from clozelab.languages.skills import World


def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.slow
def test_the_base_model_asks_and_the_fine_tuned_one_does_not(fast):
    assert fast["known form, 0 examples, arithmetic: asks"] > 0.5
    assert fast["known form, 64 examples, arithmetic: asks"] < 0.5


def test_none_of_the_questions_asked_was_among_the_examples(lesson):
    world = World(0)
    taught = world.exercises("arithmetic", 64, held_out=False, draw=1)
    asked = lesson.questions(world, "arithmetic", 40, taught)
    assert len(asked) >= 10
    assert not {exercise.question for exercise in asked} & {exercise.question for exercise in taught}
    assert len({exercise.question for exercise in lesson.questions(world, "facts", 40, taught)}) == 16


def test_what_counts_as_asking_answering_and_right(lesson, monkeypatch):
    world = World(0)
    [exercise] = world.exercises("arithmetic", 1)
    good, question = ("say", *exercise.answer, "."), ("what", "is", "3", "+", "4", "?")
    for words, expected in (
        (good, {"asks": 0, "answers": 1, "right": 1}),
        (exercise.answer, {"asks": 0, "answers": 1, "right": 0}),
        ((*good, *question), {"asks": 1, "answers": 0, "right": 0}),
        ((), {"asks": 0, "answers": 0, "right": 0}),
        ((".",) * 12, {"asks": 0, "answers": 0, "right": 0}),
    ):
        monkeypatch.setattr(lesson, "generate_answers", lambda *_, words=words, **__: [world.ids(words)])
        assert lesson.examine(torch.nn.Identity(), world, "say {} .", [exercise]) == expected
