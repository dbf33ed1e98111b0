"""Masked next-token prediction: golden rows, what it shares with masked and causal LM, shares, floors, generation."""

import math

import pytest
import torch

from clozelab import CausalLM, MaskedLM
from clozelab.data import SpecialIds
from clozelab.errors import InputError
from clozelab.evaluation import evaluate
from clozelab.generation import continue_text, fill_masks
from clozelab.languages import MarkovSource
from clozelab.objectives import MaskedNextToken

from .cases import SPECIAL, VOCAB, batch_of, reading_model, texts

CLS, MASK = 1, 4
GOLDEN = SpecialIds(30, pad=0, eos=2, mask=MASK, others=(CLS,))
MASKS_ALONE = {"mask_replace_prob": 1.0, "random_replace_prob": 0.0}


def second_and_fourth(tokens, maskable, generator):
    return maskable & torch.isin(torch.arange(len(tokens)), torch.tensor([2, 4]))


def shown(batch):
    return [batch["input_ids"].tolist(), batch["labels"].tolist()]


# ------------------------------------------------------------------ golden rows


def test_the_golden_masked_row():
    """CLS 20 21 22 23, 21 and 23 hidden: output 1 predicts 21, and output 3 predicts 23."""
    objective = MaskedNextToken(causal_share=0.0, scheme=second_and_fourth, **MASKS_ALONE)
    batch = objective.collator(GOLDEN)([[CLS, 20, 21, 22, 23]])
    assert shown(batch) == [[[CLS, 20, MASK, 22, MASK]], [[-100, -100, 21, -100, 23]]]
    assert objective.targets(batch)["logits"].labels.tolist() == [[-100, 21, -100, 23, -100]]
    assert batch["weights"].tolist() == [[2.0] * 4 + [0.0]]  # 4 tokens that could be predicted, 2 that are
    assert (batch["count"].tolist(), batch["reading_rank"].tolist()) == ([4], [[0] * 5])
    [matrix] = objective.reads(batch).values()
    assert matrix.all()


def test_the_golden_causal_row():
    objective = MaskedNextToken(causal_share=1.0)
    batch = objective.collator(GOLDEN)([[CLS, 20, 21, 22, 23]])
    assert shown(batch) == [[[CLS, 20, 21, 22, 23]], [[CLS, 20, 21, 22, 23]]]
    assert objective.targets(batch)["logits"].labels.tolist() == [[20, 21, 22, 23, -100]]
    assert batch["weights"].tolist() == [[1.0] * 4 + [0.0]]
    [matrix] = objective.reads(batch).values()
    assert torch.equal(matrix[0], torch.ones(5, 5).bool().tril())


# ------------------------------------------------------------------ masked LM and causal LM


def test_masked_rows_are_those_of_masked_lm_without_the_first_token():
    """The same noise hides the same tokens of the rest, and puts the same in their place."""
    batch = batch_of(MaskedNextToken(causal_share=0.0))
    protected = [
        one | {"special_tokens_mask": [1] + [0] * (len(one["input_ids"]) - 1)} for one in texts((24, 9, 31, 16, 12, 27))
    ]
    expected = MaskedLM().collator(SPECIAL)(protected)
    assert shown(batch) == shown(expected)


def test_causal_rows_cost_what_they_cost_causal_lm():
    objective, model = MaskedNextToken(causal_share=1.0), reading_model(CausalLM())
    ours, theirs = objective(model, batch_of(objective)), CausalLM()(model, batch_of(CausalLM()))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    assert ours.count == theirs.count


def test_the_share_of_causal_rows():
    rows = 8000
    batch = MaskedNextToken().collator(SPECIAL).block(torch.full((rows, 6), 7), range(rows))
    share = batch["causal"].double().mean().item()
    assert share == pytest.approx(1 / 16, abs=4 * math.sqrt(1 / 16 * 15 / 16 / rows))
    assert torch.equal(batch["causal"] == 1, batch["reading_rank"][:, 1] == 1)
    assert torch.equal(batch["causal"] == 1, (batch["input_ids"] != SPECIAL.mask).all(1) & (batch["labels"][:, 0] == 7))


def test_both_kinds_of_rows_weigh_alike():
    """A row costs its mean, times what it could predict: n - 1 times ln V at a uniform guess, hidden or causal."""
    objective = MaskedNextToken(causal_share=0.5)
    batch = batch_of(objective, (24, 9, 31) * 6)
    assert set(batch["causal"].tolist()) == {0, 1}
    loss = objective(torch.zeros(*batch["labels"].shape, VOCAB), batch)["logits"]
    expected = torch.tensor([23.0, 8.0, 30.0] * 6)
    torch.testing.assert_close(loss.row_sums, expected * math.log(VOCAB))
    assert torch.equal(batch["count"], expected.long())


def test_the_first_token_of_a_row_and_of_a_document_is_never_hidden():
    text = torch.tensor([[10, 11, 12, SPECIAL.eos, 20, 21, 22, 23]] * 300)
    for within_documents in (False, True):
        collate = MaskedNextToken(causal_share=0.0, mask_rate=0.5).collator(SPECIAL, within_documents=within_documents)
        hidden = (collate.block(text, range(300))["labels"] != -100).any(0).tolist()
        assert hidden == [False, True, True, False, not within_documents, True, True, True]


