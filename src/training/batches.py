"""Batch n as a pure function of (corpus, tokenizer, objective, seed, n)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from ..checks import check_int, check_type
from ..data import Blocks, Collator, Noise
from .processes import SINGLE, Processes


class Batches:
    """The batches of a run, any of them at any time: law 1 of the house.

    The blocks of the corpus are seen once in each epoch, in an order drawn for that epoch; the noise of a block is
    drawn for (seed, epoch, block). So batch n is the same on a resumed run, on another number of processes, or asked
    for out of turn. A batch may span two epochs; nothing is dropped and nothing padded.
    """

    def __init__(self, blocks: Blocks, collator: Collator, batch_size: int) -> None:
        self.blocks = check_type(blocks, Blocks, "the blocks", "packed.blocks(length) makes them")
        self.collator = check_type(collator, Collator, "the collator", "objective.collator(special) makes one")
        self.batch_size = check_int(batch_size, "batch_size", 1)
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> Tensor:
        [generator] = Noise.of(self.collator.seed, epoch, ["the order of the blocks"]).generators(0)
        return torch.randperm(len(self.blocks), generator=generator)

    def examples(self, n: int) -> tuple[list[int], list[int]]:
        """(example_ids, epochs) of the examples of batch n."""
        n = check_int(n, "the number of a batch", 0)
        places = range(n * self.batch_size, (n + 1) * self.batch_size)
        epochs = [place // len(self.blocks) for place in places]
        return [int(self._order(epoch)[place % len(self.blocks)]) for place, epoch in zip(places, epochs)], epochs

    def micro_batches(
        self, n: int, size: int | None = None, processes: Processes = SINGLE
    ) -> Iterator[dict[str, Tensor]]:
        """This process's part of batch n, in parts of at most `size` examples.

        How it is shared out and cut changes nothing in what the examples are.
        """
        places = processes.share(list(zip(*self.examples(n))))
        for start in range(0, len(places), size or len(places)):
            example_ids, epochs = zip(*places[start : start + (size or len(places))])
            yield self.collator.block(self.blocks.take(example_ids), example_ids, epoch=epochs)

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        """Batch n, whole."""
        return next(self.micro_batches(n))
