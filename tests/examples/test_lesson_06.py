"""Lesson 06: what the vectors of a token and of a text tell of their senses."""

import csv
import random

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


@pytest.fixture
def news(tmp_path):
    """A file of 800 texts, whose words tell the topic."""
    draw = random.Random(0)
    with (tmp_path / "news.csv").open("w", newline="") as file:
        for n in range(800):
            words = [f"{'abcd'[n % 4] if draw.random() < 0.3 else 'e'}{draw.randrange(10)}" for _ in range(60)]
            csv.writer(file).writerow([1 + n % 4, f"{words[0]}, {words[1]}", " ".join(words)])
    return tmp_path / "news.csv"


def test_news_are_measured_where_a_file_is_given(lesson, trial, news, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lesson, "measure", lambda *_: trial)
    result = lesson.main(["--fast", "--corpus", str(news), "--out", str(tmp_path / "out")])
    assert result.arguments == ["--fast", "--corpus", "news.csv"]
    assert "verdict on the news: not judged" in capsys.readouterr().out
    assert result.figures["news/400/counts"][0] > 95
    assert all(result.figures[f"news/loss/{name}"] < result.figures["news/guess/causal"] for name in lesson.OBJECTIVES)


def test_without_a_file_one_line_says_how(lesson, trial, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lesson, "measure", lambda *_: trial)
    result = lesson.main(["--fast", "--out", str(tmp_path)])
    assert not [name for name in result.figures if name.startswith("news/")]
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("news:")]
    assert "--corpus" in line


def test_a_bad_file_is_one_line_before_anything_is_measured(lesson, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lesson, "measure", lambda *_: pytest.fail("measured"))
    (tmp_path / "news.csv").write_text("topic,title,text\n")
    with pytest.raises(SystemExit) as stopped:
        lesson.main(["--fast", "--corpus", str(tmp_path / "news.csv"), "--out", str(tmp_path)])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "row 1: expected label 1 to 4, title, text (got label 'topic')" in line


def test_the_news_are_not_judged_by_vectors_that_lose_to_counts(lesson):
    accuracy = {"untrained": 27, "counts": 40, "causal": 45, "masked": 50}
    f = {f"news/40/{way}": Seeds((value, value + 1.1, value + 2)) for way, value in accuracy.items()}
    f |= {f"news/guess/{name}": Seeds((6.6, 6.7, 6.5)) for name in ("causal", "masked")}
    f |= {f"news/loss/{name}": Seeds((5.0, 5.1, 4.8)) for name in ("causal", "masked")}
    assert lesson.verdict_of_news(f).verdict == "held"
    turned = f | {"news/40/masked": f["news/40/causal"] - 1}
    assert lesson.verdict_of_news(turned).verdict == "contradicted"
    for poor in ({"news/40/causal": f["news/40/counts"]}, {"news/loss/masked": f["news/guess/masked"] - 0.9}):
        assert lesson.verdict_of_news(f | poor).verdict == "cannot tell"
