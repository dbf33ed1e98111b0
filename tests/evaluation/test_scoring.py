"""What is a probability sums to one; what is not, does not; and padding changes nothing."""

import itertools
import math

import pytest
import torch

from clozelab.errors import InputError
from clozelab.evaluation import Scores, causal_log_prob, infill_log_prob, pseudo_log_likelihood
from clozelab.models import DecoderOnly, EncoderDecoder, EncoderOnly, ModelConfig, eval_mode
from clozelab.objectives import CausalLM, SpanCorruption

V = 4
SMALL = ModelConfig(vocab_size=V, d_model=16, n_layers=2, n_heads=2)
LARGER = ModelConfig(vocab_size=30, d_model=16, n_layers=2, n_heads=2)
CLOSE = {"rtol": 1e-4, "atol": 1e-5}

# One text on its own, then padded to the right, to the left, and on both sides.
IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [5, 6, 7, 8, 29, 29], [29, 29, 5, 6, 7, 8], [29, 5, 6, 7, 8, 29]])
MASK = (IDS != 29).long()


def randomised(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


def all_strings(length, symbols=V):
    return torch.tensor(list(itertools.product(range(symbols), repeat=length)))


# ------------------------------------------------------------------ sums


@pytest.mark.parametrize("length", [1, 3, 4])
def test_the_probabilities_of_all_texts_of_a_length_sum_to_one(length):
    scores = causal_log_prob(randomised(DecoderOnly(SMALL)), all_strings(length), start_id=1)
    assert scores.scored.all()
    assert float(scores.log_prob.double().exp().sum()) == pytest.approx(1, abs=1e-5)
    assert scores.log_prob.std() > 0.05  # and they are not all equal


def test_without_a_start_the_texts_that_share_their_first_token_sum_to_one():
    strings = all_strings(3)
    scores = causal_log_prob(randomised(DecoderOnly(SMALL)), strings)
    assert not scores.scored[:, 0].any()
    for first in range(V):
        assert float(scores.log_prob[strings[:, 0] == first].exp().sum()) == pytest.approx(1, abs=1e-5)


def test_the_probabilities_of_all_targets_sum_to_one_for_each_input():
    model, targets = randomised(EncoderDecoder(SMALL)), all_strings(3)
    totals = []
    for text in ([0, 1, 2], [3, 3, 1]):
        scores = infill_log_prob(model, torch.tensor([text]).expand(len(targets), -1), targets, start_id=0)
        assert float(scores.log_prob.exp().sum()) == pytest.approx(1, abs=1e-5)
        totals.append(scores.log_prob)
    assert not torch.allclose(*totals, atol=1e-3)  # the inputs matter


def test_pseudo_likelihoods_do_not_sum_to_one():
    scores = pseudo_log_likelihood(randomised(EncoderOnly(SMALL)), all_strings(3), mask_id=0)
    assert abs(float(scores.log_prob.exp().sum()) - 1) > 0.01


# ------------------------------------------------------------------ token by token


def test_each_is_the_probability_of_a_token_given_those_before_it():
    model = randomised(DecoderOnly(LARGER))
    log_probs = causal_log_prob(model, IDS[:1], start_id=1).token_log_probs[0]
    for t in range(6):
        before = torch.cat([torch.tensor([1]), IDS[0, :t]])[None]
        log_p = model.unembed(model(before)[0, -1]).log_softmax(-1)
        torch.testing.assert_close(log_probs[t], log_p[IDS[0, t]].detach(), **CLOSE)


def test_the_log_probs_are_what_the_causal_loss_adds_up():
    model, ids = randomised(DecoderOnly(LARGER)), IDS[:1].repeat(3, 1)
    scores = causal_log_prob(model, ids)
    loss = CausalLM()(model, {"input_ids": ids, "labels": ids})
    torch.testing.assert_close(-scores.log_prob.sum(), loss.sum.detach(), **CLOSE)
    assert int(scores.loss.count) == int(loss.count) == int(scores.scored.sum())
    assert float(scores.loss.mean) == pytest.approx(loss.mean.item(), rel=1e-5)


def test_an_infill_is_what_the_span_loss_adds_up(special):
    objective = SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0)
    model = randomised(objective.build_model(100, "tiny", d_model=16, n_layers=2, n_heads=2))
    rows = [{"input_ids": torch.arange(5, 5 + n), "example_id": n} for n in (12, 20)]
    batch = objective.collator(special)(rows)
    scores = infill_log_prob(
        model, batch["input_ids"], batch["labels"], batch.get("attention_mask"), start_id=special["decoder_start"]
    )
    torch.testing.assert_close(-scores.log_prob.sum(), objective(model, batch).sum.detach(), **CLOSE)
    assert torch.equal(scores.scored, batch["labels"] != -100)


