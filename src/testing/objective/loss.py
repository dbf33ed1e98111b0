"""Checks of an objective's loss: its value, its gradient, its counts, and the keys that it reads."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from ...checks import is_whole
from ...data import IGNORED, Batch
from ...errors import InputError
from ...escape import shown
from ...objectives import Loss, Prediction, Target, total_counts
from ...objectives.model_calls import LOSS_KEYS
from ..report import FAULT, OK, SURE, Finding, table
from .trial import Trial
from .weights import below_zero, moved_by_neighbours


def labels_at_padding(batch: Batch) -> int:
    """How many labels stand where the attention mask says that there is no token; 0 of an encoder-decoder's batch."""
    mask, labels = batch.get("attention_mask"), batch["labels"]
    if mask is None or mask.shape != labels.shape or "decoder_input_ids" in batch:
        return 0
    return int(((labels != IGNORED) & (mask == 0)).sum())


UNKNOWN = "a_key_that_nobody_reads"


def returns(trial: Trial) -> Finding:
    """The objective accepts model and batch, and returns a loss with the parts and breakdowns that it declares."""
    objective, config = trial.objective, getattr(trial.model, "config", None)
    if getattr(config, "is_encoder_decoder", False) and objective.architecture != "encoder-decoder":
        return Finding(
            FAULT,
            f"{type(trial.model).__name__} is an encoder-decoder, and {objective.name} is for {objective.architecture}",
            why="its decoder would be given a shifted copy of the input, which the objective knows nothing of",
        )
    loss = objective(trial.model, trial.batch)
    if not isinstance(loss, Loss) or not math.isfinite(float(loss.mean.detach())):
        return Finding(FAULT, f"expected a finite Loss, got {shown(loss, 100)}")
    parts, declared = set(loss), set(objective.uniform_values(2))
    if parts != declared or parts != set(objective.targets(trial.batch)):
        return Finding(
            FAULT,
            f"the loss has the parts {sorted(parts)}, targets() {sorted(objective.targets(trial.batch))} and "
            f"uniform_values() {sorted(declared)}",
            why="reports and floors ask the class for each part by name",
        )
    return below_zero(trial, loss) or _breakdown(trial, loss) or Finding(OK, f"{loss!r}{trial.remark}")


def _breakdown(trial: Trial, loss: Loss) -> Finding | None:
    """A fault where a breakdown is not an integer for each row or position, has no word for one, or cannot split."""
    targets, why = list(trial.objective.targets(trial.batch).values()), "evaluation splits the loss of a batch by it"
    plain = [one.labels.shape for one in targets if len(targets) == 1 and one.weights is None and one.count is None]
    allowed = [targets[0].labels.shape[:1], *plain]  # a weighted loss has no count by position
    for name, values in trial.objective.breakdown(trial.batch).items():
        if not isinstance(values, Tensor) or values.shape not in allowed or not is_whole(values):
            came = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            shapes = " or ".join(str(tuple(shape)) for shape in allowed)
            return Finding(FAULT, f"breakdown() has {came} as {name!r}, not integers {shapes}", why=why)
        known, largest = trial.objective.kinds.get(name), int(values.max())
        if known is not None and not 0 <= int(values.min()) <= largest < len(known):
            words = ", ".join(map(repr, known))
            came = f"breakdown() has {int(values.min())} to {largest} as {name!r}, and kinds the words {words}"
            return Finding(FAULT, came, why="a report calls each value by its word")
        if without := [part for part, one in loss.items() if one.costs is None]:
            return Finding(FAULT, f"there is a breakdown, and no costs of {', '.join(without)}", why=why)
    return None


