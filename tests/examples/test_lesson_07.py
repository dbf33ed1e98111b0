"""Lesson 07: the tasks, the text that holds them, and the equal compute."""

import pytest
import torch


def test_it_runs_to_its_end(trial):
    assert {"causal, tuned: maps", "span, scratch: classify", "span, tuned on as many pairs: maps"} <= trial.keys()


def test_the_tasks_are_what_they_are_called(lesson):
    answers = {task: answer([0, 0, 3, 0], 1) for task, answer in lesson.TASKS.items()}
    assert answers["classify"] == [lesson.KIND[1]]
    assert answers["reverse"] == [0, 3, 0, 0]
    assert answers["summarise"] == [0, 3, 0]
    first, second = lesson.DICTIONARY[0], lesson.DICTIONARY[3]
    assert answers["translate"] == [first, first, second, first]


def test_the_text_of_pretraining_holds_the_pairs_and_nothing_else(lesson):
    for ids in lesson.text_of(0).tolist():
        assert len(ids) == lesson.LENGTH
        first = ids[: ids.index(lesson.SPECIAL.eos)]
        [mark] = [place for place, token in enumerate(first) if token in lesson.MARK]
        task = lesson.MAPS[first[mark] - lesson.MARK[0]]
        assert first[mark + 1 :] == lesson.TASKS[task](first[:mark], 0)
        assert not {*lesson.TASK, *lesson.KIND} & {*ids}


def test_a_prompt_of_the_text_is_what_a_hidden_answer_leaves_of_it(lesson):
    """A run of six hides the answer and the end of the text: one of the draws of span corruption."""
    prompts, answers, tasks = lesson.pairs_of(0, 6, "as in the text")
    for prompt, answer, task in zip(prompts, answers, tasks):
        assert answer == lesson.TASKS[lesson.MAPS[task]](prompt[:-1], 0)
        if task < 2:
            assert len(prompt) == len([*answer, lesson.SPECIAL.eos]) == 6
            assert len(prompt) + 6 == lesson.LENGTH


def test_a_prompt_of_fine_tuning_ends_in_the_id_of_its_task(lesson):
    prompts, answers, tasks = lesson.pairs_of(0, 8, "as a task")
    assert [prompt[-1] for prompt in prompts] == [lesson.TASK[task] for task in tasks]
    assert all(answer[0] in lesson.KIND for answer, task in zip(answers, tasks) if task == 3)


def test_compute_is_equal(lesson):
    for batches in (lesson.text_at, lesson.pairs_at):
        costs = {
            name: lesson.training_flops(lesson.OBJECTIVES[name], lesson.build(name, 0), map(batches(name, 0), range(4)))
            for name in lesson.OBJECTIVES
        }
        assert lesson.equal_steps("span", batches, 200) * costs["span"] == pytest.approx(
            200 * costs["causal"], rel=0.01
        )


def test_there_are_few_pairs_and_those_of_the_test_are_others(lesson):
    batch = lesson.pairs_at("causal", 0)
    assert torch.equal(batch(0)["input_ids"], batch(lesson.BATCHES)["input_ids"])
    assert batch(0)["input_ids"].tolist() != batch(1)["input_ids"].tolist()


def test_the_answers_of_the_exercises(lesson):
    found = [lesson.best_possible(20), lesson.frequency_guess([3]), lesson.equal_steps("span", lesson.pairs_at, 300)]
    for exercise, value in enumerate(found, start=1):
        assert lesson.LESSON.check(exercise, value).startswith("Right"), value
    assert lesson.LESSON.check(1, lesson.best_possible(4)).startswith("Not yet")


def test_what_is_asked_was_in_no_text(lesson):
    phrases = {unseen: {tuple(phrase) for phrase in lesson.phrases(7, 500, unseen)[0]} for unseen in (False, True)}
    assert len(phrases[True]) > 100
    assert not phrases[False] & phrases[True]
    asked = lesson.pairs_of(3, 40, "as a task")[0]
    trained = lesson.pairs_of(3, 40, "as a task", unseen=False)[0]
    assert {tuple(prompt[:-1]) for prompt in asked} <= phrases[True] | set(map(tuple, lesson.phrases(3, 40, True)[0]))
    assert not {tuple(prompt[:-1]) for prompt in asked} & {tuple(prompt[:-1]) for prompt in trained}


@pytest.mark.parametrize("name", ["causal", "span"])
def test_new_ids_get_vectors_of_their_own_and_the_others_stay(lesson, name):
    model = lesson.build(name, 0)
    table = model.embedding.weight.data
    table[[*lesson.TASK, *lesson.KIND]] = 5.0  # one vector, as after pretraining
    changed = lesson.with_new_ids(model, 0).embedding.weight.data
    new = torch.tensor([*lesson.TASK, *lesson.KIND])
    assert len(changed[new].unique(dim=0)) == len(new)
    assert changed[new].norm(dim=1).max() < 2 * table[: lesson.WORDS].norm(dim=1).max()
    others = torch.ones(len(table), dtype=torch.bool).index_fill(0, new, False)
    assert torch.equal(changed[others], table[others])
