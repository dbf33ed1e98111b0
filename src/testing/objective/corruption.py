"""Checks of an objective's class and its corruption: options, noise, and where the tokens of a text go."""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from torch import Tensor

from ...data import IGNORED, Batch
from ...errors import InputError
from ...objectives import add_flags
from ..report import FAULT, NOT_CHECKED, NOTE, OK, Finding, table
from .corruption_trial import CorruptionTrial


def options(trial: CorruptionTrial) -> Finding:
    """Options come back from JSON and from flags."""
    objective, kind = trial.objective, type(trial.objective)
    functions = {name: getattr(objective, name) for name in objective.unrecorded_options()}
    recorded = objective.options()
    actual = {name: getattr(objective, name) for name in kind.declared_options() if name not in functions}
    if recorded != actual:
        return Finding(FAULT, f"options() records {recorded}, the options are {actual}", why="a run is not restored")
    if kind(**json.loads(json.dumps(recorded)), **functions).options() != recorded:
        return Finding(FAULT, f"the options {recorded} do not come back from JSON", why="a run could not be restored")
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(kind, parser)
    flags = []
    for name, option_value in recorded.items():
        flag = name.replace("_", "-")
        if isinstance(option_value, bool):
            flags.append(f"--{flag}" if option_value else f"--no-{flag}")
        else:
            flags += [f"--{flag}", "none" if option_value is None else str(option_value)]
    again = kind(**vars(parser.parse_args(flags)), **functions).options()
    if again != recorded:
        return Finding(FAULT, f"the flags {' '.join(flags)} give {again}", why="the command line would train another")
    return Finding(OK, f"{len(recorded)} options come back from JSON and from flags")


def parameters(trial: CorruptionTrial) -> Finding:
    """What is learned lives in the model."""
    own = [name for name, _ in trial.objective.named_parameters()]
    if own:
        return Finding(
            FAULT,
            f"the objective has parameters of its own: {', '.join(own)}",
            why="the optimiser, checkpoints and planning walk the model alone: put heads into the model, as an output",
        )
    return Finding(OK, "the objective has no parameters of its own")


def repeatable(trial: CorruptionTrial) -> Finding:
    """The noise belongs to the example: neighbours, order, padding and the default dtype change nothing."""
    whole = _without_padding(trial.collate(trial.examples))
    width = max(map(len, (one["input_ids"] for one in trial.examples))) + 3
    padded = [_left_padded(one, width, trial.special.pad) for one in trial.examples]
    others = {
        "a second time": trial.collate(trial.examples),
        "in another order": {key: value.flip(0) for key, value in trial.collate(trial.examples[::-1]).items()},
        "with padding on the left": trial.collate(padded),
    }
    if not trial.objective.unrecorded_options():  # torch.rand of a scheme follows the default dtype, as it should
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64 if default != torch.float64 else torch.float32)
        try:
            others["under another default dtype"] = trial.collate(trial.examples)
        finally:
            torch.set_default_dtype(default)
    for b, one in enumerate(trial.examples):
        others[f"without its neighbours {b}"] = trial.collate([one])
    for how, made in others.items():
        other = _without_padding(made)
        rows = [int(how.split()[-1])] if how.startswith("without") else range(len(trial.examples))
        for key in whole:
            for here, b in enumerate(rows):
                first, then = whole[key][b], other[key][here] if key in other else None
                if then is None or first.dtype != then.dtype or not _same_but_for_padding(key, first, then):
                    return Finding(
                        FAULT,
                        f"{key} of an example changes when it is collated {how.rstrip(' 0123456789')}",
                        "" if then is None else table(once=first.flatten()[:12], then=then.flatten()[:12]),
                        "a batch is a function of the examples and their noise: take noise from examples.uniform, "
                        "numbered by the place in the example",
                    )
    if changed := _writes(trial):
        return changed
    how = [how for how in others if not how.startswith("without")]
    return Finding(OK, f"an example is the same without its neighbours, {', '.join(how)}")


