"""Checks of an objective within documents: no input, answer or output of one depends on another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...data import IGNORED, Batch
from ...errors import InputError
from ..report import FAULT, OK, Finding, table
from .attention import probed
from .trial import Trial

PACKED = ((6, 8, 5), (3, 9), (4, 2, 7, 3))
"""Lengths of the documents of a packed row."""


def documents(trial: Trial) -> Finding | None:
    """Within documents, what moved equals what the class declares."""
    examples = [_packed(trial, PACKED[n % len(PACKED)], n) for n in range(48)]
    try:
        batch = trial.collate(examples, within_documents=True)
    except InputError as error:
        if "documents apart" in str(error):
            return Finding(OK, "the collator refuses to keep documents apart, as the corruption cannot")
        raise
    inputs = trial.objective.model_inputs(trial.model, batch)
    if fault := _crossing(trial, [*examples[:4], *_long(trial)]):
        return fault
    if dropped := {"document_ids", "decoder_document_ids"} & batch.keys() - inputs.keys():
        try:
            trial.objective(trial.model, batch)
        except InputError:
            return Finding(OK, f"the model takes no {', '.join(sorted(dropped))}, and a batch with them is refused")
        return Finding(
            FAULT,
            f"{', '.join(sorted(dropped))} reaches no model, and nothing is raised",
            why="texts that are packed together would be read as one",
        )
    return _declares_others(trial, batch) or probed(trial, batch, [0], batch)


def _declares_others(trial: Trial, batch: Batch) -> Finding | None:
    """A fault where `reads` lets an output move with another document: then no probe would find it."""
    for (output, key), declared in trial.objective.reads(batch).items():
        of_outputs = batch.get("decoder_document_ids", batch.get("document_ids"))
        of_inputs = batch.get("decoder_document_ids" if key.startswith("decoder_") else "document_ids")
        if of_outputs is None or of_inputs is None or declared.shape[1:] != (of_outputs.shape[1], of_inputs.shape[1]):
            continue
        is_input = batch.get(key.replace("input_ids", "attention_mask"), torch.ones_like(of_inputs)) != 0
        others = declared & (of_outputs[:, :, None] != of_inputs[:, None]) & is_input[:, None]
        if "decoder_attention_mask" in batch or "decoder_input_ids" not in batch:
            mask = batch.get("decoder_attention_mask", batch.get("attention_mask"))
            others &= True if mask is None else (mask != 0)[:, :, None]
        else:
            others &= (trial.objective.targets(batch)[output].labels != IGNORED)[:, :, None]
        if bool(others.any()):
            row, t, s = others.nonzero()[0].tolist()
            return Finding(
                FAULT,
                f"reads() lets output {t} of {output} move with {key} {s}, which is of another document (row {row})",
                why="texts that are packed together would be read as one, and every probe would excuse it",
            )
    return None


def _packed(trial: Trial, lengths: tuple[int, ...], number: int) -> dict[str, Any]:
    """Documents of these lengths as one example, each closed by an end of text."""
    texts = [trial.text(length, 2000 + 10 * number + length) for length in lengths]
    ids = [token for text in texts for token in [*text, trial.special.eos]]
    return trial.example_of(ids, example_id=number)


def _long(trial: Trial) -> list[dict[str, Any]]:
    """Rows of several hidden spans, as far as the sentinels suffice: of a short one T5 hides only the end."""
    examples = [_packed(trial, (20, 17, 24, 13), 900 + n) for n in range(4)]
    try:
        trial.collate(examples, within_documents=True)
    except InputError:
        return []
    return examples


def _crossing(trial: Trial, examples: list[dict[str, Any]]) -> Finding | None:
    """A fault where a token of one document changes an input or an answer of another one."""
    choice = trial.special.replacements.tolist()
    for example in examples:
        ids = example["input_ids"]
        variants, owners, put, document = [example], [], [], 0
        for j, token in enumerate(ids):
            if token == trial.special.eos:
                document += 1
                continue
            other = choice[(choice.index(token) + 1) % len(choice)]
            variants.append({**example, "input_ids": [*ids[:j], other, *ids[j + 1 :]]})
            owners.append(document)
            put.append((token, other))
        batch = trial.collate(variants, within_documents=True)
        side = "decoder_document_ids" if "decoder_document_ids" in batch else "document_ids"
        columns = {name: (labels, batch[side]) for name, labels in _asked(trial, batch)}
        columns["input_ids"] = batch["input_ids"], batch["document_ids"]
        if "decoder_input_ids" in batch:
            columns["decoder_input_ids"] = batch["decoder_input_ids"], batch[side]
        for name, (values, documents) in columns.items():
            before, after = torch.tensor(put)[:, :, None].unbind(1)  # (N, 1) each
            changed = (values[1:] == after) & (values[0] == before)  # (N, T): or other tokens are hidden
            of = {owner: set[int]() for owner in owners}
            for n, t in changed.nonzero().tolist():
                of[owners[n]].add(int(documents[n + 1, t]))
            shared = [one for a, one in of.items() for b, two in of.items() if a < b and one & two]
            if any(len(numbers) > 1 for numbers in of.values()) or shared:
                owner = next((one for one, numbers in of.items() if len(numbers) > 1), 0)
                answer = name not in ("input_ids", "decoder_input_ids")
                return Finding(
                    FAULT,
                    f"a token of document {owner} of a row changes {'answers of ' if answer else ''}{name} in "
                    f"another document, with the document ids {sorted(of[owner])}",
                    table(input_ids=batch["input_ids"][0], documents=batch["document_ids"][0])
                    + "\n"
                    + table(**{name: values[0], "its_documents": documents[0]}),
                    "a document would be predicted from another one, which separate rows do not do: put -100 at the "
                    "last output of a document, and the start id before the first answer of the next",
                )
    return None


def _asked(trial: Trial, batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """(output, labels (B, T)) of each output; of one with soft labels a matrix for each of their places."""
    for name, target in trial.objective.targets(batch).items():
        yield name, target.labels
        if target.soft_labels is not None:
            ids = target.soft_labels.ids.masked_fill(target.soft_labels.probabilities == 0, IGNORED)
            yield from ((f"{name}, place {k}", one) for k, one in enumerate(ids.unbind(-1)) if k)
