"""A run on the disk: what it is, and how far it has come. Safetensors and JSON, nothing that can run.

    run/
      run.json                      objective, model, settings, corpus: everything needed to go on
      tokenizer.json
      metrics.jsonl                 one line a step, one an evaluation
      checkpoints/step-00000500/      model.safetensors, optimizer.safetensors, state.json

A checkpoint is written beside its place and renamed into it, so that it is there whole or not at all, and holds the
SHA-256 of its files, so that damage is found before it is trained on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from ..data.cache import written_whole
from ..errors import InputError

FORMAT = 1
KEPT = 2
"""Checkpoints that are kept: the last, and the one before it in case the last is damaged."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, its files known to be whole."""

    path: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps done."""
        return int(self.state["step"])

    def load_model(self, model: nn.Module) -> None:
        """Read the weights into a model of the same shape; raises `InputError` if it has another."""
        try:
            load_model(model, str(self.path / "model.safetensors"))
        except (RuntimeError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise InputError(f"{self.path} holds the weights of a model of another shape: {reason}") from error

    def load_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Read the optimiser's state, exactly as it was."""
        tensors = load_file(str(self.path / "optimizer.safetensors"))
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            parameter, name = key.split(".", 1)
            state.setdefault(int(parameter), {})[name] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": self.state["param_groups"]})


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    with written_whole(path) as file:
        file.write(json.dumps(value, indent=1).encode())


def save_checkpoint(run: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, **state: Any) -> Path:
    """Write `run/checkpoints/step-...`, whole or not at all, and delete all but the last two.

    Raises `OSError` when the disk is full; what was complete before stays as it was.
    """
    folder = run / "checkpoints"
    path = folder / f"step-{step:08d}"
    beside = folder / f".step-{step:08d}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        save_model(model, str(beside / "model.safetensors"))
        saved = optimizer.state_dict()
        tensors = {
            f"{parameter}.{name}": value.contiguous()
            for parameter, values in saved["state"].items()
            for name, value in values.items()
        }
        save_file(tensors, str(beside / "optimizer.safetensors"))
        sums = {name: _sha256(beside / name) for name in ("model.safetensors", "optimizer.safetensors")}
        write_json(
            beside / "state.json",
            {"format": FORMAT, "step": step, "sha256": sums, "param_groups": saved["param_groups"], **state},
        )
        for name in (*sums, "."):
            _fsync(beside / name)
        if path.exists():  # the same step, written again by a run that was resumed: equal but for its times
            shutil.rmtree(path)
        os.replace(beside, path)
        _fsync(folder)
    except SafetensorError as error:  # its own word for a full disk
        shutil.rmtree(beside, ignore_errors=True)
        raise OSError(f"could not write {path}: {error}") from error
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    for old in _complete(run)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def latest_checkpoint(run: str | Path) -> Checkpoint:
    """The last checkpoint of a run, checked; raises `InputError` where there is none or it is damaged."""
    run = Path(run)
    found = _complete(run)
    if not found:
        raise InputError(f"{run} holds no checkpoint: expected folders {run / 'checkpoints'}/step-...")
    return read_checkpoint(found[-1])


def read_checkpoint(path: str | Path) -> Checkpoint:
    """A checkpoint folder, checked file by file against its sums."""
    path = Path(path)
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        sums = dict(state["sha256"])
        version = state["format"]
        int(state["step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"state.json cannot be read ({error})") from error
    if version != FORMAT:
        raise InputError(f"{path} was written in format {version}, this version reads format {FORMAT}")
    for name in ("model.safetensors", "optimizer.safetensors"):
        if not (path / name).is_file():
            raise _damaged(path, f"{name} is missing")
        if _sha256(path / name) != sums.get(name):
            raise _damaged(path, f"{name} is not what was written")
    return Checkpoint(path, state)


def _damaged(path: Path, what: str) -> InputError:
    others = [other.name for other in _complete(path.parent.parent) if other.name != path.name]
    cure = f"delete it to go on from {others[-1]}" if others else "there is no other one in this run: start anew"
    return InputError(f"the checkpoint {path} is damaged: {what}; {cure}")


def _complete(run: Path) -> list[Path]:
    return sorted(path for path in (run / "checkpoints").glob("step-*") if path.is_dir())


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
