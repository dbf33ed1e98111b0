"""What kind of batch is this? From its keys, its shape, and what became of the texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...data import IGNORED, SpecialIds

KINDS = ("next-token", "masked", "spans", "prefix", "weighted", "middle", "blanks", "other")
"""The kinds of batches, by their form: weighted are hidden tokens with weights and a count, middle is a text whose
middle is moved to its end, blanks one of which several spans are, and other is what none of the checks knows."""

MIDDLE_ROLES = ("fim_prefix", "fim_suffix", "fim_middle", "fim_end")


def kind_of(batch: Mapping[str, Any], texts: Tensor, special: SpecialIds) -> str:
    """The kind of the batch of some texts (B, T), all of one length and without special ids."""
    if not isinstance(batch, Mapping) or not all(isinstance(batch.get(k), Tensor) for k in ("input_ids", "labels")):
        return "other"
    inputs, labels, length = batch["input_ids"], hidden_labels(batch), texts.shape[1]
    if inputs.dim() != 2 or labels.dim() != 2 or len(inputs) != len(texts):
        return "other"
    if "decoder_input_ids" in batch or inputs.shape != labels.shape:
        return "spans" if _any_of(inputs, special.sentinels) else "other"
    if all(role in special.roles for role in MIDDLE_ROLES) and _any_of(inputs, [special[r] for r in MIDDLE_ROLES]):
        return "middle"
    if "span_end" in special.roles and _any_of(inputs, [special["span_end"]]):
        return "blanks"
    if torch.equal(inputs, texts[:, :-1]) and torch.equal(labels, texts[:, 1:]):
        return "next-token"  # x and y, one place on
    inputs, labels = _unpadded(inputs, labels, length, special)
    if inputs is None or labels is None:
        return "other"
    untouched = torch.equal(inputs, texts)
    if "reading_rank" in batch:
        return "prefix" if untouched and _prefixes(labels) else "other"
    if untouched:
        return "next-token" if (labels != IGNORED).float().mean() > 0.9 and _of_the_text(labels, texts) else "other"
    if "weights" in batch and "count" in batch:
        return "weighted"
    whole = (labels != IGNORED).float().mean(1) > 0.9
    whole &= (inputs == texts).all(1)  # rows in which nothing is hidden, among others
    in_place = ((labels == IGNORED) | (labels == texts)).float().mean() > 0.5
    hides = special.mask is not None and _any_of(inputs, [special.mask])
    return "masked" if (in_place or hides) and not bool(whole.any()) and "weights" not in batch else "other"


def hidden_labels(batch: Mapping[str, Any]) -> Tensor:
    """The labels, without those of tokens that are not hidden and of which it is only asked whether they were replaced:
    by ELECTRA's `sampling_noise` an id is drawn in the place of each hidden token."""
    labels, noise = batch["labels"], batch.get("sampling_noise")
    return labels if noise is None else labels.masked_fill(noise == 0, IGNORED)


def _unpadded(inputs: Tensor, labels: Tensor, length: int, special: SpecialIds) -> tuple[Tensor | None, Tensor | None]:
    """Inputs and labels (B, length) of texts of one length, on whichever side they are padded."""
    extra = inputs.shape[1] - length
    if extra < 0:
        return None, None
    if bool((inputs[:, length:] == special.pad).all()):
        return inputs[:, :length], labels[:, :length]
    if bool((inputs[:, :extra] == special.pad).all()):
        return inputs[:, extra:], labels[:, extra:]
    return None, None


def _prefixes(labels: Tensor) -> bool:
    """Whether most rows have one run of labels, behind some tokens without."""
    here = (labels != IGNORED).int()
    begins = here.diff(dim=1).clamp(min=0).sum(1)
    return float(((begins == 1) & (here[:, 0] == 0)).double().mean()) > 0.5


def _of_the_text(labels: Tensor, texts: Tensor) -> bool:
    """Whether most labels are tokens of the texts, at their places or near, or of the neighbour's by mistake."""
    return any(
        float((labels == texts.roll((places, rows), (1, 0))).double().mean()) > 0.5
        for places in range(-3, 4)
        for rows in (0, 1, -1)
    )


def _any_of(ids: Tensor, some: Any) -> bool:
    return bool(torch.isin(ids, torch.tensor([*some], dtype=torch.int64)).any())
