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

DEVICES = 8


def loss_module(small):
    """Objective and model as one module: what is wrapped must see every use of a weight, the unembedding's too."""
    return LossModule(small.objective, small.model)


class Asked(TorchDispatchMode):
    """Records the bytes of the whole tensor that each collective gathers or scatters."""

    def __init__(self):
        super().__init__()
        self.bytes = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name.startswith("c10d::"):
            whole = max(argument.nbytes for argument in args if isinstance(argument, torch.Tensor))
            self.bytes[name] = self.bytes.get(name, 0) + whole
        return func(*args, **(kwargs or {}))


@pytest.fixture
def eight():
    """A group of eight processes, of which seven do not exist: collectives return at once, and return junk."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=DEVICES)
    yield
    dist.destroy_process_group()


def cut(small, **policy):
    """As `fully_shard` is used: each block by itself, then the rest."""
    from torch.distributed.fsdp import fully_shard

    module = loss_module(small)
    for part in small.model.modules():
        if isinstance(part, nn.ModuleList):
            for block in part:
                fully_shard(block, **policy)
    return fully_shard(module, **policy)


def past(asked):
    """What of it goes through one device."""
    return {name: whole * (DEVICES - 1) // DEVICES for name, whole in asked.bytes.items()}


def matrices_kept(small, module, autocast):
    """The tensors that autograd keeps in bfloat16 with the shape of a matrix of the blocks, and the loss."""
    shapes = {side for matrix in parameters(small.objective, small.config).matrices for side in (matrix, matrix[::-1])}
    kept = {}

    def keep(tensor):
        if tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in shapes:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        loss, _ = module(small.batch)
    return list(kept.values()), loss


def test_fully_shard_gathers_blocks_twice_and_tables_once_and_scatters_once(eight, small, precision):
    """Padding included, and the same bytes under bfloat16's autocast."""
    count, module = parameters(small.objective, small.config), cut(small)
    share = sum(parameter.to_local().nbytes for parameter in module.parameters())
    assert share == state(count, devices=DEVICES).weights
    for passes in (1, 2):
        with Asked() as asked:
            for _ in range(passes):
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                    loss, _ = module(small.batch)
                loss.backward()
        planned = sharded(count, DEVICES, passes)
        assert past(asked) == {
            "c10d::_allgather_base_": planned.gathered,
            "c10d::_reduce_scatter_base_": planned.scattered,
        }


@pytest.fixture
def distinct(make, name):
    """A model no activation of which has the shape of one of its matrices."""
    return make(name, rows=1, length=20, d_model=60, n_layers=2, n_heads=2, d_ff=72)


def test_under_autocast_every_device_keeps_the_whole_model_in_bfloat16(eight, distinct):
    """Sharding does not reach the copies that autocast makes: autograd keeps them from the forward to the backward."""
    small = distinct
    kept, _ = matrices_kept(small, cut(small), autocast=True)
    planned = saved(small.objective, small.config, small.row, small.rows, precision="bfloat16")
    assert sum(tensor.nbytes for tensor in kept) == planned.casts


def test_fsdps_own_bfloat16_keeps_none_and_gathers_half(eight, distinct):
    """The alternative that the page names."""
    from torch.distributed.fsdp import MixedPrecisionPolicy

    precision = {"param_dtype": torch.bfloat16, "reduce_dtype": torch.float32}
    small, policy = distinct, MixedPrecisionPolicy(**precision, cast_forward_inputs=False)
    with Asked() as asked:
        kept, loss = matrices_kept(small, cut(small, mp_policy=policy), autocast=False)
        left = sum(tensor.untyped_storage().nbytes() for tensor in kept)
        loss.backward()
    assert kept
    assert left == 0  # given back with the gathered weights
    planned = sharded(parameters(small.objective, small.config), DEVICES)
    assert past(asked)["c10d::_allgather_base_"] == planned.gathered // 2
    assert past(asked)["c10d::_reduce_scatter_base_"] == planned.scattered


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


@pytest.mark.parametrize("devices", [0, -1, 1.5])
def test_an_invalid_number_of_devices_is_refused(devices):
    count = parameters(CausalLM(), ModelConfig(vocab_size=8))
    for traffic in (replicated, sharded):
        with pytest.raises(InputError, match="devices must be a whole number"):
            traffic(count, devices)
    with pytest.raises(InputError, match="passes must be a whole number"):
        sharded(count, 2, 0)