def _writes(trial: CorruptionTrial) -> Finding | None:
    """A fault where a block of tokens, which the collator does not copy, is another one afterwards."""
    if trial.as_example is not None:
        return None
    tokens = torch.tensor([trial.text(12, seed) for seed in range(16)])
    before = tokens.clone()
    trial.collator().block(tokens, range(16))
    if torch.equal(tokens, before):
        return None
    row = int((tokens != before).any(1).nonzero()[0])
    return Finding(
        FAULT,
        "the corruption writes into the tokens that it is given",
        table(before=before[row], after=tokens[row]),
        "the packed corpus itself would be changed, more in every epoch; work on a clone()",
    )


def _left_padded(example: dict[str, Any], width: int, pad: int) -> dict[str, Any]:
    ids = example["input_ids"]
    empty = width - len(ids)
    data = {
        key: [0] * empty + torch.as_tensor(value).tolist()
        for key, value in example.items()
        if torch.as_tensor(value).shape == (len(ids),)
    }
    return {**example, **data, "input_ids": [pad] * empty + ids, "attention_mask": [0] * empty + [1] * len(ids)}


EMPTY = {"labels": IGNORED, "attention_mask": 0, "decoder_attention_mask": 0, "weights": 0}
"""What padding must hold; other keys may hold anything there."""


def _without_padding(batch: Batch) -> Batch:
    """The batch with 0 at padding, where a key may hold anything; those of `EMPTY` stay as they are."""
    cleared = dict(batch)
    for key, value in batch.items():
        mask = batch.get("decoder_attention_mask" if key.startswith("decoder_") else "attention_mask")
        if key not in EMPTY and mask is not None and value.shape == mask.shape:
            cleared[key] = value.masked_fill(mask == 0, 0)
    return cleared


def _same_but_for_padding(key: str, first: Tensor, then: Tensor) -> bool:
    """Whether two rows agree as far as both reach, and the longer one goes on with padding."""
    if first.dim() == 0 or then.dim() == 0:
        return torch.equal(first, then)
    n = min(len(first), len(then))
    rest = torch.cat([first[n:], then[n:]])
    return torch.equal(first[:n], then[:n]) and (key not in EMPTY or bool((rest == EMPTY[key]).all()))


def whole_text(trial: CorruptionTrial) -> Finding:
    """No token of a text is lost, and every role has its use."""
    choice = trial.special.replacements.tolist()
    for seed in range(8):
        example = trial.example(12 if seed < 6 else 36, seed)
        variants = [example]
        for j, token in enumerate(example["input_ids"]):
            ids = list(example["input_ids"])
            ids[j] = choice[(choice.index(token) + 1) % len(choice)]
            variants.append({**example, "input_ids": ids})
        try:
            batch = trial.collate(variants)  # all with the noise of one example
        except InputError:
            if seed < 6:
                raise
            continue  # more spans than the trial has sentinels
        for j in range(len(variants) - 1):
            if all(torch.equal(value[0], value[j + 1]) for value in batch.values()):
                return Finding(
                    FAULT,
                    f"token {j} of {len(variants) - 1} is neither read nor predicted",
                    table(text=example["input_ids"], input_ids=batch["input_ids"][0]),
                    "text is cut off, and with it where it ends: widen the row instead",
                )
    if fault := _too_long(trial):
        return fault
    ids = torch.cat([value.flatten() for key, value in trial.sample.items() if key.endswith("ids") or key == "labels"])
    seen = {role: bool((ids == trial.special[role]).any()) for role in trial.objective.roles}
    unseen = [role for role, there in seen.items() if not there]
    if not unseen:
        return Finding(OK, "every token of a text is read or predicted")
    found = f"the ids of {', '.join(unseen)} never occur in {len(trial.sample['labels'])} examples"
    if any(seen.values()):
        return Finding(FAULT, found, why="a role of the class is lost, such as the end of a middle")
    return Finding(NOTE, f"every token of a text is read or predicted, but {found}")


