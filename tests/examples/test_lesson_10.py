"""Lesson 10: the truth is Bayes' rule, the chain rule adds up, and the direction shows even when fast."""

import math

import pytest
import torch

from clozelab.course import Seeds


def any_texts(lesson):
    """(20, LENGTH), of no language."""
    return torch.randint(lesson.SYMBOLS, (20, lesson.LENGTH), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("language", ["dialects", "running sum"])
def test_the_truth_is_a_distribution_at_every_position_of_any_text(lesson, language):
    log_p = lesson.LANGUAGES[language][1](any_texts(lesson))
    assert torch.allclose(log_p.exp().sum(-1), torch.ones(20, lesson.LENGTH).double())


def test_the_truth_of_the_dialects_multiplies_to_the_probability_of_the_text(lesson):
    texts = any_texts(lesson)
    whole = torch.stack([dialect.log_prob(texts) for dialect in lesson.DIALECTS]).logsumexp(0) - math.log(4)
    assert torch.allclose(lesson.dialects_truth(texts).gather(2, texts[..., None]).sum((1, 2)), whole)


def test_the_sum_is_that_of_all_digits_and_a_typo_of_a_sum_is_not_inherited(lesson):
    text = lesson.sample_sums(200, seed=1)
    digits, sums = text[:, ::2] % 4, text[:, 1::2]
    right = (sums == 4 + digits.cumsum(1) % 4).double().mean().item()
    assert right == pytest.approx(1 - lesson.TYPO * 7 / 8, abs=5 * (lesson.TYPO / sums.numel()) ** 0.5)
    wrong = text.clone()
    wrong[:, 1] = 4 + (wrong[:, 1] + 1) % 4
    assert torch.equal(lesson.sums_truth(wrong)[:, 1:], lesson.sums_truth(text)[:, 1:])


def test_a_typo_of_a_digit_changes_every_sum_after_it(lesson):
    text = lesson.sample_sums(20, seed=1)
    other = text.clone()
    other[:, 4] = (other[:, 4] + 1) % 4
    differ = (lesson.sums_truth(text).argmax(2) != lesson.sums_truth(other).argmax(2)).all(0)
    assert differ.nonzero().flatten().tolist() == list(range(5, lesson.LENGTH, 2))


def test_a_distance_is_zero_from_itself_and_infinite_only_where_the_second_excludes_a_symbol(lesson):
    p = torch.tensor([[[0.5, 0.3, 0.2]]]).double().log()
    cut = torch.tensor([[[0.625, 0.375, 0.0]]]).double().log()
    assert lesson.kl(p, p).tolist() == [0.0]
    assert lesson.kl(cut, p).item() == pytest.approx(math.log(1 / 0.8))
    assert lesson.kl(p, cut).item() == math.inf


def test_the_predicted_distribution_is_the_one_that_is_sampled(lesson, monkeypatch):
    """The exact probabilities of the first symbol agree with the frequencies in generated texts, for each decoding."""
    monkeypatch.setattr(lesson, "LENGTH", 1)
    torch.manual_seed(0)
    model = lesson.OBJECTIVE.build_model(lesson.SPECIAL.vocab_size, "tiny", d_model=32, n_layers=1, n_heads=1)
    with torch.no_grad():
        model.embedding.weight.mul_(20)  # so that it has preferences
    for decoding in ({}, {"temperature": 0.6}, {"top_p": 0.7}):
        texts = lesson.generated(model, torch.zeros(20_000, 0).long(), seed=0, **decoding)
        probabilities = lesson.predicted(model, texts[:1], **decoding)[0, 0].exp()
        seen = texts[:, 0].bincount(minlength=lesson.SYMBOLS) / len(texts)
        assert (seen - probabilities).abs().max() < 0.02  # more than five standard errors


def test_it_runs_to_its_end(trial):
    assert trial


def test_what_compounds_in_the_control_is_seen_by_both_measures(lesson):
    """A model that writes a wrong sum with probability 0.01, right otherwise, and goes on from what it wrote."""
    places = torch.arange(lesson.LENGTH)
    own = 9 * (1 - 0.99 ** (places / 2))
    run = {"true": [0.1] * lesson.LENGTH, "own": (0.1 + own).tolist(), "noise": [6.0] * lesson.LENGTH}
    run |= {"loss": [1.0], "guess": [2.0], "floor": [0.9]}
    summary = lesson.summary([run] * 3)
    assert summary["gap grows by"].mean > 0.5
    assert summary["ratio grows by"].mean > 5
    forgiving = {**run, "own": [0.12] * lesson.LENGTH}
    assert lesson.summary([forgiving] * 3)["gap grows by"].mean == pytest.approx(0)


@pytest.mark.slow
def test_the_direction_shows_even_when_fast(fast):
    assert fast["dialects, 80 steps: noise, quarter 2"] > 1.5 * fast["dialects, 80 steps: true, quarter 2"]
    assert fast["dialects, 80 steps: truth‖model, cool"] > fast["dialects, 80 steps: truth‖model"]
    assert fast["running sum: noise, quarter 4"] > 1.2 * fast["running sum: true, quarter 4"]


def test_the_answers_of_the_exercises(lesson, monkeypatch):
    assert lesson.LESSON.check(1, lesson.misread(restart=4)).startswith("Right")
    assert lesson.misread() == lesson.LENGTH // 2
    for typo, right in ((0.01, True), (lesson.TYPO, False)):
        monkeypatch.setattr(lesson, "TYPO", typo)
        worst = -float(lesson.sums_truth(lesson.sample_sums(1, seed=0)).min())
        assert lesson.LESSON.check(3, worst).startswith("Right") == right


@pytest.mark.slow
def test_in_one_dialect_a_model_errs_no_more_after_its_own_tokens(lesson, monkeypatch):
    def ratio():
        measured = lesson.measure("dialects", 10, 60, 200)
        return sum(measured["own"]) / sum(measured["true"])

    assert not lesson.LESSON.check(2, ratio()).startswith("Right")
    monkeypatch.setattr(lesson, "DIALECTS", [lesson.MarkovSource.random(lesson.SYMBOLS, entropy=1.2, seed=0)] * 4)
    assert lesson.LESSON.check(2, ratio()).startswith("Right")


@pytest.mark.parametrize(("growth", "verdict"), [(0.1, "held"), (-0.1, "held in part")], ids=["grows", "shrinks"])
def test_the_claim_needs_one_language_in_which_errors_compound(lesson, growth, verdict):
    spread = (-0.001, 0.0, 0.001)
    f = {"learned": 0.99, "noise, quarter 2": 0.5, "true, quarter 2": 0.1, "gap, quarter 4": 0.05, "gap grows by": -0.1}
    dialects = {name: Seeds(tuple(value + d for d in spread)) for name, value in f.items()}
    control = dialects | {"gap grows by": Seeds(tuple(growth + d for d in spread))}
    assert lesson.verdict(dialects, dialects, control).verdict == verdict
    deaf = dialects | {"noise, quarter 2": dialects["true, quarter 2"]}
    assert lesson.verdict(deaf, dialects, control).verdict == "cannot tell"
