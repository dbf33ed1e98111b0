"""Lesson 06: classifying a text by its vector."""

import pytest


def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.slow
def test_a_trained_model_beats_counting_where_counts_are_useless(fast):
    assert fast["probe/bag of words"] < 0.45  # four languages that use their letters equally often
    assert fast["probe/causal"] > fast["probe/bag of words"] + 0.1


def test_equal_compute_gives_the_encoder_more_texts_than_the_causal_model(lesson):
    task = lesson.synthetic(400)
    causal, masked, _ = (lesson.flops_of_step(objective, task, width=32) for objective in lesson.OBJECTIVES)
    assert masked < causal  # it compares fewer positions with the vocabulary


def test_texts_come_from_a_file_with_their_labels(lesson, tmp_path):
    path = tmp_path / "news.csv"
    path.write_text("".join(f'"{n % 2 + 1}","Title {n}","{"some words of text " * n}"\n' for n in range(20)))
    task = lesson.from_file(path, length=12, vocab_size=400)
    assert task.texts.shape[1] == 12
    assert 5 < len(task.texts) < 20  # the shortest ones are left out
    assert set(task.labels.tolist()) == {0, 1}
    assert sorted(torch_ids(task.split(0))) == list(range(len(task.texts)))


def torch_ids(parts):
    """All numbers of both sides of a split."""
    return [int(i) for part in parts for i in part]
