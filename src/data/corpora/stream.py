"""Text too large to be packed: tokenised, cut into blocks and put in order as it comes, from any place in it.

    files      a.jsonl  b.jsonl  c.jsonl  d.jsonl  e.jsonl  f.jsonl
    lanes(2)   lane 0: a, c, e, and a again            lane 1: b, d, f, and b again
    blocks     each lane's documents end to end, cut   [0] [1] [2] ... [255] | [256] ...
    order      drawn in each window of blocks          [7] [1] [90] ...      | [301] ...

A batch takes as many blocks from each lane, in turn. How many lanes there are belongs to the corpus and the batch, not
to the processes or workers that read them; the order in a window is drawn for (seed, lane, window), and each block has
its number in its lane for an identity. So batch n is the same whoever reads, and however often the reading was begun
again: where a window begins is all that must be noted.
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
"""Blocks of a lane whose order is drawn together; a reading that goes on reads at most so many again."""
AT_ONCE = 2**18
"""Characters of documents that are tokenised together, or somewhat more: all documents are whole."""


@dataclass(frozen=True)
class Stream:
    """What stands in the place of a packed text where there is too much of it.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from clozelab.data import load_corpus, train_bpe
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.csv", "b.csv"):
    ...         written = Path(folder, name).write_text("text\\n" + "the cat sat\\n" * 1000)
    ...     documents = load_corpus(folder, heldout=0.01, streaming=True).train
    ...     stream = Stream(documents, train_bpe(documents, vocab_size=400))
    ...     lanes = stream.lanes(length=4, batch_size=16, seed=0)
    ...     block, position = next(lanes[1].blocks())
    >>> len(lanes), stream.tokenizer.pieces(block.tolist())
    (2, ['the', ' cat', ' sat', '</s>'])
    """

    documents: StreamedDocuments
    tokenizer: Tokenizer

    @property
    def fingerprint(self) -> str:
        """Of the files, as far as they can be told apart without reading them, and the tokenizer."""
        return f"{self.documents.fingerprint} {self.tokenizer.fingerprint}"

    def lanes(self, length: int, batch_size: int, seed: int) -> list[StreamShard]:
        """As many as divide both the files and the rows of a batch, so that each has as much of either."""
        count = math.gcd(self.documents.files, batch_size)
        return [
            StreamShard(self.documents.part(number, count), self.tokenizer, number, length, seed)
            for number in range(count)
        ]


@dataclass(frozen=True)
class StreamShard:
    """One part of a stream's files, read from the first to the last, and again, without end."""

    documents: StreamedDocuments
    tokenizer: Tokenizer
    number: int
    length: int
    """Tokens of a block."""
    seed: int

    def blocks(self, first: int = 0, position: dict[str, Any] | None = None) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Blocks (length,) from number `first` on, each with the position of its window.

        `position` is that of the window which `first` or the block before it lies in; without it all is read again
        from the start. Raises `InputError` for files without text, and what reading and tokenising them raise.
        """
        for begins, window in self._windows(position):
            for block in window[max(0, first - begins["window"] * WINDOW) :]:
                yield block, begins

    def identity(self, number: int) -> str:
        """What the noise of a block is drawn for."""
        return f"block {number} of lane {self.number}"

    def _windows(self, position: dict[str, Any] | None) -> Iterator[tuple[dict[str, Any], Tensor]]:
        """(where it begins, blocks (WINDOW, length) in their drawn order)."""
        position = position or {"window": 0, "pass": 0, "rows": None, "skip": 0}
        number, skip = position["window"], position["skip"]
        size = WINDOW * self.length
        waiting: deque[tuple[dict[str, Any], int, np.ndarray]] = deque()  # (where it was read, tokens used, tokens)
        for read, tokens in self._tokens(position["pass"], position["rows"]):
            waiting.append((read, skip, tokens[skip:]))
            skip = 0
            while sum(len(tokens) for *_, tokens in waiting) >= size:
                place, used, _ = waiting[0]
                window = torch.from_numpy(_taken(waiting, size)).view(WINDOW, self.length)
                yield {"window": number, **place, "skip": used}, window[self._order(number)]
                number += 1

    def _tokens(self, passed: int, position: dict[str, Any] | None) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """(where it was read, token ids) of some documents at a time, each with an end of text behind it."""
        while True:
            reading = self.documents.read(position)
            found = position is not None
            while True:
                place = {"pass": passed, "rows": position}
                documents = _some(reading)
                if not documents:
                    break
                eos = self.tokenizer.special.eos
                ids = ((*ids, eos) if ended else ids for _, ids, ended in encoded(documents, self.tokenizer))
                yield place, np.array(list(chain.from_iterable(ids)), dtype=np.int64)
                position, found = reading.position, True
            if not found:
                raise InputError(f"{self.documents.name} holds no text to learn from in some of its files")
            passed, position = passed + 1, None

    def _order(self, window: int) -> Tensor:
        [generator] = Noise.of(self.seed, 0, [f"order of window {window} of lane {self.number}"]).generators(0)
        return torch.randperm(WINDOW, generator=generator)


def _some(reading: Iterator[list[str]]) -> list[str]:
    """The next documents, of `AT_ONCE` characters or somewhat above; fewer at the end, and then none."""
    found: list[str] = []
    for documents in reading:
        found += documents
        if sum(map(len, found)) >= AT_ONCE:
            break
    return found


def _taken(waiting: deque[tuple[dict[str, Any], int, np.ndarray]], size: int) -> np.ndarray:
    """The first `size` tokens of those that wait, which must be as many."""
    parts: list[np.ndarray] = []
    while size:
        place, used, tokens = waiting.popleft()
        parts.append(tokens[:size])
        if len(tokens) > size:
            waiting.appendleft((place, used + size, tokens[size:]))
        size -= len(parts[-1])
    return np.concatenate(parts)
