"""Streams: text too large to be packed is tokenised, cut into blocks and shuffled while it is read.

    files      a.jsonl  b.jsonl  c.jsonl  d.jsonl  e.jsonl  f.jsonl
    shards     shard 0: a, c, e, and a again            shard 1: b, d, f, and b again
    blocks     a shard's documents end to end, cut      [0] [1] [2] ... [255] | [256] ...
    order      drawn for each window of 256 blocks      [7] [1] [90] ...      | [301] ...

A batch takes equally many blocks from each shard. The number of shards depends on the corpus and the batch size, not on
the processes or workers that read them; the order in a window is drawn from (seed, shard, window), and the id of an
example is its block's number in its shard. So batch n is the same for any number of readers, and after any number of
interruptions: the position at which a window begins is all that must be saved.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ..noise import Noise
from ..packing import encoded
from ..tokenizers.tokenizer import Tokenizer
from .streamed import StreamedDocuments

WINDOW = 256
"""Blocks of a shard whose order is drawn together; a reader that resumes reads at most so many again."""
CHARACTERS_AT_ONCE = 2**18
"""Characters of the documents that are tokenised together; the last document may exceed it."""


@dataclass(frozen=True)
class Stream:
    """A streamed corpus with its tokenizer: the counterpart of `Packed` for a corpus that is too large for it.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from clozelab.data import Stream, load_corpus, train_bpe
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.csv", "b.csv"):
    ...         written = Path(folder, name).write_text("text\\n" + "the cat sat\\n" * 1000)
    ...     documents = load_corpus(folder, heldout=0.01, streaming=True).train
    ...     stream = Stream(documents, train_bpe(documents, vocab_size=400))
    ...     shards = stream.shards(length=4, batch_size=16, seed=0)
    ...     block, position = next(shards[1].blocks())
    >>> len(shards), stream.tokenizer.pieces(block.tolist())
    (2, ['the', ' cat', ' sat', '</s>'])
    """

    documents: StreamedDocuments
    tokenizer: Tokenizer

    @property
    def fingerprint(self) -> str:
        """Of the files, by their names, sizes and both ends, and of the tokenizer."""
        return f"{self.documents.fingerprint} {self.tokenizer.fingerprint}"

    def shards(self, length: int, batch_size: int, seed: int) -> list[StreamShard]:
        """The largest number of shards that divides both the files and the rows of a batch.

        So each shard has equally many files, and equally many rows of each batch.
        """
        count = math.gcd(self.documents.files, batch_size)
        return [
            StreamShard(self.documents.part(number, count), self.tokenizer, number, length, seed)
            for number in range(count)
        ]


@dataclass(frozen=True)
class StreamShard:
    """Some of the files of a stream, read from the first to the last, and again, without end."""

    documents: StreamedDocuments
    tokenizer: Tokenizer
    number: int
    length: int
    """Tokens of a block."""
    seed: int

    def blocks(self, first: int = 0, position: dict[str, Any] | None = None) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Blocks (length,) from number `first` on, each with the position of its window.

        `position` is that of the window that holds block `first` or the block before it. Without it, the shard is read
        again from the start. Raises `InputError` for files without text, and the errors of reading and tokenising.
        """
        for begins, window in self._windows(position):
            for block in window[max(0, first - begins["window"] * WINDOW) :]:
                yield block, begins

    def example_id(self, number: int) -> str:
        """The id of a block, from which its noise is drawn."""
        return f"block {number} of shard {self.number}"

    def _windows(self, position: dict[str, Any] | None) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """(the position of a window, its blocks (WINDOW, length) in their drawn order)."""
        position = position or {"window": 0, "pass": 0, "rows": None, "skip": 0}
        number, skip = position["window"], position["skip"]
        size = WINDOW * self.length
        waiting: deque[tuple[dict[str, Any], int, np.ndarray]] = deque()  # (position, tokens used before, tokens)
        for read, tokens in self._tokens(position["pass"], position["rows"]):
            waiting.append((read, skip, tokens[skip:]))
            skip = 0
            while sum(len(tokens) for *_, tokens in waiting) >= size:
                place, used, _ = waiting[0]
                window = torch.from_numpy(_take(waiting, size)).view(WINDOW, self.length)
                yield {"window": number, **place, "skip": used}, window[self._order(number)]
                number += 1

    def _tokens(self, passed: int, position: dict[str, Any] | None) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """(the position they were read at, token ids) of some documents, each with an end of text behind it."""
        while True:
            reading = self.documents.read(position)
            found = position is not None
            while True:
                place = {"pass": passed, "rows": position}
                documents = _next_documents(reading)
                if not documents:
                    break
                eos = self.tokenizer.special.eos
                ids = ((*ids, eos) if ended else ids for _, ids, ended in encoded(documents, self.tokenizer))
                yield place, np.array(list(chain.from_iterable(ids)), dtype=np.int64)
                position, found = reading.position, True
            if not found:
                raise InputError(f"{self.documents.name} holds no text to train on in some of its files")
            passed, position = passed + 1, None

    def _order(self, window: int) -> Tensor:
        [generator] = Noise.of(self.seed, 0, [f"order of window {window} of shard {self.number}"]).generators(0)
        return torch.randperm(WINDOW, generator=generator)


def _next_documents(reading: Iterator[list[str]]) -> list[str]:
    """The next documents, of `CHARACTERS_AT_ONCE` characters or more; fewer at the end, and then none."""
    found: list[str] = []
    for documents in reading:
        found += documents
        if sum(map(len, found)) >= CHARACTERS_AT_ONCE:
            break
    return found


def _take(waiting: deque[tuple[dict[str, Any], int, np.ndarray]], size: int) -> np.ndarray:
    """Remove the first `size` tokens of those waiting, which must be at least as many."""
    parts: list[np.ndarray] = []
    while size:
        place, used, tokens = waiting.popleft()
        parts.append(tokens[:size])
        if len(tokens) > size:
            waiting.appendleft((place, used + size, tokens[size:]))
        size -= len(parts[-1])
    return np.concatenate(parts)
