"""Checks of an objective's noise: fresh for each example and epoch, and moved by progress where that is declared."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from ...data import IGNORED, Batch, Noise
from ...errors import InputError
from ..report import FAULT, NOTE, OK, Finding, table
from .corruption_trial import CorruptionTrial, patterns, real_tokens

DRAWS = 100
FEW = 10
"""So few different corruptions of a long text come from a fixed set."""
PROGRESS_EXAMPLES = 128
"""Texts that are corrupted at each progress of a run."""


def noise(trial: CorruptionTrial) -> Finding:
    """One text is corrupted in many ways: by its id, and by the epoch."""
    ids = _long_text(trial)
    one = trial.copies(ids, [7] * 2)
    by_id, by_epoch = trial.copies(ids, range(DRAWS)), trial.copies(ids, [7] * DRAWS, range(DRAWS))
    found = {}
    for what, batch in (("example ids", by_id), ("epochs", by_epoch)):
        found[what] = len(set(patterns(batch))), len(_where(batch, ids).unique(dim=0))
    hides = _hides(one, ids)
    if all(different == 1 for different, _ in found.values()):
        return _constant(trial, ids, hides)
    for what, (different, places) in found.items():
        if different == 1 or places == 1:
            how = f"{DRAWS} {what} give one text the same {'batch' if different == 1 else 'hidden tokens'}"
            return Finding(
                FAULT,
                how,
                table(text=ids[:16], input_ids=one["input_ids"][0, :16], labels=one["labels"][0, :16]),
                "each example and each epoch needs noise of its own, or the model can learn by heart what it is never "
                "shown: draw from examples.uniform",
            )
    if fault := _by_the_collator(trial, ids):
        return fault
    fewest = min(different for different, _ in found.values())
    if fewest <= FEW:
        masks = _where(by_id, ids).unique(dim=0)
        often = masks.sum(0)
        evenly = int(masks.max()) == 1 and int(often.min()) > 0 and int(often.max() - often.min()) <= 1
        verdict = FAULT if hides and not evenly else NOTE
        return Finding(
            verdict,
            f"{DRAWS} examples or epochs give one text of {len(ids)} tokens {fewest} different corruptions",
            why="the corruptions come from a fixed set, so the model can learn by heart what is never shown",
        )
    return Finding(OK, f"a text of {len(ids)} tokens has {fewest} different corruptions in {DRAWS} draws")


def _long_text(trial: CorruptionTrial) -> list[int]:
    """As long as the sentinels of the trial allow: of a short text T5 always hides the end."""
    for length in (64, 40):
        try:
            trial.copies(trial.text(length, 50), range(DRAWS))
        except InputError:
            continue
        return trial.text(length, 50)
    return trial.text(24, 50)


def _where(batch: Batch, ids: list[int]) -> Tensor:
    """(B, ...) int: what is hidden. In place, the loss positions or the changed inputs; else all of a row."""
    text, inputs, labels = torch.tensor(ids), batch["input_ids"], batch["labels"]
    changed = inputs != text if inputs.shape[1] == len(ids) else torch.zeros(1).bool()
    if labels.shape != inputs.shape or not bool(changed.any()):
        return torch.tensor([[value for column in row for value in column] for row in patterns(batch)])
    in_loss = labels != IGNORED
    if bool(in_loss.all()):
        return changed.long()
    return (torch.cat([in_loss, changed], 1) if bool((changed & ~in_loss).any()) else in_loss).long()


def _hides(batch: Batch, ids: list[int]) -> bool:
    """Whether tokens of the text are missing from the inputs."""
    return any(bool(Counter(ids) - Counter(row)) for row in real_tokens(batch))


def _constant(trial: CorruptionTrial, ids: list[int], hides: bool) -> Finding:
    """Nothing varies: by design only where no noise is read and nothing is hidden."""
    drawn: list[int] = []
    of_stream = Noise._of_stream

    def recorded(noise: Noise, stream: int) -> Any:
        drawn.append(stream)
        return of_stream(noise, stream)

    with patch.object(Noise, "_of_stream", recorded):
        batch = trial.collate([trial.example_of(ids, example_id=7)])
    if not any(set(ids) & set(row) for row in real_tokens(batch)):
        return Finding(OK, "all of a text is hidden, in every example and epoch")
    whole = bool((batch["labels"][:, : len(ids)] != IGNORED).all())
    if not hides and (not drawn or whole):
        return Finding(NOTE if drawn else OK, "nothing of a text is hidden, in any example or epoch")
    return Finding(
        FAULT,
        "noise is drawn, and nothing depends on it"
        if drawn
        else "the same tokens of a text are hidden in every example and epoch",
        table(text=ids[:16], input_ids=batch["input_ids"][0, :16]),
        "each text keeps one corruption for ever, so the model can learn the answers by heart",
    )


def _by_the_collator(trial: CorruptionTrial, ids: list[int]) -> Finding | None:
    """A fault where `set_epoch`, which the loop calls, does not change what the collator makes."""
    made = []
    for epoch in range(20):
        collator = trial.collator()
        if not hasattr(collator, "set_epoch"):
            return None
        collator.set_epoch(epoch)
        made.append(patterns(collator([trial.example_of(ids, example_id=7)])))
    if all(one == made[0] for one in made):
        return Finding(
            FAULT,
            "set_epoch changes nothing: 20 epochs have the same batch",
            why="each epoch repeats the one before, so the model learns the answers by heart",
        )
    return None


def progress(trial: CorruptionTrial) -> Finding:
    """The batch changes with `Examples.progress` where the class says so, and nowhere else."""
    declared, examples = trial.objective.schedule, trial.sample_examples[:PROGRESS_EXAMPLES]
    base: Batch = {}
    for done in (1.0, 0.0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999):
        collator = trial.collator()
        collator.set_progress(done)
        made = collator(examples)
        base = base or made
        if made.keys() == base.keys() and all(torch.equal(made[key], base[key]) for key in made):
            continue
        if declared:
            return Finding(OK, f"the batch at a progress of {done:g} is another than at 1, as the class declares")
        return Finding(
            FAULT,
            f"the batch at a progress of {done:g} is another than at 1, and the class declares no schedule",
            why="a run that ends by the clock does not know its progress, and must refuse the objective",
        )
    if declared:
        return Finding(
            FAULT,
            f"the class declares a schedule ({declared}), and {len(examples)} examples never change",
            why="a run that ends by the clock would refuse the objective for nothing, or the schedule was lost",
        )
    return Finding(OK, "the batch does not change with the progress of a run")
