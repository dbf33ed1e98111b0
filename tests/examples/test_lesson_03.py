"""Lesson 03: without its mask a decoder's loss falls below what is possible, and its text is worse."""

import pytest


@pytest.fixture(scope="module")
def visit(lesson, tmp_path_factory):
    """(figures, folder) of a fast run."""
    folder = tmp_path_factory.mktemp("lesson_03")
    return lesson.main(["--fast", "--out", str(folder)]).figures, folder


def test_only_the_decoder_without_a_mask_leaks(lesson):
    *correct, (name, leaky) = lesson.leaks_of_the_three()
    assert len(correct) == 4
    assert all(report.passed for _, report in correct)
    assert name == "causal, without its mask"
    assert len(leaky.leaks) == 12 * 11 / 2  # all pairs above the diagonal


def test_the_loss_without_a_mask_is_below_what_is_possible(lesson, visit):
    figures, _ = visit
    assert figures["trained without it: loss, read without a mask"][0] < lesson.SOURCE.entropy_rate - 0.2
    assert figures["trained with the mask: loss, read with it"][0] > lesson.SOURCE.entropy_rate - 0.02


def test_the_text_that_it_generates_is_worse(visit):
    figures, _ = visit
    correct = figures["trained with the mask: its text, with the mask"][0]
    assert figures["trained without it: its text, with the mask"][0] > correct + 0.2
    assert figures["trained without it: its text, rereading"][0] > correct + 0.2


def test_the_weights_are_shared_and_not_copied(lesson):
    model = lesson.CAUSAL.build_model(8, d_model=32, n_layers=2, n_heads=2)
    ours, theirs = (dict(one.named_parameters()) for one in (model, lesson.without_mask(model)))
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)


def test_a_picture_is_drawn(visit):
    _, folder = visit
    assert (folder / "03_the_causal_mask.png").stat().st_size > 20_000
