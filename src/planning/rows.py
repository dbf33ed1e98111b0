"""What an objective makes of a row of text: how much is read, said and paid."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..checks import check_int, check_type
from ..data import SpecialIds
from ..errors import InputError
from ..objectives import Objective


@dataclass(frozen=True)
class Row:
    """The lengths of one row, in tokens; every row of a packed corpus has the same.

    >>> from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption
    >>> row_of(SpanCorruption(), 512)
    Row(text=568, read=512, said=114, offered=114, paid=114, sentinels=28)
    >>> row_of(CausalLM(), 512).paid, row_of(MaskedLM(), 512).paid
    (511, 77)
    """

    text: int
    """Tokens of raw text that the row is made of."""
    read: int
    """Tokens that the model's first stack reads: T, or S of an encoder-decoder."""
    said: int
    """Tokens that a decoder reads beside an encoder: T; 0 where there is none."""
    offered: int
    """Outputs that could be paid for."""
    paid: int
    """Outputs that are: the only ones that are projected onto the vocabulary."""
    sentinels: int
    """Sentinels that stand in the inputs: a tokenizer must have reserved as many."""


def row_of(objective: Objective, length: int) -> Row:
    """A row of `length` input tokens, as the objective's own collator makes it of ordinary text.

    Nothing is told twice: one row is corrupted, and its lengths are read from the batch. They are those of every row
    as long as the text has no special ids (masked LM never hides an end of text) and the scheme hides a fixed number,
    as ours but `Bernoulli` do.

    >>> from clozelab.objectives import MaskedLM
    >>> row_of(MaskedLM(rate=0.4), 128)
    Row(text=128, read=128, said=0, offered=128, paid=51, sentinels=0)

    Raises `InputError` for a length that the objective cannot use.
    """
    check_type(objective, Objective, "the objective")
    if not 1 <= check_int(length, "length") <= 2**20:
        raise InputError(f"length must be a whole number from 1 to 2^20, got {length!r}")
    text = objective.source_length(length)
    sentinels = range(2 * text + 2, text + 2, -1)
    special = SpecialIds(vocab_size=2 * text + 3, pad=0, eos=1, mask=2, sentinels=sentinels)
    batch = objective.collator(special).block(torch.arange(3, text + 3)[None], example_ids=[0])
    paid = objective.paid(batch)
    if not bool(paid.any()):
        raise InputError(
            f"rows of {length} input tokens leave the {objective.name} objective nothing to predict: choose a greater "
            "length"
        )
    said = batch["decoder_input_ids"].shape[1] if "decoder_input_ids" in batch else 0
    hidden = int((batch["input_ids"] >= text + 3).sum()) if said else 0
    return Row(text, batch["input_ids"].shape[1], said, paid.numel(), int(paid.sum()), hidden)
