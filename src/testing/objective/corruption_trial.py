"""What the corruption of an objective is tried on: random texts, and the batches that it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ...data import Batch, Collator, SpecialIds
from ...objectives import Objective

LENGTHS = (9, 24, 5, 16, 20, 12)
"""Of the random texts, in tokens: ragged, and short enough for a model of 32 positions."""

AsExample = Callable[[list[int]], Mapping[str, Any]]
"""From token ids to an example, for an objective whose scheme asks for more than tokens."""


@dataclass(frozen=True, eq=False)
class CorruptionTrial:
    """An objective and the special ids of its batches."""

    objective: Objective
    special: SpecialIds
    as_example: AsExample | None
    given: Batch | None
    """The caller's batch."""

    @cached_property
    def batch(self) -> Batch:
        """The caller's, or that of the examples."""
        return self.given if self.given is not None else self.collate(self.examples)

    def text(self, length: int, seed: int) -> list[int]:
        """Random ids of text."""
        generator = torch.Generator().manual_seed(seed)
        choice = self.special.replacements
        return choice[torch.randint(len(choice), (length,), generator=generator)].tolist()

    def example_of(self, ids: list[int], **more: Any) -> dict[str, Any]:
        """An example of these tokens, with the data that the objective's scheme asks for."""
        made: Mapping[str, Any] = {} if self.as_example is None else self.as_example(ids)
        return {**made, "input_ids": ids, **more}

    def example(self, length: int, seed: int) -> dict[str, Any]:
        """A random text with an id of its own."""
        return self.example_of(self.text(length, seed), example_id=seed)

    @cached_property
    def examples(self) -> list[dict[str, Any]]:
        """Six ragged texts."""
        return [self.example(length, seed) for seed, length in enumerate(LENGTHS)]

    @cached_property
    def sample(self) -> Batch:
        """512 ragged texts, for what holds on average."""
        return self.collate(self.sample_examples)

    @cached_property
    def sample_examples(self) -> list[dict[str, Any]]:
        """The texts of `sample`."""
        return [self.example(LENGTHS[seed % len(LENGTHS)], 100 + seed) for seed in range(512)]

    def collator(self, **settings: Any) -> Collator:
        """A fresh collator."""
        return self.objective.collator(self.special, **settings)

    def collate(self, examples: list[dict[str, Any]], **settings: Any) -> Batch:
        """A batch by a fresh collator."""
        return self.collator(**settings)(examples)

    def copies(self, ids: list[int], example_ids: Sequence[int], epochs: Sequence[int] | int = 0) -> Batch:
        """One text with the noise of many examples, or of many epochs."""
        each = [epochs] * len(example_ids) if isinstance(epochs, int) else list(epochs)
        if self.as_example is not None or self.objective.example_keys():
            pairs = zip(example_ids, each)
            return self.collate([self.example_of(ids, example_id=one, epoch=epoch) for one, epoch in pairs])
        return self.collator().block(torch.tensor([ids] * len(each)), example_ids, epoch=each)


def patterns(batch: Batch) -> list[tuple[tuple[int, ...], ...]]:
    """Each row of a batch, all of its keys together, as something that can be compared and counted."""
    columns = [
        [tuple(row.flatten().tolist()) for row in value]
        for key, value in sorted(batch.items())
        if isinstance(value, Tensor) and value.dim() > 0
    ]
    return list(zip(*columns))


def real_tokens(batch: Batch, key: str = "input_ids") -> list[list[int]]:
    """The ids of each row without padding."""
    mask = batch.get("decoder_attention_mask" if key.startswith("decoder_") else "attention_mask")
    rows = batch[key]
    return [row[here].tolist() for row, here in zip(rows, torch.ones_like(rows).bool() if mask is None else mask != 0)]