def test_each_pseudo_likelihood_is_the_probability_of_a_token_given_all_others():
    model = randomised(EncoderOnly(LARGER))
    scored = torch.tensor([[False, True, True, True, True, False]])
    scores = pseudo_log_likelihood(model, IDS[:1], mask_id=2, scored=scored, batch_size=3)
    assert torch.equal(scores.scored, scored)
    for t in range(1, 5):
        ids = IDS[:1].clone()
        ids[0, t] = 2
        log_p = model.unembed(model(ids)[0, t]).log_softmax(-1)
        torch.testing.assert_close(scores.token_log_probs[0, t], log_p[IDS[0, t]].detach(), **CLOSE)


# ------------------------------------------------------------------ padding


def score_causal(ids, mask=None):
    return causal_log_prob(randomised(DecoderOnly(LARGER)), ids, mask)


def score_causal_from_start(ids, mask=None):
    return causal_log_prob(randomised(DecoderOnly(LARGER)), ids, mask, start_id=1)


def score_pseudo(ids, mask=None):
    return pseudo_log_likelihood(randomised(EncoderOnly(LARGER)), ids, mask, mask_id=2, batch_size=5)


@pytest.mark.parametrize("score", [score_causal, score_causal_from_start, score_pseudo])
def test_a_padded_row_scores_as_it_does_alone(score):
    scores = score(IDS, MASK)
    assert not (scores.scored & (MASK == 0)).any()
    assert (scores.token_log_probs[~scores.scored] == 0).all()
    for row in range(len(IDS)):
        alone = score(IDS[row][MASK[row] == 1][None])
        torch.testing.assert_close(scores.token_log_probs[row][MASK[row] == 1], alone.token_log_probs[0], **CLOSE)


def test_a_padded_infill_scores_as_it_does_alone():
    model = randomised(EncoderDecoder(LARGER))
    labels = torch.tensor([[11, 12, 13], [11, 12, -100], [11, -100, -100], [-100, -100, -100]])
    scores = infill_log_prob(model, IDS, labels, MASK, start_id=0)
    assert torch.equal(scores.scored, labels != -100)
    for row in range(3):
        alone = infill_log_prob(
            model, IDS[row][MASK[row] == 1][None], labels[row][labels[row] != -100][None], start_id=0
        )
        torch.testing.assert_close(scores.token_log_probs[row][labels[row] != -100], alone.token_log_probs[0], **CLOSE)
    assert scores.log_prob[3] == 0
    assert scores.nats_per_token[3].isnan()


def test_nothing_to_score_is_zero_and_no_error():
    model = randomised(DecoderOnly(LARGER))
    assert causal_log_prob(model, torch.tensor([[5]])).log_prob.tolist() == [0]
    empty = causal_log_prob(model, IDS[:1], torch.zeros(1, 6), start_id=1)
    assert not empty.scored.any()
    assert int(empty.loss.count) == 0


# ------------------------------------------------------------------ units, modes, messages


def test_units():
    log_probs = torch.tensor([[0.0, -math.log(2), -math.log(8)]])
    scores = Scores(log_probs, torch.tensor([[False, True, True]]))
    torch.testing.assert_close(scores.nats_per_token, torch.tensor([2 * math.log(2)]))
    torch.testing.assert_close(scores.perplexity, torch.tensor([4.0]))
    torch.testing.assert_close(scores.bits_per_byte(torch.tensor([[100, 3, 5]])), torch.tensor([0.5]))
    torch.testing.assert_close(scores.bits_per_byte(torch.tensor([8])), torch.tensor([0.5]))
    with pytest.raises(InputError, match="byte counts"):
        scores.bits_per_byte(torch.tensor([1, 2]))