def uniform(trial: Trial) -> Finding:
    """A predictor whose logits are all zero costs what the class declares, within the noise of the corruption."""
    objective = trial.objective
    batch = trial.sample
    targets = objective.targets(batch)
    zero = {name: _zero(target, trial.widths[name]) for name, target in targets.items()}
    loss, found = objective.loss(zero, batch), []
    for name, target in targets.items():
        part, width = loss[name], trial.widths[name]
        expected = objective.uniform_values(width)[name] + objective.z_loss * math.log(width) ** 2
        value, counts = float(part.mean), target.row_counts.double()
        spread = torch.zeros(()) if part.row_sums is None else part.row_sums.double() - value * counts
        error = float(spread.norm()) / max(float(counts.sum()), 1.0)  # 0 where each row costs the same
        if not abs(value - expected) <= trial.tolerance * expected + SURE * error:
            return Finding(
                FAULT,
                f"a uniform predictor of {width} ids costs {value:.4f} nats for {expected:.4f} (± {SURE * error:.4f} "
                f"would be accident), output {name}",
                why="the cross-entropy of a uniform guess is ln V at every position: a weight is dropped, or the sum "
                "is divided by another count than the one it belongs to",
            )
        found.append(f"{name} {value:.4f} nats, ln {width} = {math.log(width):.4f}")
    return Finding(OK, f"a uniform predictor costs what the class declares: {'; '.join(found)}")


def _zero(target: Target, width: int) -> Prediction:
    """Logits that are all zero; whatever was drawn, both classes cost the same."""
    states, table = torch.zeros(*target.labels.shape, 1).double(), torch.zeros(width, 1).double()
    return Prediction(states, table, target.labels if target.detects_replaced else None)


def by_hand(objective_options: tuple[float, float], prediction: Prediction, target: Target) -> tuple[Tensor, Tensor]:
    """(weighted sum, count) of one part, in plain float64."""
    smoothing, z_loss = objective_options
    logits = prediction.states.double()
    logits = logits if prediction.table is None else logits @ prediction.table.double().T  # (B, T, V)
    total = torch.zeros((), dtype=torch.float64)
    for b, t in (target.labels != IGNORED).nonzero().tolist():
        log_z, label = logits[b, t].logsumexp(-1), int(target.labels[b, t])
        if target.detects_replaced:
            assert prediction.sampled is not None
            label = int(prediction.sampled[b, t] != label)
        cost = log_z - (1 - smoothing) * _wanted(logits[b, t], target, (b, t), label) - smoothing * logits[b, t].mean()
        weight = 1.0 if target.weights is None else target.weights[b, t].double()
        total = total + weight * (cost + z_loss * log_z**2)
    count = (target.labels != IGNORED).sum() if target.count is None else target.count.sum()
    return total, count


def _wanted(logits: Tensor, target: Target, at: tuple[int, int], label: Tensor | int) -> Tensor:
    """Of the logits (V,) of a position that of its label, or their mean under its soft labels."""
    if target.soft_labels is None:
        return logits[label]
    ids, probabilities = (one[at] for one in target.soft_labels)
    return (probabilities.double() * logits[ids]).sum()


def value(trial: Trial) -> Finding:
    """The loss equals the sum of weight x cross-entropy / count over the parts, computed position by position."""
    objective = trial.objective
    settings = objective.label_smoothing, objective.z_loss
    targets = objective.targets(trial.batch)
    with torch.no_grad():
        outputs, loss = trial.outputs(trial.batch), objective(trial.model, trial.batch)
        parts = {name: by_hand(settings, outputs[name], target) for name, target in targets.items()}
    counts = objective.counts(trial.batch)
    for name, target in targets.items():
        if target.soft_labels is not None and (unlike := _unlike(target)):
            return Finding(
                FAULT,
                f"{unlike} labels of {name} are not the likeliest ids of its soft labels",
                why="what is shown, and looked for in the inputs, would not be what is trained: are they in order?",
            )
    for name, (total, count) in parts.items():
        for what, other in (("counts(batch)", counts[name]), ("the loss", loss[name].count)):
            if int(other) != int(count):
                return Finding(
                    FAULT,
                    f"{what} has a count of {int(other)} for {name}, targets() of {int(count)}",
                    why="a step is divided by counts(batch), which must be those of the loss",
                )
        if not abs(float(loss[name].sum - total)) <= trial.tolerance * max(1.0, abs(float(total))):
            return Finding(
                FAULT,
                f"the sum of {name} is {float(loss[name].sum):.6f} nats, by hand {float(total):.6f}",
                why="targets() says which labels and weights are in the loss, and loss() uses others",
            )
    mean = sum(targets[name].weight * total / max(int(count), 1) for name, (total, count) in parts.items())
    if not abs(float(loss.mean - mean)) <= trial.tolerance * max(1.0, abs(float(mean))):
        return Finding(FAULT, f"the mean is {float(loss.mean):.6f} nats, by hand {float(mean):.6f}")
    return Finding(OK, f"{float(loss.mean):.4f} nats, as by hand: weights x cross-entropy / count")


