"""The lengths of a row are those of the real batch."""

import pytest

from clozelab.data.masking import hidden_count
from clozelab.data.sentinels import solve_span_lengths
from clozelab.errors import InputError
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption
from clozelab.planning import row_of


def test_a_row_is_a_row_of_the_batch(small):
    row, batch = small.row, small.batch
    assert row.read == batch["input_ids"].shape[1]
    assert row.said == (batch["decoder_input_ids"].shape[1] if "decoder_input_ids" in batch else 0)
    paid = small.objective.paid(batch)
    assert (small.rows * row.offered, small.rows * row.paid) == (paid.numel(), int(paid.sum()))


@pytest.mark.parametrize("length", [8, 100, 512, 2048])
def test_each_objective_pays_as_its_paper_says(length):
    import torch

    causal, masked, span = (row_of(objective(), length) for objective in (CausalLM, MaskedLM, SpanCorruption))
    assert (causal.text, causal.paid) == (length, length - 1)
    assert (masked.text, masked.paid) == (length, int(hidden_count(torch.tensor(length), 0.15)))
    lengths = solve_span_lengths(length)
    assert (span.text, span.read, span.said, span.paid, span.sentinels) == (
        lengths.raw,
        lengths.inputs,
        lengths.targets,
        lengths.targets,
        lengths.spans,
    )


def test_settings_of_the_objective_count():
    assert row_of(MaskedLM(mask_rate=0.4), 100).paid == 40
    assert (
        row_of(SpanCorruption(noise_density=0.5, mean_noise_span_length=8.0), 512).said
        > row_of(SpanCorruption(), 512).said
    )


@pytest.mark.parametrize("length", [0, -1, 2**21])
def test_a_length_that_is_none_is_refused(length):
    with pytest.raises(InputError, match="length"):
        row_of(MaskedLM(), length)


def test_a_row_that_pays_nothing_is_refused():
    with pytest.raises(InputError, match="nothing to predict"):
        row_of(CausalLM(), 1)
