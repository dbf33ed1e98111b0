"""Operations, against PyTorch's own counter."""

from itertools import pairwise

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from clozelab.errors import InputError
from clozelab.models import ModelConfig
from clozelab.objectives import OBJECTIVES, CausalLM, MaskedLM, SpanCorruption
from clozelab.planning import flops, optimizer_flops, parameters, row_of
from clozelab.training import TrainConfig
from clozelab.training.optimizers import optimizer_of

from ..objectives.cases import SAMPLED_NAMES

IN_PLACE = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}
"""The loss accumulates the table's gradient in place, by a product that the counter does not know."""


def counted(small, precision, **settings):
    with FlopCounterMode(display=False, **settings) as counter:
        small.loss(precision).backward()
    return counter.get_total_flops()


def planned(small):
    return flops(small.objective, small.config, small.row, small.rows)


def test_forward_and_backward_are_what_the_counter_counts(small, precision):
    """Exactly: every product of the blocks, of attention written out, and of the loss at its positions."""
    with sdpa_kernel(SDPBackend.MATH):
        assert planned(small).total == counted(small, precision, custom_mapping=IN_PLACE)


def test_the_forward_pass_alone_is_a_third(small, precision):
    """But for ids that are drawn, which have no backward."""
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as counter:
        small.loss(precision)
    work = planned(small)
    assert 3 * (counter.get_total_flops() - work.drawing) == work.total - work.drawing


def test_what_the_counter_leaves_out_by_itself(small):
    """The processor's fused attention, and one of the loss's three products, which costs as much as the forward."""
    work = planned(small)
    assert counted(small, "float32") == work.total - 3 * work.attention - work.unembedding


def test_a_fused_backward_computes_the_scores_again():
    config, row = ModelConfig(vocab_size=100), row_of(CausalLM(), 64)
    work, shape = flops(CausalLM(), config, row), (1, config.n_heads, 64, config.d_head)
    forward = config.n_layers * flop_counter.sdpa_flop_count(shape, shape, shape)
    backward = config.n_layers * flop_counter.sdpa_backward_flop_count(shape, shape, shape, shape)
    assert (forward, backward) == (work.attention, 2 * work.attention + work.recomputed)


def test_a_hand_count_of_one_block():
    config, row = ModelConfig(vocab_size=50, d_model=16, n_layers=1, n_heads=1, d_ff=24), row_of(CausalLM(), 10)
    work = flops(CausalLM(), config, row)
    assert work.projections == 10 * 2 * (4 * 16 * 16 + 3 * 16 * 24)
    assert work.attention == 2 * (2 * 10 * 10 * 16)
    assert work.unembedding == 9 * 2 * 16 * 50


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_optimisers_step_is_what_the_counter_counts(small, optimizer):
    small.loss("float32").backward()
    steps = optimizer_of(small.model, TrainConfig(optimizer=optimizer))
    with FlopCounterMode(display=False) as counter:
        steps.step()
    assert counter.get_total_flops() == optimizer_flops(parameters(small.objective, small.config), optimizer)


def test_the_blocks_of_any_depth_follow_from_those_of_two():
    """What is extrapolated is what is counted on the whole model."""
    row = row_of(SpanCorruption(), 32)
    deep = ModelConfig(100, d_model=32, n_layers=5, n_heads=2, n_decoder_layers=3)
    whole = SpanCorruption().build_model(100, d_model=32, n_layers=5, n_heads=2, n_decoder_layers=3)
    inputs = {key: torch.zeros(1, length, dtype=torch.int64) for key, length in row.inputs}
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as counter:
        whole(**inputs)
    work = flops(SpanCorruption(), deep, row)
    assert work.projections + work.attention == counter.get_total_flops()


def test_more_loss_positions_cost_only_the_unembedding():
    config = ModelConfig(vocab_size=1000)
    few, many = (flops(MaskedLM(), config, row_of(MaskedLM(mask_rate=rate), 200)) for rate in (0.15, 0.3))
    assert (few.projections, few.attention) == (many.projections, many.attention)
    assert many.unembedding == 2 * few.unembedding


def test_a_loss_position_of_masked_lm_costs_as_much_more_as_there_are_fewer():
    """Six and a half times: the blocks read all tokens, and 15% are in the loss."""
    config = ModelConfig(vocab_size=4096, d_model=512, n_layers=8, n_heads=8)
    causal, masked = row_of(CausalLM(), 512), row_of(MaskedLM(), 512)
    of_causal = flops(CausalLM(), config, causal).total / causal.loss_positions
    of_masked = flops(MaskedLM(), config, masked).total / masked.loss_positions
    assert 6 < of_masked / of_causal < 511 / 77


@pytest.mark.parametrize("field", ["vocab_size", "d_model", "n_layers", "d_ff", "length"])
@pytest.mark.parametrize("name", SAMPLED_NAMES)
def test_more_of_anything_is_more_work(name, field):
    objective = OBJECTIVES[name]
    shape = {"vocab_size": 100, "d_model": 32, "n_layers": 2, "d_ff": 64, "length": 64}
    totals = []
    for factor in (1, 2, 4):
        made = shape | {field: factor * shape[field]}
        row = row_of(objective(), made.pop("length"))
        totals.append(flops(objective(), ModelConfig(**made), row).total)
    assert all(a < b for a, b in pairwise(totals))


def test_an_optimiser_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="optimizer must be one of adamw, muon, got 'sgd'"):
        optimizer_flops(parameters(CausalLM(), ModelConfig(vocab_size=8)), "sgd")
