"""The loss on held-out text, with masks that never change, and the unigram baseline that a model must beat."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..checks import check_int, check_same_shape, check_tensor, check_type
from ..data import IGNORED, Batch, Blocks, Collator
from ..data.special_ids import MAX_IDS
from ..errors import InputError
from ..models import eval_mode
from ..objectives import Likelihood, Loss, Objective

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


BINS = 6
"""Of a breakdown, at most."""


class Bin(NamedTuple):
    """The rows, or positions, whose value of a breakdown lies in a range."""

    low: int
    high: int
    nats: float
    """Nats per count of these rows together."""

    def __str__(self) -> str:
        return f"{self.low}{'' if self.low == self.high else f'..{self.high}'} {self.nats:.3f}"


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
    device = next(check_type(model, nn.Module, "the model").parameters()).device
    if not isinstance(batches, Iterable):
        raise InputError(f"expected batches to evaluate on, got {type(batches).__name__}")
    if scored_bytes is not None:
        check_int(scored_bytes, "scored_bytes", 0)
    total: Loss | None = None
    positions = loss_positions = 0
    splits: dict[str, _Split] = {}
    by_corpus: dict[str, Loss] = {}
    for number, batch in enumerate(batches):
        positions += positions_read(batch)
        here = {key: value.to(device) for key, value in batch.items()}
        with eval_mode(model), cross_entropy_only(objective):
            loss = (objective(model, here) if loss_fn is None else loss_fn(here)).detach()
        total = loss if total is None else total + loss
        if corpora:
            name = corpora[number]
            by_corpus[name] = by_corpus[name] + loss if name in by_corpus else loss
        loss_positions += int(next(iter(objective.targets(here).values())).loss_mask.sum())
        for name, values in objective.breakdown(here).items():
            splits.setdefault(name, _Split()).add(values, loss, objective, here)
    if total is None:
        raise InputError("expected at least one batch to evaluate on, got none")
    first, has_likelihood = next(iter(total.values())), objective.likelihood is not Likelihood.NONE
    return HeldOut(
        float(total.mean),
        {name: PartLoss(float(part.mean), int(part.count), part.weight) for name, part in total.items()},
        positions,
        loss_positions,
        objective.likelihood,
        float(first.sum) / math.log(2) / scored_bytes if scored_bytes and has_likelihood else None,
        {
            name: {objective.kind(name, value): nats for value, nats in split.means().items()}
            for name, split in splits.items()
        },
        {name: split.bins() for name, split in splits.items() if name not in objective.kinds},
        {name: float(loss.mean) for name, loss in by_corpus.items()},
        scored_bytes != 0,
    )


@contextmanager
def cross_entropy_only(objective: Objective) -> Iterator[None]:
    """Inside, the objective's loss has no label smoothing and no z-loss."""
    before = objective.label_smoothing, objective.z_loss
    objective.label_smoothing = objective.z_loss = 0.0
    try:
        yield
    finally:
        objective.label_smoothing, objective.z_loss = before


