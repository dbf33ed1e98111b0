"""Checkpoints: safetensors and JSON, nothing that can run code.

    run/
      run.json                        objective, model, settings, corpus: everything needed to continue
      tokenizer.json
      metrics.jsonl                   one line for each step and each evaluation
      losses.csv                      the same as a table, written when the run ends or is stopped
      checkpoints/step-00000500/      model.safetensors, optimizer.safetensors, state.json

Of a sharded run, `model/` and `optimizer/` are folders of as many safetensors files as there were processes, which any
number of them can read; `model.safetensors` is written with the last checkpoint alone.

A checkpoint is written beside its place and renamed into it, so that it is there whole or not at all. It holds the
SHA-256 of its files and of `state.json` itself, so that damage is found before it is trained on.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from ..checks import check_int, check_path
from ..data.corpora.cache import read_json, sha256_of
from ..data.corpora.descriptions import Count, Fields, Sha256, checked_fields
from ..data.corpora.sealed import unsealed, write_sealed
from ..errors import InputError
from ..escape import shorten
from .optimizers import Optimizers
from .run_description import fingerprint_of

FORMAT = 3
"""Of state.json. clozelab 0.1 wrote formats 1 and 2."""
KEPT = 2
"""Checkpoints that are kept: the last, and the one before it in case the last is damaged."""


Stage = Callable[[dict[str, Any]], dict[str, Any]]
"""Copies tensors, in dicts, to where they stay as they are while a run goes on; `dict` copies none."""
FileName = Annotated[str, Field(pattern=r"^(\w[\w.-]*/)*\w[\w.-]*\.safetensors$", max_length=200)]
"""Of a file inside of the checkpoint."""


class _State(Fields):
    """The content of state.json."""

    model_config = ConfigDict(extra="allow")

    step: Annotated[Count, Field(le=10**12)]
    seconds: Annotated[float, Field(ge=0)]
    objective: str
    identity: str
    """What `fingerprint_of` returns of the run."""
    sha256: dict[FileName, Sha256]
    sharded: bool = False
    positions: dict[str, dict[str, Any]] | None = None
    param_groups: list[dict[str, Any]] | None = None
    moments_of: Count = 0


class UnusableCheckpoint(InputError):
    """A checkpoint that is damaged or of another run; `earlier` names the one before it, and is empty without one."""

    def __init__(self, path: Path, what: str) -> None:
        others = [other.name for other in _complete(path.parent.parent) if other.name != path.name]
        self.earlier = others[-1] if others else ""
        cure = f"delete it to continue from {self.earlier}" if others else "there is no other one: begin another run"
        super().__init__(f"{what}; {cure}")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, its files checked."""

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
        """Of a streamed corpus: where each of its shards was read."""
        return dict(self.state.get("positions", {}))

    @property
    def sharded(self) -> bool:
        """Whether it was written in shards, by the processes of a sharded run."""
        return bool(self.state.get("sharded", False))

    @property
    def _weights(self) -> Path:
        if self.sharded and "model.safetensors" not in self.state["sha256"]:
            raise InputError(
                f"{self.path} is in shards, and its weights as one file are written when the run is finished: "
                "continue it by torchrun and --sharded"
            )
        return self.path / "model.safetensors"

    def shapes(self) -> dict[str, list[int]]:
        """The shape of each weight, without reading any."""
        try:
            with safe_open(self._weights, framework="pt") as file:
                return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise _damaged(self.path, f"model.safetensors cannot be read ({error})") from error

    def load_model(self, model: nn.Module) -> None:
        """Read the weights into a model of the same shape.

        Raises `InputError` for a model of another shape, and for the checkpoint of a sharded run that is not finished.
        """
        try:
            load_model(model, str(self._weights))
        except SafetensorError as error:
            raise _damaged(self.path, f"model.safetensors cannot be read ({error})") from error
        except RuntimeError as error:
            what = f"{self.path} holds the weights of a model of another shape ({shorten(error)})"
            raise UnusableCheckpoint(self.path, what) from error

    def load_optimizer(self, optimizer: Optimizers) -> None:
        """Read the optimiser's state, exactly as it was; raises `InputError` where it is damaged."""
        try:
            state: dict[int, dict[str, torch.Tensor]] = {}
            for key, tensor in load_file(str(self.path / "optimizer.safetensors")).items():
                parameter, name = key.split(".", 1)
                state.setdefault(int(parameter), {})[name] = tensor
            mine = optimizer.state_dict()["param_groups"]  # from the settings, and not from a file
            if [group["params"] for group in self.state["param_groups"]] != [group["params"] for group in mine]:
                raise ValueError("it has other groups of parameters")
            if len(state) != self.state["moments_of"]:  # a parameter that has had no gradient has none
                raise ValueError(f"it is of {len(state)} parameters, expected {self.state['moments_of']}")
            _check_moments(state, optimizer)
            optimizer.load_state_dict({"state": state, "param_groups": mine})
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise _damaged(self.path, f"the optimiser's state cannot be read ({error})") from error


def _check_moments(state: dict[int, dict[str, torch.Tensor]], optimizer: Optimizers) -> None:
    """Raises `ValueError` for a state that PyTorch would load, and fail with at the next step."""
    shapes = [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]
    for number, moments in state.items():
        if not 0 <= number < len(shapes):
            raise ValueError(f"it is of a parameter {number}, and there are {len(shapes)}")
        shape = shapes[number]
        wrong = [name for name, value in moments.items() if value.dim() and value.shape != shape]
        if wrong:
            raise ValueError(f"{wrong[0]} of parameter {number} has another shape than the parameter")


