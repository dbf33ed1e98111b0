"""The loss on held-out text, with masks that never change, and what it must beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..checks import check_int, check_same_shape, check_tensor, check_type
from ..data import IGNORED, Blocks, Collator
from ..errors import InputError
from ..models import eval_mode
from ..objectives import Loss, Objective

EVALUATION_EPOCH = -1
"""The epoch of the noise of held-out examples: one that training never reaches."""


def fixed_batches(
    blocks: Blocks, collator: Collator, *, rows: int = 256, batch_size: int = 32
) -> list[dict[str, Tensor]]:
    """The first `rows` blocks, corrupted once and for all: the same masks at every evaluation of every run."""
    check_type(blocks, Blocks, "the blocks", "packed.blocks(length) makes them")
    check_type(collator, Collator, "the collator", "objective.collator(special) makes one")
    if check_int(rows, "rows") < 1 or check_int(batch_size, "batch_size") < 1:
        raise InputError(f"expected rows and batch_size of at least 1, got {rows} and {batch_size}")
    n = min(rows, len(blocks))
    return [
        collator.block(blocks.take(ids), ids, epoch=EVALUATION_EPOCH)
        for ids in (list(range(start, min(start + batch_size, n))) for start in range(0, n, batch_size))
    ]


@dataclass(frozen=True)
class HeldOut:
    """A held-out loss: cross-entropy alone, whatever else the training loss adds."""

    nats: float
    """Per paid position."""
    count: int
    """Paid positions."""
    positions: int
    """Positions that the model reads, without padding: encoder and decoder together."""
    bits_per_byte: float | None = None
    """Where the loss is the likelihood of the text (causal LM), so that tokenizers can be compared."""

    @property
    def share_paid(self) -> float:
        """Paid positions among those read."""
        return self.count / max(self.positions, 1)


def evaluate(
    objective: Objective,
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    byte_lengths: Tensor | None = None,
    pay: Callable[[Mapping[str, Tensor]], Loss] | None = None,
) -> HeldOut:
    """The loss of a model over batches: one sum, one count, one division.

    `byte_lengths` (V,), the UTF-8 bytes of each token, adds bits per byte where the objective's loss is the
    likelihood of the text. The model is left in the mode it was in. `pay(batch)` replaces `objective(model, batch)`,
    where something is wrapped around both.
    """
    check_type(objective, Objective, "the objective")
    device = next(check_type(model, nn.Module, "the model").parameters()).device
    if not isinstance(batches, Iterable):
        raise InputError(f"expected batches to evaluate on, got {type(batches).__name__}")
    total = Loss(torch.zeros(()), torch.tensor(0))
    positions, bytes_paid = 0, 0
    for batch in batches:
        positions += positions_read(batch)
        with eval_mode(model):
            moved = {key: value.to(device) for key, value in batch.items()}
            loss = objective(model, moved) if pay is None else pay(moved)
        total = total + Loss(loss.terms["cross_entropy"].cpu(), loss.count.cpu())
        if byte_lengths is not None:
            _, labels = objective.align(batch["labels"], batch["labels"])
            said = labels[labels != IGNORED]
            if said.numel() and int(said.max()) >= len(check_tensor(byte_lengths, "byte_lengths", "(V)")):
                raise InputError(
                    f"expected the bytes of each id, but there are {len(byte_lengths)} and id {said.max()}"
                )
            bytes_paid += int(byte_lengths[said].sum())
    if positions == 0:
        raise InputError("expected at least one batch to evaluate on, got none")
    bits = float(total.sum) / math.log(2) / bytes_paid if objective.is_likelihood and bytes_paid else None
    return HeldOut(float(total.mean), int(total.count), positions, bits)


def positions_read(batch: Mapping[str, Tensor]) -> int:
    """The positions of a batch that a model computes on: encoder and decoder together, without padding."""
    if not isinstance(batch, Mapping) or not {"attention_mask", "labels"} <= batch.keys():
        raise InputError(
            "expected a batch with 'attention_mask' and 'labels': did it come from objective.collator(...)?"
        )
    read = int(batch["attention_mask"].sum())
    return read + (int((batch["labels"] != IGNORED).sum()) if "decoder_input_ids" in batch else 0)


def label_counts(objective: Objective, batches: Iterable[Mapping[str, Tensor]], vocab_size: int) -> Tensor:
    """How often each id is what a paid position must say: (V,) int64."""
    check_type(objective, Objective, "the objective")
    counts = torch.zeros(check_int(vocab_size, "vocab_size", 1), dtype=torch.int64)
    for batch in batches:
        _, labels = objective.align(batch["labels"], batch["labels"])
        counts += torch.bincount(labels[labels != IGNORED], minlength=vocab_size)
    return counts


def unigram_loss(seen: Tensor, heldout: Tensor) -> float:
    """Nats per paid position of a guess by frequency alone, which reads nothing.

    `seen` (V,) counts labels in training text, `heldout` (V,) in held-out text. Each id is taken to have been seen
    once more than it was (Laplace), so that the loss is finite. A model that does not beat this has learned nothing
    from what it reads.

    >>> unigram_loss(torch.tensor([0, 0]), torch.tensor([5, 5]))  # nothing seen: ln 2
    0.6931471805599453
    """
    check_same_shape(seen=check_tensor(seen, "seen", "(V)"), heldout=check_tensor(heldout, "heldout", "(V)"))
    smoothed = seen.double() + 1
    log_probabilities = (smoothed / smoothed.sum()).log()
    return float(-(heldout * log_probabilities).sum() / heldout.sum().clamp(min=1))
