"""The floating-point operations of a step."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from clozelab.objectives import CausalLM, SpanCorruption
from clozelab.training import training_flops
from clozelab.training.compute import FUSED


@pytest.mark.parametrize("length", [8, 64])
def test_a_step_costs_what_the_textbook_says(length):
    """6 operations for each weight and token; in each layer and for each pair of tokens, 14 for each unit of the width:
    two products forward and five backward, since the fused attention computes its scores again.
    """
    objective, rows, d_model, n_layers = CausalLM(), 4, 32, 2
    model = objective.build_model(16, "tiny", d_model=d_model, n_layers=n_layers, n_heads=2)
    text = torch.zeros(rows, length, dtype=torch.int64)
    matrices = sum(p.numel() for name, p in model.named_parameters() if "embedding" not in name)
    blocks = 6 * matrices * rows * length + 14 * d_model * n_layers * rows * length**2
    vocabulary = 6 * model.embedding.weight.numel() * rows * (length - 1)  # the last position is not in the loss
    counted = training_flops(objective, model, [{"input_ids": text, "labels": text}])
    assert counted == pytest.approx(blocks + vocabulary, rel=0.01)


@pytest.mark.parametrize("objective", [CausalLM(), SpanCorruption()], ids=["causal", "span"])
def test_it_is_what_the_counter_of_pytorch_counts(objective, special):
    """With the formulas of the processor's fused attention, which that one does not have."""
    model = objective.build_model(special.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=2)
    batch = objective.collator(special).block(torch.full((2, 16), 5), example_ids=[0, 1])
    with FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
        objective(model, batch).mean.backward()
    assert training_flops(objective, model, [batch]) == counter.get_total_flops() > 0


def test_the_mean_is_over_batches_and_no_gradient_is_left(special):
    objective = SpanCorruption()
    model = objective.build_model(special.vocab_size, "tiny", d_model=16, n_layers=1, n_decoder_layers=1, n_heads=2)
    batches = [objective.collator(special).block(torch.full((2, length), 5), example_ids=[0, 1]) for length in (16, 32)]
    one, two = (training_flops(objective, model, [batch]) for batch in batches)
    assert one < two
    assert training_flops(objective, model, batches) == pytest.approx((one + two) / 2)
    assert all(parameter.grad is None for parameter in model.parameters())
