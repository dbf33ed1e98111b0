"""The processes of one run, as `torchrun` starts them: who sees which examples, and how their losses become one.

    torchrun --nproc-per-node 4 -m -- clozelab.cli train --corpus book.txt --run runs/book [--sharded]

The effective batch belongs to the run. Batch n is cut among the processes, each back-propagates the *sum* over what it
was given, gradients and counts are added over all of them, and one division makes the mean: the same examples, masks
and mean on 1, 2 or 4 processes, however ragged the counts. (PyTorch's own averaging of each process's mean would be a
mean of means.) Only what a model draws inside, as for its dropout, differs, since each process draws for its own rows.

- replicated: every process holds all weights (`DistributedDataParallel`);
- sharded: every process holds its part of each matrix and of its optimiser's state, and asks for the rest when it needs
  it (`fully_shard`, FSDP2).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import InputError, ProcessLost
from ..objectives import Loss, Objective

Value = TypeVar("Value")


class LossModule(nn.Module):
    """An objective and its model as one module, so that what is wrapped around both sees every use of a weight.

    The model's unembedding is used by the objective, outside of the model's own `forward`; DDP and FSDP prepare weights
    for the `forward` of what they wrap, and no longer. In your own loop (`examples/recipes.py`):

        paying = torch.nn.parallel.DistributedDataParallel(LossModule(objective, model))
        loss = Loss(*paying(batch))

    >>> from clozelab.objectives import CausalLM
    >>> text = torch.arange(8)[None]
    >>> paying = LossModule(CausalLM(), CausalLM().build_model(8, "tiny", d_model=16, n_layers=1, n_heads=1))
    >>> Loss(*paying({"input_ids": text, "labels": text})).count
    tensor(7)
    """

    def __init__(self, objective: Objective, model: nn.Module) -> None:
        super().__init__()
        self.objective, self.model = objective, model

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The sum, the count and the terms of a `Loss`."""
        loss = self.objective(self.model, batch)
        return loss.sum, loss.count, dict(loss.terms)


@dataclass(frozen=True)
class Processes:
    """This process among those of the run; alone where nobody started others.

    >>> Processes().share([3, 1, 4])
    [3, 1, 4]
    >>> Processes(rank=1, count=2).share([3, 1, 4, 1, 5])
    [1, 5]
    """

    rank: int = 0
    """Which one, from 0; the first writes what is written."""
    count: int = 1
    sharded: bool = False
    """Whether weights and optimiser are shared out, or else replicated."""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """This process's accelerator, or the processor where there is none."""
        return _device()

    def share(self, rows: Sequence[Value]) -> list[Value]:
        """This process's part of the rows of a batch: neighbours, the first processes one more where it is uneven.

        Raises `InputError` for fewer rows than processes.
        """
        if len(rows) < self.count:
            raise InputError(
                f"a batch of {len(rows)} examples cannot be shared out among {self.count} processes: choose a "
                "batch_size of at least their number"
            )
        each, more = divmod(len(rows), self.count)
        begin = self.rank * each + min(self.rank, more)
        return list(rows[begin : begin + each + (self.rank < more)])

    def wrap(self, objective: Objective, model: nn.Module) -> nn.Module:
        """`LossModule`, whose backward adds gradients over the processes. Sharding replaces the model's own weights."""
        paying = LossModule(objective, model)
        if self.count == 1 and not self.sharded:
            return paying
        if not self.sharded:
            device = next(model.parameters()).device
            return nn.parallel.DistributedDataParallel(paying, device_ids=[device] if device.type == "cuda" else None)
        from torch.distributed.fsdp import fully_shard

        for block in _blocks(model):
            fully_shard(block)
        fully_shard(paying)
        return paying

    def quiet(self, paying: nn.Module) -> AbstractContextManager[None]:
        """While this lasts gradients are added up in each process alone: for all micro-batches but the last."""
        if isinstance(paying, nn.parallel.DistributedDataParallel):
            return paying.no_sync()
        return nullcontext()  # sharded gradients are added as they come, or there would be no room for them

    @contextmanager
    def gathered(self, paying: nn.Module) -> Iterator[None]:
        """While this lasts the model can be used by itself: the weights outside of its blocks are in every process."""
        if self.sharded:
            paying.unshard()  # pyright: ignore[reportCallIssue]
        try:
            yield
        finally:
            if self.sharded:
                paying.reshard()  # pyright: ignore[reportCallIssue]

    def total(self, loss: Loss) -> Loss:
        """The loss of all processes together: sums with sums, counts with counts."""
        if self.count == 1:
            return loss
        names = sorted(loss.terms)
        numbers = torch.stack([loss.sum.double(), loss.count.double(), *(loss.terms[n].double() for n in names)])
        dist.all_reduce(numbers)
        kind = loss.sum.dtype
        return Loss(numbers[0].to(kind), numbers[1].long(), dict(zip(names, numbers[2:].to(kind))))

    def most(self, *numbers: float) -> list[float]:
        """The greatest of each number among all processes, so that all decide alike."""
        if self.count == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64, device=_device())
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    def union(self, noted: Mapping[str, Any]) -> dict[str, Any]:
        """What all processes noted, together."""
        if self.count == 1:
            return dict(noted)
        gathered: list[Any] = [None] * self.count
        dist.all_gather_object(gathered, dict(noted))
        return {key: value for one in gathered for key, value in one.items()}

    def told(self, make: Callable[[], Value]) -> Value:
        """What `make()` gives in the first process, told to all; an `InputError` or `OSError` is raised in all."""
        if self.count == 1:
            return make()
        said: list[Any] = [None, None]
        if self.first:
            try:
                said = [make(), None]
            except (InputError, OSError) as error:
                said = [None, error]
        dist.broadcast_object_list(said, src=0, device=_device())
        if said[1] is not None:
            raise said[1]
        return said[0]


SINGLE = Processes()
"""One process, which is all there is."""


@contextmanager
def init_processes(*, sharded: bool = False) -> Iterator[Processes]:
    """The processes that `torchrun` started, init_processes while this lasts; this one alone where it did not.

    Each takes the accelerator of its local rank where there is one. Raises `ProcessLost` where another one has gone.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if "RANK" not in os.environ or (count == 1 and not sharded):
        if sharded:
            raise InputError("weights can only be shared out among processes: start them by torchrun")
        yield SINGLE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), sharded)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):  # whose errors have no kind of their own
            raise
        reason = " ".join(str(error).split())
        raise ProcessLost(
            f"another process of this run has gone, was killed or cannot be reached ({reason:.200}); what was saved is "
            "kept: go on by --resume, with any number of processes"
        ) from error
    finally:
        gc.collect()  # a sharded model that outlives its group can abort the interpreter as it ends (torch 2.13, gloo)
        dist.destroy_process_group()


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies in this process: of a sharded one its shard, of any other all of it."""
    return getattr(tensor, "to_local", lambda: tensor)()


def _device() -> torch.device:
    """Where numbers must lie to be sent."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The parts that are gathered one at a time: the members of the model's lists of blocks."""
    return [block for part in model.modules() if isinstance(part, nn.ModuleList) for block in part]
