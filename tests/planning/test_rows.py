"""The lengths of a row are those of the real batch."""

from itertools import pairwise

import pytest
import torch

from clozelab.data.masking import hidden_count
from clozelab.data.span_masking import solve_span_lengths
from clozelab.errors import InputError
from clozelab.objectives import (
    OBJECTIVES,
    CausalLM,
    FillInTheMiddle,
    MaskedDiffusion,
    MaskedLM,
    PrefixLM,
    SpanCorruption,
)
from clozelab.planning import row_of


def test_a_row_is_a_row_of_the_batch(small):
    row, batch = small.row, small.batch
    assert row.input_length == batch["input_ids"].shape[1]
    assert row.decoder_length == (batch["decoder_input_ids"].shape[1] if "decoder_input_ids" in batch else 0)
    masks = [target.loss_mask for target in small.objective.targets(batch).values()]
    assert small.rows * row.outputs == sum(mask.numel() for mask in masks)
    assert small.rows * row.loss_positions == pytest.approx(sum(int(mask.sum()) for mask in masks))


def test_the_inputs_of_a_row_are_what_the_model_reads_of_the_batch(small):
    """An attention mask that hides nothing is left out, as the model leaves it out."""
    read = small.objective.model_inputs(small.model, small.batch)
    hiding = {key for key, value in read.items() if not (key.endswith("attention_mask") and bool(value.all()))}
    assert {key for key, _ in small.row.inputs} == hiding


@pytest.mark.parametrize("length", [16, 100, 512])
def test_each_objective_predicts_as_many_positions_as_its_paper_says(length):
    causal, masked, span = (row_of(objective(), length) for objective in (CausalLM, MaskedLM, SpanCorruption))
    assert (causal.text, causal.loss_positions) == (length, length - 1)
    assert (masked.text, masked.loss_positions) == (length, int(hidden_count(torch.tensor(length), 0.15)))
    lengths = solve_span_lengths(length)
    assert (span.text, span.input_length, span.decoder_length, span.loss_positions, span.sentinels) == (
        lengths.raw,
        lengths.inputs,
        lengths.targets,
        lengths.targets,
        lengths.spans,
    )
    # Uniform in 1 .. n, or in n - 1 .. 1 after the prefix: half a row, within four standard errors of 1,024 rows.
    for objective in (MaskedDiffusion, PrefixLM):
        assert row_of(objective(), length).loss_positions == pytest.approx(length / 2, rel=0.04, abs=1)
    middle = row_of(FillInTheMiddle(), length)
    assert (middle.text, middle.input_length) == (length - 4, length)
    assert row_of(FillInTheMiddle(fim_rate=1.0), length).loss_positions == length - 1


def test_options_of_the_objective_count():
    assert row_of(MaskedLM(mask_rate=0.4), 100).loss_positions == 40
    long = SpanCorruption(noise_density=0.5, mean_noise_span_length=8.0)
    assert row_of(long, 512).decoder_length > row_of(SpanCorruption(), 512).decoder_length
    assert row_of(MaskedLM(scheme="whole-words"), 100).loss_positions > 0
    assert row_of(MaskedLM(mask_rate=0.3, final_mask_rate=0.1), 100).loss_positions == 20  # the mean of a run


@pytest.mark.parametrize("objective", OBJECTIVES.values())
def test_a_longer_row_has_more_of_everything(objective):
    rows = [row_of(objective(), length) for length in (32, 64, 128)]
    for a, b in pairwise(rows):
        assert (a.text, a.input_length, a.outputs, a.loss_positions) < (
            b.text,
            b.input_length,
            b.outputs,
            b.loss_positions,
        )


def test_the_same_row_is_found_whatever_the_global_random_state():
    state = torch.get_rng_state()
    one = row_of(MaskedDiffusion(), 64)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert row_of(MaskedDiffusion(), 64) == one


@pytest.mark.parametrize("length", [0, -1, 2**21, None, 1.5])
def test_an_invalid_length_is_refused(length):
    with pytest.raises(InputError, match="length"):
        row_of(MaskedLM(), length)


def test_a_row_without_a_loss_position_is_refused():
    with pytest.raises(InputError, match="nothing to predict"):
        row_of(CausalLM(), 1)
