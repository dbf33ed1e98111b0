"""Lesson 16: three modes in one stack, their floors, and the token that names the mode."""

import pytest
import torch


def test_it_runs_to_its_end(trial):
    assert {f"mixture in {mode}" for mode in "SRX"} <= trial.keys()


def test_a_mode_hides_what_it_says(lesson):
    sentinels = torch.tensor(lesson.SPECIAL.sentinels)
    for mode, (lowest, highest, spans) in {"S": (1, 10, 1), "R": (6, 6, 3), "X": (10, 10, 2)}.items():
        batch = lesson.test_batch(mode, 50)
        assert (batch["input_ids"][:, 0] == lesson.SPECIAL[f"mode_{mode.lower()}"]).all()
        marks = torch.isin(batch["labels"], sentinels).sum(1)
        hidden = (batch["labels"] >= 0).sum(1) - marks - 1  # without the end of text
        assert lowest <= int(hidden.min()) <= int(hidden.max()) <= highest
        assert int(marks.max()) <= spans + 1


def test_the_mixture_draws_every_mode_as_often_as_it_says(lesson):
    batch = lesson.Mixture().collator(lesson.SPECIAL).block(lesson.LANGUAGE.sample(800, 20, seed=0), range(800))
    shares = batch["mode"].bincount(minlength=3) / 800  # R, S, X
    assert shares.tolist() == pytest.approx([0.25, 0.5, 0.25], abs=0.06)


def test_the_floor_is_below_what_an_untrained_model_and_a_guess_lose(lesson):
    untrained = lesson.trained(lesson.Mixture(), seed=0, steps=0)
    for mode in lesson.MODES:
        assert lesson.floor(mode, 60) + 0.5 < lesson.guess(mode, 60) < lesson.nats(untrained, mode, 60)


def test_the_other_token_is_all_that_changes(lesson):
    asked = []

    def recorder(mode, token):
        model = lesson.trained(lesson.Mixture(), seed=0, steps=0)
        model.register_forward_pre_hook(
            lambda module, args, kwargs: asked.append(args[0] if args else kwargs["input_ids"]), with_kwargs=True
        )
        lesson.nats(model, mode, 4, token)

    recorder("S", None), recorder("S", "R")
    own, other = asked
    assert torch.equal(own[:, 1:], other[:, 1:])
    assert (own[:, 0] == lesson.SPECIAL["mode_s"]).all()
    assert (other[:, 0] == lesson.SPECIAL["mode_r"]).all()


def test_the_answer_of_the_first_exercise(lesson):
    assert lesson.LESSON.check(1, lesson.hidden(lesson.Denoiser("mode_r", 0.25, 3, 0.15))).startswith("Right")
    assert lesson.LESSON.check(1, lesson.hidden(lesson.R)).startswith("Not yet")


@pytest.mark.slow
def test_the_answers_of_the_other_exercises(lesson):
    mixture, specialist = (lesson.trained(one, 0, steps=100) for one in (lesson.Mixture(), lesson.OnlyR()))
    assert lesson.LESSON.check(2, lesson.nats(mixture, "S", 200, token="R")).startswith("Right")
    assert lesson.LESSON.check(2, lesson.nats(mixture, "S", 200)).startswith("Not yet")
    assert lesson.LESSON.check(3, lesson.nats(specialist, "S", 200)).startswith("Right")
    assert lesson.LESSON.check(3, lesson.guess("S", 200)).startswith("Not yet")
