"""Lesson 20: one set of weights read in two ways, controls that change one thing each, and a rule that can say no."""

import pytest
import torch
import torch.nn.functional as F

from clozelab.course import Seeds


def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.slow
def test_vectors_are_better_after_causal_steps_even_when_fast(fast):
    assert fast["24 steps, 25%: senses"] > fast["24 steps, 0%: senses"]
    assert fast["attention and alignment: 0% after"] > fast["attention, earlier: 0% after"]


def test_a_step_of_either_kind_trains_the_weights_of_both_models(lesson):
    before = lesson.untrained(0)
    for kind in ("causal", "masked"):
        models = lesson.train(0, [kind] * 2)
        assert all(one is other for one, other in zip(models["left"].parameters(), models["both"].parameters()))
        assert not torch.equal(models["left"].embedding.weight, before["left"].embedding.weight)


def test_one_model_reads_the_left_side_and_the_other_both(lesson):
    models = lesson.train(0, ["causal"] * 2)
    text = lesson.SOURCE.sample(1, 8, seed=0)[0]
    changed = torch.cat([text[:, :-1], (text[:, -1:] + 1) % 128], 1)
    moved = {reads: (model(text) - model(changed))[0, :-1].abs().max() > 1e-6 for reads, model in models.items()}
    assert moved == {"left": False, "both": True}


def test_the_controls_hide_the_same_tokens_and_never_the_first(lesson):
    earlier, *others = (lesson.batches(kind, 3, 50) for kind in ("one place earlier", "all masks", "from the left"))
    for batch in others:
        assert all(torch.equal(batch[key], earlier[key]) for key in ("input_ids", "labels"))
    hidden = earlier["labels"] >= 0
    assert not hidden[:, 0].any()
    assert torch.equal(hidden, earlier["input_ids"] == lesson.SPECIAL["mask"])


def test_one_place_earlier_is_the_loss_in_place_of_outputs_that_are_shifted_by_one(lesson):
    models, batch = lesson.train(0, ["masked"] * 3), lesson.batches("one place earlier", 3, 50)
    objective, reads = lesson.KINDS["one place earlier"]
    logits = models["both"].unembed(models["both"](batch["input_ids"]))[:, :-1]
    by_hand = F.cross_entropy(logits.transpose(1, 2), batch["labels"][:, 1:])
    torch.testing.assert_close(objective(models[reads], batch).mean, by_hand)


def test_other_text_is_other_text_until_the_switch(lesson):
    same, other = (lesson.batches(kind, 3, 50) for kind in ("masked", "masked, other text"))
    assert (same["input_ids"] != other["input_ids"]).float().mean() > 0.5
    assert lesson.plan("masked, other text", "masked", 8, 25) == ["masked, other text"] * 2 + ["masked"] * 6


def test_equal_logits_have_learned_nothing(lesson):
    for kind in ("masked", "all masks", "one place earlier"):
        above, learned = lesson.task(kind, lesson.untrained(0), seed=0)
        assert above > 0.5
        assert learned < 0


def figures(lesson, nats, points):
    """Figures of three seeds in which causal steps gain so much, and all gates are passed."""

    def seeds(value):
        return Seeds((value, value + 0.001, value - 0.001))

    f = {f"best by {reads}: senses": seeds(one) for reads, one in {"token": 60, "left": 84, "both": 93}.items()}
    f |= {"untrained: senses": seeds(52), "least learned": seeds(0.5), "least senses": seeds(70)}
    for n, budget in enumerate(lesson.BUDGETS):
        for share in (0, lesson.JUDGED):
            f[f"{budget} steps, {share}%: loss"] = seeds(0.5 - 0.1 * n - nats * (share > 0))
            f[f"{budget} steps, {share}%: senses"] = seeds(70 + 5 * n + points * (share > 0)) - Seeds((0, 0.01, 0))
    for what in ("loss", "senses"):
        f[f"other text: {what}"] = f[f"{lesson.BUDGETS[1]} steps, 0%: {what}"]
    return f


def test_gains_of_vectors_alone_hold_in_part_and_no_gains_not_at_all(lesson):
    budgets = lesson.BUDGETS
    assert lesson.verdict(figures(lesson, 0.05, 2), budgets).verdict == "held"
    assert lesson.verdict(figures(lesson, -0.05, 2), budgets).verdict == "held in part"
    assert lesson.verdict(figures(lesson, -0.05, -2), budgets).verdict == "contradicted"


@pytest.mark.parametrize(("name", "value"), [("least learned", 0.3), ("least senses", 59), ("other text: loss", 0.6)])
def test_nothing_is_judged_behind_a_gate_that_is_not_passed(lesson, name, value):
    f = figures(lesson, 0.05, 2) | {name: Seeds((value, value + 0.001, value - 0.001))}
    assert lesson.verdict(f, lesson.BUDGETS).verdict == "cannot tell"


def test_exercise_1_a_causal_step_predicts_three_times_as_many_tokens(lesson):
    causal, masked = (lesson.batches(kind, 0, 99)["labels"] for kind in ("causal", "masked"))
    assert lesson.LESSON.check(1, float((causal[:, 1:] >= 0).sum() / (masked >= 0).sum())).startswith("Right")


@pytest.mark.slow
def test_exercise_2_a_causal_model_knows_hidden_tokens_one_place_earlier(lesson):
    models = lesson.train(10, lesson.plan("causal", "masked", 50, 100))
    in_place, earlier = (lesson.task(kind, models, 10) for kind in ("all masks", "one place earlier"))
    assert lesson.LESSON.check(2, in_place[0] - earlier[0]).startswith("Right")
    assert 0.4 < earlier[1] < 0.5  # "nearly half of the task"


@pytest.mark.slow
def test_exercise_3_what_comes_last_is_done_best(lesson):
    reverse, forward = (lesson.plan(*kinds, 50, 50) for kinds in (("masked", "causal"), ("causal", "masked")))
    assert lesson.LESSON.check(3, lesson.task("masked", lesson.train(10, reverse), 10)[1]).startswith("Right")
    assert abs(lesson.task("masked", lesson.train(10, forward), 10)[1] - 0.52) < 0.02
