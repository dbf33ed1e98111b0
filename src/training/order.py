"""Which block of a text each example of a run is: pure functions of the seed and the example's number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..data import Noise
from ..data.mixture import WINDOW


class Order(Protocol):
    """Gives each example its block."""

    def __call__(self, place: int) -> tuple[int, int]:
        """(the number of the block, how often it was seen before) of example `place` of the run."""
        ...


class EpochOrder:
    """All blocks once an epoch, in an order drawn for that epoch.

    >>> from clozelab.training.order import EpochOrder
    >>> order = EpochOrder(3, seed=0)
    >>> sorted(order(place) for place in range(6))
    [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    """

    def __init__(self, count: int, seed: int, what: str = "the blocks") -> None:
        self.count, self.seed, self.what = count, seed, what
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __call__(self, place: int) -> tuple[int, int]:
        epoch, place = divmod(place, self.count)
        return int(self._order(epoch)[place]), epoch

    def _shuffled(self, epoch: int) -> Tensor:
        return _permutation(self.count, self.seed, epoch, f"the order of {self.what}")


class Drawn(NamedTuple):
    """What the examples of a run are of one corpus of a mixture."""

    examples: int
    share: float
    """Of all examples."""
    epochs: float
    """How often each of its blocks is seen, on average."""


class MixtureOrder:
    """Of every 1,000 examples a fixed number from each corpus; the blocks of a corpus once in each of its epochs.

    Which corpus an example is from is drawn for (seed, thousand). As every thousand has the same number from each, that
    also says how many examples of its corpus came before: no example depends on another.

    >>> from clozelab.training.order import MixtureOrder
    >>> order = MixtureOrder([2, 4], quotas=[700, 300], seed=0)
    >>> sum(order(place)[0] < 2 for place in range(1000))  # blocks 0 and 1 are the first corpus
    700
    >>> order.drawn(1000)[1]
    Drawn(examples=300, share=0.3, epochs=75.0)
    """

    def __init__(self, counts: Sequence[int], quotas: Sequence[int], seed: int) -> None:
        self.counts, self.quotas, self.seed = list(counts), list(quotas), seed
        self._starts = [0, *accumulate(counts)]
        self._orders = [EpochOrder(count, seed, f"the blocks of corpus {n}") for n, count in enumerate(counts)]
        self._window = lru_cache(maxsize=2)(self._drawn_window)

    def __call__(self, place: int) -> tuple[int, int]:
        window, at = divmod(place, WINDOW)
        corpus, before = self._window(window)[at]
        block, epoch = self._orders[corpus](window * self.quotas[corpus] + before)
        return self._starts[corpus] + block, epoch

    def drawn(self, examples: int) -> list[Drawn]:
        """What the first so many examples of a run are, for each corpus."""
        windows, rest = divmod(examples, WINDOW)
        drawn = [windows * quota for quota in self.quotas]
        for corpus, _ in self._window(windows)[:rest]:
            drawn[corpus] += 1
        return [Drawn(n, n / max(examples, 1), n / count) for n, count in zip(drawn, self.counts)]

    def _drawn_window(self, window: int) -> list[tuple[int, int]]:
        """(corpus, the examples of it before this one in the window) of each example of a window."""
        corpora = [corpus for corpus, quota in enumerate(self.quotas) for _ in range(quota)]
        seen = [0] * len(self.quotas)
        found = []
        for n in _permutation(WINDOW, self.seed, window, "the order of the corpora").tolist():
            found.append((corpora[n], seen[corpora[n]]))
            seen[corpora[n]] += 1
        return found


def _permutation(count: int, seed: int, number: int, what: str) -> Tensor:
    """The numbers below `count` in an order drawn for (seed, number, what)."""
    [generator] = Noise.of(seed, number, [what]).generators(0)
    return torch.randperm(count, generator=generator)