def test_a_model_is_left_in_the_mode_it_was_in_part_by_part():
    model = DecoderOnly(LARGER).train()
    model.blocks[0].eval()
    scores = causal_log_prob(model, IDS[:1])
    assert model.training
    assert not model.blocks[0].training
    assert model.blocks[1].training
    assert not scores.token_log_probs.requires_grad
    with pytest.raises(InputError):
        causal_log_prob(model, torch.tensor([[5, 99]]) * 10)
    assert model.training
    with pytest.raises(RuntimeError), eval_mode(model):
        raise RuntimeError
    assert model.training


def test_autocast_around_a_score_changes_nothing():
    model = randomised(DecoderOnly(LARGER))
    before = causal_log_prob(model, IDS[:1])
    with torch.autocast("cpu", torch.bfloat16):
        inside = causal_log_prob(model, IDS[:1])
    assert torch.equal(before.token_log_probs, inside.token_log_probs)
    assert inside.token_log_probs.dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: causal_log_prob(m, IDS[0]), "whole numbers"),
        (lambda m: causal_log_prob(m, IDS.float()), "whole numbers"),
        (lambda m: causal_log_prob(m, IDS, MASK[:, 1:]), "attention_mask"),
        (lambda m: causal_log_prob(m, IDS[:1], torch.tensor([[1, 1, 0, 1, 1, 1]])), "row 0 .* in its middle"),
        (lambda m: causal_log_prob(m, torch.tensor([[5, 30]])), "0 .. 29"),
        (lambda m: pseudo_log_likelihood(m, IDS, mask_id=2, batch_size=0), "batch_size"),
        (lambda m: pseudo_log_likelihood(m, IDS, mask_id=2, scored=MASK), "scored"),
        (lambda m: infill_log_prob(m, IDS[:1], torch.tensor([[5, -100, 6]]), start_id=0), "gap"),
        (lambda m: infill_log_prob(m, IDS[:1], IDS[:2], start_id=0), "as many targets"),
        (lambda m: causal_log_prob(Headless(), IDS), "head"),
    ],
)
def test_a_wrong_call_names_what_was_expected(call, message):
    with pytest.raises(InputError, match=message):
        call(randomised(DecoderOnly(LARGER)))


class Headless(torch.nn.Module):
    def forward(self, input_ids, attention_mask=None):
        return {"last_hidden_state": input_ids}


# ------------------------------------------------------------------ Hugging Face


def test_gpt2_scores_as_by_hand_with_padding_on_any_side():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=30, n_positions=8, n_embd=16, n_layer=2, n_head=2)
    model = randomised(transformers.GPT2LMHeadModel(config))
    text = [5, 6, 7, 8]
    expected = model(torch.tensor([[1, *text]])).logits[0].log_softmax(-1)[range(4), text].detach()
    scores = causal_log_prob(model, IDS[1:], MASK[1:], start_id=1)
    for row in range(3):
        torch.testing.assert_close(scores.token_log_probs[row][scores.scored[row]], expected, **CLOSE)
    total = causal_log_prob(model, all_strings(3, 3), start_id=1).log_prob.exp().sum()
    assert total < 1  # three symbols of thirty


def test_bert_scores_as_by_hand_with_padding_on_any_side():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    model = randomised(transformers.BertForMaskedLM(config))
    text = torch.tensor([[5, 6, 7, 8]])
    expected = []
    for t in range(4):
        ids = text.clone()
        ids[0, t] = 2
        expected.append(model(ids).logits[0, t].log_softmax(-1)[text[0, t]].detach())
    scores = pseudo_log_likelihood(model, IDS[1:], MASK[1:], mask_id=2)
    for row in range(3):
        torch.testing.assert_close(scores.token_log_probs[row][scores.scored[row]], torch.stack(expected), **CLOSE)


def test_t5_scores_as_by_hand():
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=30, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0, pad_token_id=0
    )
    model = randomised(transformers.T5ForConditionalGeneration(config))
    text, target = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[11, 12]])
    logits = model(input_ids=text, decoder_input_ids=torch.tensor([[0, 11]])).logits[0]
    expected = logits.log_softmax(-1)[range(2), target[0]].detach()
    labels = torch.tensor([[11, 12, -100]]).repeat(3, 1)
    scores = infill_log_prob(model, IDS[1:], labels, MASK[1:], start_id=0)
    for row in range(3):
        torch.testing.assert_close(scores.token_log_probs[row, :2], expected, **CLOSE)
    loss = model(input_ids=text, labels=target).loss.detach()  # theirs shifts by itself
    torch.testing.assert_close(scores.nats_per_token[0], loss, **CLOSE)
