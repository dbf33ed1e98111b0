"""What a collator is tried on: random texts, and what its batches contain."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...data import IGNORED, SpecialIds
from ...objectives import Objective
from ..randomness import own_random_state
from ..report import NOT_CHECKED, Check, Finding
from .kinds import hidden_labels, kind_of

Row = tuple[tuple[int, ...], tuple[int, ...]]
"""The input ids and the labels of one text, without padding."""


@dataclass(frozen=True, eq=False)
class CollatorTrial:
    """A collator with the settings of its check; it is copied for each trial."""

    collator: Callable[[list[Any]], Any]
    special: SpecialIds
    asked_kind: str | None
    shares: tuple[float, float, float] | None
    spans: tuple[float, float] | None
    example: Callable[[Any], Any]
    workers: int
    rows_of_sample: int

    @property
    def objective(self) -> Objective | None:
        """The objective whose corruption this is, where the collator is clozelab's."""
        owner = getattr(getattr(self.collator, "corrupt", None), "__self__", None)
        return owner if isinstance(owner, Objective) else None

    def fresh(self) -> Callable[[list[Any]], Any]:
        """The collator as it was given, before it was ever called."""
        return copy.deepcopy(self.collator)

    def texts(self, *lengths: int, seed: int = 0, closed: bool | None = None) -> list[list[int]]:
        """Random texts of these lengths, no two alike, each closed by an end of text where it is long enough.

        Those of span corruption, which appends its own, are open; `closed` decides otherwise.
        """
        generator = torch.Generator().manual_seed(seed)
        choice = self.special.replacements
        texts = [choice[torch.randint(len(choice), (n,), generator=generator)].tolist() for n in lengths]
        closed = self.kind != "spans" if closed is None else closed
        return [[*text[:-1], self.special.eos] if closed and len(text) > 1 else text for text in texts]

    def batch(self, texts: Sequence[Sequence[int]], collate: Callable | None = None) -> Mapping[str, Any]:
        """A batch of texts, by a fresh copy of the collator."""
        return (collate or self.fresh())([self.example(list(text)) for text in texts])

    def rows(self, batch: Mapping[str, Any]) -> list[Row]:
        """Each text of a batch, wherever its padding is."""
        inputs, labels = batch["input_ids"], hidden_labels(batch)
        read = batch["attention_mask"] != 0 if "attention_mask" in batch else inputs != self.special.pad
        if inputs.shape != labels.shape or "decoder_input_ids" in batch:
            return [(tuple(i[r].tolist()), tuple(x[x != IGNORED].tolist())) for i, x, r in zip(inputs, labels, read)]
        return [(tuple(i[r].tolist()), tuple(x[r].tolist())) for i, x, r in zip(inputs, labels, read)]

    def epochs(self, texts: Sequence[Sequence[int]], workers: int, count: int = 1) -> list[list[Row]]:
        """The rows of several passes by one `DataLoader`, the global random state seeded as in a new script."""
        collate = self.fresh()
        examples = [self.example(list(text)) for text in texts]
        loader = DataLoader(examples, batch_size=4, collate_fn=collate, num_workers=workers)  # type: ignore[arg-type]
        passes = []
        with own_random_state(0):
            for epoch in range(count):
                if hasattr(collate, "set_epoch"):
                    collate.set_epoch(epoch)  # type: ignore[attr-defined]
                passes.append([row for batch in loader for row in self.rows(batch)])
        return passes

    @cached_property
    def kind(self) -> str:
        """What the caller says, or what a batch looks like."""
        if self.asked_kind is not None:
            return self.asked_kind
        choice = self.special.replacements
        texts = [choice[torch.arange(64) * (k + 3) % len(choice)].tolist() for k in range(64)]
        return kind_of(self.fresh()([self.example(text) for text in texts]), torch.tensor(texts), self.special)

    @cached_property
    def sample(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of a masked LM: texts, inputs and labels of hidden tokens (N, 512), enough for statistics."""
        texts = self.texts(*[512] * self.rows_of_sample, seed=1)
        batch = self.batch(texts)
        return torch.tensor(texts), batch["input_ids"], hidden_labels(batch)

    @cached_property
    def ragged(self) -> list[list[int]]:
        """Twelve texts of different lengths."""
        return self.texts(*(61, 97, 70, 88, 64, 110, 75, 82, 68, 93, 79, 66), seed=2)  # long enough for several spans


def of_kind(*kinds: str) -> Callable[[Check[CollatorTrial]], Check[CollatorTrial]]:
    """A check of batches of these kinds; any other is not checked, and the report says so."""

    def wrapped(check: Check[CollatorTrial]) -> Check[CollatorTrial]:
        def applies(trial: CollatorTrial) -> Finding | None:
            if trial.kind in kinds:
                return check(trial)
            if trial.kind == "other":
                return Finding(NOT_CHECKED, "this is no batch of a known kind (kind= says which it is meant to be)")
            return Finding(NOT_CHECKED, f"not of a batch of the kind {trial.kind}")

        applies.__doc__ = check.__doc__
        return applies

    return wrapped
