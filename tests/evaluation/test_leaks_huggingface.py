"""The probe on models of Hugging Face, by a matrix of one's own and by what an objective declares."""

import pytest
import torch

from clozelab.evaluation import probe, probe_objective
from clozelab.models import causal_mask, full_mask
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption

V = 30
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
DECODER_IDS = torch.tensor([[0, 11, 12, 13]])


def randomised(model, seed=0):
    """Random weights everywhere."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


def test_gpt2_is_moved_from_the_left():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=V, n_positions=8, n_embd=16, n_layer=2, n_head=2)
    model = randomised(transformers.GPT2LMHeadModel(config))
    report = probe(model, {"input_ids": IDS}, declared=causal_mask(6))
    assert report.verdict == "as declared"
    assert report.moved.shape == (6, 6)
    [causal] = probe_objective(CausalLM(), model, {"input_ids": IDS, "labels": IDS}).values()
    assert causal.equal


def test_bert_is_moved_from_both_sides_and_not_by_padding():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=V, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    model = randomised(transformers.BertForMaskedLM(config))
    assert probe(model, {"input_ids": IDS}, declared=full_mask(6, 6)).verdict == "as declared"
    assert "LEAK" in probe(model, {"input_ids": IDS}, declared=causal_mask(6)).verdict
    padded = {"input_ids": IDS, "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]])}
    report = probe(model, padded, declared=full_mask(6, 6), output="logits")
    assert not report.moved[:4, 4:].any()
    batch = padded | {"labels": torch.tensor([[-100, 6, -100, 8, -100, -100]])}
    [masked] = probe_objective(MaskedLM(), model, batch).values()
    assert masked.equal


def test_t5_is_moved_by_its_whole_text_and_by_its_own_past():
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(vocab_size=V, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    model = randomised(transformers.T5ForConditionalGeneration(config))
    inputs = {"input_ids": IDS, "decoder_input_ids": DECODER_IDS, "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0]])}
    reports = probe_objective(SpanCorruption(), model, {**inputs, "labels": DECODER_IDS})
    assert {key: tuple(report.moved.shape) for (_, key), report in reports.items()} == {
        "input_ids": (4, 6),
        "decoder_input_ids": (4, 4),
    }
    assert all(report.equal for report in reports.values())
    encoder = probe(model, inputs, declared=full_mask(6, 6), output="encoder_last_hidden_state")
    assert encoder.moved.int().tolist() == [[1, 1, 1, 1, 1, 0]] * 5 + [[1, 1, 1, 1, 1, 1]]  # the last is padding
