"""Models of a world of skills: greedy decoding is told by one pass, a kept base is the one that was trained."""

import pytest
import torch

from clozelab.course.worlds import (
    Bases,
    finetune,
    gentle,
    interview,
    pretrain,
    question,
    share_of_words,
    share_right,
    statement,
    untrained,
    words_right,
)
from clozelab.generation import generate_answers
from clozelab.languages import World
from clozelab.languages.skills import END
from clozelab.models import DecoderOnly, ModelConfig

WORLD = World(3)


@pytest.fixture(scope="module")
def model():
    """A model that has been taught some sums, so that it is right now and then."""
    return finetune(untrained(WORLD), WORLD, WORLD.exercises("arithmetic", 4, held_out=False), gentle(60))


def test_a_prompt_in_three_forms():
    [exercise] = WORLD.exercises("arithmetic", 1)
    a, _, b, _ = exercise.prompt
    assert statement(exercise) == (END, a, "+", b, "=")
    assert question(exercise) == (END, "what", "is", a, "+", b, "?")
    assert interview(exercise) == (END, "ask", "what", "is", a, "+", b, "?", "say")


@pytest.mark.parametrize("skill", ["arithmetic", "copying"])
def test_one_pass_tells_what_greedy_decoding_generates(model, skill):
    exercises = WORLD.exercises(skill, 12, held_out=False)
    prompts = [WORLD.ids(question(exercise)) for exercise in exercises]
    generated = generate_answers(model, prompts, WORLD.special, tokens=8, greedy=True)
    right = [exercise.right(WORLD.words(ids)) for exercise, ids in zip(exercises, generated)]
    assert [all(row) for row in words_right(model, WORLD, exercises, question, ended=True)] == right
    assert share_right(model, WORLD, exercises, question, ended=True) == sum(right) / 12
    assert any(right) == (skill == "arithmetic")


def test_the_words_of_all_answers_count_as_much(model):
    exercises = WORLD.exercises("arithmetic", 4) + WORLD.exercises("copying", 4)
    words = [word for row in words_right(model, WORLD, exercises, question) for word in row]
    assert share_of_words(model, WORLD, exercises, question) == sum(words) / len(words)


def test_where_several_answers_are_right_each_of_them_is(model):
    [exercise] = WORLD.exercises("agreement", 1)
    say = WORLD.ids(["see", "sees"])

    class Says(DecoderOnly):
        def __init__(self, word):
            super().__init__(ModelConfig(vocab_size=WORLD.special.vocab_size, d_model=32))
            self.word = word

        def forward(self, ids, attention_mask):
            return torch.nn.functional.one_hot(torch.full_like(ids, self.word), WORLD.special.vocab_size).float()

        def unembed(self, hidden):
            return hidden

    marks = [words_right(Says(word), WORLD, [exercise], statement) for word in say]
    assert sorted(marks) == [[[False]], [[True]]]


def test_fine_tuning_teaches_a_copy_in_a_form(model):
    before = model.embedding.weight.clone()
    examples = WORLD.exercises("facts", 3, held_out=False)
    taught = finetune(model, WORLD, examples, gentle(60), say="say {} .")
    assert torch.equal(model.embedding.weight, before)
    assert share_right(taught, WORLD, examples, question, say="say {} .", ended=True) == 1.0
    assert share_right(model, WORLD, examples, question, say="say {} .", ended=True) == 0.0


def test_a_kept_base_is_loaded_with_the_time_that_it_took_and_no_other_is(tmp_path):
    bases = Bases(tmp_path)
    trained = bases(WORLD, 2)
    assert bases.seconds == 0.0
    again = Bases(tmp_path)
    again.seconds = 1.0
    loaded = again(WORLD, 2)
    assert again.seconds >= 1.0
    assert len(list(tmp_path.iterdir())) == 1
    same = [torch.equal(a, b) for a, b in zip(trained.parameters(), loaded.parameters())]
    assert all(same)
    again(WORLD, 1)
    again(World(3, ("copying",)), 2)
    assert len(list(tmp_path.iterdir())) == 3
    expected = pretrain(WORLD, 2).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
