"""Lesson 04: the schemes hide what they should, floors are exact, and the judge detects dull text."""

import pytest
import torch

from clozelab.objectives import MaskedLM


def test_any_share_hides_every_number_of_tokens_as_often(lesson):
    generator, free = torch.Generator().manual_seed(0), torch.tensor([False, True, True, True, True])
    masks = torch.stack([lesson.any_share(torch.arange(5), free, generator) for _ in range(4000)])
    assert not masks[:, 0].any()
    shares = masks.sum(1).bincount(minlength=5) / 4000
    assert shares.tolist() == pytest.approx([0, 0.25, 0.25, 0.25, 0.25], abs=0.035)  # 5 standard errors


def test_one_run_is_one_run_up_to_the_whole(lesson):
    generator = torch.Generator().manual_seed(0)
    masks = torch.stack([lesson.one_run(torch.arange(5), torch.ones(5).bool(), generator) for _ in range(1000)])
    begins = masks[:, 1:] & ~masks[:, :-1]
    assert (begins.sum(1) == 1).all()
    assert not masks[:, 0].any()
    assert set(masks.sum(1).tolist()) == {1, 2, 3, 4}


def test_what_is_hidden_is_read_off_the_batch(lesson):
    """What stands behind the sentinels are the symbols that are missing from the inputs."""
    for name in ("span, 15% by threes", "span, one run", "masked, any share"):
        texts, batch = lesson.held_out(lesson.TRAINED[name], 0, texts=20)
        hidden = lesson.hidden_in(lesson.TRAINED[name], batch)
        symbols = lesson.SOURCE.symbols
        labels, inputs = batch["labels"], batch["input_ids"]
        assert texts[hidden].tolist() == labels[(labels >= 0) & (labels < symbols)].tolist()
        assert texts[~hidden].tolist() == inputs[inputs < symbols].tolist()


def test_the_least_nats_are_those_of_the_messages_of_a_hidden_markov_model(lesson):
    objective, source = lesson.TRAINED["masked, 15%"], lesson.SOURCE
    texts, batch = lesson.held_out(objective, 0, texts=20)
    of_texts = {"input_ids": batch["input_ids"][:, 1:], "labels": batch["labels"][:, 1:]}
    costs = MaskedLM(**lesson.MASKS_ONLY).entropy_floor(source, of_texts, lesson.SPECIAL)["logits"]
    expected = float(costs.sum() / (of_texts["labels"] >= 0).sum())
    assert lesson.least_nats(objective, texts, batch) == pytest.approx(expected, rel=1e-5)


def test_the_least_nats_of_a_causal_model_and_of_a_whole_text_are_those_of_the_text(lesson):
    causal = lesson.TRAINED["causal"]
    texts, batch = lesson.held_out(causal, 0, texts=20)
    expected = -float(lesson.SOURCE.log_prob(texts).mean()) / lesson.LENGTH
    assert lesson.least_nats(causal, texts, batch) == pytest.approx(expected, rel=1e-5)


def test_runs_are_easier_than_a_guess_and_harder_than_short_spans(lesson):
    threes, run = (lesson.TRAINED[name] for name in ("span, 15% by threes", "span, one run"))
    short, long = (lesson.least_nats(one, *lesson.held_out(one, 0)) for one in (threes, run))
    assert short < long < lesson.SOURCE.entropy


def test_the_judge_distinguishes_nonsense_from_dullness(lesson):
    source, texts = lesson.SOURCE, 2000
    off, excess = lesson.judge_texts(source.sample(texts, lesson.LENGTH, seed=1))
    assert off < 0.02
    assert abs(excess) < 0.03
    off, excess = lesson.judge_texts(lesson.by_frequency(texts, 0))
    assert off > 0.2
    assert excess > 0.2
    text = [int(source.stationary.argmax())]
    while len(text) < lesson.LENGTH:
        text.append(int(source.transition[text[-1]].argmax()))
    off, excess = lesson.judge_texts(torch.tensor(text).repeat(texts, 1))  # always the most probable next symbol
    assert off > 0.2
    assert excess < -0.2


def test_the_exercises_have_their_answers(lesson):
    def all_of_it(tokens, maskable, generator):
        return maskable

    one = MaskedLM(scheme=all_of_it, **lesson.MASKS_ONLY)
    answers = (
        lesson.judge_texts(torch.zeros(400, lesson.LENGTH).long())[0],
        lesson.judge_texts(lesson.by_frequency(400, 0))[0],
        lesson.least_nats(one, *lesson.held_out(one, 0)),
    )
    for number, answer in enumerate(answers, start=1):
        assert lesson.LESSON.check(number, answer).startswith("Right"), answer


@pytest.mark.slow  # five models and their texts
def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.slow
def test_the_direction_shows_even_when_fast(fast):
    assert fast["pairs off, causal continues 32"] < fast["pairs off, symbols by frequency"]
    assert fast["pairs off, masked, any share all 1"] > 0.25
    assert fast["excess nats, masked, any share confidence 32"] < -0.2
