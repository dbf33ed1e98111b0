"""Lesson 12: the training loss on dirty text."""

import pytest
import torch


def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.slow
def test_the_training_loss_falls_for_some_dirt_and_rises_for_other(fast):
    for kind in ("boilerplate", "zero bytes"):
        assert fast[f"training/{kind}"] < fast["training/clean"] - 0.1
    assert fast["training/shuffled"] > fast["training/clean"] + 0.1
    for kind in ("zero bytes", "shuffled"):
        assert fast[f"clean/{kind}"] > fast["clean/clean"] + 0.02


def test_each_kind_of_dirt_changes_about_half_of_the_letters_and_no_length(lesson):
    clean = lesson.corpus("clean", 0, 0, 1000)["input_ids"]
    for kind in lesson.DIRT:
        text = lesson.corpus(kind, 0, 0, 1000)["input_ids"]
        assert text.shape == clean.shape
        untouched = float((text == clean).float().mean())
        assert 0.45 < untouched < (0.9 if kind == "noise" else 0.65), kind


def test_shuffling_keeps_the_letters_and_another_code_page_their_pattern(lesson):
    clean, dirty = (lesson.corpus(kind, 0, 0)["input_ids"][0] for kind in ("clean", "shuffled"))
    assert dirty.sort().values.equal(clean.sort().values)
    dirty = lesson.corpus("wrong code page", 0, 0)["input_ids"][0]
    assert (dirty[:, None] == dirty).equal(clean[:, None] == clean)
    assert sorted(lesson.OTHER_CODE.tolist()) == list(range(26))
    assert torch.equal(lesson.corpus("zero bytes", 0, 0)["input_ids"][0, ::2], clean[:16])
