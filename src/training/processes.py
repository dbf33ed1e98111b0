"""The processes of one run, as `torchrun` starts them: which examples each has, and how their losses become one.

    torchrun --nproc-per-node 4 -m -- clozelab train --corpus book.txt --run runs/book [--sharded]

The effective batch belongs to the run. Batch n is divided among the processes, the counts of all of them are added
before the forward pass, and each back-propagates its exact share of the one mean: the same examples, masks and mean on
1, 2 or 4 processes, however ragged the counts. (PyTorch's own averaging of each process's mean would be a mean of
means.) Only dropout and the like differ, since each process draws for its own rows.

Weights are replicated or sharded: see `parallel.py`.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..checks import check_int, check_type
from ..device import CPU, find_device, has_float64, to_float64
from ..errors import InputError, ProcessLost, raised_in_all
from ..escape import shorten
from ..objectives import Counts, Loss, Part

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among those of the run; a single one where `torchrun` started no others.

    >>> from clozelab.training import Processes
    >>> Processes().share([3, 1, 4])
    [3, 1, 4]
    >>> Processes(rank=1, world_size=2).share([3, 1, 4, 1, 5])
    [1, 5]
    """

    rank: int = 0
    """The number of this process, from 0."""
    world_size: int = 1
    """How many processes there are."""
    sharded: bool = False
    """Whether weights and optimiser state are divided among the processes, or else replicated."""
    zero_stage: int = 3
    """Of a sharded run, 1 to 3: what of weights and gradients is divided within a step (see `parallel.py`)."""
    group: dist.ProcessGroup | None = None
    """Through which they exchange messages; None: that of the steps."""
    device: torch.device = CPU
    """Where this process computes."""

    def __post_init__(self) -> None:
        if not 1 <= check_int(self.zero_stage, "zero_stage") <= 3:
            raise InputError(f"zero_stage must be 1, 2 or 3, got {self.zero_stage!r}")

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder and prints."""
        return self.rank == 0

    def share(self, rows: Sequence[Value]) -> list[Value]:
        """This process's part of the rows of a batch, in order; the first processes have one more where it is uneven.

        Raises `InputError` for fewer rows than processes.
        """
        if len(rows) < self.world_size:
            raise InputError(
                f"a batch of {len(rows)} examples cannot be divided among {self.world_size} processes: choose a "
                "batch_size of at least their number"
            )
        each, more = divmod(len(rows), self.world_size)
        begin = self.rank * each + min(self.rank, more)
        return list(rows[begin : begin + each + (self.rank < more)])

    def check_batch_size(self, batch_size: int, micro_batch_size: int | None) -> None:
        """Raises `InputError` for batches that cannot be divided among the processes.

        Sharded processes exchange weights in every forward pass, so each must make as many of them.
        """
        others = [replace(self, rank=rank) for rank in range(self.world_size)]
        shares = [len(other.share(range(batch_size))) for other in others]
        passes = {-(-share // (micro_batch_size or share)) for share in shares}
        if self.sharded and len(passes) > 1:
            raise InputError(
                f"a batch of {batch_size} in micro-batches of {micro_batch_size} gives some of {self.world_size} "
                "sharded processes one forward pass more than others, which would wait for each other for ever: choose "
                "a batch_size that the processes divide"
            )

    def apart(self) -> Processes:
        """The same processes with another group, through which a thread can exchange messages beside the steps."""
        return replace(self, group=dist.new_group(backend="gloo"))

    def all_sum(self, counts: Counts) -> Counts:
        """The counts of all processes together."""
        if self.world_size == 1:
            return counts
        numbers = torch.stack([to_float64(count) for count in counts.values()]).to(self._message_device)
        dist.all_reduce(numbers, group=self.group)
        return {name: total.to(counts[name]) for name, total in zip(counts, numbers)}

    def total(self, loss: Loss) -> Loss:
        """The loss of all processes together: sums with sums, counts with counts, terms with terms."""
        if self.world_size == 1:
            return loss
        numbers: Counts = {}
        for name, part in loss.items():
            numbers |= {f"{name} sum": part.sum, f"{name} count": part.count}
            numbers |= {f"{name} term {term}": value for term, value in sorted(part.terms.items())}
        summed = self.all_sum(numbers)
        return Loss(
            {
                name: Part(
                    summed[f"{name} sum"],
                    summed[f"{name} count"],
                    part.weight,
                    {term: summed[f"{name} term {term}"] for term in part.terms},
                )
                for name, part in loss.items()
            }
        )

    def all_max(self, *numbers: float) -> list[float]:
        """The maximum of each number over all processes, so that all take the same decision."""
        if self.world_size == 1:
            return list(numbers)
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self._message_device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.group)
        return tensor.tolist()

    def all_gather_dict(self, items: Mapping[Key, Value]) -> dict[Key, Value]:
        """The items of all processes in one dict."""
        gathered = self._gather("a dict of all processes", dict(items))
        return {key: value for one in gathered for key, value in one.items()}

    def broadcast(self, make: Callable[[], Value]) -> Value:
        """The result of `make()`, which only the main process calls; its `InputError` or `OSError` is raised in all."""
        if self.world_size == 1:
            return make()
        self._gather(f"the result of {make.__qualname__}", None)
        message: list[Any] = [None, None]  # result, error
        if self.is_main:
            try:
                message = [make(), None]
            except (InputError, OSError) as error:
                message = [None, raised_in_all(error)]
        dist.broadcast_object_list(message, src=0, group=self.group)
        if message[1] is not None:
            raise message[1]
        return message[0]

    def together(self, make: Callable[[], Value]) -> Value:
        """The result of `make()`, which every process calls by itself.

        Where it raises `InputError` or `OSError` in some of them, the first of these errors is raised in all, and names
        its process.
        """
        if self.world_size == 1:
            return make()
        value, mine = None, None
        try:
            value = make()
        except (InputError, OSError) as error:
            mine = error
        errors = dict(enumerate(self._gather(f"the end of {make.__qualname__}", mine)))
        failed = {rank: error for rank, error in errors.items() if error is not None}
        if failed:
            rank, error = next(iter(failed.items()))
            everywhere = {str(error) for error in errors.values()} == {str(error)}
            raise raised_in_all(error if everywhere else _of_process(rank, self.world_size, error))
        return value  # pyright: ignore[reportReturnType]  (there was no error, so this is what make returned)

    def check_same(self, what: str, fields: Mapping[str, Any]) -> None:
        """Raises `InputError`, in all processes, for a field that is not the same in all of them."""
        first, *others = self._gather(what, dict(fields))
        for rank, theirs in enumerate(others, start=1):
            differing = [key for key in {**first, **theirs} if first.get(key) != theirs.get(key)]
            if differing:
                shown = "; ".join(
                    f"{key} is {shorten(repr(value_there), 120)} in process {rank}, {shorten(repr(value), 120)} in "
                    "process 0"
                    for key, value_there, value in _deepest(theirs, first, differing)[:3]
                )
                raise raised_in_all(
                    InputError(f"the processes of a run need the same {what}, but {shown}: start all of them alike")
                )

    @property
    def _message_device(self) -> torch.device:
        """Where float64 numbers must lie to be sent: on the processor where the device, or gloo, has none."""
        return self.device if self.group is None and has_float64(self.device) else CPU

    def _gather(self, stage: str, value: Any) -> list[Any]:
        """A value of each process; raises `InputError`, in all, where another one is at another stage."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, (stage, value), group=self.group)
        for rank, (theirs, _) in enumerate(gathered):
            if theirs != gathered[0][0]:
                raise raised_in_all(
                    InputError(
                        f"process {rank} has come to {theirs}, and process 0 to {gathered[0][0]}: were they started "
                        "with other arguments, or another version of the code?"
                    )
                )
        return [value for _, value in gathered]