def _too_long(trial: CorruptionTrial) -> Finding | None:
    """A fault where a text of `source_length(n)` tokens becomes more than n."""
    for length in (24, 32):
        try:
            source = trial.objective.source_length(length)
            batch = trial.collate([trial.example(source, 700 + n) for n in range(64)])
        except InputError:
            continue  # too short, or more spans than the trial has sentinels
        width = batch["input_ids"].shape[1]
        if width > length and trial.collator().pad_to_multiple_of == 1:
            return Finding(
                FAULT,
                f"texts of source_length({length}) = {source} tokens become rows of {width}",
                why="packing cuts the corpus by it, so rows are longer than the model was planned for",
            )
    return None


def alignment(trial: CorruptionTrial) -> Finding:
    """Output t predicts the next token of a decoder, or the token at its own place (or the next) of an encoder.

    Of the first output; further heads predict other tokens.
    """
    if trial.objective.architecture == "encoder-only":
        return _by_the_text(trial, (0, 1))
    if hasattr(trial.objective, "random_replace_prob"):  # what stands in the input may be another token
        return _by_the_text(trial, (1,))
    wrong = asked = 0
    example = ""
    key = "decoder_input_ids" if trial.objective.architecture == "encoder-decoder" else "input_ids"
    labels, read = _first_labels(trial, trial.batch), trial.batch[key]
    for row, ids in zip(labels, read):
        here = row[:-1] != IGNORED
        hidden = trial.special.is_special(ids[1:]) & (ids[1:] != row[:-1]) if trial.given is None else here & False
        off = here & ~hidden & (ids[1:] != row[:-1])
        asked, wrong = asked + int((here & ~hidden).sum()), wrong + int(off.sum())
        if bool(off.any()) and not example:
            example = table(reads=ids[:12], predicts=row[:12])
    if not asked:
        return Finding(NOT_CHECKED, "no output predicts a token of the text that stands in the input")
    if wrong:
        return Finding(
            FAULT,
            f"{wrong} of {asked} outputs do not predict the token after the one that they stand at",
            example,
            "labels that are shifted twice, or not at all, train another task; generation asks for the next token",
        )
    return Finding(OK, "each output predicts the next token")


def _first_labels(trial: CorruptionTrial, batch: Batch) -> Tensor:
    return next(iter(trial.objective.targets(batch).values())).labels


def _by_the_text(trial: CorruptionTrial, offsets: tuple[int, ...]) -> Finding:
    """Of a corruption in place: labels are the tokens of the text, so many places after their output."""
    batch = trial.collate(trial.examples)
    labels = _first_labels(trial, batch)
    at = batch.get("position_ids", torch.arange(labels.shape[1]).expand_as(labels))  # of each output, in the text
    if "position_ids" not in batch and labels.shape[1] != max(len(one["input_ids"]) for one in trial.examples):
        return Finding(NOT_CHECKED, "the corruption changes the number of tokens, and says no positions")
    misses, asked = dict.fromkeys(offsets, 0), 0
    for offset in offsets:
        asked = 0
        for row, places, one in zip(labels, at + offset, trial.examples):
            text = torch.tensor(one["input_ids"])
            here = (row != IGNORED) & (places < len(text))
            asked += int(here.sum())
            misses[offset] += int((row[here] != text[places[here]]).sum())
    if 0 not in misses.values():
        return Finding(
            FAULT,
            f"{misses[offsets[0]]} of {asked} labels are not the token of the text "
            f"{('at', 'after')[offsets[0]]} their place",
            table(text=trial.examples[0]["input_ids"], labels=labels[0]),
            "the model would learn the text in another place",
        )
    return Finding(
        OK, "each output predicts the token at its place" if not misses.get(0, 1) else "each predicts the next token"
    )
