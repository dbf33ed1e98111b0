"""Whether the loss is the likelihood that the class claims: sums over all short texts, and over all hidden sets."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from itertools import product
from typing import cast

import torch
from torch import Tensor

from ...data import IGNORED
from ...objectives import Likelihood, Target
from ..levels import weighted_sets
from ..report import FAULT, NOT_CHECKED, OK, SURE, Finding
from .corruption_trial import CorruptionTrial
from .trial import Trial

IDS, LENGTH = 3, 4
"""All texts of so many ids and tokens: 81 of them."""
DRAWS = 4000


def likelihood(trial: Trial) -> Finding:
    """EXACT: exp(-sum) adds up to 1 over all texts with the same given tokens. BOUND: to 1 at most.

    Of the first output, which the claim is about.
    """
    claim = trial.objective.likelihood
    sets = levels(trial)
    if sets is not None and sets.verdict == FAULT:
        return sets
    if claim is Likelihood.NONE:
        return sets or Finding(OK, "the class claims no likelihood")
    if getattr(trial.objective, "example_keys", set)() or trial.as_example is not None:
        return sets or Finding(NOT_CHECKED, "all short texts cannot be tried: the scheme asks for more than tokens")
    largest, smallest, groups = 0.0, math.inf, 0
    for example_id in range(24):
        for total in _sums(trial, example_id):
            largest, smallest, groups = max(largest, total), min(smallest, total), groups + 1
    tolerance = max(1e-5, 100 * trial.tolerance)
    found = f"over all texts of {LENGTH} tokens exp(-sum) adds up to {smallest:.6f} .. {largest:.6f}, {groups} times"
    if largest > 1 + tolerance:
        return Finding(
            FAULT,
            f"{found}; the class claims {claim.name}, and no likelihood is above 1",
            why="an output reads its answer, a token is not paid for, or a weight is too small: bits per byte and "
            "entropy floors would be wrong",
        )
    if claim is Likelihood.EXACT and smallest < 1 - tolerance:
        return Finding(
            FAULT,
            f"{found}; the class claims EXACT, and some texts cost more than -ln p",
            why="a token is paid for twice, or weighted: the sum is a bound at most, and floors would be wrong",
        )
    return Finding(OK, f"{found}{'' if sets is None else '; ' + sets.found}")


def _sums(trial: Trial, example_id: int) -> list[float]:
    """For each group of texts with the same given tokens, the sum of exp(-loss) over the others."""
    ids = trial.special.replacements[:IDS].tolist()
    texts = [list(text) for text in product(ids, repeat=LENGTH)]
    batch = trial.collate([trial.example_of(text, example_id=example_id) for text in texts])
    name, target = next(iter(trial.objective.targets(batch).items()))
    costs = _costs(trial, batch, name, target, torch.tensor(ids))
    predicted = _predicted(target, texts)
    groups: dict[tuple[int, ...], float] = defaultdict(float)
    for text, cost in zip(texts, costs.tolist()):
        groups[tuple(token for token, asked in zip(text, predicted) if not asked)] += math.exp(-cost)
    return list(groups.values())


def _costs(trial: Trial, batch: dict[str, Tensor], name: str, target: Target, ids: Tensor) -> Tensor:
    """(B,) nats of each text, of a model that is sure of these ids; an end of text costs nothing."""
    with torch.no_grad():
        prediction = trial.outputs(batch)[name]
    logits = prediction.states.double()
    logits = logits if prediction.table is None else logits @ prediction.table.double().T  # (B, T, V)
    labels = target.labels
    text = (labels != IGNORED) & torch.isin(labels, ids)
    structure = (labels != IGNORED) & ~text & (labels != trial.special.eos)  # a sentinel, a role
    place = torch.searchsorted(ids, labels.clamp(min=0)).clamp(max=len(ids) - 1)
    of_text = logits[..., ids].log_softmax(-1).gather(-1, place[..., None])[..., 0]  # (B, T)
    of_all = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    weights = torch.ones_like(of_all) if target.weights is None else target.weights.double()
    return -((of_text * text + of_all * structure) * weights).sum(1)


def _predicted(target: Target, texts: list[list[int]]) -> list[bool]:
    """Which places of the text some label changes with."""
    labels, first = target.labels, texts[0]
    asked = []
    for place in range(LENGTH):
        others = [
            n for n, text in enumerate(texts) if text[:place] + text[place + 1 :] == first[:place] + first[place + 1 :]
        ]
        asked.append(any(not torch.equal(labels[n], labels[0]) for n in others))
    return asked


def levels(trial: CorruptionTrial) -> Finding | None:
    """Of a loss that is weighted in place: each set of hidden tokens has the weight that makes the sum a bound."""
    length = min(LENGTH, getattr(trial.objective, "block_size", LENGTH))  # one block
    batch = trial.copies(trial.special.replacements[:length].tolist(), range(DRAWS))
    targets = list(trial.objective.targets(batch).values())
    if len(targets) != 1 or targets[0].weights is None or targets[0].count is None:
        return None
    labels, in_place = targets[0].labels, targets[0].labels[:, :length]
    if trial.objective.architecture != "encoder-only" or bool((labels[:, length:] != IGNORED).any()):
        return None
    target = replace(targets[0], labels=in_place, weights=targets[0].weights[:, :length])
    hidden, weights = target.labels != IGNORED, cast(Tensor, target.weights).double()  # (B, n)
    mass = (weights * hidden).sum(1) / cast(Tensor, target.count).double().clamp(min=1)  # (B,)
    unbiased = abs(float(mass.mean()) - 1.0) <= SURE * float(mass.std()) / DRAWS**0.5 + 1e-3
    if trial.objective.likelihood is Likelihood.NONE and not unbiased:
        return None  # weights of another kind
    return weighted_sets(hidden, mass)
