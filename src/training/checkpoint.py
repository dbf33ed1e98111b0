"""A run on the disk: what it is, and how far it has come. Safetensors and JSON, nothing that can run.

    run/
      run.json                      objective, model, settings, corpus: everything needed to go on
      tokenizer.json
      metrics.jsonl                 one line a step, one an evaluation
      checkpoints/step-00000500/      model.safetensors, optimizer.safetensors, state.json

Where weights are shared out among processes, `model/` and `optimizer/` are folders of as many safetensors files as
there were processes, which any number of them can read, and `model.safetensors` is written with the last one alone.

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
from .optimizers import Optimizers

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

    @property
    def seconds(self) -> float:
        """Time that the steps took."""
        return float(self.state["seconds"])

    @property
    def positions(self) -> dict[str, Any]:
        """Of a streamed corpus: where each of its lanes was read."""
        return dict(self.state.get("positions", {}))

    @property
    def sharded(self) -> bool:
        """Whether it was written in shards, by processes among which the weights were shared out."""
        return bool(self.state.get("sharded", False))

    def load_model(self, model: nn.Module) -> None:
        """Read the weights into a model of the same shape; raises `InputError` if it has another.

        A checkpoint in shards has them as one file only where the run was finished; raises `InputError` elsewhere.
        """
        if self.sharded and "model.safetensors" not in self.state["sha256"]:
            raise InputError(
                f"{self.path} is in shards, and its weights as one file are written when the run is finished: go on "
                "with it by torchrun and --sharded"
            )
        try:
            load_model(model, str(self.path / "model.safetensors"))
        except SafetensorError as error:
            raise _damaged(self.path, f"model.safetensors cannot be read ({error})") from error
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.path} holds the weights of a model of another shape: {reason:.300}") from error

    def load_optimizer(self, optimizer: Optimizers) -> None:
        """Read the optimiser's state, exactly as it was."""
        try:
            state: dict[int, dict[str, torch.Tensor]] = {}
            for key, tensor in load_file(str(self.path / "optimizer.safetensors")).items():
                parameter, name = key.split(".", 1)
                state.setdefault(int(parameter), {})[name] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": self.state["param_groups"]})
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise _damaged(self.path, f"the optimiser's state cannot be read ({error})") from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    with written_whole(path) as file:
        file.write(json.dumps(value, indent=1).encode())


def save_checkpoint(run: Path, step: int, model: nn.Module, optimizer: Optimizers, **state: Any) -> Path:
    """Write `run/checkpoints/step-...`, whole or not at all, and delete all but the last two.

    Raises `OSError` when the disk is full; what was complete before stays as it was.
    """
    folder = run / "checkpoints"
    beside = begin_checkpoint(run, step)
    try:
        save_model(model, str(beside / "model.safetensors"))
        saved = optimizer.state_dict()
        tensors = {
            f"{parameter}.{name}": value.contiguous()
            for parameter, values in saved["state"].items()
            for name, value in values.items()
        }
        save_file(tensors, str(beside / "optimizer.safetensors"))
        return finish_checkpoint(beside, run, step, param_groups=saved["param_groups"], **state)
    except SafetensorError as error:  # its own word for a full disk
        shutil.rmtree(beside, ignore_errors=True)
        raise OSError(f"could not write {folder / _name(step)}: {error}") from error
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def begin_checkpoint(run: Path, step: int) -> Path:
    """An empty folder beside the place of a checkpoint."""
    beside = run / "checkpoints" / f".{_name(step)}.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    return beside


def finish_checkpoint(beside: Path, run: Path, step: int, **state: Any) -> Path:
    """Sum what was written beside, rename it into its place, and delete all checkpoints but the last two."""
    folder = run / "checkpoints"
    path = folder / _name(step)
    files = sorted(str(file.relative_to(beside)) for file in beside.rglob("*.safetensors"))
    sums = {name: sha256_of(beside / name) for name in files}
    write_json(beside / "state.json", {"format": FORMAT, "step": step, "sha256": sums, **state})
    for name in (*sums, "."):
        _fsync(beside / name)
    if path.exists():  # the same step, written again by a run that was resumed: equal but for its times
        shutil.rmtree(path)
    os.replace(beside, path)
    _fsync(folder)
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
        float(state["seconds"])
        if path.name != _name(int(state["step"])):
            raise ValueError(f"it is of step {state['step']}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, f"state.json cannot be read ({error})") from error
    if version != FORMAT:
        raise InputError(f"{path} was written in format {version}, this version reads format {FORMAT}")
    needed = () if state.get("sharded") else ("model.safetensors", "optimizer.safetensors")
    for name in dict.fromkeys((*needed, *sums)):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise _damaged(path, f"state.json names {name!r:.80}, which lies elsewhere")
        if not (path / name).is_file():
            raise _damaged(path, f"{name} is missing")
        if sha256_of(path / name) != sums.get(name):
            raise _damaged(path, f"{name} is not what was written")
    return Checkpoint(path, state)


def _damaged(path: Path, what: str) -> InputError:
    others = [other.name for other in _complete(path.parent.parent) if other.name != path.name]
    cure = f"delete it to go on from {others[-1]}" if others else "there is no other one in this run: start anew"
    return InputError(f"the checkpoint {path} is damaged: {what}; {cure}")


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _complete(run: Path) -> list[Path]:
    found = [path for path in (run / "checkpoints").glob("step-*") if path.is_dir() and path.name[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def sha256_of(path: Path) -> str:
    """The checksum of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
