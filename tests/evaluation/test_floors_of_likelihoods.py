"""The floors of masked diffusion and fill-in-the-middle, which are likelihoods of the text, against brute force."""

import itertools
import math
from collections import defaultdict

import pytest
import torch

from clozelab.languages import MarkovSource
from clozelab.objectives import CausalLM, FillInTheMiddle, MaskedDiffusion
from clozelab.objectives.fill_in_the_middle import RoleIds, move_middle

CHAIN = MarkovSource(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))


def all_texts(symbols, length):
    return torch.cartesian_prod(*[torch.arange(symbols)] * length).view(-1, length)


# ------------------------------------------------------------------ masked diffusion


def hidden_batch(texts, hidden, special):
    """The batch of texts (B, n) of which `hidden` (B, n) bool is hidden, weights n / k."""
    n, k = texts.shape[1], hidden.sum(1, keepdim=True)
    return {
        "input_ids": texts.masked_fill(hidden, special.mask),
        "labels": texts.masked_fill(~hidden, -100),
        "weights": (n / k.clamp(min=1)) * hidden,
        "count": torch.full((len(texts),), n),
        "attention_mask": torch.ones_like(texts),
    }


def all_masks(n):
    """Every non-empty set of hidden positions: (2^n - 1, n) bool."""
    return torch.tensor(list(itertools.product([False, True], repeat=n)))[1:]


def mean_over_masks(source, text):
    """The floor of a text (n,) averaged as the objective draws: k uniform in 1 .. n, then each set of k alike."""
    masks = all_masks(len(text))
    special = source.special_ids()
    batch = hidden_batch(text.expand(len(masks), -1), masks, special)
    nats, k = MaskedDiffusion().entropy_floor(source, batch, special)["logits"], masks.sum(1)
    return torch.stack([nats[k == size].mean() for size in range(1, len(text) + 1)])


def test_the_cost_of_hidden_tokens_is_the_posterior_by_brute_force():
    """For every text of 4 symbols under every mask: p(token | visible) by summing over all texts that fit."""
    source, n = MarkovSource.random(3, entropy=0.8, seed=4), 4
    texts, special = all_texts(3, n), source.special_ids()
    p = source.log_prob(texts).exp()
    for mask in all_masks(n):
        batch = hidden_batch(texts, mask.expand(len(texts), -1), special)
        expected = []
        for text in texts:
            fits = (texts[:, ~mask] == text[~mask]).all(1)
            posteriors = [
                p[fits & (texts[:, place] == text[place])].sum() / p[fits].sum() for place in mask.nonzero()[:, 0]
            ]
            expected.append(-torch.stack(posteriors).log().sum() * n / mask.sum())
        nats = MaskedDiffusion().entropy_floor(source, batch, special)["logits"]
        torch.testing.assert_close(nats, torch.stack(expected), rtol=1e-6, atol=1e-6)  # weights n / k are float32


def test_the_costs_of_hiding_three_symbols_by_hand():
    """x = 0 1 1 on the chain 0.9 0.1 / 0.3 0.7, whose stationary distribution is 0.75 0.25."""
    costs = {
        (0,): 1.2040,
        (1,): 0.8267,
        (2,): 0.3567,
        (0, 1): 1.0906,
        (0, 2): 1.5606,
        (1, 2): 4.1352,
        (0, 1, 2): 3.0603,
    }
    text, special = torch.tensor([[0, 1, 1]]), CHAIN.special_ids()
    for places, expected in costs.items():
        hidden = torch.zeros(1, 3, dtype=torch.bool)
        hidden[0, list(places)] = True
        batch = hidden_batch(text, hidden, special) | {"weights": hidden.float()}
        nats = MaskedDiffusion().entropy_floor(CHAIN, batch, special)["logits"]
        assert nats.item() == pytest.approx(expected, abs=5e-5)
    by_count = mean_over_masks(CHAIN, text[0])
    assert by_count.tolist() == pytest.approx([2.3873, 3.3932, 3.0603], abs=5e-5)
    assert by_count.mean().item() == pytest.approx(2.946942, abs=5e-7)
    assert -CHAIN.log_prob(text).item() == pytest.approx(2.946942, abs=5e-7)


@pytest.mark.parametrize("n", range(1, 7))
def test_over_all_masks_the_diffusion_floor_is_the_likelihood_of_every_text(n):
    """Not on average: for each text, -ln p(x)."""
    for text in all_texts(2, n):
        assert mean_over_masks(CHAIN, text).mean().item() == pytest.approx(-CHAIN.log_prob(text).item(), rel=1e-6)


