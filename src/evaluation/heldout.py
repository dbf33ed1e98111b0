"""The loss on held-out text, with masks that never change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from torch import Tensor, nn

from ..checks import check_int, check_type
from ..data import IGNORED, Batch, Blocks, Collator
from ..errors import InputError
from ..models import eval_mode
from ..objectives import Likelihood, Loss, Objective, Part
from .breakdown import Bin, Split

EVALUATION_EPOCH = -1
"""The epoch of the noise of held-out examples: one that training never reaches."""


def fixed_batches(blocks: Blocks, collator: Collator, *, rows: int = 256, batch_size: int = 32) -> list[Batch]:
    """The first `rows` blocks, corrupted once and for all: the same masks at every evaluation of every run.

    Their progress is 1: an objective that changes during training is evaluated as it is at the end.

    Raises `InputError` for `rows` or a `batch_size` below 1.
    """
    check_type(blocks, Blocks, "the blocks", "packed.blocks(length) makes them")
    check_type(collator, Collator, "the collator", "objective.collator(special) makes one")
    if check_int(rows, "rows") < 1 or check_int(batch_size, "batch_size") < 1:
        raise InputError(f"expected rows and batch_size of at least 1, got {rows} and {batch_size}")
    n = min(rows, len(blocks))
    return [
        collator.block(blocks.take(ids), ids, epoch=EVALUATION_EPOCH, progress=1.0)
        for ids in (list(range(start, min(start + batch_size, n))) for start in range(0, n, batch_size))
    ]


@dataclass(frozen=True)
class PartLoss:
    """One part of a held-out loss."""

    mean: float
    """Nats per count."""
    count: int
    """What the sum was divided by."""
    weight: float = 1.0
    """In the total."""


@dataclass(frozen=True)
class HeldOut:
    """A held-out loss, without label smoothing and z-loss."""

    nats: float
    """Of the total: the sum over parts of weight x mean."""
    parts: dict[str, PartLoss]
    positions: int
    """Positions that the model reads, without padding: encoder and decoder together."""
    loss_positions: int
    """Of the first output: its positions in the loss."""
    likelihood: Likelihood = Likelihood.NONE
    """Whether `bits_per_byte` is exact or an upper bound."""
    bits_per_byte: float | None = None
    """Of the first part, where its sum is the likelihood of the text or bounds it: comparable between tokenizers."""
    breakdown: dict[str, dict[int | str, float]] = field(default_factory=dict)
    """By each name of `Objective.breakdown`, the mean nats of the rows, or positions, of each kind or number."""
    bins: dict[str, list[Bin]] = field(default_factory=dict)
    """Of numbers, the same by at most 6 ranges, which hold equally many of them."""
    corpora: dict[str, float] = field(default_factory=dict)
    """Nats on the held-out text of each corpus of a mixture."""
    has_bytes: bool = True
    """False for token ids, which stand for no text."""

    @property
    def by_kind(self) -> str:
        """The breakdown in one line; empty without one.

        >>> from clozelab.evaluation import HeldOut, PartLoss
        >>> parts = {"logits": PartLoss(0.9, 100)}
        >>> HeldOut(0.9, parts, 200, 100, breakdown={"hidden": {"copied": 0.05, "hidden": 2.89}}).by_kind
        'copied 0.050, hidden 2.890'
        """
        lines = []
        for name, means in self.breakdown.items():
            bins = f"{name} {', '.join(map(str, self.bins[name]))}" if name in self.bins else ""
            lines.append(bins or ", ".join(f"{kind} {nats:.3f}" for kind, nats in means.items()))
        return "; ".join(lines)

    @property
    def weighted_parts(self) -> str:
        """The parts that the loss is the sum of, each with its weight; empty for a loss of one part.

        >>> from clozelab.evaluation import HeldOut, PartLoss
        >>> parts = {"generator": PartLoss(5.4, 15), "discriminator": PartLoss(0.448, 127, 50.0)}
        >>> HeldOut(27.8, parts, 127, 15).weighted_parts
        'generator 5.400 + 50 x discriminator 0.448'
        """
        if len(self.parts) == 1:
            return ""
        terms = (
            f"{'' if part.weight == 1 else f'{part.weight:.4g} x '}{name} {part.mean:.3f}"
            for name, part in self.parts.items()
        )
        return " + ".join(terms)

    @property
    def by_part(self) -> str:
        """The same for a message, behind "nats"."""
        return self.weighted_parts and f": {self.weighted_parts}, each per its own count"

    @property
    def count(self) -> int:
        """The count of the first part."""
        return next(iter(self.parts.values())).count

    @property
    def per_byte(self) -> str:
        """ ", 1.234 bits per byte" for a message, "at most" where it is a bound, "not defined" where the bytes are not
        known; empty for a loss that is no likelihood. Of several parts it names the first, whose bits they are."""
        if self.bits_per_byte is None:
            return "" if self.likelihood is Likelihood.NONE or not self.has_bytes else ", bits per byte not defined"
        bound = "at most " if self.likelihood is Likelihood.BOUND else ""
        of = f" of {next(iter(self.parts))}" if len(self.parts) > 1 else ""
        return f", {bound}{self.bits_per_byte:.3f} bits per byte{of}"

    @property
    def loss_share(self) -> float:
        """Positions in the loss among those that the model reads."""
        return self.loss_positions / max(self.positions, 1)


def evaluate(
    objective: Objective,
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    scored_bytes: int | None = None,
    corpora: Sequence[str] = (),
    loss_fn: Callable[[Batch], Loss] | None = None,
) -> HeldOut:
    """The loss of a model over batches, from one forward pass of each: sums and counts are added, and divided once.

    `scored_bytes`, the UTF-8 bytes of the text that is scored, adds bits per byte where the objective's loss is a
    likelihood or a bound of it; the function of that name counts them, and finds 0 for token ids without a text.
    `corpora` names the corpus of each batch, for the loss of each corpus. The model is left in the mode it was in.
    `loss_fn(batch)` replaces `objective(model, batch)`, where something is wrapped around both.

    >>> import torch
    >>> from clozelab import CausalLM
    >>> from clozelab.evaluation import evaluate
    >>> text = torch.arange(8)[None]
    >>> batch = {"input_ids": text, "attention_mask": torch.ones_like(text), "labels": text}
    >>> model = CausalLM().build_model(8, "tiny", d_model=16, n_layers=1, n_heads=1)
    >>> evaluate(CausalLM(), model, [batch]).count
    7

    Raises `InputError` where there is no batch, and for `scored_bytes` that is no whole number from 0.
    """
    check_type(objective, Objective, "the objective")
    check_type(model, nn.Module, "the model")
    if not isinstance(batches, Iterable):
        raise InputError(f"expected batches to evaluate on, got {type(batches).__name__}")
    if scored_bytes is not None:
        check_int(scored_bytes, "scored_bytes", 0)
    scored = [score_batch(objective, model, batch, loss_fn) for batch in batches]
    return add_scores(objective, scored, scored_bytes=scored_bytes, corpora=corpora)


@dataclass(frozen=True)
class BatchScore:
    """What one batch adds to a held-out loss: numbers on the processor, which can be sent to another process."""

    loss: Loss
    positions: int
    loss_positions: int
    splits: dict[str, Split]
    """By each name of `Objective.breakdown`."""


def score_batch(
    objective: Objective,
    model: nn.Module,
    batch: Mapping[str, Tensor],
    loss_fn: Callable[[Batch], Loss] | None = None,
) -> BatchScore:
    """One forward pass of a batch; see `evaluate`."""
    read, device = positions_read(batch), next(model.parameters()).device
    here = {key: value.to(device) for key, value in batch.items()}
    with eval_mode(model), cross_entropy_only(objective):
        loss = (objective(model, here) if loss_fn is None else loss_fn(here)).detach()
    splits = {}
    for name, values in objective.breakdown(here).items():
        splits[name] = Split()
        splits[name].add(values, loss, objective, here)
    in_loss = int(next(iter(objective.targets(here).values())).loss_mask.sum())
    sums = {name: Part(part.sum.cpu(), part.count.cpu(), part.weight) for name, part in loss.items()}
    return BatchScore(Loss(sums), read, in_loss, splits)


def add_scores(
    objective: Objective, scored: Sequence[BatchScore], *, scored_bytes: int | None = None, corpora: Sequence[str] = ()
) -> HeldOut:
    """The held-out loss that batches have together, in their order: sums and counts are added, and divided once.

    Raises `InputError` for no batch.
    """
    if not scored:
        raise InputError("expected at least one batch to evaluate on, got none")
    total = add_losses(one.loss for one in scored)
    splits = {name: Split() for name in scored[0].splits}
    for one in scored:
        for name, split in one.splits.items():
            splits[name].merge(split)
    of_corpus: dict[str, list[Loss]] = {}
    for name, one in zip(corpora, scored):
        of_corpus.setdefault(name, []).append(one.loss)
    first, has_likelihood = next(iter(total.values())), objective.likelihood is not Likelihood.NONE
    return HeldOut(
        float(total.mean),
        {name: PartLoss(float(part.mean), int(part.count), part.weight) for name, part in total.items()},
        sum(one.positions for one in scored),
        sum(one.loss_positions for one in scored),
        objective.likelihood,
        float(first.sum) / math.log(2) / scored_bytes if scored_bytes and has_likelihood else None,
        {
            name: {objective.kind(name, value): nats for value, nats in split.means().items()}
            for name, split in splits.items()
        },
        {name: split.bins() for name, split in splits.items() if name not in objective.kinds},
        {name: float(add_losses(losses).mean) for name, losses in of_corpus.items()},
        scored_bytes != 0,
    )


def add_losses(losses: Iterable[Loss]) -> Loss:
    """Sums with sums, counts with counts."""
    return reduce(add, losses)


@contextmanager
def cross_entropy_only(objective: Objective) -> Iterator[None]:
    """Inside, the objective's loss has no label smoothing and no z-loss."""
    before = objective.label_smoothing, objective.z_loss
    objective.label_smoothing = objective.z_loss = 0.0
    try:
        yield
    finally:
        objective.label_smoothing, objective.z_loss = before


def positions_read(batch: Mapping[str, Tensor]) -> int:
    """The positions of a batch that a model computes on: encoder and decoder together, without padding."""
    if not isinstance(batch, Mapping) or "attention_mask" not in batch:
        raise InputError("expected a batch with 'attention_mask': did it come from objective.collator(...)?")
    read = int(batch["attention_mask"].sum())
    return read + (int((batch["labels"] != IGNORED).sum()) if "decoder_input_ids" in batch else 0)
