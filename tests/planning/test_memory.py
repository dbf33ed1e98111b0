"""Bytes, against the tensors that PyTorch keeps."""

from itertools import pairwise

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from clozelab.errors import InputError
from clozelab.models import ModelConfig
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption
from clozelab.planning import Machine, loss_work, parameters, plan, row_of, saved, state
from clozelab.training import TrainConfig
from clozelab.training.loop import accumulate
from clozelab.training.optimizers import optimizer_of, step_with_mean
from clozelab.training.processes import LossModule


def bytes_kept(small, precision):
    """Of all storages that autograd saves, each counted once, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in small.model.parameters()}
    kept = {}

    def keep(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        small.loss(precision)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_what_is_kept_for_the_backward_is_what_autograd_saves(small, precision):
    """To the byte."""
    planned = saved(small.config, small.architecture, small.row, small.rows, precision=precision)
    assert planned.total == bytes_kept(small, precision)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_state_is_what_pytorch_allocates(small, optimizer):
    small.loss("float32").backward()
    steps = optimizer_of(small.model, TrainConfig(optimizer=optimizer))
    planned = state(parameters(small.config, small.architecture), optimizer)
    assert planned.gradients == sum(p.grad.nbytes for p in small.model.parameters())
    steps.step()
    assert planned.weights == sum(p.nbytes for p in small.model.parameters())
    remembered = [value for part in steps.parts for values in part.state.values() for value in values.values()]
    assert planned.optimizer == sum(tensor.nbytes for tensor in remembered if isinstance(tensor, torch.Tensor))


def test_adamw_takes_sixteen_bytes_a_parameter_and_muon_less():
    count = parameters(ModelConfig(vocab_size=4096), "decoder-only")
    assert state(count).total == 16 * count.total + 4 * 29
    assert state(count).optimizer - state(count, "muon").optimizer == 4 * count.inner + 4 * 28


@pytest.mark.parametrize("vocabulary", [400, 4000])
def test_a_step_at_its_highest(make, name, precision, vocabulary):
    """Two passes of a micro-batch, clipping and AdamW: over the plan by 2% at most, under it by 7% at most."""
    small = make(name, rows=4, length=128, vocabulary=vocabulary, d_model=128, n_layers=2, n_heads=4)
    optimizer, paying = optimizer_of(small.model, TrainConfig()), LossModule(small.objective, small.model)

    def step():
        total = accumulate(paying, [small.batch] * 2, torch.device("cpu"), precision == "bfloat16")
        step_with_mean(small.model, optimizer, total, max_grad_norm=1.0)

    step()  # the optimiser remembers from here on
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    live = highest = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            highest = max(highest, live)
    machine, shape = Machine(kind="cpu"), {"length": small.row.read, "batch_tokens": 8 * small.row.text}
    made = plan(small.objective, small.config, tokens=1, machine=machine, precision=precision, **shape)
    planned = made.memory("one device", small.rows)
    measured = highest + planned.weights + planned.optimizer  # which were there before
    assert 0.93 <= measured / planned.total <= 1.02


def test_the_logits_of_the_loss_stop_growing():
    config, rows = ModelConfig(vocab_size=32_768), range(1, 64, 8)
    for precision in ("float32", "bfloat16"):
        work = [loss_work(config, row_of(CausalLM(), 512), n, precision=precision) for n in rows]
        steps = {b - a for a, b in pairwise(work)}
        assert len(steps) == 1  # by the hidden states alone
        assert max(work) < 64 * 511 * config.vocab_size  # a quarter of all logits in float32


@pytest.mark.parametrize("field", ["rows", "vocab_size", "width", "layers", "feed_forward", "length"])
@pytest.mark.parametrize("objective", [CausalLM, MaskedLM, SpanCorruption])
def test_more_of_anything_keeps_more(objective, field, precision):
    shape = {"vocab_size": 100, "d_model": 32, "n_layers": 2, "feed_forward": 64, "length": 64, "rows": 2}
    totals = []
    for factor in (1, 2, 4):
        made = shape | {field: factor * shape[field]}
        rows, row = made.pop("rows"), row_of(objective(), made.pop("length"))
        totals.append(saved(ModelConfig(**made), objective.architecture, row, rows, precision=precision).total)
    assert all(a < b for a, b in pairwise(totals))


def test_heads_of_any_number_keep_nearly_the_same():
    row = row_of(CausalLM(), 64)
    few, many = (saved(ModelConfig(50, d_model=64, n_heads=h), "decoder-only", row).total for h in (2, 16))
    assert 1 < many / few < 1.1


def test_what_is_not_counted_is_refused():
    row = row_of(CausalLM(), 16)
    with pytest.raises(InputError, match="dropout"):
        saved(ModelConfig(50, dropout=0.1), "decoder-only", row)
    with pytest.raises(InputError, match="precision must be one of float32, bfloat16, got 'int8'"):
        saved(ModelConfig(50), "decoder-only", row, precision="int8")
    with pytest.raises(InputError, match="rows must be a whole number of at least 1, got 0"):
        saved(ModelConfig(50), "decoder-only", row, rows=0)
    with pytest.raises(InputError, match="kind must be one of cpu, cuda, got 'tpu'"):
        loss_work(ModelConfig(50), row, kind="tpu")