@pytest.mark.parametrize(("text", "nats"), [([0, 0, 1, 1, 0, 0], 4.361636), ([1, 0, 1, 0, 1, 0], 9.603383)])
def test_two_texts_of_which_the_likelihood_is_known(text, nats):
    assert mean_over_masks(CHAIN, torch.tensor(text)).mean().item() == pytest.approx(nats, abs=5e-6)


@pytest.mark.parametrize("exact_count", [True, False])
def test_the_mean_floor_of_drawn_batches_is_the_likelihood_of_the_texts(exact_count):
    """20,000 rows, four standard errors of the difference; Bernoulli's least share of 0.001 costs less than those."""
    source = MarkovSource.random(4, entropy=0.7)
    special, text = source.special_ids(roles=["mask"]), source.sample(20_000, 8)
    objective = MaskedDiffusion(exact_count=exact_count)
    batch = objective.collator(special).block(text, range(len(text)))
    difference = objective.entropy_floor(source, batch, special)["logits"] + source.log_prob(text)
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(len(text))


# ------------------------------------------------------------------ fill-in-the-middle


def moved_rows(source, n, form, special):
    """{row: probability} of all texts of n symbols under all cuts, by the definition of the objective."""
    ids, spm_share = RoleIds.of(special), FillInTheMiddle(form=form).spm_share
    rows: dict = defaultdict(float)
    for text in all_texts(source.symbols, n):
        p_text = source.log_prob(text).exp().item()
        for cuts in itertools.product(range(n + 1), repeat=2):
            first, second = sorted(cuts)
            for spm, p_form in ((False, 1 - spm_share), (True, spm_share)):
                if p_form:
                    row = tuple(move_middle(text.tolist(), first, second, ids, spm=spm))
                    rows[row] += p_text * p_form / (n + 1) ** 2
    return rows


@pytest.mark.parametrize("n", range(1, 6))
@pytest.mark.parametrize("form", ["psm", "spm", "joint"])
def test_the_floor_of_every_moved_row_is_its_probability_and_they_sum_to_one(form, n):
    """Given that the row was moved, which its first token shows."""
    special = CHAIN.special_ids(0, roles=FillInTheMiddle.roles)
    rows = moved_rows(CHAIN, n, form, special)
    batch = {"input_ids": torch.tensor(list(rows)), "attention_mask": torch.ones(len(rows), n + 4)}
    nats = FillInTheMiddle(form=form).entropy_floor(CHAIN, batch, special)["logits"]
    assert nats.neg().exp().sum().item() == pytest.approx(1.0, abs=1e-9)
    assert nats.tolist() == pytest.approx([-math.log(p) for p in rows.values()], rel=1e-9)


def test_moving_a_middle_costs_the_likelihood_of_the_text_and_its_cuts():
    """PSM with distinct cuts: ln((n + 1)^2 / 2) nats more than the text; one factor 2 more where the cuts coincide."""
    special, text = CHAIN.special_ids(0, roles=FillInTheMiddle.roles), [0, 0, 1, 1, 0, 1]
    ids, n = RoleIds.of(special), 6
    for first, second in ((1, 3), (2, 5), (4, 4)):
        row = torch.tensor([move_middle(text, first, second, ids, spm=False)])
        batch = {"input_ids": row, "attention_mask": torch.ones_like(row)}
        nats = FillInTheMiddle(form="psm").entropy_floor(CHAIN, batch, special)["logits"]
        cuts = math.log((n + 1) ** 2 / (2 if first < second else 1))
        assert nats.item() == pytest.approx(-CHAIN.log_prob(torch.tensor(text)).item() + cuts)


def test_a_row_that_was_not_moved_has_the_causal_floor():
    source = MarkovSource.random(5, entropy=0.8)
    objective, special, text = FillInTheMiddle(), source.special_ids(0, FillInTheMiddle.roles), source.sample(30, 12)
    batch = FillInTheMiddle(fim_rate=0.0).collator(special).block(text, range(30))
    causal = CausalLM().entropy_floor(source, {"input_ids": text, "labels": text}, special)["logits"]
    torch.testing.assert_close(objective.entropy_floor(source, batch, special)["logits"], causal)


def test_the_floor_of_a_row_does_not_depend_on_its_padding():
    """Rows that are not moved lack the four roles, and are filled up."""
    objective, special = FillInTheMiddle(fim_rate=0.5), CHAIN.special_ids(roles=FillInTheMiddle.roles)
    batch = objective.collator(special).block(CHAIN.sample(8, 5, seed=0), range(8))
    lengths = batch["attention_mask"].sum(1).tolist()
    assert len(set(lengths)) == 2
    together = objective.entropy_floor(CHAIN, batch, special)["logits"]
    for b, length in enumerate(lengths):
        alone = {key: values[b : b + 1, :length] for key, values in batch.items()}
        torch.testing.assert_close(objective.entropy_floor(CHAIN, alone, special)["logits"], together[b : b + 1])
