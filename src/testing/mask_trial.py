"""What a masking scheme is tried on: random rows or the caller's own, with generators that are seeded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..data.masking import MaskScheme, scheme_keys

Row = tuple[Tensor, Mapping[str, Tensor]]
"""Token ids (T,), and the data that the scheme asks for by name."""


@dataclass(frozen=True, eq=False)
class MaskTrial:
    """A mask scheme with the settings of its check, and the masks that it draws."""

    scheme: MaskScheme
    rate: float | None
    length: int
    count: int
    vocab_size: int
    rows: tuple[Row, ...] | None

    def ask(self, row: Row, maskable: Tensor, seed: int) -> Tensor:
        """The mask for copies of a row."""
        return self.call(row[0].clone(), maskable.clone(), row[1], torch.Generator().manual_seed(seed))

    def call(self, tokens: Tensor, maskable: Tensor, data: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """The mask; the scheme gets tokens and maskable themselves, and copies of the data."""
        return self.scheme(tokens, maskable, generator, **{key: value.clone() for key, value in data.items()})

    def row(self, length: int, seed: int) -> Row:
        """Random ids (length,), or one of the caller's rows, whole: a piece of it may hold nothing to hide."""
        if self.rows is not None:
            return self.rows[seed % len(self.rows)]
        tokens = torch.randint(self.vocab_size, (length,), generator=torch.Generator().manual_seed(10**6 + seed))
        runs = {"word_ids": 0.5, "document_ids": 0.1}  # how probably the next one begins at a token
        begins = self.chance(length, seed + 10**6)
        data = {key: (begins < runs[key]).cumsum(0) for key in scheme_keys(self.scheme)}
        if "word_ids" in data:  # they begin again at 0, as those of the second text of a pair do
            data["word_ids"][length // 2 :] -= int(data["word_ids"][length // 2 :].min()) if length > 1 else 0
        return tokens, data

    def short_rows(self) -> Iterator[tuple[Row, Tensor, int]]:
        """(row, maskable, seed), the smallest first, so that what is found first is the smallest example.

        Of the caller's rows everything is maskable: half a text may hold nothing to hide.
        """
        if self.rows is not None:
            for seed, row in enumerate(sorted(self.rows, key=lambda row: len(row[0]))[:400]):
                yield row, torch.ones(len(row[0]), dtype=torch.bool), seed
            return
        for length in (1, 2, 3, 4, 6, 8, 12, 16, 32):
            for seed in range(24):
                share = (1.0, 0.8, 0.5, 0.2)[seed % 4]
                yield self.row(length, seed), self.chance(length, seed) <= share, seed

    def chance(self, length: int, seed: int) -> Tensor:
        """Numbers (length,) in [0, 1), of another seed than the scheme's: maskable must not depend on its draws."""
        return torch.rand(length, generator=torch.Generator().manual_seed(2 * 10**6 + seed))

    def long_rows(self, count: int, maskable_share: float = 1.0) -> Iterator[tuple[Row, Tensor, Tensor]]:
        """(row, maskable, mask) of so many rows: enough for statistics."""
        for seed in range(count):
            row = self.row(self.length, seed)
            maskable = self.chance(len(row[0]), seed) < maskable_share
            if bool(maskable.any()):
                yield row, maskable, self.ask(row, maskable, seed)

    @cached_property
    def masks(self) -> list[Tensor]:
        """`count` masks of texts in which everything may be hidden."""
        return [mask for _, _, mask in self.long_rows(self.count)]
