"""Checkpoints of a sharded run: every process writes its own part, and any number of them can read all parts.

The files are safetensors, through `torch.distributed.checkpoint`'s Hugging Face storage: its usual storage describes
the files in a pickle, which a checkpoint that somebody sends must not hold.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ..errors import InputError
from ..escape import shorten
from .checkpoint import Checkpoint, Stage, begin_checkpoint, could_not_write, finish_checkpoint
from .optimizers import Optimizers
from .processes import Processes

FLAT = StateDictOptions(flatten_optimizer_state_dict=True)
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def sharded_writer(
    run: Path,
    step: int,
    model: nn.Module,
    optimizer: Optimizers,
    processes: Processes,
    stage: Stage = dict,
    *,
    whole: bool,
    **state: Any,
) -> Callable[[], None]:
    """What writes `run/checkpoints/step-...` when all processes call it, each its part; see `checkpoint_writer`.

    `whole` adds the weights as one file, for `load_run`. `processes` exchange messages while they write. What is
    returned raises `OSError`, in all of them, when a disk is full.
    """
    weights = get_model_state_dict(model)
    moments = _tensors(get_optimizer_state_dict(model, optimizer.parts, options=FLAT))
    tensors = stage({"model": weights, "optimizer": moments})
    if whole:
        tensors["whole"] = _tensors(get_model_state_dict(model, options=WHOLE))
    return partial(write_shards, run, step, tensors, processes, state)


def write_shards(
    run: Path, step: int, tensors: Mapping[str, dict[str, Tensor]], processes: Processes, state: Mapping[str, Any]
) -> None:
    """Write a checkpoint of these tensors, as `sharded_writer` says."""
    beside = Path(processes.broadcast(lambda: str(begin_checkpoint(run, step))))
    failure: OSError | None = None
    try:
        for part in ("model", "optimizer"):
            writer = HuggingFaceStorageWriter(str(beside / part), save_distributed=True)
            save(tensors[part], storage_writer=writer, process_group=processes.group)
        if processes.is_main and "whole" in tensors:
            save_file(tensors["whole"], str(beside / "model.safetensors"), metadata={"format": "pt"})
    except SafetensorError as error:
        failure = could_not_write(beside, error)
    except CheckpointException as error:  # of any of the processes, raised in all
        failure = _cause(beside, error)

    def finish() -> None:
        if failure is not None:
            shutil.rmtree(beside, ignore_errors=True)
            raise failure
        finish_checkpoint(beside, run, step, sharded=True, **state)

    processes.broadcast(finish)


def load_sharded(checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizers) -> None:
    """Read weights and optimiser state, each process its part, however many processes wrote them.

    Raises `InputError` for weights of another model.
    """
    try:
        weights = get_model_state_dict(model)
        load(weights, storage_reader=HuggingFaceStorageReader(str(checkpoint.path / "model")))
        set_model_state_dict(model, weights)
        state = get_optimizer_state_dict(model, optimizer.parts, options=FLAT)
        moments = _tensors(state)
        load(moments, storage_reader=HuggingFaceStorageReader(str(checkpoint.path / "optimizer")))
        merged: dict[str, Any] = {**state, **moments}
        set_optimizer_state_dict(model, optimizer.parts, merged, options=FLAT)
    except (CheckpointException, RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"{checkpoint.path} does not hold this model's weights: {shorten(error)}") from error


def _cause(path: Path, error: CheckpointException) -> OSError:
    """The error of the first process that could not write."""
    first, _ = next(iter(error.failures.values()))
    if isinstance(first, SafetensorError):
        return could_not_write(path, first)
    if isinstance(first, OSError) and first.errno is not None:
        return OSError(first.errno, first.strerror, str(path))
    return OSError(f"could not write {path}: {shorten(error)}")


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state; learning rates and the like are set at each step."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
