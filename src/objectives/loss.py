"""A loss is parts of (weight, sum, count); every count is known before the forward pass, and the mean is taken once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import WHOLE, check_same_shape, check_tensor, check_type, is_whole, tracing
from ..data.examples import IGNORED
from ..errors import InputError
from ..models.language_model import Prediction
from .cross_entropy import SoftLabels, loss_terms, unembedded_terms

Counts = dict[str, Tensor]
"""What the sum of each part is divided by: scalars, by name."""


@dataclass(frozen=True)
class Target:
    """What one output of a model must predict, position by position; it follows from the batch alone."""

    labels: Tensor
    """(B, T), aligned with the output: position t of the output predicts labels[t]; -100 is not in the loss."""
    weights: Tensor | None = None
    """(B, T): of each position's loss; None: 1."""
    count: Tensor | None = None
    """(B,): what each row adds to the number that the sum is divided by; None: its labels that are not -100."""
    weight: float = 1.0
    """Of this part in the total."""
    detects_replaced: bool = False
    """Whether the labels are the ids of a text, and the output says where `Prediction.sampled` differs from them. So
    positions and count follow from the batch, though the classes depend on what the model draws."""
    soft_labels: SoftLabels | None = None
    """(B, T, K): the distributions that are predicted, where it is not the labels; those are then their likeliest ids,
    and say which positions are in the loss."""

    @property
    def loss_mask(self) -> Tensor:
        """(B, T) bool: the positions in the loss."""
        return self.labels.long() != IGNORED  # a narrow type may not hold -100

    @property
    def row_counts(self) -> Tensor:
        """(B,) int64; raises `InputError` for a count that is not one whole number a row."""
        check_tensor(self.labels, "labels", "(B, T)")
        if self.count is None:
            return self.loss_mask.sum(1)
        if not is_whole(self.count) or self.count.shape != self.labels.shape[:1]:
            raise InputError(
                f"expected a count ({len(self.labels)},) of whole numbers, one a row, got {self.count.dtype} of shape "
                f"{tuple(self.count.shape)}"
            )
        return self.count.long()

    def classes(self, prediction: Prediction) -> Tensor:
        """(B, T) int64: what the output must say, the labels, or 1 where a sampled id was replaced; -100 as they are.

        Raises `InputError` for labels that are no ids, and for an output of the other kind.
        """
        if not is_whole(self.labels):
            raise InputError(f"expected labels that are ids, or {IGNORED}, got {self.labels.dtype}")
        labels, sampled = self.labels.long(), prediction.sampled
        if self.detects_replaced != (sampled is not None):
            raise InputError(
                "expected an output that says of each sampled id whether it was replaced, Prediction(states, table, "
                "sampled), got one of ids"
                if sampled is None
                else "expected an output that predicts the labels, got one that says of sampled ids which were replaced"
            )
        if sampled is None:
            return labels
        check_same_shape(labels=labels, sampled=check_tensor(sampled, "the sampled ids", "(B, T)", WHOLE))
        return (sampled != labels).long().masked_fill(~self.loss_mask, IGNORED)

    def part(self, prediction: Prediction, label_smoothing: float = 0.0, z_loss: float = 0.0) -> Part:
        """The loss of a prediction, of which only the loss positions are projected onto the vocabulary.

        Inside torch.compile, torch.export and torch.func the number of loss positions is not known, and all positions
        are projected. Raises `InputError` for shapes that do not fit and labels outside the vocabulary.
        """
        labels, states, table = self.classes(prediction), prediction.states, prediction.table
        if states.dim() < 2 or states.shape[:-1] != labels.shape or not states.is_floating_point():
            raise InputError(
                f"expected outputs {('(B, T, V)', '(B, T, D)')[table is not None]} and labels (B, T), got "
                f"{tuple(states.shape)} {states.dtype} and {tuple(labels.shape)}: do labels and inputs come from the "
                "same batch?"
            )
        settings = label_smoothing, z_loss
        if tracing():
            return self._part_of_all_positions(prediction, labels, *settings)
        here = self.loss_mask
        states, labels = states[here], labels[here]  # (N, V) or (N, D), and (N,)
        weights = None if self.weights is None else self.weights[here]
        soft = self._soft_labels(here)  # (N, K)
        vocab_size = states.shape[-1] if table is None else len(table)
        for ids in (labels,) if soft is None else (labels, soft.ids):
            if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) < vocab_size):
                raise InputError(
                    f"labels must lie in 0 .. {vocab_size - 1} or be {IGNORED}, got {int(ids.min())} .. "
                    f"{int(ids.max())}: was the vocabulary grown after the model was made?"
                )
        wanted = labels if soft is None else soft
        if table is None:
            total, terms, costs = loss_terms(states, wanted, weights, *settings)
        else:
            total, terms, costs = unembedded_terms(states, table, wanted, weights, *settings)
        of_positions = torch.zeros(here.shape, dtype=costs.dtype, device=costs.device).masked_scatter_(here, costs)
        return Part(total, self.row_counts.sum(), self.weight, terms, of_positions)

    def _part_of_all_positions(self, prediction: Prediction, labels: Tensor, *settings: float) -> Part:
        """The same loss, without a shape that depends on values: each position has a cost, of weight 0 if ignored."""
        states, table = prediction.states, prediction.table
        logits = states if table is None else F.linear(states, table)  # (B, T, V)
        weights = self.loss_mask.to(logits.dtype) if self.weights is None else self.weights * self.loss_mask
        soft = self.soft_labels
        wanted = labels.clamp(min=0).flatten() if soft is None else SoftLabels(*(one.flatten(0, -2) for one in soft))
        total, terms, costs = loss_terms(logits.flatten(0, -2), wanted, weights.flatten(), *settings)
        return Part(total, self.row_counts.sum(), self.weight, terms, costs.view(labels.shape))

    def _soft_labels(self, here: Tensor) -> SoftLabels | None:
        """(N, K): those of the loss positions; raises `InputError` where they are no distributions."""
        if self.soft_labels is None:
            return None
        soft = SoftLabels(*(one[here] for one in self.soft_labels))
        off = (soft.probabilities.sum(1) - 1).abs() > 1e-4
        if bool(off.any()) or bool((soft.probabilities < 0).any()):
            raise InputError(
                f"expected soft labels whose probabilities are not negative and sum to 1, got sums from "
                f"{float(soft.probabilities.sum(1).min()):.4g} to {float(soft.probabilities.sum(1).max()):.4g}"
            )
        return soft


