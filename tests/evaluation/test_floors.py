"""Entropy floors against brute force: every text, every corruption and every outcome of tiny cases."""

import itertools
import math
from collections import defaultdict

import pytest
import torch

from clozelab.data import corrupt_spans, span_counts
from clozelab.errors import InputError
from clozelab.languages import MarkovSource, masked_costs
from clozelab.objectives import (
    OBJECTIVES,
    CausalLM,
    MaskedLM,
    PrefixLM,
    SpanCorruption,
    options,
)

from ..objectives.cases import WITH_FLOOR

CHAIN = MarkovSource(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))


def all_texts(symbols, length):
    return torch.cartesian_prod(*[torch.arange(symbols)] * length).view(-1, length)


def exercise_of(cls):
    """An objective with the options of its floor exercise, and a vocabulary with its roles."""
    source = MarkovSource.random(5, entropy=0.8)
    return cls(**cls.exercise.options), source, source.special_ids(20, roles=cls.roles)


each_class = pytest.mark.parametrize("cls", WITH_FLOOR.values(), ids=WITH_FLOOR)


# ------------------------------------------------------------------ causal and prefix LM


def test_the_causal_floor_is_the_entropy_rate():
    """The expectation over every text of 6 symbols."""
    source = MarkovSource.random(3, entropy=0.7)
    texts = all_texts(3, 6)
    batch = {"input_ids": texts, "labels": texts}
    nats = CausalLM().entropy_floor(source, batch, source.special_ids())["logits"]
    expected = (source.log_prob(texts).exp() * nats).sum() / 5
    assert expected.item() == pytest.approx(source.entropy_rate, rel=1e-10)


@pytest.mark.parametrize("prefix_length", range(1, 6))
def test_the_prefix_floor_is_the_conditional_of_what_follows_the_prefix(prefix_length):
    """-ln p(rest | prefix) = -ln p(text) + ln p(prefix), for every text of 6 symbols."""
    source = MarkovSource.random(3, entropy=0.7)
    texts = all_texts(3, 6)
    labels = texts.clone()
    labels[:, :prefix_length] = -100
    nats = PrefixLM().entropy_floor(source, {"input_ids": texts, "labels": labels}, source.special_ids())["logits"]
    expected = source.log_prob(texts[:, :prefix_length]) - source.log_prob(texts)
    torch.testing.assert_close(nats, expected)


def test_a_prefix_of_one_token_has_the_causal_floor():
    source = MarkovSource.random(4, entropy=0.9)
    text, special = source.sample(20, 12), source.special_ids()
    labels = text.clone()
    labels[:, 0] = -100
    prefix = PrefixLM().entropy_floor(source, {"input_ids": text, "labels": labels}, special)["logits"]
    causal = CausalLM().entropy_floor(source, {"input_ids": text, "labels": text}, special)["logits"]
    assert torch.equal(prefix, causal)


def test_the_first_token_of_a_later_document_has_no_cost():
    """It is predicted by nothing: 0 1 | 1 1 costs -ln p(1 | 0) - ln p(1 | 1)."""
    text = torch.tensor([[0, 1, 1, 1]])
    batch = {"input_ids": text, "labels": text, "document_ids": torch.tensor([[0, 0, 1, 1]])}
    nats = CausalLM().entropy_floor(CHAIN, batch, CHAIN.special_ids())["logits"]
    assert nats.item() == pytest.approx(-math.log(0.1) - math.log(0.7))


# ------------------------------------------------------------------ masked LM


@pytest.mark.parametrize(
    ("mask_rate", "mask_replace_prob", "random_replace_prob"), [(0.15, 0.8, 0.1), (0.4, 0.5, 0.3), (0.3, 1.0, 0.0)]
)
def test_the_masked_floor_is_the_posterior_by_brute_force(mask_rate, mask_replace_prob, random_replace_prob):
    """Every text of 4 symbols, every selection of its positions, every outcome of each selected one: the joint
    probability of what is seen, of the hidden token, and of its position having been selected."""
    k, length = 3, 4
    source = MarkovSource.random(k, entropy=0.6, seed=2)
    special = source.special_ids()
    keep_prob = 1 - mask_replace_prob - random_replace_prob
    joint: dict = defaultdict(float)  # (seen, position, token) with the position selected
    for text in all_texts(k, length).tolist():
        p_text = source.log_prob(torch.tensor(text)).exp().item()
        for selection in itertools.product([False, True], repeat=length):
            outcomes = [
                [
                    (special.mask, mask_replace_prob),
                    *[(s, random_replace_prob / k + keep_prob * (s == x)) for s in range(k)],
                ]
                if selected
                else [(x, 1.0)]
                for x, selected in zip(text, selection)
            ]
            p_selection = mask_rate ** sum(selection) * (1 - mask_rate) ** (length - sum(selection))
            for outcome in itertools.product(*outcomes):
                p = p_text * p_selection
                for _, probability in outcome:
                    p *= probability
                seen = tuple(token for token, _ in outcome)
                for position in range(length):
                    if selection[position]:
                        joint[seen, position, text[position]] += p
    rows, labels, expected = [], [], []
    for seen in itertools.product([*range(k), special.mask], repeat=length):
        for position in range(length):
            total = sum(joint[seen, position, token] for token in range(k))
            for token in range(k):
                if total > 1e-12 and joint[seen, position, token] > 0:
                    rows.append(seen)
                    labels.append([token if place == position else -100 for place in range(length)])
                    expected.append(-math.log(joint[seen, position, token] / total))
    objective = MaskedLM(
        mask_rate=mask_rate,
        mask_replace_prob=mask_replace_prob,
        random_replace_prob=random_replace_prob,
        scheme="bernoulli",
    )
    batch = {"input_ids": torch.tensor(rows), "labels": torch.tensor(labels)}
    nats = objective.entropy_floor(source, batch, special)["logits"]
    assert len(expected) > 500
    torch.testing.assert_close(nats, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=1e-9)