def test_a_text_of_one_token_has_nothing_to_predict():
    for share in (0.0, 1.0):
        objective = MaskedNextToken(causal_share=share)
        assert objective(reading_model(objective), batch_of(objective, (1,))).count == 0


def test_the_held_out_loss_is_split_by_kind():
    objective = MaskedNextToken(causal_share=0.5)
    batch, model = batch_of(objective, (24,) * 30), reading_model(objective)
    found = evaluate(objective, model, [batch]).breakdown["causal"]
    for kind, nats in enumerate(found.values()):
        rows = batch["causal"] == kind
        assert nats == pytest.approx(
            objective(model, {key: value[rows] for key, value in batch.items()}).item(), rel=1e-6
        )
    assert list(found) == ["masked rows", "causal rows"]


def test_a_causal_row_with_labels_that_are_shifted_is_refused():
    objective = MaskedNextToken(causal_share=1.0)
    batch = batch_of(objective)
    batch["labels"][:, :-1] = batch["labels"][:, 1:].clone()
    with pytest.raises(InputError, match="labels are not shifted here"):
        objective(reading_model(objective), batch)


def test_a_phase_of_each_kind_trains_the_same_model():
    """AntLM's alternation: the shares 1 and 0, one after the other, on one set of weights."""
    torch.manual_seed(0)
    causal, masked = MaskedNextToken(causal_share=1.0), MaskedNextToken(causal_share=0.0, mask_rate=0.4)
    model = causal.build_model(VOCAB, d_model=32, n_layers=1, n_heads=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for objective in (causal, masked):
        batch = batch_of(objective, (24,) * 4)
        first = objective(model, batch).item()
        for _ in range(25):
            optimizer.zero_grad()
            objective(model, batch).backward()
            optimizer.step()
        assert objective(model, batch).item() < 0.6 * first


# ------------------------------------------------------------------ floors

SOURCE = MarkovSource.random(4, entropy=0.7)


def test_causal_rows_have_the_causal_floor():
    special, text = SOURCE.special_ids(), SOURCE.sample(5, 12)
    batch = MaskedNextToken(causal_share=1.0, **MASKS_ALONE).collator(special).block(text, range(5))
    found = MaskedNextToken(**MASKS_ALONE).entropy_floor(SOURCE, batch, special)["logits"]
    expected = CausalLM().entropy_floor(SOURCE, {"input_ids": text, "labels": text}, special)["logits"]
    torch.testing.assert_close(found, expected)


def test_masked_rows_have_the_posterior_of_a_hidden_token_given_the_row():
    """By brute force: every text that the row could come from, weighted by n / k."""
    special, n = SOURCE.special_ids(), 6
    objective = MaskedNextToken(causal_share=0.0, mask_rate=0.4, **MASKS_ALONE)
    batch = objective.collator(special).block(SOURCE.sample(8, n), range(8))
    every = torch.cartesian_prod(*[torch.arange(4)] * n)
    p = SOURCE.log_prob(every).exp()
    for row, labels, found in zip(
        batch["input_ids"], batch["labels"], objective.entropy_floor(SOURCE, batch, special)["logits"]
    ):
        fits = ((every == row) | (row == special.mask)).all(1)
        hidden = labels != -100
        costs = [
            -math.log((p * fits * (every[:, t] == labels[t])).sum() / (p * fits).sum()) for t in hidden.nonzero()[:, 0]
        ]
        assert found.item() == pytest.approx(sum(costs) * (n - 1) / len(costs))


def test_kept_tokens_have_no_exact_floor():
    with pytest.raises(InputError, match="exact floor of masked next-token prediction"):
        MaskedNextToken().entropy_floor(SOURCE, {}, SOURCE.special_ids())


# ------------------------------------------------------------------ generation


def test_a_blank_is_filled_by_the_output_before_it():
    model, special = reading_model(MaskedNextToken(), std=0.5), SPECIAL
    text = torch.tensor([[5, 9, special.mask, 7]])
    filled = fill_masks(model, text, special.mask, predicts_next=True, suppressed=special.all, greedy=True)
    states = model(text, reading_rank=torch.zeros_like(text))
    logits = model.unembed(states[0, 1])
    logits[list(special.all)] = -torch.inf
    assert filled.tolist() == [[5, 9, int(logits.argmax()), 7]]
    from_the_left = model.unembed(model(text)[0, 1])
    assert not torch.allclose(from_the_left, model.unembed(states[0, 1]))  # so both sides are read here
    with pytest.raises(InputError, match="the first token is a blank"):
        fill_masks(model, text[:, 2:], special.mask, predicts_next=True)


def test_a_text_is_continued_from_the_left_and_filled_on_both_sides(tokenizer):
    objective = MaskedNextToken()
    model = objective.build_model(tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(0))
    continued = objective.complete(model, tokenizer, "The cat", max_new_tokens=4)
    assert continued == continue_text(model, tokenizer, "The cat", max_new_tokens=4)
    filled = objective.complete(model, tokenizer, "___ cat sat ___ the mat.")
    assert [by_model for _, by_model in filled.parts] == [True, False, True, False]