@dataclass
class Part:
    """One part of a loss: what is back-propagated, and the number it is divided by.

    It is not frozen: Lightning Fabric writes its fields, as it converts what a module returns.
    """

    sum: Tensor
    """Scalar, nats, all terms together."""
    count: Tensor
    """Scalar int64: loss positions, or what the objective counts instead."""
    weight: float = 1.0
    """Of this part's mean in the total."""
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """What `sum` is made of, detached, nats: `cross_entropy`, and `label_smoothing` and `z_loss` where asked for."""
    costs: Tensor | None = None
    """(B, T) nats, detached: what each position adds to `sum`; (B, 1) where it is known by row alone."""

    @property
    def mean(self) -> Tensor:
        """Nats per count; zero, and still differentiable, where there is nothing to predict."""
        return self.sum / self.count.clamp(min=1)

    @property
    def row_sums(self) -> Tensor | None:
        """(B,) nats, detached: what each row of the batch adds to `sum`; None for a sum of parts."""
        return None if self.costs is None else self.costs.sum(1)

    def __add__(self, other: Part) -> Part:
        terms = dict(self.terms)
        for name, term in other.terms.items():
            terms[name] = terms[name] + term if name in terms else term
        return Part(self.sum + other.sum, self.count + other.count, self.weight, terms)

    def detach(self) -> Part:
        """The same numbers without their graph."""
        return replace(self, sum=self.sum.detach())


