"""Lesson 04: the schemes hide what they should, the judge detects dull text, and the direction shows when fast."""

import pytest
import torch


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


def test_the_judge_distinguishes_nonsense_from_dullness(lesson):
    source, texts = lesson.SOURCE, 2000
    off, excess = lesson.judge(source.sample(texts, lesson.LENGTH, seed=1))
    assert off < 0.02
    assert abs(excess) < 0.03
    shuffled = source.sample(texts, lesson.LENGTH, seed=1).flatten()[torch.randperm(texts * lesson.LENGTH)]
    off, excess = lesson.judge(shuffled.view(texts, -1))
    assert off > 0.2
    assert excess > 0.2
    text = [int(source.stationary.argmax())]
    while len(text) < lesson.LENGTH:
        text.append(int(source.transition[text[-1]].argmax()))
    off, excess = lesson.judge(torch.tensor(text).repeat(texts, 1))  # always the most probable next symbol
    assert off > 0.2
    assert excess < -0.2


def test_it_runs_to_its_end(trial):
    assert trial


@pytest.mark.slow
def test_the_direction_shows_even_when_fast(fast):
    assert fast["by threes less one run"] > 0.05
    assert fast["pairs off, causal continues 32"] < 0.25
    assert fast["pairs off, masked, any share all 1"] > 0.25
    assert fast["excess nats, masked, any share confidence 32"] < -0.2
