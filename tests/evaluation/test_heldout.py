"""Held-out loss on masks that never change, and the guesses that it must beat."""

import math

import pytest
import torch

from clozelab.data import pack
from clozelab.evaluation import evaluate, fixed_batches, label_counts, positions_read, unigram_loss
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption

OBJECTIVES = [CausalLM(), MaskedLM(), SpanCorruption()]
TEXTS = ["Thank you for inviting me to your party last week .", "The cat sat on the mat."] * 40


@pytest.fixture
def blocks(tokenizer, tmp_path):
    return pack(TEXTS, tokenizer, cache_dir=tmp_path).blocks(32)


@pytest.fixture(params=OBJECTIVES, ids=lambda objective: objective.name)
def objective(request):
    return request.param


def model_of(objective, tokenizer):
    torch.manual_seed(0)
    return objective.build_model(tokenizer.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=2)


def test_held_out_masks_never_change_and_are_not_those_of_training(objective, tokenizer, blocks):
    collator = objective.collator(tokenizer.special, seed=3)
    first = fixed_batches(blocks, collator, rows=8, batch_size=4)
    collator.set_epoch(5)
    again = fixed_batches(blocks, collator, rows=8, batch_size=4)
    assert all(torch.equal(a[key], b[key]) for a, b in zip(first, again) for key in a)
    if objective.name != "causal":
        trained = [collator.block(blocks.take(range(4)), range(4), epoch=epoch)["input_ids"] for epoch in range(3)]
        assert not any(torch.equal(first[0]["input_ids"], inputs) for inputs in trained)


def test_the_loss_does_not_depend_on_how_the_rows_are_batched(objective, tokenizer, blocks):
    collator, model = objective.collator(tokenizer.special), model_of(objective, tokenizer)
    results = [evaluate(objective, model, fixed_batches(blocks, collator, rows=8, batch_size=b)) for b in (1, 3, 8)]
    assert len({result.count for result in results}) == 1
    assert max(result.nats for result in results) - min(result.nats for result in results) < 1e-5


def test_positions_are_counted_as_the_model_computes_them(tokenizer, blocks):
    tokens = blocks.take([0])
    paid = {
        o.name: evaluate(o, model_of(o, tokenizer), [o.collator(tokenizer.special).block(tokens, [0])])
        for o in OBJECTIVES
    }
    assert (paid["causal"].positions, paid["causal"].count) == (32, 31)
    # Three of the 32 are ends of text, which are never hidden: round(0.15 x 29) = 4.
    assert int((tokens == tokenizer.special.eos).sum()) == 3
    assert (paid["masked"].positions, paid["masked"].count) == (32, 4)
    # 32 tokens, 5 hidden in 2 spans: 27 + 2 sentinels + end of text are read, 5 + 2 + 1 are said.
    assert (paid["span"].positions, paid["span"].count) == (30 + 8, 8)


def test_bits_per_byte_are_those_of_the_text_and_only_of_a_likelihood(tokenizer, blocks):
    batch = CausalLM().collator(tokenizer.special).block(blocks.take([0]), [0])
    result = evaluate(CausalLM(), model_of(CausalLM(), tokenizer), [batch], byte_lengths=tokenizer.byte_lengths)
    said = tokenizer.decode(batch["labels"][0, 1:].tolist(), skip_special=True)
    assert result.bits_per_byte == pytest.approx(result.nats * 31 / math.log(2) / len(said.encode()))
    masked = evaluate(
        MaskedLM(),
        model_of(MaskedLM(), tokenizer),
        [MaskedLM().collator(tokenizer.special).block(blocks.take([0]), [0])],
        byte_lengths=tokenizer.byte_lengths,
    )
    assert masked.bits_per_byte is None


def test_the_unigram_guess_is_the_cross_entropy_of_the_counts():
    seen, heldout = torch.tensor([7, 1, 0]), torch.tensor([2, 1, 1])
    smoothed = [8 / 11, 2 / 11, 1 / 11]
    expected = -(2 * math.log(smoothed[0]) + math.log(smoothed[1]) + math.log(smoothed[2])) / 4
    assert unigram_loss(seen, heldout) == pytest.approx(expected)


def test_labels_are_counted_where_they_are_paid(objective, tokenizer, blocks):
    batch = objective.collator(tokenizer.special).block(blocks.take([0, 1]), [0, 1])
    counts = label_counts(objective, [batch], tokenizer.vocab_size)
    assert int(counts.sum()) == int(objective.paid(batch).sum())
    assert positions_read(batch) >= int(counts.sum())


def test_the_model_keeps_its_mode(objective, tokenizer, blocks):
    model = model_of(objective, tokenizer).train()
    evaluate(objective, model, [objective.collator(tokenizer.special).block(blocks.take([0]), [0])])
    assert model.training
