"""A verdict follows from gates and parts, and lack of power is never a verdict against a claim."""

import pytest

from clozelab.course import Gate, Part, Seeds, judge, share_learned
from clozelab.errors import InputError

UP, DOWN, NOISE = Seeds((0.3, 0.2, 0.25)), Seeds((-0.3, -0.2, -0.25)), Seeds((0.3, -0.4, 0.2))
PASSED, FAILED = Gate("has learned", Seeds((0.9, 0.91, 0.92)), above=0.8), Gate("has learned", NOISE, above=0.8)


@pytest.mark.parametrize(
    ("gates", "differences", "verdict"),
    [
        ([PASSED], [UP, UP], "held"),
        ([PASSED], [UP, NOISE], "held in part"),
        ([PASSED], [UP, DOWN], "held in part"),
        ([PASSED], [DOWN, NOISE], "contradicted"),
        ([PASSED], [NOISE, NOISE], "cannot tell"),  # what is not shown is not contradicted
        ([PASSED, FAILED], [UP], "cannot tell"),
        ([FAILED], [DOWN], "cannot tell"),  # a model that has learned too little speaks against nothing
        ([], [UP], "held"),
    ],
)
def test_the_verdict_follows_from_gates_and_parts(gates, differences, verdict):
    judgement = judge(gates, [Part(f"part {number}", one) for number, one in enumerate(differences)])
    assert judgement.verdict == verdict
    assert (judgement.reason == "") == (verdict == "held")


def test_the_reason_names_what_failed():
    assert "not passed: has learned" in judge([PASSED, FAILED], [Part("is ahead", UP)]).reason
    assert judge([PASSED], [Part("is ahead", UP), Part("is free", NOISE)]).reason.startswith("is free: +0.0333")


def test_one_seed_is_not_judged():
    assert judge([], [Part("is ahead", Seeds((1.0,)))]).verdict == "not judged"


def test_a_gate_is_passed_significantly_and_in_its_direction():
    loss = Seeds((1.02, 1.01, 1.03))
    assert Gate("is near its floor", loss, below=1.1).passed
    assert not Gate("is near its floor", loss, below=1.02).passed  # the mean is at the bound
    assert not Gate("is near its floor", loss, above=1.1).passed
    assert Gate("beats a guess of the same seed", loss, below=Seeds((1.3, 1.2, 1.4))).passed


@pytest.mark.parametrize("bounds", [{}, {"above": 1.0, "below": 2.0}])
def test_a_gate_has_one_bound(bounds):
    with pytest.raises(InputError, match="needs one bound"):
        Gate("has learned", UP, **bounds)


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ((0.001, -0.002, 0.003), "held"),
        ((0.3, 0.31, 0.29), "contradicted"),
        ((-0.3, -0.31, -0.29), "contradicted"),
        ((0.3, -0.3, 0.1), "cannot tell"),
        ((0.019, 0.021, 0.02), "cannot tell"),  # at the margin
    ],
)
def test_what_does_not_matter_is_shown_by_equivalence(values, outcome):
    assert Part("it does not matter", Seeds(values), within=0.02).outcome == outcome


def test_a_claim_has_parts():
    with pytest.raises(InputError, match="at least one part"):
        judge([PASSED], [])


def test_the_share_learned_is_0_at_a_guess_and_1_at_the_floor():
    assert share_learned(Seeds((2.0, 1.0, 1.5)), guess=2.0, floor=1.0).values == (0.0, 1.0, 0.5)
    assert share_learned(Seeds((2.0, 1.0)), guess=Seeds((2.0, 3.0)), floor=Seeds((1.0, 1.0))).values == (0.0, 1.0)


def test_a_verdict_in_part_says_of_how_many():
    held, not_told, other = (Part(what, Seeds(v)) for what, v in (("a", (1, 1.1)), ("b", (1, -1)), ("c", (-1, -1.1))))
    judgement = judge([], [held, not_told, other])
    assert str(judgement) == "held in part (1 of 3 parts, 1 contradicted)"
    assert judgement.title == "Held in part (1 of 3 parts, 1 contradicted)"
    assert judge([], [held]).title == "Held"


def test_a_rounding_error_is_no_effect():
    equal = Seeds((0.1 + 0.2,) * 5)
    assert Part("is ahead", equal - 0.3).outcome == "cannot tell"
    assert not Gate("is above", equal, above=0.3).passed


def test_all_of_a_judgement_has_the_same_seeds():
    with pytest.raises(InputError, match=r"as many seeds in all gates and parts, got \[1, 3\]"):
        judge([Gate("has learned", Seeds((0.9,)), above=0.8)], [Part("is ahead", UP)])


@pytest.mark.parametrize("floor", [1.0, 2.0])
def test_a_task_without_room_between_guess_and_floor_has_no_share(floor):
    with pytest.raises(InputError, match="expected a guess above the floor"):
        share_learned(Seeds((1.0, 1.2)), guess=1.0, floor=floor)
