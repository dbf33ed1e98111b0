"""Bytes, against the tensors that PyTorch keeps."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile

from clozelab.errors import InputError
from clozelab.models import ModelConfig
from clozelab.objectives import OBJECTIVES, CausalLM, LossModule
from clozelab.planning import Machine, loss_work, parameters, plan, row_of, saved, state
from clozelab.training import Processes, TrainConfig
from clozelab.training.optimizers import optimizer_of
from clozelab.training.parallel import wrap
from clozelab.training.recompute import recomputed
from clozelab.training.step import train_step


def bytes_kept(small, precision):
    """Of all storages that autograd saves, each counted once, without weights."""
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
    planned = saved(small.objective, small.config, small.row, small.rows, precision=precision)
    assert planned.total == bytes_kept(small, precision)


def test_what_is_kept_where_blocks_are_recomputed_is_what_autograd_saves(small, precision):
    """To the byte: the inputs of the blocks, and what lies outside of them."""
    planned = saved(small.objective, small.config, small.row, small.rows, precision=precision, recompute=True)
    with recomputed(small.model):
        assert planned.total == bytes_kept(small, precision)
    assert planned.casts == 0


def test_long_bfloat16_rows_have_a_fused_attention(make, name):
    small = make(name, rows=1, length=520, d_model=16, n_layers=1, n_heads=2)
    planned = saved(small.objective, small.config, small.row, precision="bfloat16")
    assert planned.total == bytes_kept(small, "bfloat16")


def test_dropout_is_counted_too(make):
    small = make("causal", rows=2, length=32, d_model=32, n_layers=2, n_heads=2, dropout=0.1)
    planned = saved(small.objective, small.config, small.row, small.rows)
    assert planned.total == bytes_kept(small, "float32")
    without = make("causal", rows=2, length=32, d_model=32, n_layers=2, n_heads=2)
    assert planned.total > bytes_kept(without, "float32")


def test_rows_and_blocks_cost_the_same_each():
    """What is extrapolated from two of each is what five rows and five blocks keep."""
    model = CausalLM().build_model(100, d_model=32, n_layers=5, n_heads=2)
    row, text = row_of(CausalLM(), 24), torch.randint(5, 100, (5, 24))
    kept = []
    for rows in (text, text[:1].clone()):
        loss = partial(CausalLM(), model, {"input_ids": rows, "labels": rows})
        kept.append(bytes_kept(SimpleNamespace(model=model, loss=lambda _, loss=loss: loss().mean), "float32"))
    config = ModelConfig(100, d_model=32, n_layers=5, n_heads=2)
    assert [saved(CausalLM(), config, row, rows).total for rows in (5, 1)] == kept


def test_a_gpu_keeps_less_of_short_bfloat16_rows_than_a_processor():
    """A processor has no fused kernel for them that is as fast as plain products, whose weights are all kept."""
    config, row = ModelConfig(100, d_model=32), row_of(CausalLM(), 128)
    cpu, cuda = (saved(CausalLM(), config, row, precision="bfloat16", kind=kind) for kind in ("cpu", "cuda"))
    assert cuda.activations < cpu.activations


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_state_is_what_pytorch_allocates(small, optimizer):
    small.loss("float32").backward()
    steps = optimizer_of(small.model, TrainConfig(optimizer=optimizer))
    planned = state(parameters(small.objective, small.config), optimizer)
    assert planned.gradients == sum(p.grad.nbytes for p in small.model.parameters())
    steps.step()
    assert planned.weights == sum(p.nbytes for p in small.model.parameters())
    remembered = [value for part in steps.parts for values in part.state.values() for value in values.values()]
    assert planned.optimizer == sum(tensor.nbytes for tensor in remembered if isinstance(tensor, torch.Tensor))


def test_adamw_takes_sixteen_bytes_a_parameter_and_muon_less():
    count = parameters(CausalLM(), ModelConfig(vocab_size=4096))
    assert state(count).total == 16 * count.total + 4 * 29
    assert state(count).optimizer - state(count, "muon").optimizer == 4 * count.in_blocks + 4 * 28


def highest_point(step):
    """Bytes that a step takes beyond those that are there before it; the optimiser has its state by then."""
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    live = highest = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            highest = max(highest, live)
    return highest


def planned(small, rows=2, devices=1, **settings):
    """The plan of a small model on a processor."""
    run = plan(small.objective, small.config, tokens=1, length=4, batch_tokens=10**4, **settings)
    return replace(run, row=small.row, rows=rows, machine=Machine(devices=devices, kind="cpu"))


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["kept", "recomputed"])
@pytest.mark.parametrize("vocab_size", [400, 4000])
def test_a_step_at_its_highest(make, name, precision, vocab_size, again):
    """Two passes of a micro-batch, clipping and AdamW: over the plan by 3% at most, under it by 10% at most."""
    small = make(name, rows=2, length=128, vocab_size=vocab_size, d_model=128, n_layers=1, n_heads=4)
    module = LossModule(small.objective, small.model)
    optimizer = optimizer_of(small.model, TrainConfig(optimizer="adamw"))

    def step():
        how = {"max_grad_norm": 1.0, "device": torch.device("cpu"), "bfloat16": precision == "bfloat16"}
        train_step(module, [small.batch] * 2, optimizer, **how)

    with recomputed(small.model) if again else nullcontext():
        highest = highest_point(step)
    run = planned(small, precision=precision, recompute=again)
    memory = run.memory("one device", small.rows)
    assert 0.90 <= (highest + memory.weights + memory.optimizer) / memory.total <= 1.03


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [1, 2, 3])
@pytest.mark.parametrize("passes", [1, 2])
def test_a_sharded_step_at_its_highest(make, precision, zero_stage, passes):
    """Of eight processes one is real. Over the plan by 3% at most, under it by 20% at most.

    The plan counts what is in flight on a device that computes while it sends; here all has arrived at once.
    """
    from torch.testing._internal.distributed.fake_pg import FakeStore

    small = make("causal", rows=2, length=128, vocab_size=400, d_model=128, n_layers=4, n_heads=4)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    try:
        processes = Processes(0, 8, sharded=True, zero_stage=zero_stage)
        module = wrap(small.objective, small.model, processes, bfloat16=precision == "bfloat16")
        how = {"device": torch.device("cpu"), "bfloat16": precision == "bfloat16", "processes": processes}
        optimizer = optimizer_of(small.model, TrainConfig(optimizer="adamw"))
        highest = highest_point(
            partial(train_step, module, [small.batch] * passes, optimizer, max_grad_norm=1.0, **how)
        )
    finally:
        dist.destroy_process_group()
    run = planned(small, rows=8 * passes * small.rows, devices=8, precision=precision)
    memory = run.memory(f"ZeRO {zero_stage}", small.rows)
    assert 0.80 <= (highest + memory.weights + memory.optimizer) / memory.total <= 1.03


def test_the_logits_of_the_loss_stop_growing():
    config, rows = ModelConfig(vocab_size=32_768), range(1, 64, 8)
    for precision in ("float32", "bfloat16"):
        work = [loss_work(config, row_of(CausalLM(), 512), n, precision=precision) for n in rows]
        steps = {b - a for a, b in pairwise(work)}
        assert len(steps) == 1  # by the hidden states alone
        assert max(work) < 64 * 511 * config.vocab_size  # a quarter of all logits in float32


@pytest.mark.parametrize("field", ["rows", "vocab_size", "d_model", "n_layers", "d_ff", "length"])
def test_more_of_anything_keeps_more(name, field):
    objective = OBJECTIVES[name]()
    shape = {"vocab_size": 100, "d_model": 32, "n_layers": 2, "d_ff": 64, "length": 64, "rows": 2}
    totals = []
    for factor in (1, 2):
        made = shape | {field: factor * shape[field]}
        rows, row = made.pop("rows"), row_of(objective, made.pop("length"))
        totals.append(saved(objective, ModelConfig(**made), row, rows).total)
    assert totals[0] < totals[1]


def test_heads_of_any_number_keep_nearly_the_same():
    row = row_of(CausalLM(), 64)
    few, many = (saved(CausalLM(), ModelConfig(50, d_model=64, n_heads=h), row).total for h in (2, 16))
    assert 1 < many / few < 1.1


def test_names_that_do_not_exist_are_refused():
    row = row_of(CausalLM(), 16)
    with pytest.raises(InputError, match="precision must be one of float32, bfloat16, got 'int8'"):
        saved(CausalLM(), ModelConfig(50), row, precision="int8")
    with pytest.raises(InputError, match="rows must be a whole number of at least 1, got 0"):
        saved(CausalLM(), ModelConfig(50), row, rows=0)
    with pytest.raises(InputError, match="kind must be one of cpu, cuda, got 'tpu'"):
        loss_work(ModelConfig(50), row, kind="tpu")
