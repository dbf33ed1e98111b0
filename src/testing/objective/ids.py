"""Checks of the special ids of a batch: the decoder's start, sentinels, ends, replacements and roles."""

from __future__ import annotations

from collections import Counter, defaultdict

import torch

from ...data import IGNORED
from ..report import FAULT, NOTE, OK, Finding, percent, table
from .corruption_trial import CorruptionTrial, real_tokens


def special(trial: CorruptionTrial) -> Finding:
    """Each special id stands where its meaning is."""
    tried = []
    for check in (_start, _sentinels, _end, _replacements, _roles):
        finding = check(trial)
        if finding is not None and finding.verdict == FAULT:
            return finding
        if finding is not None:
            tried.append(finding)
    noted = [finding for finding in tried if finding.verdict == NOTE]
    found = "; ".join(finding.found for finding in noted or tried) or "no special id stands in the batch"
    return Finding(NOTE if noted else OK, found)


def _start(trial: CorruptionTrial) -> Finding | None:
    batch = trial.sample
    if "decoder_input_ids" not in batch:
        return None
    firsts, start = batch["decoder_input_ids"][:, 0], trial.special["decoder_start"]
    if "decoder_position_ids" in batch:
        return _start_in_text(trial, firsts.tolist(), start)
    if bool((firsts != start).any()):
        return Finding(
            FAULT,
            f"the decoder starts with {sorted(set(firsts.tolist()))[:5]}, and the role decoder_start is {start}",
            table(decoder_input_ids=batch["decoder_input_ids"][0, :12], labels=batch["labels"][0, :12]),
            "generate() of the model begins with its own start id, which it would never have seen in training: take "
            'special["decoder_start"]',
        )
    return Finding(OK, f"the decoder starts with {start}")


def _start_in_text(trial: CorruptionTrial, firsts: list[int], start: int) -> Finding:
    """Of a decoder that is told its positions: it starts with the token of the text before the first of them."""
    places = trial.sample["decoder_position_ids"][:, 0].tolist()
    for example, place, first in zip(trial.sample_examples, places, firsts):
        expected = example["input_ids"][place - 1] if place else start
        if first != expected:
            return Finding(
                FAULT,
                f"the decoder starts with {first} at position {place}, and {expected} stands before it",
                table(text=example["input_ids"], positions=[*range(len(example["input_ids"]))]),
                "the decoder would write its span in another place: positions are those of the predicted tokens in the "
                "text, and behind nothing stands the start id",
            )
    return Finding(OK, f"the decoder starts with the token before its first position, or {start}")


def _sentinels(trial: CorruptionTrial) -> Finding | None:
    """Of an encoder-decoder: one sentinel a span, spelled out in the order of the inputs."""
    batch, known = trial.sample, set(trial.special.sentinels)
    if "decoder_input_ids" not in batch or not bool(torch.isin(batch["input_ids"], torch.tensor([*known])).any()):
        return None
    for read, labels in zip(real_tokens(batch), batch["labels"].tolist()):
        asked = [token for token in read if token in known]
        spelled = [token for token in labels if token in known]
        shown = table(input_ids=read[:24]) + "\n" + table(labels=[one for one in labels if one != IGNORED][:24])
        if len(set(asked)) < len(asked):
            repeated = next(one for one, times in Counter(asked).items() if times > 1)
            return Finding(
                FAULT,
                f"the sentinel {repeated} stands for several spans of one text",
                shown,
                "the model cannot tell which span it is to spell out",
            )
        if [one for one in spelled if one in asked] != asked:
            return Finding(
                FAULT,
                f"the inputs hide spans behind {asked[:6]}, and the labels spell out {spelled[:6]}",
                shown,
                "what stands behind a sentinel in the labels is not what it hides in the inputs",
            )
    return Finding(OK, "each hidden span has a sentinel of its own, in one order")


