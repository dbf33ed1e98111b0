"""Lesson 17: a loss on every token against one on 15%, and how much there is to detect."""

import pytest
import torch

from clozelab.course import Seeds
from clozelab.objectives import Electra

MASKED = ("masked LM", "masked LM 5%")


@pytest.fixture(scope="module")
def lesson(lesson):
    """With half of the looks: most of the time of a short run goes into the probes."""
    lesson.QUARTERS = (2, 4)
    return lesson


def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.slow
def test_all_know_more_than_the_word_alone_even_when_fast(fast):
    assert all(fast[name] > fast["the word alone"] + 3 for name in ("masked LM", "ELECTRA", "ELECTRA 15%"))
    assert fast["untrained"] < fast["the word alone"] + 2
    assert fast["masked LM: least"] < fast["masked LM: loss"] < fast["masked LM: guess"]
    assert fast["ELECTRA: least"] < fast["ELECTRA: loss"] < fast["ELECTRA: guess"]


def test_the_four_read_alike_and_differ_in_what_is_in_the_loss(lesson):
    batches = {name: lesson.batches(name, 0)(0) for name in lesson.OBJECTIVES}
    hidden = batches["ELECTRA"]["sampling_noise"] > 0
    assert torch.equal(hidden, batches["masked LM"]["labels"] >= 0)
    masks = {
        name: lesson.OBJECTIVES[name].targets(batches[name])["discriminator"].loss_mask
        for name in ("ELECTRA", "ELECTRA 15%")
    }
    assert masks["ELECTRA"].all()
    assert torch.equal(masks["ELECTRA 15%"], hidden)
    losses = [lesson.LOSSES[name](lesson.untrained("masked LM", 0), batches[name]) for name in MASKED]
    assert [int(loss["logits"].count) for loss in losses] == [int(hidden.sum()), int(hidden[:, ::3].sum())]


def test_the_probe_reads_both_blocks_and_leaves_the_model_whole(lesson):
    model, text = lesson.untrained("ELECTRA", 0), lesson.SOURCE.sample(2, lesson.LENGTH, seed=0)[0]
    before = model.discriminator(text)
    found = lesson.vectors(model, text).view(2, lesson.LENGTH, 64)
    assert torch.equal(found[..., 32:], before)
    assert torch.equal(model.discriminator(text), before)
    assert len(model.discriminator.blocks) == 2


def figures(**changed):
    """Figures of three seeds by which the claim is held."""
    f = dict.fromkeys(("masked LM", "masked LM, equal compute", "ELECTRA 15%"), 92.0)
    f |= {"the word alone": 78.0, "untrained": 78.0, "ELECTRA": 94.0, "masked LM 5%": 90.0} | changed
    for name in ("masked LM", "ELECTRA", "ELECTRA 15%"):
        f |= {f"{name}: {what}": value for what, value in {"loss": 0.3, "guess": 1.0, "least": 0.1}.items()}
    return {name: Seeds((value, value + 0.01 * k, value - 0.02)) for k, (name, value) in enumerate(f.items())}


def test_the_verdict_follows_from_gates_and_parts(lesson):
    assert lesson.verdict(figures()).verdict == "held"
    assert lesson.verdict(figures(**{"masked LM, equal compute": 95.0})).verdict == "held in part"
    assert lesson.verdict(figures(**{"ELECTRA 15%": 88.0, "ELECTRA": 90.0})).verdict == "contradicted"
    for control in ("masked LM 5%", "ELECTRA 15%"):
        assert lesson.verdict(figures(**{control: 95.0})).verdict == "cannot tell"
    short = figures()
    short["ELECTRA: loss"] = short["ELECTRA: guess"]
    assert lesson.verdict(short).verdict == "cannot tell"


def test_the_answers_of_the_exercises(lesson, monkeypatch):
    assert lesson.LESSON.check(1, lesson.detectable(perfect=True)).startswith("Right")
    assert lesson.LESSON.check(1, lesson.detectable(perfect=False)).startswith("Not yet")
    monkeypatch.setattr(lesson, "RATE", 0.5)
    assert lesson.LESSON.check(2, lesson.detectable(perfect=True)).startswith("Right")
    assert lesson.LESSON.check(3, lesson.step_cost()).startswith("Not yet")
    monkeypatch.setitem(lesson.OBJECTIVES, "ELECTRA", Electra(**lesson.SETTINGS | {"generator_size": 1.0}))
    assert lesson.LESSON.check(3, lesson.step_cost()).startswith("Right")
