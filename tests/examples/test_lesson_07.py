"""Lesson 07: the tasks, the equal compute, and the length of an answer, given or not."""

import torch


def test_the_tasks_are_what_they_are_called(lesson):
    answers = {task: answer([0, 0, 3, 0], 1) for task, answer in lesson.TASKS.items()}
    assert answers["classify"] == [lesson.KIND[1]]
    assert answers["reverse"] == [0, 3, 0, 0]
    assert answers["summarise"] == [0, 3, 0]
    first, second = lesson.DICTIONARY[0], lesson.DICTIONARY[3]
    assert answers["translate"] == [first, first, second, first]


def test_compute_is_equal_and_the_encoder_decoder_takes_more_steps_for_it(lesson, trial):
    """A step's rounding among 8 is at most 7%."""
    steps = {route: int(trial[f"{route}: steps"]) for route in lesson.ROUTES}
    assert steps["span"] > 1.3 * steps["causal"] == 1.3 * steps["span, as many pairs"]
    assert lesson.cost("masked", "padded pairs") > lesson.cost("masked", "pairs")  # more masks to read
    spent = [steps[name] * lesson.cost(name, "pairs") for name in lesson.OBJECTIVES]
    assert max(spent) < 1.1 * min(spent)
    spent = [lesson.equal_steps(name, "text", 1000) * lesson.cost(name, "text") for name in lesson.OBJECTIVES]
    assert max(spent) < 1.01 * min(spent)


def test_an_encoder_gets_a_mask_for_each_word_of_the_answer_or_for_the_longest_answer(lesson):
    """Of an encoder that has learned nothing."""
    objective, pairs = lesson.OBJECTIVES["masked"], lesson.pairs_of(0, 8)
    model = lesson.build(objective, 0)
    given = lesson.answer_pairs("encoder-only", *pairs[:2], lesson.SPECIAL)["labels"]
    assert (given != -100).sum(1).tolist() == [len(answer) for answer in pairs[1]]
    padded = lesson.pairs_at(objective, 0, given_length=False)(0)["labels"]
    assert torch.equal((padded != -100).sum(1), torch.full((lesson.ROWS,), lesson.LONGEST))
    for given_length in (True, False):
        assert set(lesson.exact(objective, model, pairs, given_length)) == set(lesson.TASKS)
