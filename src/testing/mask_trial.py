"""What a masking scheme is tried on: random rows or the caller's texts, with generators that are seeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..data.masking import MaskScheme


@dataclass(frozen=True, eq=False)
class MaskTrial:
    """A mask scheme with the settings of its check, and the masks that it draws."""

    scheme: MaskScheme
    rate: float | None
    length: int
    rows: int
    vocab_size: int
    texts: tuple[Tensor, ...] | None

    def ask(self, tokens: Tensor, maskable: Tensor, seed: int) -> Tensor:
        """The mask for copies of a row."""
        return self.scheme(tokens.clone(), maskable.clone(), torch.Generator().manual_seed(seed))

    def tokens(self, length: int, seed: int) -> Tensor:
        """Random ids (length,), or the start of one of the caller's texts."""
        if self.texts is not None:
            return self.texts[seed % len(self.texts)][:length]
        return torch.randint(self.vocab_size, (length,), generator=torch.Generator().manual_seed(10**6 + seed))

    def short_rows(self) -> Iterator[tuple[Tensor, Tensor, int]]:
        """(tokens, maskable, seed), the smallest first, so that what is found first is the smallest example.

        The caller's texts come whole, and all of them is maskable: half a text may hold nothing to hide.
        """
        if self.texts is not None:
            for seed, text in enumerate(sorted(self.texts, key=len)[:400]):
                yield text, torch.ones(len(text), dtype=torch.bool), seed
            return
        for length in (1, 2, 3, 4, 6, 8, 12, 16, 32):
            for seed in range(24):
                share = (1.0, 0.8, 0.5, 0.2)[seed % 4]
                yield self.tokens(length, seed), self.chance(length, seed) <= share, seed

    def chance(self, length: int, seed: int) -> Tensor:
        """Numbers (length,) in [0, 1), of another seed than the scheme's: maskable must not depend on its draws."""
        return torch.rand(length, generator=torch.Generator().manual_seed(2 * 10**6 + seed))

    def long_rows(self, rows: int, maskable_share: float = 1.0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(tokens, maskable, mask) of so many rows: enough for statistics."""
        for seed in range(rows):
            tokens = self.tokens(self.length, seed)
            maskable = self.chance(len(tokens), seed) < maskable_share
            if bool(maskable.any()):
                yield tokens, maskable, self.ask(tokens, maskable, seed)

    @cached_property
    def masks(self) -> list[Tensor]:
        """`rows` masks of texts in which everything may be hidden."""
        return [mask for _, _, mask in self.long_rows(self.rows)]
