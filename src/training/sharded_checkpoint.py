"""Checkpoints of a sharded run: every process writes its own part, and any number of them can read all parts.

The files are safetensors, through `torch.distributed.checkpoint`'s Hugging Face storage: its usual storage describes
the files in a pickle, which a checkpoint that somebody sends must not hold.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
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
from .checkpoint import Checkpoint, begin_checkpoint, could_not_write, finish_checkpoint
from .optimizers import Optimizers
from .processes import Processes

FLAT = StateDictOptions(flatten_optimizer_state_dict=True)
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def save_sharded(
    run: Path, step: int, model: nn.Module, optimizer: Optimizers, processes: Processes, *, whole: bool, **state: Any
) -> None:
    """Write `run/checkpoints/step-...`, each process its part; `whole` adds the weights as one file, for `load_run`.

    All processes call this. Raises `OSError`, in all of them, when a disk is full.
    """
    beside = Path(processes.broadcast(lambda: str(begin_checkpoint(run, step))))
    failure: OSError | None = None
    try:
        weights = get_model_state_dict(model)
        save(weights, storage_writer=HuggingFaceStorageWriter(str(beside / "model"), save_distributed=True))
        moments = _tensors(get_optimizer_state_dict(model, optimizer.parts, options=FLAT))
        save(moments, storage_writer=HuggingFaceStorageWriter(str(beside / "optimizer"), save_distributed=True))
        if whole:
            together = _tensors(get_model_state_dict(model, options=WHOLE))
            if processes.is_main:
                save_file(together, str(beside / "model.safetensors"), metadata={"format": "pt"})
    except SafetensorError as error:
        failure = could_not_write(beside, error)
    except CheckpointException as error:  # of any of the processes, raised in all
        failure = OSError(f"could not write {beside}: {shorten(error)}")

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


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state; learning rates and the like are set at each step."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
