"""A model on several processes: what is put around it, and which weights and gradients are whole when.

Replicated, every process has all weights, and gradients are averaged once a step (`DistributedDataParallel`). Sharded
(`fully_shard`, FSDP2), every process has its part of each matrix and of the optimiser's state, and of a step of n
micro-batches

| ZeRO stage | blocks are gathered | gradients are scattered | whole in every process |
|---|---|---|---|
| 3 | 2 n times | n times | the blocks in use |
| 2 | once | n times | all weights |
| 1 | once | once | all weights, and their gradients |

The tables outside of the blocks are gathered n times in stage 3, else once. In bfloat16 each process casts its part of
a block before it is gathered, so that half as much is sent, and autocast, which finds a bfloat16 weight, keeps no copy.
Gradients of blocks become float32 before they are added up. Tables, activations between the blocks and loss stay
float32, as on one device: the numbers of a step are the same.

Source: Rajbhandari et al. 2020 (ZeRO), section 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..checks import check_type
from ..device import autocast
from ..objectives import LossModule, Objective
from .processes import Processes
from .recompute import blocks


def wrap(objective: Objective, model: nn.Module, processes: Processes, *, bfloat16: bool = False) -> nn.Module:
    """A `LossModule` whose backward pass averages gradients over the processes.

    Sharding replaces the model's own parameters. `bfloat16` says that steps are made under its autocast.

    >>> from clozelab import CausalLM
    >>> from clozelab.training import Processes
    >>> from clozelab.training.parallel import wrap
    >>> type(wrap(CausalLM(), CausalLM().build_model(50), Processes())).__name__
    'LossModule'
    """
    loss_module = LossModule(objective, model)
    if not processes.sharded:
        if processes.world_size == 1:
            return loss_module
        device = next(model.parameters()).device
        return DistributedDataParallel(loss_module, device_ids=None if device.type == "cpu" else [device])
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # takes a second to import

    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if bfloat16:
        policy = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks(model):
        fully_shard(block, mp_policy=policy, reshard_after_forward=processes.zero_stage == 3)
    fully_shard(loss_module)
    return loss_module


@contextmanager
def micro_batch(loss_module: nn.Module, processes: Processes, *, last: bool) -> Iterator[None]:
    """Around forward and backward of a micro-batch: before the `last` one of a step, what can wait is not sent."""
    if isinstance(loss_module, DistributedDataParallel):
        with nullcontext() if last else loss_module.no_sync():
            yield
        return
    if processes.sharded:
        loss_module.set_reshard_after_backward(last or processes.zero_stage == 3)  # pyright: ignore
        loss_module.set_requires_gradient_sync(last or processes.zero_stage > 1)  # pyright: ignore
    yield


@contextmanager
def unsharded(loss_module: nn.Module, processes: Processes, *, bfloat16: bool = False) -> Iterator[None]:
    """Inside, the model can be called by itself: the weights outside of its blocks are in every process.

    Its blocks have bfloat16 weights where `wrap` was told so, and then need autocast.
    """
    if not processes.sharded:
        yield
        return
    loss_module.unshard()  # pyright: ignore[reportCallIssue]
    try:
        with autocast(processes.device, bfloat16=bfloat16):
            yield
    finally:
        loss_module.reshard()  # pyright: ignore[reportCallIssue]


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies in this process: the local shard of a sharded one, all of any other."""
    return getattr(tensor, "to_local", lambda: tensor)()


def loss_module_of(wrapped: nn.Module) -> LossModule:
    """The `LossModule` inside what `wrap` or torch.compile put around it."""
    while not isinstance(wrapped, LossModule):
        wrapped = getattr(wrapped, "_orig_mod", getattr(wrapped, "module", None))  # pyright: ignore
        check_type(wrapped, nn.Module, "a LossModule")
    return wrapped
