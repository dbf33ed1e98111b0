"""Checks of any collator: padding is known as such, and no token of a text is lost."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from ...data import IGNORED
from ..report import FAULT, NOT_CHECKED, NOTE, OK, Finding, percent, table
from .trial import CollatorTrial

WHY = "the model would read padding as text, or learn to write it"


def padding(trial: CollatorTrial) -> Finding:
    """The mask has as many tokens as the text, at its place; behind them no label counts."""
    texts = trial.texts(9, 24, 5, 16, 20, 12, seed=21)
    if trial.kind == "other":
        return Finding(NOT_CHECKED, "how many tokens a text becomes is not known of a batch of this kind")
    batch = trial.batch(texts)
    width = batch["input_ids"].shape[1]
    mask: Tensor | None = batch.get("attention_mask")
    for b, text in enumerate(texts):
        read, labels = batch["input_ids"][b], batch["labels"][b]
        n, answers = _alone(trial, text) if trial.kind in ("spans", "middle", "blanks") else (len(text), len(text))
        if trial.kind == "next-token" and width < max(map(len, texts)):  # the last token is in the labels alone
            n, text = len(text) - 1, text[:-1]
        if n is None:
            continue
        here = (
            _place(read, text, n, width) if trial.kind not in ("spans", "middle", "blanks") else torch.arange(width) < n
        )
        if mask is not None and not torch.equal(mask[b] != 0, here):
            return Finding(
                FAULT,
                f"the attention mask of a text of {n} tokens in a row of {width} is of other places",
                table(read=read, attention_mask=mask[b]),
                WHY,
            )
        if labels.shape == read.shape and trial.kind != "spans":
            wrong = (labels != IGNORED) & ~here
        else:
            wrong = (labels != IGNORED) & (torch.arange(len(labels)) >= (answers or 0))
        if bool(wrong.any()):
            return Finding(FAULT, f"{int(wrong.sum())} labels stand at padding", table(read=read, labels=labels), WHY)
    if mask is None:
        return Finding(
            NOTE, "no label stands at padding; there is no attention_mask, and a model reads padding as text"
        )
    return Finding(OK, "the attention mask is of the tokens, and no label stands at padding")


def _place(read: Tensor, text: list[int], n: int, width: int) -> Tensor:
    """(width,) bool: on whichever side the row is padded, the places that agree with the text more often."""
    original = torch.tensor(text)[:width]
    n = len(original)
    left, right = int((read[:n] == original).sum()), int((read[width - n :] == original).sum())
    return torch.arange(width) < n if left >= right else torch.arange(width) >= width - n


def _alone(trial: CollatorTrial, text: list[int]) -> tuple[int | None, int | None]:
    """How many inputs and labels a text becomes by itself, or None where its end looks like padding."""
    batch, pad = trial.batch([text]), trial.special.pad
    if pad == trial.special.eos:
        return None, None
    read, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    while read and read[-1] == pad:
        read.pop()
    while labels and labels[-1] in (pad, IGNORED):
        labels.pop()
    return len(read), len(labels)


def recovered(trial: CollatorTrial) -> Finding:
    """Every token of a text stands in the inputs or in the labels."""
    texts = trial.texts(*[40, 24] * 8, seed=22)
    batch = trial.batch(texts)
    total = lost = 0
    example = ""
    for b, text in enumerate(texts):
        read, labels = (Counter(batch[key][b].tolist()) for key in ("input_ids", "labels"))
        missing = Counter(text) - (read + labels)
        missing.pop(trial.special.eos, None)
        total, lost = total + len(text), lost + missing.total()
        if missing and not example:
            example = table(text=text[:24]) + "\n" + table(read=batch["input_ids"][b, :24])
    if not lost:
        return Finding(OK, "every token of a text stands in the inputs or in the labels")
    found = f"{percent(lost / total)} of the tokens stand neither in the inputs nor in the labels"
    if trial.kind == "other":
        return Finding(NOT_CHECKED, f"{found}: is that meant?", example)
    return Finding(FAULT, found, example, "this part of a text is never learned: is it cut off, or replaced for good?")