class _Split:
    """Sums and counts of the rows, or positions, of each value, by part."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, str], tuple[float, float, int]] = {}  # (value, part) -> (weight, nats, count)

    def add(self, values: Tensor, loss: Loss, objective: Objective, batch: Batch) -> None:
        targets = objective.targets(batch)
        for name, part in loss.items():
            if part.costs is None or part.row_sums is None or name not in targets:
                raise InputError(f"{objective.name} has a breakdown, but its part {name} has no loss by row")
            if values.dim() == 1:
                each = values, part.row_sums, targets[name].row_counts
            else:
                here = targets[name].loss_mask
                each = values[here], part.costs[here], torch.ones_like(values[here])
            each = [one.cpu() for one in each]  # not every device has float64
            for value in each[0].unique().tolist():
                chosen = each[0] == value
                _, before, counted = self.sums.get((value, name), (part.weight, 0.0, 0))
                nats, count = float(each[1][chosen].double().sum()), int(each[2][chosen].sum())
                self.sums[value, name] = part.weight, before + nats, counted + count

    def means(self) -> dict[int, float]:
        """The mean of the total by value, ascending."""
        values = sorted({value for value, _ in self.sums})
        return dict(zip(values, self._means([[value] for value in values])))

    def bins(self) -> list[Bin]:
        """The mean of the total by ranges of values."""
        values = sorted({value for value, _ in self.sums})
        n = min(BINS, len(values))
        ranges = [values[len(values) * k // n : len(values) * (k + 1) // n] for k in range(n)]
        return [Bin(few[0], few[-1], nats) for few, nats in zip(ranges, self._means(ranges))]

    def _means(self, ranges: list[list[int]]) -> list[float]:
        """The mean of the total over the rows of each range: of each part by its own count, weighted, then added."""
        parts = {part: weight for (_, part), (weight, _, _) in self.sums.items()}
        means = []
        for values in ranges:
            mean = 0.0
            for part, weight in parts.items():
                of_part = [self.sums[value, part] for value in values]
                mean += weight * sum(nats for _, nats, _ in of_part) / max(sum(count for *_, count in of_part), 1)
            means.append(mean)
        return means


def positions_read(batch: Mapping[str, Tensor]) -> int:
    """The positions of a batch that a model computes on: encoder and decoder together, without padding."""
    if not isinstance(batch, Mapping) or "attention_mask" not in batch:
        raise InputError("expected a batch with 'attention_mask': did it come from objective.collator(...)?")
    read = int(batch["attention_mask"].sum())
    return read + (int((batch["labels"] != IGNORED).sum()) if "decoder_input_ids" in batch else 0)


def label_counts(objective: Objective, batches: Iterable[Batch], vocab_size: int) -> dict[str, Tensor]:
    """How often each id is a target, by part: (V,) float64, each time counted with the weight of its position."""
    check_type(objective, Objective, "the objective")
    check_int(vocab_size, "vocab_size", 1, MAX_IDS)
    totals: dict[str, Tensor] = {}
    for batch in check_type(batches, Iterable, "the batches"):
        check_type(batch, Mapping, "each batch")
        for name, target in objective.targets(batch).items():
            ids, shares = target.soft_labels or (target.labels[..., None], torch.ones_like(target.labels[..., None]))
            here = target.loss_mask
            weights = shares[here].cpu().double()  # (N, K)
            if target.weights is not None:
                weights = weights * target.weights[here, None].cpu()
            counts = torch.bincount(ids[here].flatten().cpu(), weights=weights.flatten(), minlength=vocab_size)
            totals[name] = totals.get(name, 0) + counts
    return totals


def unigram_loss(seen: Tensor, heldout: Tensor, count: float | None = None) -> float:
    """Nats per target of a prediction from frequencies alone, which reads nothing.

    `seen` (V,) counts labels in training text, `heldout` (V,) in held-out text, both with their weights; `count` is
    what the sum is divided by, the sum of `heldout` where None. Each id is taken to have been seen once more than it
    was (Laplace), so that the loss is finite. A model that does not beat this has learned nothing from what it reads.

    >>> import torch
    >>> from clozelab.evaluation import unigram_loss
    >>> unigram_loss(torch.tensor([0, 0]), torch.tensor([5, 5]))  # nothing seen: ln 2
    0.6931471805599453
    """
    check_same_shape(seen=check_tensor(seen, "seen", "(V)"), heldout=check_tensor(heldout, "heldout", "(V)"))
    smoothed = seen.double() + 1
    log_probabilities = (smoothed / smoothed.sum()).log()
    divisor = float(heldout.sum()) if count is None else count
    return float(-(heldout * log_probabilities).sum()) / max(divisor, 1.0)


def unigram_baseline(objective: Objective, seen: Iterable[Batch], heldout: Iterable[Batch], vocab_size: int) -> float:
    """Nats of the total loss, on held-out batches, of a model that knows nothing but how often each label is seen.

    Where it draws ids itself, it draws them by these frequencies, and knows how often that replaces one.
    """
    heldout, seen = _some(heldout, "held-out batches"), _some(seen, "batches")
    trained = label_counts(objective, seen, vocab_size)
    tested = label_counts(objective, heldout, vocab_size)
    counts = [objective.counts(batch) for batch in heldout]
    targets = objective.targets(heldout[0])
    total, first = 0.0, next(iter(tested))
    for name in tested:
        count = float(sum(float(one[name]) for one in counts))
        if targets[name].detects_replaced:
            nats = _replaced_share_entropy(trained[first], tested[first], count)
        else:
            nats = unigram_loss(trained[name], tested[name], count)
        total += targets[name].weight * nats
    return total


def _replaced_share_entropy(seen: Tensor, hidden: Tensor, count: float) -> float:
    """Nats per token of a guess that knows how many of `count` tokens are replaced, where hidden ones (V,) are drawn by
    the frequencies (V,) that were seen."""
    drawn = (seen.double() + 1) / (seen + 1).sum()
    share = torch.tensor([(hidden * (1 - drawn)).sum() / max(count, 1.0)], dtype=torch.float64)
    return float(-torch.xlogy(share, share) - torch.xlogy(1 - share, 1 - share))


def _some(batches: Iterable[Batch], what: str) -> list[Batch]:
    """The batches as a list; raises `InputError` where there is none."""
    found = list(batches)
    if not found:
        raise InputError(f"expected at least one of the {what}, got none")
    return found


def uniform_baseline(objective: Objective, heldout: Iterable[Batch], vocab_size: int) -> float:
    """Nats of the total loss of a model to which all ids are equally likely."""
    targets = objective.targets(_some(heldout, "held-out batches")[0])
    return sum(targets[name].weight * nats for name, nats in objective.uniform_values(vocab_size).items())
