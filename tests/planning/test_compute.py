"""Operations, against PyTorch's own counter."""

from itertools import pairwise

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from clozelab.errors import InputError
from clozelab.models import ModelConfig
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption
from clozelab.planning import flops, optimizer_flops, parameters, row_of
from clozelab.training import TrainConfig
from clozelab.training.optimizers import optimizer_of

IN_PLACE = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}
"""The loss adds the table's gradient up in place, by a product that the counter does not know."""


def counted(small, precision, **settings):
    with FlopCounterMode(display=False, **settings) as counter:
        small.loss(precision).backward()
    return counter.get_total_flops()


def planned(small):
    return flops(small.config, small.architecture, small.row).times(small.rows)


def test_forward_and_backward_are_what_the_counter_counts(small, precision):
    """To the last one: every product of the blocks, of attention written out, and of the loss at paid positions."""
    with sdpa_kernel(SDPBackend.MATH):
        assert planned(small).total == counted(small, precision, custom_mapping=IN_PLACE)


def test_the_forward_pass_alone_is_a_third(small, precision):
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as counter:
        small.loss(precision)
    assert 3 * counter.get_total_flops() == planned(small).total


def test_what_the_counter_leaves_out_by_itself(small):
    """The processor's fused attention, and one of the loss's three products: as much as its forward one."""
    work = planned(small)
    assert counted(small, "float32") == work.total - 3 * work.attention - work.unembedding


def test_a_fused_backward_computes_the_scores_again():
    config, row = ModelConfig(vocab_size=100), row_of(CausalLM(), 64)
    work, shape = flops(config, "decoder-only", row), (1, config.n_heads, 64, config.d_head)
    forward = config.n_layers * flop_counter.sdpa_flop_count(shape, shape, shape)
    backward = config.n_layers * flop_counter.sdpa_backward_flop_count(shape, shape, shape, shape)
    assert (forward, backward) == (work.attention, 2 * work.attention + work.recomputed)


def test_a_hand_count_of_one_block():
    config, row = ModelConfig(vocab_size=50, d_model=16, n_layers=1, n_heads=1, d_ff=24), row_of(CausalLM(), 10)
    work = flops(config, "decoder-only", row)
    assert work.projections == 10 * 2 * (4 * 16 * 16 + 3 * 16 * 24)
    assert work.attention == 2 * (2 * 10 * 10 * 16)
    assert work.unembedding == 9 * 2 * 16 * 50


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_optimisers_step_is_what_the_counter_counts(small, optimizer):
    small.loss("float32").backward()
    steps = optimizer_of(small.model, TrainConfig(optimizer=optimizer))
    with FlopCounterMode(display=False) as counter:
        steps.step()
    assert counter.get_total_flops() == optimizer_flops(parameters(small.config, small.architecture), optimizer)


def test_paying_for_more_costs_only_the_unembedding():
    config = ModelConfig(vocab_size=1000)
    few, many = (flops(config, "encoder-only", row_of(MaskedLM(rate), 200)) for rate in (0.15, 0.3))
    assert (few.projections, few.attention) == (many.projections, many.attention)
    assert many.unembedding == 2 * few.unembedding


def test_a_paid_token_of_masked_costs_as_much_more_as_it_pays_less():
    """Six and a half times: the blocks read all, and 15% pay."""
    shape = {"vocab_size": 4096, "d_model": 512, "n_layers": 8, "n_heads": 8}
    causal, masked = row_of(CausalLM(), 512), row_of(MaskedLM(), 512)
    a_paid = flops(ModelConfig(**shape), "decoder-only", causal).total / causal.paid
    b_paid = flops(ModelConfig(**shape), "encoder-only", masked).total / masked.paid
    assert 6 < b_paid / a_paid < 511 / 77


@pytest.mark.parametrize("field", ["vocab_size", "width", "layers", "feed_forward", "length"])
@pytest.mark.parametrize("objective", [CausalLM, MaskedLM, SpanCorruption])
def test_more_of_anything_is_more_work(objective, field):
    shape = {"vocab_size": 100, "d_model": 32, "n_layers": 2, "feed_forward": 64, "length": 64}
    totals = []
    for factor in (1, 2, 4):
        made = shape | {field: factor * shape[field]}
        row = row_of(objective(), made.pop("length"))
        totals.append(flops(ModelConfig(**made), objective.architecture, row).total)
    assert all(a < b for a, b in pairwise(totals))


def test_an_optimiser_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="optimizer must be one of adamw, muon, got 'sgd'"):
        optimizer_flops(parameters(ModelConfig(vocab_size=8), "decoder-only"), "sgd")
