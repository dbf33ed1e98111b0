"""Lesson 19: it runs, its probabilities are exact, its step prefers, and its exercises come out as it says."""

import pytest
import torch

from clozelab.course.worlds import finetune, gentle, pretrain, question, untrained
from clozelab.generation import causal_pairs
from clozelab.languages.skills import World

WORLD = World(0, ("arithmetic", "facts turned round"))


@pytest.fixture(scope="module")
def model():
    """One that has seen two translations."""
    return finetune(untrained(WORLD), WORLD, WORLD.exercises("translation", 2, held_out=False), gentle(40))


@pytest.fixture(scope="module")
def pair(lesson):
    """A question, its right answer, and a wrong one."""
    [exercise] = WORLD.exercises("translation", 1)
    return lesson.Preference(WORLD.ids(question(exercise)), WORLD.ids(exercise.answer), WORLD.ids(["röd"]), True)


def test_it_runs_to_its_end(lesson, trial):
    assert {f"{name}, preferences, 256" for name in lesson.WORLDS} <= trial.keys()


def test_probabilities_of_all_answers_of_one_word_sum_to_less_than_one_by_those_that_end_elsewhere(lesson, model):
    prompt, ids = WORLD.ids(["</s>", "cat"]), range(WORLD.special.vocab_size)
    p = lesson.log_probs(model, causal_pairs([prompt] * (len(ids) + 1), [[k] for k in ids] + [[]], WORLD.special)).exp()
    first = model.unembed(model(torch.tensor([prompt])))[0, -1].softmax(-1)
    ends = model.unembed(model(torch.tensor([[*prompt, k] for k in ids])))[:, -1].softmax(-1)[:, WORLD.special.eos]
    assert torch.allclose(p[:-1], first * ends, atol=1e-6)
    assert torch.allclose(p[-1], first[WORLD.special.eos], atol=1e-6)


def test_pass_at_k_by_the_definition(lesson, model):
    exercises = WORLD.exercises("translation", 2, held_out=False)
    passed = lesson.pass_at_k(model, WORLD, exercises)
    p = (
        lesson.log_probs(
            model,
            causal_pairs(
                [WORLD.ids(question(one)) for one in exercises],
                [WORLD.ids(one.answer) for one in exercises],
                WORLD.special,
            ),
        )
        .exp()
        .detach()
    )
    assert passed[1] == pytest.approx(float(p.mean()), rel=1e-5)
    assert passed[16] == pytest.approx(sum(1 - (1 - float(one)) ** 16 for one in p) / 2, rel=1e-4)


def test_the_judge(lesson):
    [exercise] = WORLD.exercises("translation", 1)
    assert lesson.mark(exercise, [*exercise.answer]) == 2
    assert lesson.mark(exercise, ["röd", "katt", "ser", "ser"]) == 1
    assert lesson.mark(exercise, ["röd", "katt", "ser"]) == lesson.mark(exercise, ["red", "katt", "ser", "hund"]) == 0


def test_the_step_prefers_the_chosen_answer_and_leaves_the_model_as_it_was(lesson, model, pair):
    def margin(one):
        both = causal_pairs([pair.prompt] * 2, [pair.chosen, pair.rejected], WORLD.special)
        chosen, rejected = lesson.log_probs(one, both).tolist()
        return chosen - rejected

    before = margin(model)
    assert margin(lesson.optimise(model, WORLD, [pair], 10)) > before + 0.5
    assert margin(model) == before


def test_without_pairs_nothing_is_learned(lesson, model):
    copy = lesson.optimise(model, WORLD, [], 10)
    assert copy is not model
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), copy.parameters()))


def test_the_control_changes_the_chosen_answers_alone(lesson, monkeypatch):
    seen = []
    monkeypatch.setattr(lesson, "optimise", lambda model, world, pairs, steps: seen.append(pairs) or model)
    sizes = {"base": 24, "demonstrate": 8, "optimise": 8, "exam": 4, "asked": 16}
    lesson.study(0, lambda world, steps: untrained(world), sizes)
    _, own, corrected = seen
    assert [(one.prompt, one.rejected) for one in own] == [(one.prompt, one.rejected) for one in corrected]
    right = {tuple(WORLD.ids(question(one))): WORLD.ids(one.answer) for one in asked_by(sizes)}
    assert all(one.chosen == right[tuple(one.prompt)] for one in corrected)


def asked_by(sizes):
    """The questions that `study` asks."""
    return WORLD.exercises("translation", sizes["asked"] + sizes["exam"], held_out=False, draw=2)[: sizes["asked"]]


def test_exercise_1_one_in_a_hundred(lesson):
    assert "Right" in lesson.LESSON.check(1, 1 - (1 - 0.01) ** 256)
    assert "Not yet" in lesson.LESSON.check(1, 0.01)


def test_exercise_2_without_a_loss_nothing_changes(lesson, model, pair):
    def share(**changed):
        return lesson.preferred(lesson.optimise(model, WORLD, [pair], 20, **changed), model, WORLD, [pair])

    assert "Right" in lesson.LESSON.check(2, share(beta=0.0, likelihood=0.0))
    assert "Not yet" in lesson.LESSON.check(2, share())


@pytest.mark.slow
def test_exercise_3_nothing_to_prefer(lesson):
    known, asked = (WORLD.exercises("translation", n, held_out=False, draw=n) for n in (lesson.DEMONSTRATIONS, 50))
    short = finetune(pretrain(World(0, lesson.NARROW), 150), WORLD, known, gentle(60))
    found = lesson.preferences(short, WORLD, asked, lambda exercise, words: 2 * exercise.right(words))
    assert "Right" in lesson.LESSON.check(3, len(found))
    assert "Not yet" in lesson.LESSON.check(3, len(lesson.preferences(short, WORLD, asked)))
