"""Lesson 10: the truth is Bayes' rule, the chain rule adds up, and the direction shows even when fast."""

import math

import pytest
import torch


def test_the_truth_is_a_distribution_at_every_position_and_multiplies_to_the_probability_of_the_text(lesson):
    texts = torch.randint(lesson.SYMBOLS, (20, 30), generator=torch.Generator().manual_seed(0))  # any text at all
    log_p = lesson.truth(texts)
    assert torch.allclose(log_p.exp().sum(-1), torch.ones(20, 30).double())
    whole = torch.stack([dialect.log_prob(texts) for dialect in lesson.DIALECTS]).logsumexp(0) - math.log(4)
    assert torch.allclose(log_p.gather(2, texts[..., None]).sum((1, 2)), whole)


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


@pytest.mark.slow
def test_the_direction_shows_even_when_fast(fast):
    assert fast["80 steps, noise / true"] > 1.3  # the measure can see
    assert fast["80 steps, own / true, quarter 2"] > 1.0
    cold, plain = ("80 steps, temperature 0.6, ", "80 steps, temperature 1.0, ")
    assert fast[cold + "KL(truth‖model)"] > 1.5 * fast[plain + "KL(truth‖model)"]
    assert fast[cold + "excess nats"] < fast[plain + "excess nats"] - 0.2
    assert "80 steps, top-p 0.8, KL(truth‖model)" not in fast  # infinite
    assert fast["80 steps, top-p 0.8, impossible"] > 0.05
