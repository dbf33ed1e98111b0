"""The batches of a stream: the same pure functions of (corpus, tokenizer, objective, seed, n), but only in order."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..data import Batch, Collator, Stream, StreamShard
from ..data.tokenizers.tokenizer import tokenizing_in_one_thread
from ..errors import InputError
from ..escape import shorten
from .batches import progress_at
from .order import Drawn
from .processes import SINGLE, Processes

AHEAD = 8
"""Batches that each worker prefetches."""
FILES = 8
"""Open files that each worker costs this process, and as many for all of them."""
GRACE = 10
"""Seconds after SIGTERM at which a worker ends, if it was not stopped before."""


class StreamedBatches:
    """The batches of a stream, in order from any of them on.

    Batch n takes as many blocks of each shard of the stream, and each process reads only the shards that its part of
    the batch comes from. With `workers`, other processes of this machine read and tokenise those shards ahead of the
    steps. The blocks do not depend on which process reads them.

    Raises `InputError` for a batch that is asked for out of order, and `OSError` where a worker dies (see `reading`).

    >>> import tempfile
    >>> from pathlib import Path
    >>> from clozelab import CausalLM
    >>> from clozelab.data import Stream, load_corpus, train_bpe
    >>> from clozelab.training import StreamedBatches
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = Path(folder, "a.csv").write_text("text\\n" + "the cat sat\\n" * 1000)
    ...     documents = load_corpus(folder, heldout=0.01, streaming=True).train
    ...     tokenizer = train_bpe(documents, vocab_size=400)
    ...     batches = StreamedBatches(Stream(documents, tokenizer), 4, CausalLM().collator(tokenizer.special), 16)
    ...     [batch] = batches.micro_batches(0)
    >>> batch["input_ids"].shape, batches.positions["0"]["window"]
    (torch.Size([16, 4]), 0)
    """

    def __init__(
        self,
        stream: Stream,
        length: int,
        collator: Collator,
        batch_size: int,
        workers: int = 0,
        total_steps: int | None = None,
    ) -> None:
        self.name = stream.documents.name
        self.collator = collator
        self.shards = stream.shards(length, batch_size, collator.seed)
        self.each = batch_size // len(self.shards)
        self.workers = workers
        self.total_steps = total_steps
        self.positions: dict[str, dict[str, Any]] = {}
        """By shard that this process reads: where the last batch was read, from which `go_to` continues."""
        self._next = 0
        self._blocks: Iterator[Tensor] | None = None

    def go_to(self, n: int, positions: Mapping[str, dict[str, Any]]) -> None:
        """Make batch n the next one, from the positions of *all* shards after batch n - 1; without, from the start.

        Raises `InputError` for positions of other shards.
        """
        if positions and set(positions) != {str(shard.number) for shard in self.shards}:
            raise InputError(
                f"the checkpoint has positions in {len(positions)} shards of the corpus, which now has "
                f"{len(self.shards)}: were files of {self.name} added or removed?"
            )
        self.positions, self._next, self._blocks = dict(positions), n, None

    def examples(self, n: int) -> tuple[list[str], list[int]]:
        """(example ids, epochs) of batch n; a stream has no epochs, its blocks are numbered through all passes."""
        names = [shard.example_id(number) for shard, number in self._rows(n)]
        return names, [0] * len(names)

    def micro_batches(self, n: int, size: int | None = None, processes: Processes = SINGLE) -> Iterator[Batch]:
        """This process's share of batch n, which must be the next, in micro-batches of at most `size` examples."""
        if n != self._next:
            raise InputError(f"batch {n} of a stream was asked for, but {self._next} is next: go_to it first")
        rows = processes.share(self._rows(n))
        if self._blocks is None:
            shards = list(dict.fromkeys(shard for shard, _ in rows))
            self._blocks = self._read(shards)
        blocks = next(self._blocks)  # (shards x each, length)
        self._next += 1
        skipped = rows[0][1] - n * self.each  # where the process before has a part of this shard
        blocks = blocks[skipped : skipped + len(rows)]
        example_ids = [shard.example_id(number) for shard, number in rows]
        for start in range(0, len(rows), size or len(rows)):
            part = slice(start, start + (size or len(rows)))
            yield self.collator.block(blocks[part], example_ids[part], progress=progress_at(n, self.total_steps))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, batches can be asked for; at its end the workers stop.

        When a worker dies, PyTorch raises an error wherever this process is at that moment, be it in a step. So the
        error is caught around all of it, and raised as `OSError`.
        """
        try:
            yield
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise OSError(
                f"a worker that reads {self.name} died ({shorten(error, 120)}); was there too little "
                "memory? The last checkpoint is kept: continue the run by --resume"
            ) from error
        finally:
            self._blocks = None

    def drawn(self, n: int) -> dict[str, Drawn]:
        """Nothing: a stream is no mixture."""
        return {}

    def _rows(self, n: int) -> list[tuple[StreamShard, int]]:
        """(shard, number of the block in it) of each row of batch n."""
        return [(shard, number) for shard in self.shards for number in range(n * self.each, (n + 1) * self.each)]

    def _read(self, shards: list[StreamShard]) -> Iterator[Tensor]:
        """The blocks (shards x each, length) of batch after batch, noting the positions."""
        feed = _Feed(shards, self.each, self._next, self.positions)
        self.positions = {}
        workers = min(self.workers, len(shards))
        source = iter(feed) if workers == 0 else _ahead(feed, workers)
        while True:
            parts = list(islice(source, max(1, workers)))
            for part in parts:
                if isinstance(part, InputError):
                    raise part
                self.positions |= part[1]
            yield torch.from_numpy(np.concatenate([blocks for blocks, _ in parts]))


class _Feed(IterableDataset):
    """Batch after batch, the blocks of some shards and the positions behind them; an `InputError` ends it."""

    def __init__(
        self, shards: list[StreamShard], each: int, first: int, positions: Mapping[str, dict[str, Any]]
    ) -> None:
        self.shards, self.each, self.first, self.positions = shards, each, first, positions

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        mine = self.shards if worker is None else Processes(worker.id, worker.num_workers).share(self.shards)
        flows = [(str(shard.number), shard) for shard in mine]
        flows = [(name, shard.blocks(self.first * self.each, self.positions.get(name))) for name, shard in flows]
        try:
            while True:
                taken = [(name, list(islice(flow, self.each))) for name, flow in flows]
                # As an array: tensors would come by way of files that a worker which dies leaves half open.
                blocks = torch.stack([block for _, pairs in taken for block, _ in pairs]).numpy()
                yield blocks, {name: pairs[-1][1] for name, pairs in taken}
        except InputError as error:  # as a value: an error raised in a worker arrives with a traceback in its message
            yield error


def _ahead(feed: _Feed, workers: int) -> Iterator[Any]:
    """What the feed yields in each of several workers, alternating."""
    _check_open_files(FILES * (workers + 1))
    loader = DataLoader(
        feed,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # or it would draw from the global one
        worker_init_fn=_ignore_stop,
    )
    with tokenizing_in_one_thread():
        ahead = iter(loader)
    yield from ahead


def _check_open_files(count: int) -> None:
    """Raises `OSError` where so many more files cannot be opened: PyTorch would fail half way, with a traceback."""
    opened = []
    try:
        for _ in range(count):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}: {count} are needed for the workers") from error
    finally:
        for number in opened:
            os.close(number)


def _as_it_is(item: Any) -> Any:
    return item


def _ignore_stop(worker: int) -> None:
    """A signal to stop reaches the workers too, but the main process may need one more batch to end its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a handler of the main process would be inherited
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
