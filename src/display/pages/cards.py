"""The data of a page: what objectives make of a text, batch by batch, as JSON holds it.

    {"names": {id: how it is written}, "special": [ids], "seeds": [...], "epochs": [...], "objectives":
     [{"name": ..., "text": [...], "batches": [...], "at": [seed][epoch][rate] -> index of a batch}]}

The ids, labels, weights and counts are those of the tensors. What an output reads is an index of `reads`, whose entries
are runs of positions: "0-4,7".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...data import IGNORED, Batch, Tokenizer
from ...errors import InputError
from ...objectives import Objective
from ...objectives.options import Bounds
from ..legend import HIDING, Seen, legend
from ..picture import Picture, options_line
from ..tokens import text_cells, token_texts
from .colours import css_variables
from .reasons import reasons

DECODER = "decoder_input_ids"


@dataclass
class Card:
    """One objective of a page: its different batches, each once."""

    objective: Objective
    tokenizer: Tokenizer
    text: list[int]
    batches: list[dict[str, Any]] = field(default_factory=list)
    reads: dict[str, int] = field(default_factory=dict)
    """Runs of positions and their numbers,"""
    reasons: dict[str, int] = field(default_factory=dict)
    """clauses and theirs."""
    seen: Seen = field(default_factory=Seen)
    left_out: list[str] = field(default_factory=list)
    _known: dict[Any, int] = field(default_factory=dict)

    def add(self, batch: Batch, objective: Objective | None = None) -> int:
        """The number of a batch of one row, which `objective` (the card's own where None) made."""
        content = tuple((key, value.numpy().tobytes()) for key, value in sorted(batch.items()))
        if content not in self._known:
            self._known[content] = len(self.batches)
            self.batches.append(self._described(Picture(objective or self.objective, batch, self.text, self.tokenizer)))
        return self._known[content]

    def _described(self, picture: Picture) -> dict[str, Any]:
        for name in ("ids", "cells", "labels"):
            getattr(self.seen, name).update(getattr(picture.seen, name))
        self.left_out += [one for one in picture.left_out if one not in self.left_out]
        keys = [key for key in ("input_ids", DECODER) if key in picture.batch]
        return {
            "sequences": [self._sequence(picture, key) for key in keys],
            "outputs": [self._output(picture, name) for name in picture.objective.targets(picture.batch)],
        }

    def _sequence(self, picture: Picture, key: str) -> dict[str, Any]:
        """What the model reads: the ids, what is hidden as what, and further rows of numbers."""
        ids = picture.batch[key][0].tolist()
        hidden = picture.hidden_as if {"random", "kept"} & {*picture.hidden_as.values()} else {}
        return {
            "key": key,
            "ids": ids,
            "in_text": DECODER not in picture.batch and len(ids) == len(self.text),
            "hidden_as": {str(place): how for place, how in hidden.items()},
            "more": [{"label": one.label, "cells": [cell for cell, _ in one.cells]} for one in picture.flags(key)],
        }

    def _output(self, picture: Picture, name: str) -> dict[str, Any]:
        """What an output must predict, its weights, what it reads, and why it is in the loss."""
        target = picture.objective.targets(picture.batch)[name]
        labels, weights = target.labels[0], target.weights
        reads = {key: who[0] for (output, key), who in picture.objective.reads(picture.batch).items() if output == name}
        own = reads.get(DECODER if DECODER in picture.batch else "input_ids")
        more = []
        if target.soft_labels is not None:
            ids, probabilities = target.soft_labels
            more = [*picture.soft_labels(ids[0], probabilities[0], labels != IGNORED)]
        return {
            "name": name,
            "asks": "replaced?" if target.detects_replaced else "predicts",
            "labels": labels.tolist(),
            "are_ids": picture.predicts_ids(name),
            "weights": None if weights is None else [float(f"{weight:.4g}") for weight in weights[0].tolist()],
            "count": int(target.row_counts.sum()),
            "weight": target.weight,
            "reads": {key: [self._number(self.reads, runs(row)) for row in who] for key, who in reads.items()},
            "why": [None if one is None else self._number(self.reasons, one) for one in reasons(picture, target, own)],
            "more": [{"label": one.label, "cells": [cell for cell, _ in one.cells]} for one in more],
        }

    @staticmethod
    def _number(known: dict[str, int], value: str) -> int:
        return known.setdefault(value, len(known))

    def described(self, at: Any, rates: Rates, *, spaces: bool) -> dict[str, Any]:
        """The card as JSON holds it; `at` is the number of a batch by seed, epoch and rate.

        Rates that all lead to the same batches are left out. `spaces` is that of `token_texts`.
        """
        one = self.objective
        several = any(len({*of_rates}) > 1 for of_seed in at for of_rates in of_seed)
        return {
            "name": one.name,
            "canonical": one.canonical,
            "architecture": one.architecture,
            "style": css_variables(one.colour),
            "hides": one.hides,
            "attends_to": one.attends_to,
            "predicts": one.predicts,
            "rate": {"name": rates.name, "values": rates.values, "first": rates.first} if several else None,
            "options": [options_line(made) for made in (rates.objectives if several else [one])],
            "text": text_cells(self.tokenizer, self.text, spaces=spaces),
            "reads": [*self.reads],
            "reasons": [*self.reasons],
            "batches": self.batches,
            "at": at,
        }


@dataclass
class Rates:
    """An objective with each of some values of its rate: the first option of its own that is a share of the tokens."""

    name: str
    values: list[float]
    objectives: list[Objective]
    first: int
    """The number of the objective's own value."""
    refused: dict[str, str] = field(default_factory=dict)
    """By value, why the objective cannot have it."""

    @classmethod
    def of(cls, objective: Objective, wanted: Sequence[float]) -> Rates:
        """The objective alone, where it has no rate or the one that it has is not a number."""
        name = rate_of(type(objective))
        own = getattr(objective, name) if name else None
        if own is None:
            return cls(name, [], [objective], 0)
        values = {name: getattr(objective, name) for name in objective.declared_options()}
        made, refused = {own: objective}, {}
        for value in sorted({*wanted} - {own}):
            try:
                made[value] = type(objective)(**values | {name: value})
            except InputError as error:
                refused[f"{name} {value:g}"] = str(error)
        chosen = sorted(made)
        return cls(name, chosen, [made[value] for value in chosen], chosen.index(own), refused)


def rate_of(kind: type[Objective]) -> str:
    """The name of the first option of a class that is a share of the tokens; empty where there is none.

    >>> from clozelab import CausalLM, MaskedLM, SpanCorruption
    >>> from clozelab.display.pages.cards import rate_of
    >>> [rate_of(kind) for kind in (CausalLM, MaskedLM, SpanCorruption)]
    ['', 'mask_rate', 'noise_density']
    """
    for name, option in kind.declared_options().items():
        bounds = option.allowed
        if name not in Objective.declared_options() and isinstance(bounds, Bounds) and bounds.high == 1:
            return name
    return ""


def runs(row: Tensor) -> str:
    """The positions of a row (S,) bool that are true, as runs.

    >>> import torch
    >>> from clozelab.display.pages.cards import runs
    >>> runs(torch.tensor([True, True, False, True]))
    '0-1,3'
    """
    places = row.nonzero().flatten().tolist()
    known = {*places}
    starts = [one for one in places if one - 1 not in known]
    ends = [one for one in places if one + 1 not in known]
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends))


def page_data(cards: Sequence[Card], described: Sequence[dict[str, Any]], spaces: bool, **more: Any) -> dict[str, Any]:
    """What a page knows besides its objectives: how ids are written, and what the signs mean."""
    tokenizer = cards[0].tokenizer
    ids = sorted(set[int]().union(*(card.seen.ids for card in cards)))
    names = dict(zip(ids, token_texts(tokenizer, ids, spaces=spaces)))
    special = {*tokenizer.special.all}
    seen = Seen(*(set().union(*(getattr(card.seen, name) for card in cards)) for name in ("ids", "cells", "labels")))
    left_out = dict.fromkeys(one for card in cards for one in card.left_out)
    return {
        "names": {str(one): name for one, name in names.items()},
        "special": [one for one in ids if one in special],
        "mask": tokenizer.special.mask,
        "objectives": [*described],
        "legend": [[sign, meaning] for sign, _, meaning in legend(tokenizer, seen) if sign not in ("·", HIDING)],
        "left_out": [*left_out],
        **more,
    }