def _unlike(target: Target) -> int:
    """How many labels are not the likeliest ids of their soft labels."""
    assert target.soft_labels is not None
    ids, probabilities = target.soft_labels
    likeliest = ids.gather(-1, probabilities.argmax(-1, keepdim=True))[..., 0]
    return int(((likeliest != target.labels) & target.loss_mask).sum())


def scored(trial: Trial) -> Finding:
    """The sum is a likelihood of as many ids as it is divided by."""
    batch = trial.collate(trial.examples)
    ids = trial.objective.scored_ids(batch).numel()
    count = int(next(iter(trial.objective.counts(batch).values())))
    if ids != count:
        return Finding(
            FAULT,
            f"the sum is divided by {count}, and scored_ids() are {ids} ids",
            why="nats a token and bits per byte would be of different texts: a weighted loss over hidden tokens is "
            "divided by all tokens that it bounds",
        )
    scored_ids = Counter(trial.objective.scored_ids(batch).flatten().tolist())
    text = Counter(token for one in trial.examples for token in one["input_ids"])
    special = trial.special
    beside = {one: n for one, n in (scored_ids - text).items() if one == special.mask or one not in special.all}
    if beside:
        return Finding(
            FAULT,
            f"scored_ids() holds ids that the texts do not have: {dict(list(beside.items())[:5])}",
            why="bits per byte would be of the bytes of other tokens, such as those of the mask",
        )
    return Finding(OK, f"the sum is divided by the number of ids that it is of: {ids}")


def gradient(trial: Trial) -> Finding:
    """Exactly the loss positions get a gradient."""
    targets, outputs = trial.objective.targets(trial.batch), trial.outputs(trial.batch)
    leaves = {name: one.states.detach().requires_grad_() for name, one in outputs.items()}
    loss = trial.objective.loss({name: replace(outputs[name], states=leaves[name]) for name in outputs}, trial.batch)
    loss.mean.backward()
    for name, target in targets.items():
        grad = leaves[name].grad
        moved = torch.zeros_like(target.loss_mask) if grad is None else grad.abs().sum(-1) > 0  # (B, T)
        wanted = target.loss_mask if target.weights is None else target.loss_mask & (target.weights != 0)
        if bool((moved != wanted).any()):
            row, at = (moved != wanted).nonzero()[0].tolist()
            here = slice(max(0, at - 3), at + 4)
            return Finding(
                FAULT,
                f"output {at} of row {row} ({name}) has {'a' if moved[row, at] else 'no'} gradient, and its label is "
                f"{int(target.labels[row, at])}",
                table(labels=target.labels[row, here], gradient=moved[row, here]),
                "the model is trained on positions that it can read, or on padding",
            )
    return Finding(OK, "every loss position has a gradient, and no other")


