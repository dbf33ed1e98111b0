"""Batch n as a pure function of (corpus, tokenizer, objective, seed, n)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..checks import check_int, check_type
from ..data import Batch, Blocks, Collator, Mixture
from .order import Drawn, EpochOrder, MixtureOrder, Order
from .processes import SINGLE, Processes


class Batches:
    """The batches of a run, any of them at any time.

    The blocks of the corpus are seen once in each epoch, in an order drawn for that epoch; the noise of a block is
    drawn for (seed, epoch, block). So batch n is the same on a resumed run, on another number of processes, and when
    it is asked for out of order. A batch may span two epochs; nothing is dropped and nothing padded. Of a `Mixture`
    each corpus has its own epochs, and its share of the examples.

    With the `total_steps` of the run, the corruption of batch n is given the progress n / total_steps; without, 1.

    >>> from clozelab import CausalLM
    >>> from clozelab.data import pack, train_bpe
    >>> from clozelab.training import Batches
    >>> tokenizer = train_bpe(["the cat sat on the mat"] * 9, vocab_size=400)
    >>> blocks = pack(["the cat sat on the mat"] * 9, tokenizer).blocks(4)
    >>> Batches(blocks, CausalLM().collator(tokenizer.special), batch_size=3)[7]["input_ids"].shape
    torch.Size([3, 4])
    """

    def __init__(self, blocks: Blocks, collator: Collator, batch_size: int, total_steps: int | None = None) -> None:
        self.blocks = check_type(blocks, Blocks, "the blocks", "packed.blocks(length) makes them")
        self.collator = check_type(collator, Collator, "the collator", "objective.collator(special) makes one")
        self.batch_size = check_int(batch_size, "batch_size", 1)
        self.total_steps = total_steps
        self.positions: Mapping[str, Any] = {}
        """Nothing has to be noted to continue from batch n; see `StreamedBatches`."""
        self._order = _order_of(blocks, collator.seed)

    def go_to(self, n: int, positions: Mapping[str, Any]) -> None:
        """Nothing: any batch can be asked for."""

    def reading(self) -> AbstractContextManager[None]:
        """Nothing: there are no workers to stop."""
        return nullcontext()

    def examples(self, n: int) -> tuple[list[int], list[int]]:
        """(example ids, epochs) of the examples of batch n."""
        n = check_int(n, "the number of a batch", 0)
        drawn = [self._order(place) for place in range(n * self.batch_size, (n + 1) * self.batch_size)]
        return [block for block, _ in drawn], [epoch for _, epoch in drawn]

    def drawn(self, n: int) -> dict[str, Drawn]:
        """What the first n batches are of each corpus of a `Mixture`; nothing of a text that is none."""
        text = self.blocks.packed
        if not isinstance(text, Mixture) or not isinstance(self._order, MixtureOrder):
            return {}
        return dict(zip(text.names, self._order.drawn(n * self.batch_size)))

    def micro_batches(self, n: int, size: int | None = None, processes: Processes = SINGLE) -> Iterator[Batch]:
        """This process's share of batch n, in micro-batches of at most `size` examples.

        The examples do not depend on how they are divided.
        """
        rows = processes.share(list(zip(*self.examples(n))))
        for start in range(0, len(rows), size or len(rows)):
            example_ids, epochs = zip(*rows[start : start + (size or len(rows))])
            yield self.collator.block(
                self.blocks.take(example_ids), example_ids, epoch=epochs, progress=progress_at(n, self.total_steps)
            )

    def __getitem__(self, n: int) -> Batch:
        """Batch n, whole."""
        return next(self.micro_batches(n))


def _order_of(blocks: Blocks, seed: int) -> Order:
    text = blocks.packed
    if isinstance(text, Mixture):
        return MixtureOrder(text.block_counts(blocks.length), text.quotas, seed)
    return EpochOrder(len(blocks), seed)


def progress_at(n: int, total_steps: int | None) -> float:
    """The share of the run that is done before batch n, in [0, 1]; 1 where its length is not known.

    >>> from clozelab.training.batches import progress_at
    >>> progress_at(25, 100), progress_at(25, None)
    (0.25, 1.0)
    """
    return 1.0 if total_steps is None else min(1.0, n / total_steps)
