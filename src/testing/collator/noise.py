"""Checks of any collator: what it returns, and what its noise depends on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...data import IGNORED
from ..randomness import own_random_state, random_states
from ..report import FAULT, NOT_CHECKED, OK, Finding, table
from .trial import CollatorTrial, Row, of_kind


def returns(trial: CollatorTrial) -> Finding:
    """Integer tensors under Hugging Face's keys."""
    batch = trial.batch(trial.texts(12, 20, 16))
    why = "Hugging Face's keys are what models, objectives and the Trainer read"
    if not isinstance(batch, Mapping):
        return Finding(FAULT, f"returns a {type(batch).__name__}, not a dict of tensors", why=why)
    ids = batch.get("input_ids")
    if isinstance(ids, Tensor) and ids.dim() == 2 and len(ids) == 1 and "position_ids" in batch:
        return Finding(NOT_CHECKED, "all texts are packed into one row, without padding: there are no rows to look at")
    for key in ("input_ids", "labels"):
        value = batch.get(key)
        if not isinstance(value, Tensor) or value.dim() != 2 or len(value) != 3 or value.dtype != torch.int64:
            came = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            return Finding(FAULT, f"{key!r} of 3 texts must be torch.int64 (3, T), got {came}", why=why)
    return Finding(OK, f"{trial.kind} batches with {', '.join(batch)}")


def unchanged(trial: CollatorTrial) -> Finding:
    """The examples are not modified."""
    forms: tuple[Callable[[list[int]], Any], ...] = (list, torch.tensor)
    for form in forms:
        try:
            examples = [trial.example(form(text)) for text in trial.ragged[:4]]
            before = copy.deepcopy(examples)
            trial.fresh()(examples)
        except Exception:
            if form is list:
                raise
            continue  # tensors are a courtesy
        if repr(before) != repr(examples):
            return Finding(
                FAULT,
                "changes the examples that it is given",
                f"before  {str(before[0])[:100]}\nafter   {str(examples[0])[:100]}",
                "in a data set that is held in memory the next epoch begins with what this one left behind",
            )
    return Finding(OK, "the examples are left as they were")


def repeatable(trial: CollatorTrial) -> Finding:
    """A copy of the collator gives the same batches."""
    first, again = (trial.epochs(trial.ragged, 0)[0] for _ in range(2))
    if first != again:
        return Finding(
            FAULT,
            "two copies of the collator give other batches for the same texts",
            _differ(first, again),
            "no run can be repeated or resumed",
        )
    return Finding(OK, "a copy gives the same batches")


def global_state(trial: CollatorTrial) -> Finding:
    """The global random state is neither read nor changed."""
    batches = []
    for seed in (1, 2):
        with own_random_state(seed):
            before = random_states()
            batches.append(trial.rows(trial.batch(trial.ragged)))
            moved = [name for name, state in random_states().items() if state != before[name]]
        if moved:
            return Finding(
                FAULT,
                f"draws from, or sets, the global random state of {' and '.join(moved)}",
                why="whatever else draws from it changes the masks, and the masks change whatever else does",
            )
    if batches[0] != batches[1]:
        return Finding(FAULT, "the batch depends on the global random state", _differ(*batches))
    return Finding(OK, "the global random state is neither read nor changed")


def order(trial: CollatorTrial) -> Finding:
    """The place in the batch changes nothing."""
    texts = trial.ragged[:6]
    straight = trial.rows(trial.batch(texts))
    reversed_order = trial.rows(trial.batch(texts[::-1]))[::-1]
    if straight != reversed_order:
        return Finding(
            FAULT,
            "what is hidden of a text depends on its place in the batch",
            _differ(straight, reversed_order),
            "no text can be looked at alone, and another batch size is another experiment",
        )
    alone = [trial.rows(trial.batch([text]))[0] for text in texts]
    if straight != alone:
        return Finding(
            FAULT,
            "what is hidden of a text depends on the other texts of its batch",
            _differ(straight, alone),
            "no text can be looked at alone, and another batch size is another experiment: count the tokens of the "
            "text, and not the places of the padded row",
        )
    return Finding(OK, "a text is treated alike at any place in its batch, and alone")


def with_workers(trial: CollatorTrial) -> Finding:
    """The number of workers changes nothing."""
    if trial.kind == "next-token":
        return Finding(NOT_CHECKED, "nothing is hidden of a next-token batch")
    if not trial.workers:
        return Finding(NOT_CHECKED, "workers=0 was asked for")
    alone, together = trial.epochs(trial.ragged, 0)[0], trial.epochs(trial.ragged, trial.workers)[0]
    if alone != together:
        return Finding(
            FAULT,
            f"the masks are different with {trial.workers} workers than with none",
            _differ(alone, together),
            "the same seed on another machine is another run, unnoticed",
        )
    return Finding(OK, f"the masks are the same with {trial.workers} workers as with none")


def epochs(trial: CollatorTrial) -> Finding:
    """Fresh noise in each epoch: of what is hidden, since random replacements alone change the inputs."""
    if trial.kind == "next-token":
        return Finding(NOT_CHECKED, "nothing is hidden of a next-token batch")
    for workers in sorted({0, trial.workers}):
        first, second = trial.epochs(trial.ragged, workers, count=2)
        if [_pattern(trial, row) for row in first] != [_pattern(trial, row) for row in second]:
            continue
        if trial.kind == "other" and (workers or first != second):
            continue  # what is in the loss may be the same by design, as after a prompt
        found = f"with {workers} workers the second epoch has the masks of the first"
        if trial.kind == "other":
            return Finding(NOT_CHECKED, f"{found}: is nothing random meant to happen?")
        return Finding(
            FAULT,
            found,
            table(inputs=list(first[0][0][:16]), labels=list(first[0][1][:16])),
            "each text keeps one mask for ever, so the model can learn the answers by heart: its training loss falls, "
            "its held-out loss rises",
        )
    return Finding(OK, "each epoch has masks of its own")


def _pattern(trial: CollatorTrial, row: Row) -> object:
    """Where something is hidden or moved of a text, whatever its tokens are."""
    read, labels = row
    if trial.kind in ("masked", "weighted", "prefix"):
        return tuple(label != IGNORED for label in labels)
    if trial.kind in ("spans", "middle", "blanks"):
        marks = {*trial.special.sentinels, *trial.special.roles.values()}
        return tuple(token in marks for token in read)
    return row


@of_kind("masked", "spans", "prefix", "weighted", "middle", "blanks")
def ranks(trial: CollatorTrial) -> Finding:
    """Processes with the same seed and other texts hide other positions."""
    texts = trial.texts(*[80] * 16, seed=3)
    found = []
    for rank in (0, 1):  # two processes of one script: the same collator, the same seed, every other text
        with own_random_state(0):
            rows = trial.rows(trial.batch(texts[rank::2]))
        found.append([_pattern(trial, row) for row in rows])
    if found[0] == found[1]:
        return Finding(
            FAULT,
            "two processes with the same seed hide the same positions of different texts",
            why="the batch of N processes has only one process's worth of noise in it",
        )
    return Finding(OK, "two processes hide other positions")


def _differ(first: Sequence[Row], second: Sequence[Row]) -> str:
    """The place where two batches of the same texts first differ, and some tokens around it."""
    (read, labels), (again, labels_again) = next((a, b) for a, b in zip(first, second) if a != b)
    if read == again:
        read, again = labels, labels_again
    at = next((t for t, (a, b) in enumerate(zip(read, again)) if a != b), min(len(read), len(again)))
    here = slice(max(0, at - 3), at + 9)
    return table(once=list(read[here]), then=list(again[here]))
