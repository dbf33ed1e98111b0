"""Lesson 06: what the vectors of a token and of a text tell of their senses."""

import pytest
import torch

from clozelab.course import Seeds


def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.slow
def test_masked_vectors_pass_what_a_left_reader_can_know_even_when_fast(fast):
    assert fast["token/causal"] < fast["token/best, left"] + 1 < fast["token/masked"]
    assert fast["token/untrained"] < fast["token/best, token"] + 2


def test_no_reader_of_the_left_side_profits_from_the_right(lesson):
    text, _ = lesson.SOURCE.sample(20, 8, seed=0)
    changed = torch.cat([text[:, :4], (text[:, 4:] + 1) % 12], 1)
    left, both = ([lesson.SOURCE.posterior(one, reads)[:, :4] for one in (text, changed)] for reads in ("left", "both"))
    assert torch.equal(*left)
    assert (both[0] - both[1]).abs().max() > 0.01


def test_a_guess_by_frequency_has_learned_nothing_and_the_floor_is_below_it(lesson):
    model = lesson.untrained("masked", seed=0)  # its logits are all equal
    figures = lesson.own_task("masked", model, lesson.SOURCE.sample(200, lesson.LENGTH, seed=0)[0])
    assert figures["floor"] < figures["guess"] < figures["loss"]


def test_the_claim_is_not_judged_where_a_model_has_not_learned(lesson):
    ways = [f"{what}/{way}" for what in ("token", "text") for way in ("causal", "untrained", "counts", "masked")]
    best = [f"{what}/best, {reads}" for what in ("token", "text") for reads in ("token", "left", "both")]
    f = {name: Seeds((50 + n, 50.1 + n, 49.9 + n)) for n, name in enumerate([*ways, *best])}
    f |= {f"{what}/{name}": Seeds((value,) * 3) for name in ("causal", "masked") for what, value in LOSSES.items()}
    f |= {"token/causal": f["token/best, left"], "token/masked": f["token/best, both"], "text/causal": f["text/masked"]}
    f |= {"token/untrained": f["token/best, token"] - 5, "token/best, token": f["token/best, token"] - 5}
    judgement = lesson.verdict(f)
    assert judgement.verdict == "held in part"  # more of tokens, no more of texts
    f["loss/masked"] = f["guess/masked"]
    assert lesson.verdict(f).verdict == "cannot tell"


LOSSES = {"loss": 2.2, "guess": 2.4, "floor": 2.19}


def test_the_answers_of_the_exercises(lesson):
    SOURCE, LENGTH = lesson.SOURCE, lesson.LENGTH
    found = [lesson.advantage(lesson.language(stay=0.25)), lesson.advantage(SOURCE, place=LENGTH - 1)]
    found.append(lesson.advantage(SOURCE, place=0))
    for exercise, value in enumerate(found, start=1):
        assert lesson.LESSON.check(exercise, value).startswith("Right"), value
    assert lesson.LESSON.check(1, lesson.advantage(SOURCE)).startswith("Not yet")