def accumulation(trial: Trial) -> Finding:
    """Ragged micro-batches, counts first, give the gradient of the whole batch."""
    if trial.given is None:
        groups = trial.examples[:1], trial.examples[1:4], trial.examples[4:]
        micro_batches = [trial.collate(list(group)) for group in groups]
    else:
        micro_batches = [
            {key: one[b : b + 1] for key, one in trial.batch.items()} for b in range(len(trial.batch["labels"]))
        ]
    if fault := moved_by_neighbours(trial):
        return fault
    at_once = trial.gradient(trial.objective(trial.model, trial.batch).mean)
    counts = total_counts(trial.objective.counts(one) for one in micro_batches)
    trial.model.zero_grad()
    for one in micro_batches:
        trial.objective(trial.model, one).over(counts).backward()
    off = float((at_once - trial.current_gradient()).norm() / at_once.norm().clamp(min=1e-30))
    if not off <= trial.tolerance:
        return Finding(
            FAULT,
            f"{len(micro_batches)} micro-batches have another gradient than the whole batch: it is off by {off:.2%}",
            why="batch size, accumulation and the number of processes would change what is trained: a loss is a sum, "
            "its count follows from the batch, and the mean is taken once",
        )
    return Finding(OK, f"{len(micro_batches)} micro-batches, counts first, have the gradient of the whole batch")


def nothing(trial: Trial) -> Finding:
    """A batch without labels costs nothing and still back-propagates."""
    empty = {**trial.batch, "labels": torch.full_like(trial.batch["labels"], IGNORED)}
    empty |= {key: torch.zeros_like(trial.batch[key]) for key in ("weights", "count") if key in trial.batch}
    targets, loss = trial.objective.targets(empty), trial.objective(trial.model, empty)
    gradients = trial.gradient(loss.mean)
    costs = sum(abs(float(loss[name].sum.detach())) for name, one in targets.items() if not bool(one.loss_mask.any()))
    all_empty = not any(bool(one.loss_mask.any()) for one in targets.values())
    if not bool(gradients.isfinite().all()) or costs != 0.0 or (all_empty and bool(gradients.any())):
        return Finding(
            FAULT,
            f"a batch without labels costs {float(loss.mean.detach()):.4f} nats, or has a gradient that is not 0",
            why="one such batch must not move the weights, or make them NaN",
        )
    return Finding(OK, "a batch without labels costs 0 nats and has a gradient of 0")


def keys(trial: Trial) -> Finding:
    """An unknown key is refused, and every key of the loss moves it, or is refused once it is changed."""
    objective, batch = trial.objective, trial.batch
    try:
        objective(trial.model, {**batch, UNKNOWN: torch.zeros_like(batch["labels"])})
    except InputError:
        pass
    else:
        return Finding(
            FAULT,
            "a key of the batch that neither model nor objective reads is ignored without an error",
            why="a prefix, weights or documents that are dropped on the way would never be noticed",
        )
    with torch.no_grad():
        before = float(objective(trial.model, batch).mean)
        moved, refused = [], ""
        for key in sorted(LOSS_KEYS & batch.keys()):
            value, what = _changed(trial, batch, key)
            try:
                after = float(objective(trial.model, {**batch, key: value}).mean)
            except InputError as error:  # it cannot be refused unread
                refused += f"; with {what} the batch is refused: {error}"
                continue
            moved.append(key)
            if after == before:
                return Finding(
                    FAULT,
                    f"the loss does not change with {key!r}: it is the same with {what}",
                    why="a key that is read and not used is ignored",
                )
    return Finding(OK, f"an unknown key is refused; {', '.join(moved) or 'no key'} moved the loss{refused}")


def _changed(trial: Trial, batch: Batch, key: str) -> tuple[Tensor, str]:
    """Another value of a key, of the same shape, and what was changed: the first row, or the last label of each."""
    value = batch[key].clone()
    if key == "labels":
        choice = trial.special.replacements
        for row in value:
            if bool((row != IGNORED).any()):
                at = int((row != IGNORED).nonzero()[-1])
                row[at] = choice[(int(row[at]) + 1) % len(choice)]
        return value, "another id as the last label of each row"
    if key == "count":
        value[0] += 1
        return value, "1 more as the count of the first row"
    value[0] *= 2
    return value, f"twice the {key} of the first row"