class Loss(Mapping[str, Part]):
    """Named parts, each a sum and a count. `loss.mean` is the sum of weight x sum / count over the parts.

    Averages of averages are the most common mistake in accumulation: token losses [4] and [1, 1, 1] have the mean 1.75,
    not 2.5. So losses are added, sums with sums and counts with counts, and divided at the end:

    >>> import torch
    >>> from clozelab import Loss
    >>> one = Loss.single(torch.tensor(4.0), torch.tensor(1))
    >>> three = Loss.single(torch.tensor(3.0), torch.tensor(3))
    >>> (one + three).mean
    tensor(1.7500)

    Under accumulation, count first, then back-propagate each micro-batch's share of the whole step's mean:

        counts = total_counts(objective.counts(batch) for batch in micro_batches)
        for batch in micro_batches:
            objective(model, batch).over(counts).backward()
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self._parts = dict(parts)

    @classmethod
    def single(cls, total: Tensor, count: Tensor, terms: Mapping[str, Tensor] | None = None) -> Loss:
        """A loss of one part, named "logits"."""
        return cls({"logits": Part(total, count, terms=terms or {})})

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        parts = ", ".join(
            f"{name}: {float(part.mean.detach()):.4f} nats over {int(part.count)}"
            + (f", weight {part.weight:g}" if part.weight != 1 else "")
            for name, part in self.items()
        )
        return f"Loss({parts})"

    @property
    def mean(self) -> Tensor:
        """Nats: the sum over parts of weight x sum / count."""
        return self.over({name: part.count for name, part in self.items()})

    def over(self, counts: Mapping[str, Tensor]) -> Tensor:
        """The share of this loss in the mean of a whole step, whose counts are given: scalar, nats."""
        if counts.keys() != self.keys():
            raise InputError(
                f"expected the counts of {', '.join(self)}, got {', '.join(counts)}: of another objective?"
            )
        shares = [part.weight * part.sum / counts[name].clamp(min=1) for name, part in self.items()]
        return shares[0] if len(shares) == 1 else torch.stack(shares).sum()

    @property
    def sum(self) -> Tensor:
        """Nats of the only part; raises `InputError` where there are several, whose counts differ."""
        return self._only.sum

    @property
    def count(self) -> Tensor:
        """The count of the only part; raises `InputError` where there are several."""
        return self._only.count

    @property
    def terms(self) -> Mapping[str, Tensor]:
        """The terms of the only part; raises `InputError` where there are several."""
        return self._only.terms

    @property
    def _only(self) -> Part:
        if len(self) != 1:
            raise InputError(f"this loss has the parts {', '.join(self)}, each with a count of its own: name one")
        return next(iter(self.values()))

    def __add__(self, other: Loss) -> Loss:
        if not isinstance(other, Loss):
            return NotImplemented
        if other.keys() != self.keys():
            raise InputError(f"losses of {', '.join(self)} and of {', '.join(other)} cannot be added")
        return Loss({name: part + other[name] for name, part in self.items()})

    def __radd__(self, other: int) -> Loss:
        """So that `sum(losses)`, which begins with 0, works."""
        return self if other == 0 else NotImplemented

    def detach(self) -> Loss:
        """The same numbers without their graph."""
        return Loss({name: part.detach() for name, part in self.items()})

    def backward(self) -> None:
        """`loss.mean.backward()`."""
        self.mean.backward()

    def item(self) -> float:
        """`float(loss.mean)`."""
        return float(self.mean.detach())

    def __float__(self) -> float:
        return float(self.mean.detach())


def total_counts(counts: Iterable[Counts]) -> Counts:
    """The counts of several batches together: what every micro-batch of a step is divided by.

    >>> import torch
    >>> from clozelab.objectives import total_counts
    >>> total_counts([{"logits": torch.tensor(3)}, {"logits": torch.tensor(1)}])
    {'logits': tensor(4)}
    """
    every: Sequence[Mapping[str, Tensor]] = [check_type(one, Mapping, "each of the counts") for one in counts] or [{}]
    first, *others = every
    return {name: sum((one[name] for one in others), first[name]) for name in first}


def next_token_labels(batch: Mapping[str, Tensor]) -> Tensor:
    """(B, T): for output t the label of a batch at t + 1; -100 at the end of a row, of a document, and at padding.

    Reads `labels`, and `attention_mask` and `document_ids` where the batch has them. A batch that has `shift_labels`
    (Hugging Face's name for labels that are shifted already, as nanoGPT's are) has the answer.

    >>> import torch
    >>> from clozelab.objectives import next_token_labels
    >>> labels = torch.tensor([[5, 6, 7, 8]])
    >>> next_token_labels({"labels": labels})
    tensor([[   6,    7,    8, -100]])
    >>> next_token_labels({"labels": labels, "document_ids": torch.tensor([[0, 0, 1, 1]])})
    tensor([[   6, -100,    8, -100]])

    Raises `InputError` for labels that are not (B, T), and for flags of another shape.
    """
    if "shift_labels" in batch:
        return check_tensor(batch["shift_labels"], "shift_labels", "(B, T)", WHOLE).long()
    labels = check_tensor(batch.get("labels"), "labels", "(B, T)", WHOLE).long()
    check_same_shape(labels=labels, **{key: batch[key] for key in ("attention_mask", "document_ids") if key in batch})
    following = torch.full_like(labels, IGNORED)
    following[:, :-1] = labels[:, 1:]
    if (documents := batch.get("document_ids")) is not None:
        following[:, :-1].masked_fill_(documents[:, 1:] != documents[:, :-1], IGNORED)
    padding = batch.get("attention_mask")
    return following if padding is None else following.masked_fill(padding == 0, IGNORED)
