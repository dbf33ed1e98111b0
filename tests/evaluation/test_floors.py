"""The floors against brute force: every text, every mask, every corruption of tiny cases."""

import itertools
from collections import defaultdict

import pytest
import torch

from clozelab.data import Bernoulli, RandomSpans, corrupt_spans, span_counts
from clozelab.errors import InputError
from clozelab.evaluation import causal_floor, floor, masked_floor
from clozelab.languages.markov import MarkovSource
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption


def all_texts(symbols, length):
    return torch.cartesian_prod(*[torch.arange(symbols)] * length)


def test_the_causal_floor_is_the_entropy_rate():
    """By brute force: the expectation over every text of 6 symbols."""
    source = MarkovSource.random(3, entropy=0.7)
    texts = all_texts(3, 6)
    result = floor(CausalLM(), source, source.special_ids(), {"labels": texts})
    expected = (source.log_prob(texts).exp() * result.nats).sum() / 5
    assert expected.item() == pytest.approx(source.entropy_rate, rel=1e-10)


@pytest.mark.parametrize(
    ("rate", "mask_replace_prob", "random_replace_prob"), [(0.15, 0.8, 0.1), (0.4, 0.5, 0.3), (0.3, 1.0, 0.0)]
)
def test_the_masked_floor_is_the_posterior_by_brute_force(rate, mask_replace_prob, random_replace_prob):
    """Every text of 4 symbols, every selection of its positions, every outcome of each selected one: the joint
    probability of what is seen, of the hidden token, and of its position having been selected."""
    k, length, mask_id = 3, 4, 5
    source = MarkovSource.random(k, entropy=0.6, seed=2)
    keep_share = 1 - mask_replace_prob - random_replace_prob
    joint: dict = defaultdict(float)  # (seen, position, token) with the position selected
    for text in all_texts(k, length).tolist():
        p_text = source.log_prob(torch.tensor(text)).exp().item()
        for selection in itertools.product([False, True], repeat=length):
            outcomes = [
                [
                    (mask_id, mask_replace_prob),
                    *[(s, random_replace_prob / k + keep_share * (s == x)) for s in range(k)],
                ]
                if selected
                else [(x, 1.0)]
                for x, selected in zip(text, selection)
            ]
            p_selection = rate ** sum(selection) * (1 - rate) ** (length - sum(selection))
            for outcome in itertools.product(*outcomes):
                p = p_text * p_selection
                for _, share in outcome:
                    p *= share
                seen = tuple(token for token, _ in outcome)
                for position in range(length):
                    if selection[position]:
                        joint[seen, position, text[position]] += p
    checked = 0
    for seen in itertools.product([*range(k), mask_id], repeat=length):
        for position in range(length):
            weights = torch.tensor([joint[seen, position, token] for token in range(k)])
            if weights.sum() < 1e-12:
                continue
            for token in range(k):
                if weights[token] == 0:
                    continue
                labels = torch.full((1, length), -100)
                labels[0, position] = token
                mine = masked_floor(
                    source,
                    torch.tensor([seen]),
                    labels,
                    mask_id=mask_id,
                    rate=rate,
                    mask_replace_prob=mask_replace_prob,
                    random_replace_prob=random_replace_prob,
                )
                expected = -(weights[token] / weights.sum()).double().log()
                assert mine.nats.item() == pytest.approx(expected.item(), abs=1e-5)
                checked += 1
    assert checked > 500


@pytest.mark.parametrize(
    ("length", "density", "mean_noise_span_length"), [(6, 0.5, 1.5), (7, 0.4, 1.5), (7, 0.6, 2.0), (6, 0.3, 3.0)]
)
def test_the_span_floor_is_the_conditional_by_brute_force(length, density, mean_noise_span_length):
    """Every text of two symbols under every mask that `RandomSpans` can draw."""
    source = MarkovSource.random(2, entropy=0.4, seed=1)
    special = source.special_ids(5)
    hidden, spans = span_counts(length, density, mean_noise_span_length)
    masks = [
        mask
        for mask in itertools.product([False, True], repeat=length)
        if sum(mask) == hidden and not mask[0] and mask[-1] and sum(key for key, _ in itertools.groupby(mask)) == spans
    ]
    p_inputs: dict = defaultdict(float)
    pairs = {}
    for text in all_texts(2, length):
        p_text = source.log_prob(text).exp().item()
        for mask in masks:
            inputs, targets = corrupt_spans(text, torch.tensor(mask), special.sentinels, eos=special.eos)
            key = tuple(inputs.tolist()), tuple(targets.tolist())
            p_inputs[key[0]] += p_text / len(masks)
            assert key not in pairs  # inputs and targets together say what text and mask were
            pairs[key] = p_text / len(masks)
    assert sum(pairs.values()) == pytest.approx(1.0)
    for (inputs, targets), p in pairs.items():
        batch = {"input_ids": torch.tensor([inputs]), "labels": torch.tensor([targets])}
        mine = floor(
            SpanCorruption(noise_density=density, mean_noise_span_length=mean_noise_span_length), source, special, batch
        )
        assert mine.nats.item() == pytest.approx(-torch.tensor(p / p_inputs[inputs]).log().item(), abs=1e-5)
        assert mine.counts.item() == len(targets)


def test_no_guess_by_a_wrong_language_is_better_on_average():
    """The floor of the true source, on its own text, is below that of any other: it is the least loss."""
    true, other = (MarkovSource.random(5, entropy=0.8, seed=seed) for seed in (0, 1))
    special = true.special_ids()
    text = true.sample(200, 40, seed=3)
    for objective in (CausalLM(), MaskedLM(scheme=Bernoulli()), SpanCorruption()):
        batch = objective.collator(special).block(text, range(200))
        assert floor(objective, true, special, batch).mean < floor(objective, other, special, batch).mean


def test_the_objectives_own_collator_makes_what_the_floors_expect():
    source = MarkovSource.random(5, entropy=0.8)
    special = source.special_ids()
    objective = SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0)
    batch = objective.collator(special).block(source.sample(10, 30, seed=0), range(10))
    result = floor(objective, source, special, batch)
    assert (result.counts == (batch["labels"] != -100).sum(1)).all()
    assert (result.nats > 0).all()


@pytest.mark.parametrize(
    "objective", [MaskedLM(), SpanCorruption(scheme=lambda tokens, maskable, generator: maskable)], ids=["exact", "own"]
)
def test_settings_without_an_exact_floor_are_refused(objective):
    source = MarkovSource.random(5, entropy=0.8)
    with pytest.raises(InputError, match="floor"):
        floor(objective, source, source.special_ids(), {})


def test_spans_that_t5_would_not_draw_are_refused():
    source = MarkovSource.random(2, entropy=0.4)
    special = source.special_ids(5)
    batch = {
        "input_ids": torch.tensor([[special.sentinels[0], 1, special.eos]]),
        "labels": torch.tensor([[special.sentinels[0], 0, special.eos]]),
    }
    with pytest.raises(InputError, match="begin visible and end hidden"):
        floor(SpanCorruption(), source, special, batch)
    assert isinstance(SpanCorruption().hide.scheme, RandomSpans)


def test_a_floor_does_not_guess_what_stood_behind_an_unpaid_label():
    coin = MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    assert causal_floor(coin, torch.tensor([[0, 0, -100]])).mean == pytest.approx(0.1054, abs=1e-4)
    with pytest.raises(InputError, match="behind another one"):
        causal_floor(coin, torch.tensor([[0, -100, 1]]))
