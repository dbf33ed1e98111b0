"""What a held-out loss must be below: the loss of a guess by frequency alone, and of one to which all ids are equal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ..checks import check_int, check_same_shape, check_tensor, check_type
from ..data import Batch
from ..data.special_ids import MAX_IDS
from ..errors import InputError
from ..objectives import Objective


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
