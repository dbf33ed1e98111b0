"""The batches of a stream: as pure functions of (corpus, tokenizer, objective, seed, n) as any, but in turn."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..data import Collator, Stream, StreamShard
from ..data.tokenizers.tokenizer import tokenizing_in_one_thread
from ..errors import InputError
from .processes import SINGLE, Processes

AHEAD = 8
"""Batches that each worker has ready."""
GRACE = 10
"""Seconds after SIGTERM at which a worker ends, if it has not been let go before."""


class StreamedBatches:
    """The batches of a stream, one after the other from any on.

    Batch n has as many blocks of each lane of the stream, and each process reads only the lanes that its part of the
    batch comes from. With `workers`, other processes of this machine read and tokenise ahead, sharing those lanes out.
    Who reads changes nothing in what is read.

    Raises `InputError` for a batch that is asked for out of turn, and `OSError` where a worker dies (see `reading`).

    >>> import tempfile
    >>> from pathlib import Path
    >>> from clozelab.data import load_corpus, train_bpe
    >>> from clozelab.objectives import CausalLM
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = Path(folder, "a.csv").write_text("text\\n" + "the cat sat\\n" * 1000)
    ...     documents = load_corpus(folder, heldout=0.01, streaming=True).train
    ...     tokenizer = train_bpe(documents, vocab_size=400)
    ...     batches = StreamedBatches(Stream(documents, tokenizer), 4, CausalLM().collator(tokenizer.special), 16)
    ...     [batch] = batches.micro_batches(0)
    >>> batch["input_ids"].shape, batches.positions["0"]["window"]
    (torch.Size([16, 4]), 0)
    """

    def __init__(self, stream: Stream, length: int, collator: Collator, batch_size: int, workers: int = 0) -> None:
        self.name = stream.documents.name
        self.collator = collator
        self.lanes = stream.lanes(length, batch_size, collator.seed)
        self.each = batch_size // len(self.lanes)
        self.workers = workers
        self.positions: dict[str, dict[str, Any]] = {}
        """Of each lane that this process reads: what `go_to` needs to have the next batch follow the last one."""
        self._next = 0
        self._blocks: Iterator[Tensor] | None = None

    def go_to(self, n: int, positions: Mapping[str, dict[str, Any]]) -> None:
        """Have batch n come next, from the positions of *all* lanes after batch n - 1; none of them: from the start.

        Raises `InputError` for positions of other lanes.
        """
        if positions and set(positions) != {str(lane.number) for lane in self.lanes}:
            raise InputError(
                f"the checkpoint notes places in {len(positions)} parts of the corpus, which now has "
                f"{len(self.lanes)}: were files of {self.name} added or removed?"
            )
        self.positions, self._next, self._blocks = dict(positions), n, None

    def examples(self, n: int) -> tuple[list[str], list[int]]:
        """(example_ids, epochs) of the examples of batch n; a stream has no epochs, its blocks are numbered on."""
        names = [lane.identity(number) for lane, number in self._rows(n)]
        return names, [0] * len(names)

    def micro_batches(
        self, n: int, size: int | None = None, processes: Processes = SINGLE
    ) -> Iterator[dict[str, Tensor]]:
        """This process's part of batch n, which must be the next, in parts of at most `size` examples."""
        if n != self._next:
            raise InputError(f"batch {n} of a stream was asked for where {self._next} is next: go_to it first")
        rows = processes.share(self._rows(n))
        if self._blocks is None:
            lanes = list(dict.fromkeys(lane for lane, _ in rows))
            self._blocks = self._read(lanes)
        blocks = next(self._blocks)  # (lanes x each, length)
        self._next += 1
        skipped = rows[0][1] - n * self.each  # where a lane is shared with the process before
        blocks = blocks[skipped : skipped + len(rows)]
        example_ids = [lane.identity(number) for lane, number in rows]
        for start in range(0, len(rows), size or len(rows)):
            part = slice(start, start + (size or len(rows)))
            yield self.collator.block(blocks[part], example_ids[part])

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While this lasts batches are asked for; at its end the workers are let go.

        That a worker has died PyTorch tells by breaking off whatever this process does at that moment, be it a step;
        so the error is caught around all of it, and raised as `OSError`.
        """
        try:
            yield
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise OSError(
                f"a worker that reads {self.name} died ({' '.join(str(error).split()):.120}); was there too little "
                "memory? What was saved is kept: go on with the run by --resume"
            ) from error
        finally:
            self._blocks = None

    def _rows(self, n: int) -> list[tuple[StreamShard, int]]:
        """(lane, number of the block in it) of each row of batch n."""
        return [(lane, number) for lane in self.lanes for number in range(n * self.each, (n + 1) * self.each)]

    def _read(self, lanes: list[StreamShard]) -> Iterator[Tensor]:
        """The blocks (lanes x each, length) of batch after batch, noting the positions."""
        feed = _Feed(lanes, self.each, self._next, self.positions)
        self.positions = {}
        workers = min(self.workers, len(lanes))
        source = iter(feed) if workers == 0 else _ahead(feed, workers)
        while True:
            parts = list(islice(source, max(1, workers)))
            for part in parts:
                if isinstance(part, InputError):
                    raise part
                self.positions |= part[1]
            yield torch.from_numpy(np.concatenate([blocks for blocks, _ in parts]))


class _Feed(IterableDataset):
    """Batch after batch what some lanes give to it, and how far they were read; an `InputError` ends it."""

    def __init__(
        self, lanes: list[StreamShard], each: int, first: int, positions: Mapping[str, dict[str, Any]]
    ) -> None:
        self.lanes, self.each, self.first, self.positions = lanes, each, first, positions

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        mine = self.lanes if worker is None else Processes(worker.id, worker.num_workers).share(self.lanes)
        flows = [(str(lane.number), lane) for lane in mine]
        flows = [(name, lane.blocks(self.first * self.each, self.positions.get(name))) for name, lane in flows]
        try:
            while True:
                taken = [(name, list(islice(flow, self.each))) for name, flow in flows]
                # As an array: tensors would come by way of files that a worker which dies leaves half open.
                blocks = torch.stack([block for _, pairs in taken for block, _ in pairs]).numpy()
                yield blocks, {name: pairs[-1][1] for name, pairs in taken}
        except InputError as error:  # as a value: what is raised in a worker arrives with a traceback in its message
            yield error


def _ahead(feed: _Feed, workers: int) -> Iterator[Any]:
    """What the feed gives in each of several workers, in turn."""
    loader = DataLoader(
        feed,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # or it would draw from the global one
        worker_init_fn=_left_to_the_first,
    )
    with tokenizing_in_one_thread():
        ahead = iter(loader)
    yield from ahead


def _as_it_is(item: Any) -> Any:
    return item


def _left_to_the_first(worker: int) -> None:
    """A signal to stop may reach all processes; the first ends its step, for which it may need one batch more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
