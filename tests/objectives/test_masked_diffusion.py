"""Masked diffusion: levels, weights, counts, and what a uniform guess and a reported curve come to."""

import itertools
import math

import pytest
import torch

from clozelab import MaskedDiffusion
from clozelab.objectives.masked_diffusion import EPS

from .cases import SPECIAL, VOCAB, WORDS, batch_of


def test_a_row_hides_an_exact_count_whose_weight_is_n_over_k():
    batch = batch_of(MaskedDiffusion(), (24, 9, 31))
    hidden = (batch["labels"] != -100).sum(1)
    assert ((hidden >= 1) & (hidden <= batch["count"])).all()
    assert batch["count"].tolist() == [24, 9, 31]
    for row, k, n in zip(batch["weights"], hidden, batch["count"]):
        assert row[row > 0].tolist() == [pytest.approx(float(n) / float(k))] * int(n)  # of all its tokens
    assert (batch["input_ids"][batch["labels"] != -100] == SPECIAL.mask).all()  # always the mask, never a random token


def test_each_count_is_equally_likely_and_each_token_equally_often_hidden():
    n, rows = 6, 6000
    batch = MaskedDiffusion().collator(SPECIAL).block(torch.zeros(rows, n, dtype=torch.int64), range(rows))
    hidden = batch["labels"] != -100
    counts = torch.bincount(hidden.sum(1), minlength=n + 1)[1:]
    expected = rows / n
    assert ((counts - expected) ** 2 / expected).sum().item() < 20.5  # 5 degrees of freedom, p = 0.001
    share = hidden.double().mean(0)  # (n + 1) / 2n
    torch.testing.assert_close(share, torch.full_like(share, (n + 1) / (2 * n)), atol=4 * 0.5 / rows**0.5, rtol=0)


def test_an_exact_count_at_a_uniform_guess_has_no_variance():
    batch = batch_of(MaskedDiffusion(), (24, 9, 31))
    loss = MaskedDiffusion()(torch.zeros(*batch["labels"].shape, VOCAB), batch)["logits"]
    torch.testing.assert_close(loss.row_sums / batch["count"], torch.full((3,), math.log(VOCAB)))


def test_the_bernoulli_form_weighs_by_one_over_p():
    """E[hidden / p] = 1 at every token, so that a uniform guess costs ln V in the mean; p is never below eps."""
    rows, n = 4000, 32
    batch = MaskedDiffusion(exact_count=False).collator(SPECIAL).block(torch.zeros(rows, n).long(), range(rows))
    hidden, weights = batch["labels"] != -100, batch["weights"]
    assert (weights[hidden] >= 1).all()
    assert (weights[hidden] <= 1 / EPS * (1 + 1e-6)).all()
    per_row = (weights * hidden).double().sum(1) / n
    assert per_row.mean().item() == pytest.approx(1.0, abs=4 * (per_row.std() / rows**0.5).item())
    assert (batch["count"] == n).all()


def test_the_mean_over_counts_is_a_mean_over_orders():
    """The mean over k of n / k x the mean over sets of k weighs each (token, visible set) as all n! orders do."""
    n = 4
    by_sets, by_orders = {}, {}
    for k in range(1, n + 1):
        for hidden in itertools.combinations(range(n), k):
            for token in hidden:
                visible = frozenset(range(n)) - set(hidden)
                by_sets[token, visible] = (1 / n) * (n / k) / math.comb(n, k)
    for order in itertools.permutations(range(n)):
        for place, token in enumerate(order):
            key = token, frozenset(order[:place])
            by_orders[key] = by_orders.get(key, 0) + 1 / math.factorial(n)
    assert by_sets.keys() == by_orders.keys()
    assert all(by_sets[key] == pytest.approx(by_orders[key]) for key in by_sets)


def test_dividing_by_the_hidden_tokens_would_weigh_rows_by_their_level():
    batch = batch_of(MaskedDiffusion(), (8, 8))
    costs = torch.tensor([[1.0] * 8, [0.5] * 8])
    weights = batch["weights"] * (batch["labels"] != -100)
    by_count = ((costs * weights).sum() / batch["count"].sum()).item()
    by_hidden = ((costs * weights).sum() / (batch["labels"] != -100).sum()).item()
    assert by_count == pytest.approx(0.75)
    assert by_hidden != pytest.approx(by_count)


def test_an_end_of_text_may_be_hidden_and_other_special_ids_may_not():
    text = torch.tensor([[5, SPECIAL.eos, 6, SPECIAL.sentinels[0], 7, 8]] * 200)
    batch = MaskedDiffusion().collator(SPECIAL).block(text, range(200))
    hidden = (batch["labels"] != -100).any(0)
    assert hidden.tolist() == [True, True, True, False, True, True]
    assert (batch["count"] == 5).all()


def test_labels_of_your_own_are_what_is_predicted():
    example = {"input_ids": [5, 6, 7, 8], "labels": [15, -100, 17, 18]}
    batch = MaskedDiffusion().collator(SPECIAL)([example | {"example_id": n} for n in range(50)])
    hidden = batch["labels"] != -100
    assert hidden.any(0).tolist() == [True, False, True, True]  # what is not to be predicted is not hidden
    assert torch.equal(batch["labels"][hidden], torch.tensor(example["labels"]).expand(50, -1)[hidden])


def test_the_report_is_split_by_the_number_of_hidden_tokens_and_scores_the_whole_text():
    objective = MaskedDiffusion()
    text = torch.randint(0, WORDS, (3, 12))
    batch = objective.collator(SPECIAL).block(text, range(3))
    assert torch.equal(objective.breakdown(batch)["hidden tokens"], (batch["labels"] != -100).sum(1))
    assert torch.equal(objective.scored_ids(batch), text.flatten())