# ------------------------------------------------------------------ span corruption


@pytest.mark.parametrize(
    ("length", "density", "mean_noise_span_length"), [(6, 0.5, 1.5), (7, 0.4, 1.5), (7, 0.6, 2.0), (6, 0.3, 3.0)]
)
def test_the_span_floor_is_the_conditional_by_brute_force(length, density, mean_noise_span_length):
    """Every text of two symbols under every mask that `random_spans_mask` can draw."""
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
            assert key not in pairs  # inputs and targets together give text and mask
            pairs[key] = p_text / len(masks)
    assert sum(pairs.values()) == pytest.approx(1.0)
    objective = SpanCorruption(noise_density=density, mean_noise_span_length=mean_noise_span_length)
    batch = {name: torch.tensor(rows) for name, rows in zip(("input_ids", "labels"), zip(*pairs))}
    expected = torch.tensor([-math.log(p / p_inputs[inputs]) for (inputs, _), p in pairs.items()], dtype=torch.float64)
    torch.testing.assert_close(objective.entropy_floor(source, batch, special)["logits"], expected)


def test_spans_that_t5_would_not_draw_are_refused():
    special = CHAIN.special_ids(5)
    batch = {
        "input_ids": torch.tensor([[special.sentinels[0], 1, special.eos]]),
        "labels": torch.tensor([[special.sentinels[0], 0, special.eos]]),
    }
    with pytest.raises(InputError, match="begin visible and end hidden"):
        SpanCorruption().entropy_floor(CHAIN, batch, special)


# ------------------------------------------------------------------ all of them


@each_class
def test_no_model_of_a_wrong_language_is_better_on_average(cls):
    """The floor of the true source, on its own text, is below that of any other: it is the least loss."""
    objective, true, special = exercise_of(cls)
    other = MarkovSource.random(5, entropy=0.8, seed=1)
    batch = objective.collator(special).block(true.sample(200, 40, seed=3), range(200))
    floor, wrong = (objective.entropy_floor(source, batch, special) for source in (true, other))
    assert floor.keys() == objective.targets(batch).keys()
    assert all(float(floor[part].sum()) < float(wrong[part].sum()) for part in floor)


@each_class
def test_padding_changes_no_floor(cls):
    objective, source, special = exercise_of(cls)
    collate = objective.collator(special)
    rows = [{"input_ids": text[: 12 + 3 * n], "example_id": n} for n, text in enumerate(source.sample(6, 30))]
    together = objective.entropy_floor(source, collate(rows), special)
    for n, row in enumerate(rows):
        alone = objective.entropy_floor(source, collate([row]), special)
        for part, nats in alone.items():
            assert nats.shape == (1,)
            assert nats.item() == pytest.approx(together[part][n].item(), rel=1e-9)
            assert nats.item() >= 0  # 0 for a row in which all that is hidden by chance stays as it is
    assert all(float(nats.sum()) > 0 for nats in together.values())


@pytest.mark.parametrize(
    "objective",
    [
        MaskedLM(),
        MaskedLM(scheme="whole-words"),
        SpanCorruption(scheme=lambda tokens, maskable, generator: maskable),
        SpanCorruption(final_sentinel=True),
    ],
    ids=["exact count", "whole words", "own scheme", "final sentinel"],
)
def test_options_without_an_exact_floor_are_refused(objective):
    with pytest.raises(InputError, match="exact floor"):
        objective.entropy_floor(CHAIN, {}, CHAIN.special_ids())


def test_an_objective_that_declares_no_floor_is_refused_by_name():
    @options
    class Child(CausalLM):
        name = "child"

    with pytest.raises(InputError, match="no exact floor is known for child"):  # its parent's is not inherited
        Child().entropy_floor(CHAIN, {}, CHAIN.special_ids())
    for name in OBJECTIVES.keys() - WITH_FLOOR.keys():
        with pytest.raises(InputError, match=f"no exact floor is known for {name}"):
            OBJECTIVES[name]().entropy_floor(CHAIN, {}, CHAIN.special_ids())


def test_a_label_that_is_no_symbol_is_refused():
    channel = torch.eye(2).double()
    with pytest.raises(InputError, match=r"symbols must lie in 0 \.\. 1"):
        masked_costs(CHAIN, torch.tensor([[0, 1]]), torch.tensor([[0, 5]]), channel, channel)
    text = torch.tensor([[0, 1, 2]])
    with pytest.raises(InputError, match=r"symbols must lie in 0 \.\. 1"):
        CausalLM().entropy_floor(CHAIN, {"input_ids": text, "labels": text}, CHAIN.special_ids())
