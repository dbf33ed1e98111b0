"""Arithmetic is counted where it is done."""

import pytest
import torch
from torch import nn

from clozelab.errors import InputError
from clozelab.evaluation import training_flops
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption

WIDTH, ROWS, LENGTH = 16, 4, 24


def counted(objective, special, **shape):
    """(FLOPs of a step, the batch, the model)"""
    text = torch.randint(3, 80, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    batch = objective.collator(special).block(text, range(ROWS))
    model = objective.build_model(special.vocab_size, "tiny", width=WIDTH, layers=2, heads=2, **shape)
    return training_flops(objective, model, batch), batch, model


@pytest.mark.parametrize("objective", [CausalLM(), MaskedLM()])
def test_six_for_each_weight_and_position_and_the_table_where_it_pays(objective, special):
    flops, batch, model = counted(objective, special)
    positions, paid = ROWS * LENGTH, int(objective.paid(batch).sum())
    weights = 6 * model.parameter_count(vocabulary=False) * positions
    attention = 3 * 2 * 4 * WIDTH * ROWS * LENGTH**2  # two layers
    assert flops == weights + attention + 6 * special.vocab_size * WIDTH * paid


def test_the_encoder_counts_by_what_is_read_and_the_decoder_by_what_is_said(special):
    objective = SpanCorruption()
    flops, batch, model = counted(objective, special, decoder_layers=1)
    read, said = batch["input_ids"].shape[1], batch["labels"].shape[1]
    memory = 2 * WIDTH**2  # the cross-attention's key and value meet the memory
    decoder = sum(p.numel() for p in model.decoder.parameters()) - memory
    weights = (sum(p.numel() for p in model.encoder.parameters()) + memory) * read + decoder * said
    pairs = 2 * read**2 + said**2 + said * read
    table = special.vocab_size * WIDTH * said
    assert flops == 3 * ROWS * (2 * weights + 4 * WIDTH * pairs + 2 * table)


def test_the_model_is_left_as_it_was(special):
    *_, model = counted(CausalLM(), special)
    assert model.training
    assert not any(part._forward_hooks for part in model.modules())


def test_other_models_are_refused():
    with pytest.raises(InputError, match="our own models"):
        training_flops(CausalLM(), nn.Linear(2, 2), {})
