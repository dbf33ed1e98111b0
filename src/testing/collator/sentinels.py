"""Checks of a collator for span corruption or causal LM: sentinels, lengths, shifts, ends of text."""

from __future__ import annotations

import torch

from ...data import IGNORED, restore_spans, span_lengths
from ...errors import InputError
from ..report import FAULT, NOT_CHECKED, NOTE, OK, Finding, table
from .trial import CollatorTrial, of_kind


@of_kind("spans")
def round_trip(trial: CollatorTrial) -> Finding:
    """Inputs and targets together are the text; tokens of a role, such as a mode in front, are none of it."""
    roles = {one for name, one in trial.special.roles.items() if name != "decoder_start"}
    for text in sorted(trial.texts(*range(2, 40), seed=6), key=len):
        ((read, targets),) = trial.rows(trial.batch([text]))
        problem = ""
        for eos in (trial.special.eos, None):
            try:
                inputs = torch.tensor([one for one in read if one not in roles])
                restored = restore_spans(inputs, torch.tensor(targets), trial.special.sentinels, eos=eos)
            except InputError as error:
                problem = problem or str(error)
                continue
            if restored.tolist() == text:
                break
            problem = problem or "put together, inputs and targets are another text"
        else:
            return Finding(
                FAULT,
                f"inputs and targets do not give the text again: {problem}",
                "\n".join((table(text=text), table(read=list(read)), table(labels=list(targets)))),
                "sentinels that are out of step ask for one span and predict another; their order is that of "
                "SpecialIds.sentinels",
            )
    return Finding(OK, "inputs and targets together are the text again, for 2 to 39 tokens")


@of_kind("spans")
def decoder(trial: CollatorTrial) -> Finding:
    """The decoder reads the labels one place later."""
    batch = trial.batch(trial.ragged[:4])
    if "decoder_input_ids" not in batch:
        return Finding(NOT_CHECKED, "no 'decoder_input_ids': the model must shift the labels itself, as T5 does")
    given, labels = batch["decoder_input_ids"], batch["labels"]
    in_loss = labels[:, 1:] != IGNORED
    if bool((given < 0).any()) or bool((given[:, 1:] != labels[:, :-1])[in_loss].any()):
        row = table(decoder_reads=given[0, :12], labels=labels[0, :12])
        return Finding(
            FAULT, "the decoder does not read the labels one place later", row, "it reads what it is to predict"
        )
    start = trial.special["decoder_start"]
    if bool((given[:, 0] != start).any()):
        return Finding(
            FAULT,
            f"the decoder starts with {int(given[0, 0])}, and the role decoder_start is {start}",
            table(decoder_reads=given[0, :12], labels=labels[0, :12]),
            "generate() begins with the start id of the model: state it, SpecialIds(roles={'decoder_start': ...}), "
            "where it is not the padding",
        )
    return Finding(OK, f"the decoder reads the labels one place later, behind {start}")


@of_kind("spans")
def lengths(trial: CollatorTrial) -> Finding:
    """Texts of one length become rows of one length, which a plan knows."""
    for length in (8, 20, 64, 141, 568):
        found = {tuple(map(len, row)) for row in trial.rows(trial.batch(trial.texts(*[length] * 16, seed=7)))}
        if (spans := trial.spans or _declared_spans(trial)) is not None:
            density, mean_noise_span_length = spans
            plans = [
                span_lengths(
                    length, noise_density=density, mean_noise_span_length=mean_noise_span_length, final_sentinel=f
                )
                for f in (False, True)
            ]
            if len(found) != 1 or next(iter(found)) not in {(plan.inputs, plan.targets) for plan in plans}:
                return Finding(
                    FAULT,
                    f"{length} tokens become {sorted(found)[:3]} inputs and targets, not {plans[0].inputs} and "
                    f"{plans[0].targets}",
                    why="blocks that were cut to the planned length are padded or cut off",
                )
        elif len(found) != 1:
            least, most = min(found), max(found)
            return Finding(
                NOTE, f"{length} tokens become from {least} to {most} inputs and targets, so rows are padded"
            )
    return Finding(OK, "texts of one length become inputs and targets of one length")


def _declared_spans(trial: CollatorTrial) -> tuple[float, float] | None:
    """Those of the objective, where its spans are T5's, whose lengths are fixed."""
    if getattr(trial.objective, "scheme", None) != "random-spans":
        return None
    density, mean = (getattr(trial.objective, name, None) for name in ("noise_density", "mean_noise_span_length"))
    return None if density is None or mean is None else (density, mean)


@of_kind("next-token")
def labels(trial: CollatorTrial) -> Finding:
    """Labels of causal LM are the text, in place or shifted by one."""
    texts = trial.texts(12, 7, seed=8)
    rows = trial.rows(trial.batch(texts))
    in_place = False
    for text, (read, given) in zip(texts, rows):
        if list(read) == text[:-1] and all(label in (token, IGNORED) for token, label in zip(text[1:], given)):
            continue  # x and y, one place on
        if list(read) != text:
            return Finding(FAULT, "the inputs are not the text", table(text=text, read=list(read)))
        in_place = all(label in (token, IGNORED) for token, label in zip(text, given))
        shifted = all(label in (token, IGNORED) for token, label in zip(text[1:], given))
        if not (in_place or shifted):
            return Finding(
                FAULT,
                "labels are neither the inputs nor the inputs shifted by one",
                table(read=text, labels=list(given)),
                "each position is to predict the token that follows",
            )
    if in_place:
        return Finding(OK, "labels are the inputs: the loss must shift them")
    return Finding(OK, "labels are the inputs shifted by one already: the loss must not shift them again")


@of_kind("next-token", "spans", "prefix", "middle", "blanks")
def end(trial: CollatorTrial) -> Finding:
    """The end of a text is in the loss."""
    texts = trial.texts(12, 7, seed=9)
    for text, (_, given) in zip(texts, trial.rows(trial.batch(texts))):
        if trial.special.eos not in given:
            return Finding(
                FAULT,
                "the end of a text is never in the loss",
                table(text=text, labels=list(given)) if trial.kind == "next-token" else table(labels=list(given)),
                "the model never learns to stop; take padding from lengths, not from id == pad, which here "
                f"is {trial.special.pad} while the end of text is {trial.special.eos}",
            )
    return Finding(OK, "the end of a text is in the loss")
