"""Bytes on the network, against what DDP and FSDP2 ask of it. Of eight processes one is real."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from clozelab.errors import InputError
from clozelab.models import ModelConfig
from clozelab.objectives import CausalLM, LossModule
from clozelab.planning import parameters, replicated, saved, sharded, state
from clozelab.training import Processes
from clozelab.training.parallel import micro_batch, wrap

DEVICES = 8


def loss_module(small):
    """Objective and model as one module: what is wrapped must see every use of a weight, the unembedding's too."""
    return LossModule(small.objective, small.model)


class Asked(TorchDispatchMode):
    """Counts the collectives, and the bytes of the whole tensors that they gather or scatter."""

    def __init__(self):
        super().__init__()
        self.bytes, self.calls = {}, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name.startswith("c10d::"):
            whole = max(argument.nbytes for argument in args if isinstance(argument, torch.Tensor))
            self.bytes[name] = self.bytes.get(name, 0) + whole
            self.calls[name] = self.calls.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def eight():
    """A group of eight processes, of which seven do not exist: collectives return at once, and return junk."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=DEVICES)
    yield
    dist.destroy_process_group()


def cut(small, zero_stage=3, bfloat16=False):
    """As the loop shards, and the processes that it does it for."""
    processes = Processes(0, DEVICES, sharded=True, zero_stage=zero_stage)
    return wrap(small.objective, small.model, processes, bfloat16=bfloat16), processes


def past(asked):
    """What of it goes through one device."""
    return {name: whole * (DEVICES - 1) // DEVICES for name, whole in asked.bytes.items()}


@pytest.mark.parametrize("passes", [pytest.param(1, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("zero_stage", [1, 2, 3])
def test_what_is_gathered_and_scattered_in_a_step(eight, make, name, precision, zero_stage, passes):
    """To the byte, padding included: in bfloat16 blocks travel as half as much, and stage 1 sends once a step."""
    small = make(name, rows=1, length=21, d_model=48, n_layers=1, n_heads=3, d_ff=40, tied=False)
    count, (module, processes) = (
        parameters(small.objective, small.config),
        cut(small, zero_stage, precision != "float32"),
    )
    share = sum(parameter.to_local().nbytes for parameter in module.parameters())
    assert share == state(count, devices=DEVICES).weights
    with Asked() as asked:
        for number in range(passes):
            with micro_batch(module, processes, last=number == passes - 1):
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                    loss, _ = module(small.batch)
                loss.backward()
    planned = sharded(count, DEVICES, passes, zero_stage=zero_stage, precision=precision)
    assert past(asked) == {"c10d::_allgather_base_": planned.gathered, "c10d::_reduce_scatter_base_": planned.scattered}
    units = 1 + len(count.blocks)  # the tables, and each block
    each_pass = units + (len(count.blocks) if zero_stage == 3 else 0)
    assert asked.calls["c10d::_allgather_base_"] == each_pass * (passes if zero_stage == 3 else 1)
    assert asked.calls["c10d::_reduce_scatter_base_"] == units * (passes if zero_stage > 1 else 1)


@pytest.fixture
def distinct(make, name):
    """A model no activation of which has the shape of one of its matrices."""
    return make(name, rows=1, length=20, d_model=60, n_layers=2, n_heads=2, d_ff=72)


def matrices_kept(small, module):
    """Bytes of bfloat16 that autograd keeps in the shapes of the blocks' matrices, from the forward to the backward."""
    shapes = {side for matrix in parameters(small.objective, small.config).matrices for side in (matrix, matrix[::-1])}
    kept = {}

    def keep(tensor):
        if tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in shapes:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        loss, _ = module(small.batch)
    assert kept
    left = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    loss.backward()
    return left


def test_autocast_keeps_copies_of_matrices_and_none_of_sharded_ones(eight, distinct):
    """A sharded block comes in bfloat16, and is given back after the forward."""
    planned = saved(distinct.objective, distinct.config, distinct.row, distinct.rows, precision="bfloat16")
    assert matrices_kept(distinct, loss_module(distinct)) == planned.casts > 0
    module, _ = cut(distinct, bfloat16=True)
    assert matrices_kept(distinct, module) == 0


def test_ddp_sends_each_gradient_once_from_buckets_of_its_own(eight, small):
    """All gradients in float32, and another place for all of them: `gradient_as_bucket_view` is False by default."""
    wrapped = nn.parallel.DistributedDataParallel(loss_module(small))
    sent, places = [], set()

    def hook(_, bucket):
        sent.append(bucket.buffer().nbytes)
        places.add(bucket.buffer().untyped_storage().data_ptr())
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    wrapped.register_comm_hook(None, hook)
    with wrapped.no_sync():
        wrapped(small.batch)[0].backward()
    assert not sent
    wrapped(small.batch)[0].backward()
    count = parameters(small.objective, small.config)
    assert sum(sent) == state(count).gradients
    assert replicated(count, DEVICES).total == 2 * (DEVICES - 1) * sum(sent) // DEVICES
    assert not places & {p.grad.untyped_storage().data_ptr() for p in small.model.parameters()}


def test_one_device_sends_nothing_and_many_send_hardly_more_than_two():
    count = parameters(CausalLM(), ModelConfig(vocab_size=4096, d_model=512, n_heads=8))
    assert replicated(count, 1).total == sharded(count, 1).total == 0
    sent = [replicated(count, n).total for n in (2, 4, 8, 1024)]
    assert sent == sorted(sent)
    assert sent[-1] < 2 * sent[0]


def test_sharding_sends_half_as_much_again_where_the_blocks_are_everything():
    """1.5 times, as ZeRO says: two gathers and a scatter for the two halves of an all-reduce."""
    count = parameters(CausalLM(), ModelConfig(vocab_size=8, d_model=512, n_heads=8))
    assert sharded(count, 8).total / replicated(count, 8).total == pytest.approx(1.5, rel=1e-3)
    assert sharded(count, 8, passes=4).total == 4 * sharded(count, 8).total
    assert sharded(count, 8, passes=4, zero_stage=1).total == sharded(count, 8, zero_stage=1).total


def test_in_bfloat16_stage_1_sends_less_than_replicating():
    """Two bytes are gathered and four are scattered, where an all-reduce sends eight."""
    count = parameters(CausalLM(), ModelConfig(vocab_size=8, d_model=512, n_heads=8))
    sent = sharded(count, 8, passes=4, zero_stage=1, precision="bfloat16").total
    assert sent / replicated(count, 8).total == pytest.approx(0.75, rel=1e-3)


@pytest.mark.parametrize("devices", [0, -1, 1.5])
def test_an_invalid_number_of_devices_is_refused(devices):
    count = parameters(CausalLM(), ModelConfig(vocab_size=8))
    for traffic in (replicated, sharded):
        with pytest.raises(InputError, match="devices must be a whole number"):
            traffic(count, devices)
    with pytest.raises(InputError, match="passes must be a whole number"):
        sharded(count, 2, 0)
    with pytest.raises(InputError, match="zero_stage must be one of 1, 2, 3, got 0"):
        sharded(count, 2, zero_stage=0)