def _end(trial: CorruptionTrial) -> Finding | None:
    """A model that writes from left to right learns where to stop."""
    objective, special = trial.objective, trial.special
    if objective.architecture == "encoder-only":
        return None
    texts = [trial.text((12, 7, 9)[n % 3], 4000 + n) for n in range(120)]
    examples = [trial.example_of([*ids, special.eos] if n % 2 else ids, example_id=n) for n, ids in enumerate(texts)]
    batch = trial.collate(examples)
    if "decoder_position_ids" in batch:
        return Finding(OK, "the decoder is told its positions, and needs no end")
    if objective.architecture == "encoder-decoder":
        without = [row for row in batch["labels"].tolist() if special.eos not in row]
        if without:
            return Finding(
                FAULT,
                f"{len(without)} of {len(texts)} rows have no end of text in their labels",
                table(labels=[one for one in without[0] if one != IGNORED][:24]),
                "the model never learns to stop",
            )
        return Finding(OK, "labels close with an end of text")
    labels = objective.targets(batch)
    if "logits" not in labels:
        return None
    last: dict[str, list[bool]] = defaultdict(list)
    reads = objective.reads(batch).get(("logits", "input_ids"))
    for b, (read, row) in enumerate(zip(real_tokens(batch), labels["logits"].labels.tolist())):
        n = len(read)
        if n > 1 and reads is not None and bool(reads[b, n - 2, n - 1]):
            continue  # read on both sides to its end, and not written
        name = str(read[-1]) if bool(special.is_special(torch.tensor(read[-1]))) else "a token of text"
        last[name].append(n > 1 and row[n - 2] == read[-1])
    never = [name for name, in_loss in last.items() if len(in_loss) >= 10 and not any(in_loss)]
    if never:
        which = {str(special[role]): role for role in objective.roles} | {str(special.eos): "the end of text"}
        return Finding(
            FAULT,
            f"the last token of a row is never in the loss where it is {which.get(never[0], never[0])}",
            why="the model never learns to stop, and writes on for ever",
        )
    return Finding(OK, "the last token of a row is in the loss")


def _replacements(trial: CorruptionTrial) -> Finding | None:
    """Of an encoder, in place: what stands where a token is hidden is a mask, or one of many ids of text."""
    batch, special = trial.sample, trial.special
    if trial.objective.architecture != "encoder-only" or batch["input_ids"].shape != batch["labels"].shape:
        return None
    other: list[int] = []
    for example, read in zip(trial.sample_examples, batch["input_ids"].tolist()):
        if len(example["input_ids"]) < len(read) and batch["input_ids"].shape[1] != 24:
            return None
        other += [now for token, now in zip(example["input_ids"], read) if token != now]
    allowed = {special.mask, *special.sentinels, *(special[role] for role in trial.objective.roles)}
    put = Counter(one for one in other if one not in allowed)
    ids, total = special.replacements.tolist(), sum(put.values())
    odd = {one: times for one, times in put.items() if one not in set(ids)}
    if odd:
        return Finding(
            FAULT,
            f"special ids stand in place of hidden tokens: {odd}",
            why="padding and ends of text appear in the middle of texts, where they mean nothing: draw from "
            "special.replacements",
        )
    if total >= 20 and len(put) * 10 < min(total, len(ids)):
        return Finding(
            FAULT,
            f"{total} hidden tokens are replaced by {len(put)} different ids of {len(ids)}: {sorted(put)[:8]}",
            why="a model learns that these ids mean hidden, as it knows of the mask: draw from all ids of text",
        )
    return Finding(OK, f"{total} tokens are replaced by {len(put)} ids of text, {len(other) - total} by the mask")


def _roles(trial: CorruptionTrial) -> Finding | None:
    """Roles that a decoder reads behind the first place and that are never in the loss: perhaps by design."""
    if trial.objective.architecture != "decoder-only" or not trial.objective.roles:
        return None
    batch = trial.sample
    behind, labels = batch["input_ids"][:, 1:], trial.objective.targets(batch)
    in_loss = torch.cat([target.labels.flatten() for target in labels.values()])
    ids = {role: trial.special[role] for role in trial.objective.roles}
    never = [role for role, one in ids.items() if bool((behind == one).any()) and not bool((in_loss == one).any())]
    if never:
        share = percent(len(never) / len(ids))
        return Finding(NOTE, f"{', '.join(never)} ({share} of the roles) stand in the inputs and never in the loss")
    return Finding(OK, "roles behind the first place are in the loss")
