"""Lesson 12: the training loss on dirty text."""

import pytest
import torch

from clozelab.course import Seeds


def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.slow
def test_the_training_loss_falls_for_some_dirt_and_rises_for_other(fast):
    for kind in ("boilerplate", "copies"):
        assert fast[f"training/{kind}"] < fast["training/clean"] - 0.1
    assert fast["training/shuffled"] > fast["training/clean"] + 0.1
    for kind in ("zero bytes", "shuffled"):
        assert fast[f"clean/{kind}"] > fast["clean/clean"] + 0.02
    assert fast["within the run"] > 0.7


@pytest.mark.parametrize(("silent", "outcome"), [(True, "held"), (False, "held in part")], ids=["silent", "telling"])
def test_a_training_loss_that_ranks_corpora_speaks_against_the_claim(lesson, silent, outcome):
    losses = (1.51, 1.52, 0.82, 1.2, 1.1, 1.56, 2.1, 2.0)
    clean = (0.01, 0.02, 0.05, 0.06, 0.2, 0.1, 0.12, 0.04)
    f = {}
    for kind, loss, cost in zip(lesson.KINDS, losses, clean if silent else losses):
        f |= {f"{which}/{kind}": Seeds((loss, loss, loss)) for which in ("training", "same corpus")}
        f[f"clean/{kind}"] = Seeds((cost, cost, cost)) if silent else Seeds((cost / 100,) * 3)
    if not silent:
        f |= {"clean/clean": Seeds((0.001,) * 3), "clean/clean, half as many": Seeds((0.002,) * 3)}
    f["within the run"] = Seeds((0.9, 0.9, 0.9))
    assert lesson.verdict(f).verdict == outcome
    f["within the run"] = Seeds((0.2, -0.1, 0.1))
    assert lesson.verdict(f).verdict == "cannot tell"


def test_the_answers_of_the_exercises(lesson):
    for number, without in ((2, lesson.SURPRISES), (3, lesson.REPEATS)):
        assert lesson.LESSON.check(number, lesson.recorded_correlation(without)).startswith("Right")
        assert not lesson.LESSON.check(number, lesson.recorded_correlation()).startswith("Right")


@pytest.mark.slow
def test_one_text_copied_costs_less_than_sixteen(lesson, monkeypatch):
    assert not lesson.LESSON.check(1, lesson.measure("copies", 10, 150, 500)["training"]).startswith("Right")
    monkeypatch.setattr(lesson, "POOL", lesson.LANGUAGE.sample(1, lesson.LENGTH, seed=-2))
    assert lesson.LESSON.check(1, lesson.measure("copies", 10, 150, 500)["training"]).startswith("Right")


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