def save_checkpoint(run: Path, step: int, model: nn.Module, optimizer: Optimizers, **state: Any) -> None:
    """Write `run/checkpoints/step-...`, whole or not at all, and delete all but the last two.

    Raises `OSError` when the disk is full; what was complete before stays as it was.
    """
    checkpoint_writer(run, step, model, optimizer, **state)()


def checkpoint_writer(
    run: Path, step: int, model: nn.Module, optimizer: Optimizers, stage: Stage = dict, **state: Any
) -> Callable[[], None]:
    """What does the work of `save_checkpoint` when it is called, with the tensors that `stage` returns."""
    step, saved = check_int(step, "step", 0), optimizer.state_dict()
    moments = {
        f"{parameter}.{name}": value.contiguous()
        for parameter, values in saved["state"].items()
        for name, value in values.items()
    }
    groups = {"param_groups": saved["param_groups"], "moments_of": len(saved["state"])}
    tensors = stage({"model": dict(model.state_dict()), "optimizer": moments})
    return partial(write_checkpoint, run, step, tensors["model"], tensors["optimizer"], {**groups, **state})


def write_checkpoint(
    run: Path, step: int, weights: dict[str, Tensor], moments: dict[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Write a checkpoint of these tensors, as `save_checkpoint` does."""
    beside = begin_checkpoint(run, step)
    try:
        save_model(_Weights(weights), str(beside / "model.safetensors"))
        save_file(moments, str(beside / "optimizer.safetensors"))
        finish_checkpoint(beside, run, step, **state)
    except SafetensorError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise could_not_write(run / "checkpoints" / _name(step), error) from error
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


class _Weights(nn.Module):
    """Weights as `save_model` takes them, which writes those once that lie in one place."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self._weights = weights

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        return dict(self._weights)


def begin_checkpoint(run: Path, step: int) -> Path:
    """An empty folder beside the place of a checkpoint; folders that a killed run left there are deleted."""
    beside = run / "checkpoints" / f".{_name(step)}.tmp"
    for abandoned in beside.parent.glob(".step-*.tmp"):
        shutil.rmtree(abandoned, ignore_errors=True)
    beside.mkdir(parents=True)
    return beside


def could_not_write(path: Path, error: SafetensorError) -> OSError:
    """An error of safetensors, of a full disk or the like, as the `OSError` that it wraps."""
    number = re.search(r"os error (\d+)", str(error))
    if number is None:
        return OSError(f"could not write {path}: {error}")
    return OSError(int(number[1]), os.strerror(int(number[1])), str(path))


def finish_checkpoint(beside: Path, run: Path, step: int, **state: Any) -> None:
    """Add checksums to the files, rename the folder into its place, and delete all checkpoints but the last two."""
    folder = run / "checkpoints"
    path = folder / _name(step)
    files = sorted(str(file.relative_to(beside)) for file in beside.rglob("*.safetensors"))
    sums = {name: sha256_of(beside / name) for name in files}
    write_sealed(beside / "state.json", {"format": FORMAT, "step": step, "sha256": sums, **state})
    for name in (*sums, "."):
        _fsync(beside / name)
    if path.exists():  # the same step, written again by a run that was resumed: equal but for its times
        shutil.rmtree(path)
    os.replace(beside, path)
    _fsync(folder)
    for old in _complete(run)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def latest_checkpoint(run: str | Path, described: Mapping[str, Any] | None = None) -> Checkpoint:
    """The last checkpoint of a run, checked; raises `InputError` where there is none or it is damaged.

    With `described`, which `read_run` returns, also where it is of another run than that one.
    """
    run = check_path(run, "the run folder")
    found = _complete(run)
    if not found:
        raise InputError(f"{run} holds no checkpoint: expected folders {run / 'checkpoints'}/step-...")
    checkpoint = read_checkpoint(found[-1])
    if described is not None and checkpoint.state["identity"] != fingerprint_of(described):
        theirs, mine = checkpoint.state["objective"], described["objective"]
        what = f"its objective is {theirs}, not {mine}" if theirs != mine else f"{run / 'run.json'} describes another"
        raise UnusableCheckpoint(checkpoint.path, f"{checkpoint.path} is of another run: {what}")
    return checkpoint


def read_checkpoint(path: str | Path) -> Checkpoint:
    """A checkpoint folder, checked file by file against its sums."""
    path = check_path(path, "a checkpoint")
    try:
        state = dict(read_json(path / "state.json"))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, f"state.json cannot be read ({error})") from error
    if state.get("format", FORMAT) != FORMAT:
        if state["format"] in (1, 2):
            raise InputError(
                f"{path} was written by clozelab 0.1 and cannot be read: train it again, or use that version"
            )
        raise InputError(
            f"{path} was written in format {shorten(state['format'], 80)}, this version reads format {FORMAT}: use the "
            "version that wrote it"
        )
    try:
        state = unsealed(state, path / "state.json")
    except InputError as error:
        raise _damaged(path, "state.json is not what was written") from error
    try:
        sums = checked_fields(_State, state, "state.json").sha256
    except InputError as error:
        raise _damaged(path, str(error)) from error
    if path.name != _name(state["step"]):
        raise _damaged(path, f"state.json is of step {state['step']}")
    needed = () if state.get("sharded") else ("model.safetensors", "optimizer.safetensors")
    for name in dict.fromkeys((*needed, *sums)):
        if not (path / name).is_file():
            raise _damaged(path, f"{shorten(name, 80)} is missing")
        if sha256_of(path / name) != sums.get(name):
            raise _damaged(path, f"{name} is not what was written")
    return Checkpoint(path, state)


def _damaged(path: Path, what: str) -> UnusableCheckpoint:
    return UnusableCheckpoint(path, f"the checkpoint {path} is damaged: {what}")


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _complete(run: Path) -> list[Path]:
    found = [path for path in (run / "checkpoints").glob("step-*") if path.is_dir() and path.name[5:].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
