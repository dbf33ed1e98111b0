"""The made world: what is held out never occurs, what is stated is true, and a text depends on its number alone."""

import random

import pytest
import torch

from clozelab.errors import InputError
from clozelab.languages.skills import ASKED, SKILLS, VOCABULARY, World


@pytest.fixture(scope="module")
def world():
    return World(seed=3)


@pytest.fixture(scope="module")
def texts(world):
    """3000 rows, as one string with a space on each side of every word."""
    return " " + " ".join(word for n in range(3000) for word in world.words(world.text(n, 64))) + " "


def combination(exercise):
    """The words that make it out, as they would stand in a text."""
    words = {
        "copying": ("copy", *exercise.answer[:2]),
        "translation": exercise.prompt[:2],
    }.get(exercise.skill, exercise.prompt)
    return " " + " ".join(words) + " "


@pytest.mark.parametrize("skill", SKILLS)
def test_combinations_held_out_never_occur_and_the_others_do(world, texts, skill):
    apart, met = (world.exercises(skill, 100, held_out=held_out) for held_out in (True, False))
    assert len(apart) >= 4
    assert not [exercise for exercise in apart if combination(exercise) in texts]
    assert sum(combination(exercise) in texts for exercise in met) > 0.5 * len(met)


def test_swedish_do_not_give_away_what_is_held_out(world, texts):
    for exercise in world.exercises("translation", 100):
        assert " " + " ".join(exercise.answer[:2]) + " " not in texts


def test_every_word_occurs(texts):
    assert set(VOCABULARY) - set(texts.split()) == {"<pad>"}


def test_what_is_stated_is_true(texts):
    words = texts.split()
    sums = [words[i - 3 : i + 2] for i, word in enumerate(words[:-1]) if word == "=" and words[i + 1] != "</s>"]
    assert len(sums) > 1000
    assert all(int(a) + int(b) == int(c) for a, _, b, _, c in sums)


@pytest.mark.parametrize("skill", SKILLS)
def test_the_answer_is_right_and_nothing_else_is(world, skill):
    for exercise in world.exercises(skill, 20):
        assert exercise.right(exercise.answer)
        assert not exercise.right(())
        assert not exercise.right((*exercise.answer, "."))
        assert bool(exercise.question) == (skill in ASKED)
        assert len({len(answer) for answer in exercise.answers}) == 1


def test_a_verb_agrees_with_its_noun_and_not_with_the_nearer_one(world):
    exercises = world.exercises("agreement", 50)
    [exercise] = [e for e in exercises if e.prompt[1].endswith("s") and not e.prompt[4].endswith("s")][:1]
    assert exercise.right(["see"])
    assert exercise.right(["find"])
    assert not exercise.right(["sees"])


def test_a_text_depends_on_the_seed_and_its_number_alone(world):
    random.seed(0)
    torch.manual_seed(0)
    before = random.getstate(), torch.get_rng_state()
    block = world.block(2, rows=3, length=40)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert block.shape == (3, 40)
    assert block.tolist() == [World(3).text(n, 40) for n in (6, 7, 8)]
    assert block[0].tolist() == world.text(6, 100)[:40]
    assert World(4).text(6, 40) != world.text(6, 40)
    assert world.exercises("copying", 5) == World(3).exercises("copying", 5)
    assert world.exercises("copying", 5) != world.exercises("copying", 5, draw=1)


def test_a_world_without_a_skill_has_its_words_and_its_questions_but_no_answers(world):
    without = World(3, without=("translation",))
    text = " ".join(word for n in range(1000) for word in without.words(without.text(n, 64)))
    assert "in swedish" not in text
    assert "how do swedes say" in text
    assert "ask how" not in text
    assert " ser " in text
    for skill in SKILLS:
        assert without.exercises(skill, 20) == world.exercises(skill, 20)


def test_a_world_without_interviews_answers_no_question():
    text = [word for n in range(500) for word in World(3, ["interviews"]).words(World(3, ["interviews"]).text(n, 64))]
    assert not {"ask"} & {*text}
    after = {text[i + 1] for i, word in enumerate(text[:-1]) if word == "?"}
    assert after <= {"where", "what", "how", "can", "</s>"}


def test_words_and_ids(world):
    assert world.words(world.ids(["the", "cat", "</s>"])) == ["the", "cat", "</s>"]
    assert world.ids(["<pad>", "</s>"]) == [world.special.pad, world.special.eos]
    assert len({*VOCABULARY}) == len(VOCABULARY) == world.special.vocab_size


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: World(without=("juggling",)), "juggling"),
        (lambda: World(seed=1.5), "whole number"),
        (lambda: World().exercises("juggling", 3), "juggling"),
        (lambda: World().ids(["zebra"]), "no word 'zebra'"),
    ],
)
def test_what_the_world_does_not_have_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
