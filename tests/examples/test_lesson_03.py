"""Lesson 03: without its mask a decoder's loss falls below what is possible, and its text is worse."""

from pathlib import Path

import pytest

from clozelab.course import Seeds
from clozelab.evaluation import probe, receptive_field
from clozelab.models import causal_mask


def test_it_runs_to_its_end(trial):
    assert trial


def test_only_the_decoder_without_a_mask_leaks(lesson):
    *correct, (name, leaky) = lesson.leaks_of_the_three()
    assert len(correct) == 4
    assert all(report.passed for _, report in correct)
    assert name == "causal, without its mask"
    assert len(leaky.leaks) == 12 * 11 / 2  # all pairs above the diagonal
    assert leaky.declared.equal(receptive_field(causal_mask(12)))


def test_a_leak_is_defined_by_what_the_objective_allows(lesson):
    """Compared with its own attention mask the decoder without a mask has no fault."""
    unmasked = lesson.without_mask(lesson.at_random(lesson.CAUSAL, lesson.SYMBOLS))
    assert probe(unmasked, {"input_ids": lesson.SOURCE.sample(1, 12)}).passed


@pytest.mark.slow
def test_the_loss_without_a_mask_is_below_what_is_possible(lesson, fast):
    assert fast["trained without it: loss, read without a mask"] < lesson.SOURCE.entropy_rate - 0.2
    assert fast["trained with the mask: loss, read with it"] > lesson.SOURCE.entropy_rate - 0.02


@pytest.mark.slow
def test_the_text_that_it_generates_is_worse(fast):
    correct = fast["trained with the mask: its text, with the mask"]
    assert fast["trained without it: its text, with the mask"] > correct + 0.2
    assert fast["trained without it: its text, rereading"] > correct + 0.2


@pytest.mark.parametrize(("seen", "verdict"), [(0.01, "held"), (1.2, "held in part")], ids=["impossible", "possible"])
def test_a_loss_that_is_possible_does_not_support_the_claim(lesson, seen, verdict):
    losses = {"with the mask": (3.0, lesson.LEAST + 0.01, 1.3, 1.01), "without it": (seen, 8.0, 4.0, 4.1)}
    spread = (-0.001, 0.0, 0.001)
    f = {
        way: {what: Seeds(tuple(v + d for d in spread)) for what, v in zip(lesson.MEASURED, values)}
        for way, values in losses.items()
    }
    assert lesson.verdict(f).verdict == verdict
    f["with the mask"][lesson.MEASURED[1]] = Seeds((lesson.LEAST - 0.2,) * 3)  # then the yardstick is wrong
    assert lesson.verdict(f).verdict == "cannot tell"


def test_the_answer_of_exercise_2(lesson):
    _, report = lesson.leaks_of_the_three(length=16)[-1]
    assert lesson.LESSON.check(2, len(report.leaks)).startswith("Right")
    _, report = lesson.leaks_of_the_three()[-1]
    assert not lesson.LESSON.check(2, len(report.leaks)).startswith("Right")


@pytest.mark.slow
def test_the_answers_of_exercises_1_and_3(lesson):
    source = Path(lesson.__file__).read_text(encoding="utf-8")
    for old, new in (("text[::2]", "text[1:]"), ("text[1::2]", "text[:1]")):
        assert source.count(old) == 1
        source = source.replace(old, new)
    changed = {"__name__": "changed"}
    exec(compile(source, "changed", "exec"), changed)
    for train_one, right in ((changed["train_one"], True), (lesson.train_one, False)):
        curve = train_one("with it in every other row", 10, 200)[1]
        assert lesson.LESSON.check(1, sum(curve[-20:]) / 20).startswith("Right") == right
    for steps, right in ((60, True), (200, False)):
        loss = float(lesson.loss_of(lesson.train_one("without it", 10, steps)[0], lesson.FRESH))
        assert lesson.LESSON.check(3, loss).startswith("Right") == right


def test_the_weights_are_shared_and_not_copied(lesson):
    model = lesson.CAUSAL.build_model(8, d_model=32, n_layers=2, n_heads=2)
    ours, theirs = (dict(one.named_parameters()) for one in (model, lesson.without_mask(model)))
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