SINGLE = Processes()
"""The only process of a run."""


@contextmanager
def init_processes(*, sharded: bool = False, zero_stage: int = 3, device: str | None = None) -> Iterator[Processes]:
    """Join the processes that `torchrun` started, and leave them at the end; a single one where it started none.

    `device` is a name for `find_device`; of several processes each takes the accelerator of its local rank. Raises
    `ProcessLost` where another process died, and `InputError` for `sharded` without `torchrun`, a device that is not
    there, and more processes than accelerators.
    """
    check_type(sharded, bool, "sharded")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if "RANK" not in os.environ or (world_size == 1 and not sharded):
        if sharded:
            raise InputError("weights can only be sharded among several processes: start them by torchrun")
        yield replace(SINGLE, device=_use(find_device(device)))
        return
    here = _use(find_device(device, process=int(os.environ.get("LOCAL_RANK", "0"))))
    backend = dist.get_default_backend_for_device(here)
    dist.init_process_group(backend if has_float64(here) else f"cpu:gloo,{here.type}:{backend}")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), sharded, zero_stage, device=here)
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):  # gloo raises plain RuntimeErrors
            raise
        raise ProcessLost(
            "another process of this run died, refused its input (it then says why) or cannot be reached "
            f"({shorten(error, 200)}); the last checkpoint is kept: continue by --resume, with any number of processes"
        ) from error
    finally:
        gc.collect()  # a sharded model that outlives its group can abort the interpreter as it ends (torch 2.13, gloo)
        dist.destroy_process_group()


def _of_process(rank: int, world_size: int, error: InputError | OSError) -> InputError | OSError:
    """An error that names the process in which it was raised."""
    where = f"process {rank} of {world_size}: "
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, f"{where}{error.strerror}", error.filename)
    return type(error)(f"{where}{error}")


def _deepest(theirs: Mapping[str, Any], mine: Mapping[str, Any], keys: Sequence[str]) -> list[tuple[str, Any, Any]]:
    """(name, their value, my value) of what differs under some keys, inside of dicts where both are."""
    found = []
    for key in keys:
        a, b = theirs.get(key), mine.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            inside = [name for name in {**a, **b} if a.get(name) != b.get(name)]
            found += [(f"{key}.{name}", there, here) for name, there, here in _deepest(a, b, inside)]
        else:
            found.append((key, a, b))
    return found


def _use(device: torch.device) -> torch.device:
    """The device, which becomes the current one of its kind."""
    if device.index is not None and device.index != torch.accelerator.current_device_index():
        torch.accelerator.set_device_index(device.index)
    return device
