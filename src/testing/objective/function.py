"""Checks of a function (model, batch) -> loss, of which nothing is known but what it does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...data import IGNORED
from ...evaluation.perturbation import differ
from ..report import FAULT, NOT_CHECKED, NOTE, OK, Check, Finding, percent, table
from .function_trial import FunctionTrial
from .loss import labels_at_padding
from .trial import rounding

UNSEEN = Finding(
    NOT_CHECKED,
    "the outputs of this model could not be seen: it returns no logits (B, T, V), and no linear layer makes them",
)


def returns(trial: FunctionTrial) -> Finding:
    """A `Loss`, (sum, count) or a scalar, finite and differentiable."""
    config = getattr(trial.model, "config", None)
    at_padding = 0 if getattr(config, "is_encoder_decoder", False) else labels_at_padding(trial.batch)
    if at_padding:
        return Finding(
            FAULT,
            f"{at_padding} labels of the batch stand at padding",
            table(labels=trial.labels[-1, -12:], attention_mask=trial.batch["attention_mask"][-1, -12:]),
            "the model learns to write padding, and the mean is of it: give -100 there, as a collator does",
        )
    for total, count, _ in trial.parts(trial.batch):
        if not isinstance(total, Tensor) or total.dim() != 0 or not total.requires_grad or not bool(total.isfinite()):
            came = f"{tuple(total.shape)} {total.dtype}" if isinstance(total, Tensor) else type(total).__name__
            return Finding(
                FAULT, f"expected a finite scalar with a gradient, a tuple (sum, count), or a Loss, got {came}"
            )
        if count is not None and count.numel() != 1:
            return Finding(FAULT, f"expected a count of one number, got {tuple(count.shape)}")
    return Finding(OK, "a loss with a gradient")


def uniform(trial: FunctionTrial) -> Finding:
    """Logits that are all zero cost ln V."""
    if trial.demand is None:
        return UNSEEN
    expected, found = math.log(trial.demand.width), trial.demand.value
    if "weights" in trial.batch or "count" in trial.batch:
        return Finding(
            NOT_CHECKED, f"a uniform guess costs {found:.4f} nats; weights and count make any value possible"
        )
    if not abs(found - expected) <= trial.tolerance * expected:
        return Finding(
            FAULT,
            f"a uniform guess costs {found:.4f} nats, not ln {trial.demand.width} = {expected:.4f}",
            why="the cross-entropy of a uniform guess is ln V, whatever the labels: a term, a weight or the sign is "
            "wrong, or a mean is taken for a sum",
        )
    return Finding(OK, f"a uniform guess costs {found:.4f} nats, ln {trial.demand.width}")


def gradient(trial: FunctionTrial) -> Finding:
    """Outputs are trained on the labels, in place or one place on, and no others are."""
    if trial.demand is None:
        return UNSEEN
    asked, labels = trial.demand.labels, trial.labels
    shifted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    if not (torch.equal(asked, labels) or torch.equal(asked, shifted)):
        wrong = (asked != labels) & (asked != shifted)
        row, at = (wrong if bool(wrong.any()) else asked != labels).nonzero()[0].tolist()
        here = slice(max(0, at - 3), at + 4)
        return Finding(
            FAULT,
            f"output {at} of row {row} is trained on id {int(asked[row, at])}, and its label is {int(labels[row, at])}",
            table(labels=labels[row, here], trained_on=asked[row, here]),
            "the model is trained on positions that it can read, or on padding; multiply before you average",
        )
    if trial.offset == 2:
        return Finding(
            FAULT,
            "each output is trained on the token after the next",
            table(reads=trial.batch[trial.reads_key or ""][0, :10], trained_on=asked[0, :10]),
            "the labels were shifted before, and the loss shifts them again: generation asks for the next token",
        )
    weights = trial.demand.weights[asked != IGNORED]
    if "weights" not in trial.batch and not torch.allclose(weights, weights.mean(), rtol=1e-6):
        return Finding(
            FAULT,
            f"the factors of the positions differ, from {float(weights.min()):.4g} to {float(weights.max()):.4g}",
            why="positions in the loss weigh differently, and the batch has no weights: a mean of means over rows?",
        )
    return Finding(OK, f"{len(weights)} outputs are trained on their labels, and no others")


def accumulation(trial: FunctionTrial) -> Finding:
    """Batches of one row have the gradient of the whole batch."""
    rows = len(trial.labels)
    single = [{key: value[b : b + 1] for key, value in trial.batch.items()} for b in range(rows)]
    at_once, added = trial.gradient([trial.batch]), trial.gradient(single)
    off = float((at_once - added).norm() / at_once.norm().clamp(min=1e-30))
    if not off <= trial.tolerance:
        means = [float(trial.mean(one).detach()) for one in single]
        return Finding(
            FAULT,
            f"{rows} batches of one row have another gradient than one batch of {rows}: it is off by {off:.2%}",
            f"loss positions by row     {(trial.labels != IGNORED).sum(1).tolist()}\n"
            f"mean of the row's loss    {[round(mean, 3) for mean in means]}\n"
            f"mean of these means       {sum(means) / rows:.4f}\n"
            f"mean over all positions   {float(trial.mean(trial.batch).detach()):.4f}",
            "a mean of means weighs a position by the length of its neighbours: batch size, accumulation and the "
            "number of processes change what is trained; add sums and counts, divide once",
        )
    return Finding(OK, f"{rows} batches of one row have the gradient of one batch of {rows}")


def nothing(trial: FunctionTrial) -> Finding:
    """A batch without labels costs nothing and still back-propagates."""
    empty = {**trial.batch, "labels": torch.full_like(trial.labels, IGNORED)}
    empty |= {key: torch.zeros_like(trial.batch[key]) for key in ("weights", "count") if key in trial.batch}
    mean = trial.mean(empty)
    why = "one such batch makes every weight NaN; clamp the count, and keep the zero connected to the model"
    if not bool(mean.isfinite()):
        return Finding(FAULT, f"a batch without labels has the loss {float(mean.detach())}", why=why)
    if not mean.requires_grad:
        return Finding(FAULT, "the loss of a batch without labels is a constant: backward() raises", why=why)
    gradient = trial.gradient([empty])
    if not bool(gradient.isfinite().all()) or bool(gradient.any()) or float(mean.detach()) != 0:
        return Finding(FAULT, f"a batch without labels has the loss {float(mean.detach()):.4f}, or a gradient", why=why)
    return Finding(OK, "a batch without labels has the loss 0 and a gradient of 0")


def keys(trial: FunctionTrial) -> Finding:
    """Every key of the batch but ids, labels and attention mask changes the loss when it changes."""
    known = {"input_ids", "decoder_input_ids", "labels", "attention_mask", "decoder_attention_mask"}
    tried = []
    with torch.no_grad():
        before = trial.mean(trial.batch)
        for key in sorted(trial.batch.keys() - known):
            value = trial.batch[key]
            changed = value.roll(1, -1) if value.dim() > 1 else value + 1
            if torch.equal(changed, value):
                continue
            tried.append(key)
            if torch.equal(trial.mean({**trial.batch, key: changed}), before):
                return Finding(
                    FAULT,
                    f"the loss does not change with {key!r}",
                    why="what the batch asks for is ignored: by a forward that swallows **kwargs, or by the loss",
                )
    if not tried:
        return Finding(OK, "the batch has no keys that could be ignored")
    return Finding(OK, f"{', '.join(tried)} change the loss")


def reads(trial: FunctionTrial) -> Finding:
    """Outputs in the loss depend on no padding, no other document and no other row."""
    if trial.demand is None:
        return UNSEEN
    batch, asked = trial.batch, trial.demand.labels != IGNORED
    if "input_ids" not in batch:
        return Finding(NOT_CHECKED, f"the batch has no input_ids, but {', '.join(batch)}")
    ids = batch["input_ids"]
    changed = {**batch, "input_ids": torch.cat([trial.others(0, "input_ids")[None], ids[1:]])}
    before = trial.outputs(batch)
    moved = differ(before, trial.outputs(changed), rounding(trial.model) * float(before.abs().max()))
    if bool((moved & asked)[1:].any()):
        return Finding(FAULT, "a row moves with another row of its batch", why="statistics over the batch, or a state")
    padding = batch.get("attention_mask", torch.ones_like(ids)) == 0
    documents = batch.get("document_ids") if ids.shape == asked.shape else None
    for row in range(len(ids)):
        forbidden = padding[row, :, None].expand(-1, asked.shape[1])  # (S, T)
        if documents is not None:
            forbidden = forbidden | (documents[row][:, None] != documents[row])
        if not bool(forbidden.any()):
            continue
        wrong = trial.moved(row, "input_ids", trial.others(row, "input_ids")) & asked[row] & forbidden
        if bool(wrong.any()):
            s, t = wrong.nonzero()[0].tolist()
            what = "padding" if bool(padding[row, s]) else "another document"
            return Finding(
                FAULT,
                f"output {t} of row {row} moves with input {s}, which is {what}",
                why="what a text means would depend on the length, or the texts, of its neighbours",
            )
    return Finding(OK, "no output in the loss moves with padding, another document or another row")


def answers(trial: FunctionTrial) -> Finding:
    """No output moves with the token that it is trained on."""
    if trial.demand is None:
        return UNSEEN
    visible = pairs = 0
    e = 0 if torch.equal(trial.demand.labels, trial.labels) else 1
    d = 0 if trial.offset is None else trial.offset
    key = trial.reads_key
    for row, asked in enumerate(trial.demand.labels):
        places = (asked != IGNORED).nonzero()[:, 0]
        by_label = trial.moved(row, "labels", torch.where(trial.labels[row] < 0, -100, trial.others(row, "labels")))
        own = [int(t) for t in places if int(t) + e < len(asked) and by_label[int(t) + e, int(t)]]
        if own:
            return Finding(
                FAULT,
                f"output {own[0]} of row {row} moves with its own label",
                why="the labels reach the model unshifted: it reads what it is to predict",
            )
        pairs += len(places)
        if key is not None:
            moved = trial.moved(row, key, trial.others(row, key))
            there = [int(t) for t in places if int(t) + d < len(asked)]
            visible += sum(bool(trial.batch[key][row, t + d] == asked[t] and moved[t + d, t]) for t in there)
    if visible > pairs / 2:
        where = {0: "at its own place", 1: "one place on"}.get(d, f"{d} places on")
        return Finding(
            FAULT,
            f"{visible} of {pairs} outputs move with their own answer, which stands in the input {where}",
            why="no shift, no causal mask or nothing hidden: the loss is low and nothing is learned",
        )
    if visible:
        return Finding(NOTE, f"{percent(visible / pairs)} of {pairs} outputs can read their answer: kept tokens?")
    if key is None:
        return Finding(OK, f"none of {pairs} outputs moves with its own label; the inputs have other places")
    return Finding(OK, f"none of {pairs} outputs moves with its own answer")


CHECKS: dict[str, Check[FunctionTrial]] = {
    "returns": returns,
    "uniform": uniform,
    "gradient": gradient,
    "accumulation": accumulation,
    "nothing to predict": nothing,
    "keys": keys,
    "reads": reads,
    "answers": answers,
}
"""By the names that `skip` takes, in the order in which they run."""
