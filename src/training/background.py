"""A checkpoint is written while the run goes on: copied at once, written by a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from .checkpoint import Stage
from .processes import Processes

_log = logging.getLogger(__name__)


class Background:
    """Writes one checkpoint at a time, in a thread of each process.

    All processes call every method but `close`, which ends a run that failed: there the others may be elsewhere.

    >>> from clozelab.training import Processes
    >>> from clozelab.training.background import Background
    >>> written = []
    >>> background = Background(Processes())
    >>> background.start(7, lambda: written.append("the checkpoint of step 7"))
    >>> background.wait(), written
    (7, ['the checkpoint of step 7'])
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._step, self._writing = -1, Future[None]()

    def start(self, step: int, write: Callable[[], None]) -> None:
        """Begin to write the checkpoint of a step, this process's part of it."""
        self._step, self._writing = step, self._thread.submit(write)

    @property
    def failed(self) -> bool:
        """Whether what this process was to write could not be written, as far as is known by now."""
        return self._step >= 0 and self._writing.done() and self._writing.exception() is not None

    def wait(self) -> int:
        """Wait for the end of what is being written; returns its step, -1 where nothing was.

        Raises its error, in all processes.
        """
        step, self._step = self._step, -1
        if step >= 0:
            self._writing.exception()  # its end, whatever that is
            self.processes.broadcast(self._writing.result)
        return step

    def close(self) -> None:
        """Wait for the end of what is being written, and log its error, which no `wait` can raise any more."""
        if self._step >= 0 and (error := self._writing.exception()) is not None:
            _log.warning(f"the checkpoint of step {self._step} was not written: {error}")
        self._thread.shutdown()


def stage_on_host() -> Stage:
    """A `Stage` that copies tensors into the host's memory, where each next call overwrites them.

    >>> import torch
    >>> from clozelab.training.background import stage_on_host
    >>> weights = {"weight": torch.ones(2)}
    >>> copy = stage_on_host()(weights)
    >>> weights["weight"].zero_(), copy["weight"]
    (tensor([0., 0.]), tensor([1., 1.]))
    """
    from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions  # takes a second to import

    pinned = torch.cuda.is_available()
    return DefaultStager(StagingOptions(pinned, False, False, False)).stage  # pyright: ignore[reportReturnType]
