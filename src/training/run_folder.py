"""The folder of a run: begun or resumed, by one process at a time, and its checkpoints."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import nn

from .. import __version__
from ..checks import check_path
from ..data import Tokenizer
from ..data.corpora.cache import sha256_of
from ..data.corpora.sealed import write_sealed
from ..errors import InputError, NotFinite
from ..escape import shorten
from .background import Background, stage_on_host
from .checkpoint import checkpoint_writer, latest_checkpoint
from .optimizers import Optimizers
from .parallel import local
from .processes import Processes
from .run_description import FORMAT, fingerprint_of, read_run

_NAMES = {"train": "training settings", "unrecorded_options": "functions"}
"""What a message calls fields of an identity, where not by their own names."""


class Position(NamedTuple):
    """How far a run is."""

    step: int
    """Optimiser steps done."""
    seconds: float
    """Time that they took."""
    stream: Mapping[str, Any]
    """Of a streamed corpus: where each of its shards was read."""


class RunFolder:
    """Where a run is written; nowhere where `path` is None.

    `identity` is what `identity_of` returns, of the model before anything is wrapped around it. All processes call
    every method; the main one writes. With `in_background`, checkpoints are written while the run goes on.
    """

    def __init__(
        self,
        path: str | Path | None,
        identity: Mapping[str, Any],
        processes: Processes,
        *,
        in_background: bool = False,
    ) -> None:
        self.path = None if path is None else check_path(path, "the run folder")
        self.identity = dict(identity)
        self.processes = processes
        self.saved = -1
        """The step of the last checkpoint, -1 where there is none."""
        self.has_initial_weights = False
        """Whether the run began with the weights of another one."""
        self._begun = -1
        self._background = self._apart = self._stage = None
        if in_background and self.path is not None:
            self._background, self._stage = Background(processes), stage_on_host()
            self._apart = processes.apart() if processes.sharded else None
        self._lock = None if self.path is None else FileLock(self.path / "run.lock", timeout=0)

    @property
    def kept(self) -> str:
        """What a message adds about the last checkpoint."""
        return f"; the checkpoint of step {self.saved} is kept" if self.saved >= 0 else ""

    def check_same(self, tokenizer: Tokenizer, *, resume: bool) -> None:
        """Raises `InputError`, in all processes, where one was given another run, or has another version."""
        self.processes.check_same(
            "run",
            {
                "tokenizer": tokenizer.fingerprint,
                "special ids": tokenizer.special.named,
                **self.identity,
                "folder": str(self.path),
                "resume": resume,
                "world size": self.processes.world_size,
                "sharded": self.processes.sharded,
                "ZeRO stage": self.processes.zero_stage,
                "version of clozelab": __version__,
                "version of torch": torch.__version__,
            },
        )

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        """Let other runs write to the folder, once nothing is written there any more."""
        if self._background is not None:
            self._background.close()
        if self._lock is not None:
            self._lock.release()

    def _take(self) -> None:
        """Let no other run write to the folder; the main process holds the lock.

        It is a lock of the operating system on the file run.lock, so it ends with its process, however that ends. It
        holds between machines where the file system passes locks on: NFS does, unless it is mounted with `nolock` or
        `local_lock`, and so does Lustre that is mounted with `flock`.
        """
        if self._lock is None or self.path is None:
            return
        self._refuse_links()
        self.path.mkdir(parents=True, exist_ok=True)
        holder = Path(self._lock.lock_file)
        try:
            self._lock.acquire()
        except Timeout as error:
            theirs = "which says not who it is"
            with suppress(OSError, UnicodeDecodeError):
                theirs = holder.read_text(encoding="utf-8")
            raise InputError(
                f"another run writes to {self.path} ({shorten(theirs, 80)}): wait until it ends, or choose another "
                "folder"
            ) from error
        with suppress(OSError):  # where nobody may write to a locked file
            holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")

    def create(
        self, tokenizer: Tokenizer, description: Mapping[str, Any] | None, init_from: Mapping[str, Any] | None = None
    ) -> Position:
        """Begin a run, which no other one writes to until `with folder:` ends.

        `init_from` is what `load_initial_weights` returns. Raises `InputError` for a folder that holds a run already,
        or something else, and for one that another run writes to.
        """
        self.has_initial_weights = init_from is not None
        self.processes.broadcast(lambda: self._create(tokenizer, dict(description or {}), init_from))
        return Position(0, 0.0, {})

    def _create(
        self, tokenizer: Tokenizer, description: Mapping[str, Any], init_from: Mapping[str, Any] | None
    ) -> None:
        if self.path is None:
            return
        self._refuse_strangers(self.path, tokenizer)  # before anything is written there
        self._take()
        self._refuse_strangers(self.path, tokenizer)  # another run may have begun in between
        tokenizer.save(self.path / "tokenizer.json")
        described = {
            "format": FORMAT,
            **self.identity,
            "tokenizer_sha256": sha256_of(self.path / "tokenizer.json"),
            "special": tokenizer.special.named,
            "versions": {"torch": torch.__version__},
            "init_from": init_from,
            "description": description,
        }
        write_sealed(self.path / "run.json", described)

    def _refuse_strangers(self, path: Path, tokenizer: Tokenizer) -> None:
        """Raises `InputError` for a folder that holds a run, or files of something else."""
        if path.exists() and not path.is_dir():
            raise InputError(f"expected a folder for the run, but {path} is a file")
        self._refuse_links()
        if (path / "run.json").exists() or (path / "checkpoints").exists():
            raise InputError(
                f"{path} already holds a run: resume it, or choose another folder; nothing there was changed"
            )
        for name, mine in (("tokenizer.json", tokenizer.to_json()), ("metrics.jsonl", None)):
            # A run that was stopped as it began has left its tokenizer there, and nothing else.
            if (path / name).exists() and (path / name).read_bytes() != mine:
                raise InputError(
                    f"{path} holds a {name} that is of no run: choose another folder; nothing there was changed"
                )

    def resume(self, model: nn.Module, optimizer: Optimizers) -> Position:
        """Read the last checkpoint into model and optimiser; from the start where the run stopped before its first.

        No other run writes to the folder until `with folder:` ends.

        A finished run whose settings were extended is described anew. Raises `InputError` for another run than this
        one, for one that is extended before it is finished, and for a damaged checkpoint.
        """
        if self.path is None:
            raise InputError("resume=True needs the run folder to resume from")
        run = self.path
        described = self.processes.together(lambda: read_run(run))
        self.has_initial_weights = described.get("init_from") is not None
        self.processes.broadcast(self._take)
        before = _before_extension(self.identity["train"])
        extends = before is not None and described.get("train") == before
        self._check_identity(self.path, {**described, "train": self.identity["train"]} if extends else described)
        self._refuse_links()
        if not any((self.path / "checkpoints").glob("step-*")):
            if described.get("init_from") is not None:
                raise InputError(f"{self.path} was stopped before its first weights were saved: remove it, begin again")
            if extends:
                raise InputError(f"{self.path} is not finished, it has no checkpoint yet: resume it first")
            return Position(0, 0.0, {})
        checkpoint = self.processes.together(lambda: latest_checkpoint(run, self.identity))
        if before is not None and extends and checkpoint.step != before["steps"]:
            raise InputError(
                f"{self.path} is not finished, it is at step {checkpoint.step} of {before['steps']}: resume it first, "
                "and extend it then"
            )
        if checkpoint.sharded != self.processes.sharded:
            ways = ("in shards", "whole")
            raise InputError(
                f"{checkpoint.path} was written {ways[not checkpoint.sharded]}, and this run holds its weights "
                f"{ways[checkpoint.sharded]}: continue as it began, {'with' if checkpoint.sharded else 'without'} "
                "--sharded"
            )
        if checkpoint.sharded:
            from .sharded_checkpoint import load_sharded

            load_sharded(checkpoint, model, optimizer)
        else:
            checkpoint.load_model(model)
            checkpoint.load_optimizer(optimizer)
        if extends:
            path, extended = self.path / "run.json", {**described, "train": self.identity["train"]}
            self.processes.broadcast(lambda: write_sealed(path, extended))
        self.saved = self._begun = checkpoint.step
        return Position(checkpoint.step, checkpoint.seconds, checkpoint.positions)

    def _check_identity(self, path: Path, described: Mapping[str, Any]) -> None:
        for key, mine in self.identity.items():
            theirs = described.get(key)
            if theirs == mine:
                continue
            if key == "corpus":
                raise InputError(
                    f"{path} was begun on another text, or with another tokenizer: bring those back, or begin another "
                    "run in a folder of its own"
                )
            raise InputError(f"{path} is another run by its {_NAMES.get(key, key)}: {_difference(theirs, mine)}")

    def save(
        self,
        position: Position,
        model: nn.Module,
        optimizer: Optimizers,
        *,
        finished: bool = False,
    ) -> None:
        """Write a checkpoint, once for each step. `position.stream` is that of the shards which this process reads.

        Raises `NotFinite` for weights that are infinite or NaN, which are not written, and `OSError` for a full disk.
        In the background it waits for the checkpoint before it, whose error it raises, but for none of its own.
        """
        if self.path is None or self._begun == position.step:
            return
        self.wait()
        step, name = position.step, self.identity["objective"]
        if not all(bool(local(parameter).isfinite().all()) for parameter in model.parameters()):
            raise NotFinite(
                f"{name}, step {step}: some weights are infinite or NaN, so they were not saved{self.kept}; a lower "
                "learning rate is the usual cure"
            )
        identity = fingerprint_of(self.identity)
        state: dict[str, Any] = {"objective": name, "identity": identity, "seconds": position.seconds}
        if streamed := self.processes.all_gather_dict(position.stream):
            state["positions"] = streamed
        what = self.path, step, model, optimizer
        if self.processes.sharded:
            from .sharded_checkpoint import sharded_writer

            write = sharded_writer(*what, self._apart or self.processes, self._stage or dict, whole=finished, **state)
        else:
            write = checkpoint_writer(*what, self._stage or dict, **state) if self.processes.is_main else _nothing
        self._begun = step
        if self._background is not None:
            self._background.start(step, write)
            return
        if self.processes.sharded:
            write()
        else:
            self.processes.broadcast(lambda: write())
        self.saved = step

    @property
    def failed(self) -> bool:
        """Whether the checkpoint that this process writes in the background could not be written: `wait` says why."""
        return self._background is not None and self._background.failed

    def wait(self) -> None:
        """Wait for the checkpoint that is written in the background; raises its error, in all processes."""
        if self._background is not None:
            self.saved = max(self.saved, self._background.wait())

    def _refuse_links(self) -> None:
        """Nothing is written outside of the run folder, wherever a folder that somebody sent points to."""
        if self.path is not None and (self.path / "checkpoints").is_symlink():
            raise InputError(
                f"{self.path / 'checkpoints'} is a link, and what is written there would lie elsewhere: to keep a run "
                "on another disk, make the run folder itself the link"
            )


def _nothing() -> None:
    """What a process writes of a checkpoint that the main one writes."""


def _before_extension(train: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of a run before its last extension; None where it was never extended."""
    *earlier, last = train["extended"] or [None]
    return None if last is None else {**train, "steps": last, "extended": earlier}


def _difference(theirs: Any, mine: Any) -> str:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        keys = [key for key in {**theirs, **mine} if theirs.get(key) != mine.get(key)]
        return "; ".join(f"{key} = {theirs.get(key)!r} there, {mine.get(key)!r} here" for key in keys[:3])
    return f"{theirs!r} there, {mine!r} here"
