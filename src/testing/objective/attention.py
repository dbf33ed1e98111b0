"""Checks of what an objective's model depends on: what it reads, its documents, and never its own answers."""

from __future__ import annotations

from ...data import IGNORED, Batch
from ...errors import InputError
from ...evaluation import LeakReport, answer_leaks, probe_objective
from ...models import LanguageModel
from ...objectives import Objective, unwrapped
from ..report import FAULT, NOT_CHECKED, NOTE, OK, SURE, Finding, percent
from .trial import Trial


def reads(trial: Trial) -> Finding:
    """What moved equals what the class declares."""
    lengths = (trial.batch["labels"] != IGNORED).sum(1)
    rows = sorted({0, int(lengths.argmax()), int(lengths.argmin())})  # the last is padded
    return _probed(trial, trial.batch, rows)


def documents(trial: Trial) -> Finding | None:
    """Within documents, what moved equals what the class declares."""
    texts = [trial.example(n, 50 + n)["input_ids"] for n in (6, 8, 5)]
    packed = [token for text in texts for token in [*text, trial.special.eos]]
    try:
        batch = trial.collate([{"input_ids": packed, "example_id": 0}], within_documents=True)
    except InputError as error:
        if "documents apart" in str(error):
            return Finding(OK, "the collator refuses to keep documents apart, as the corruption cannot")
        raise
    inputs = trial.objective.model_inputs(trial.model, batch)
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
    return _probed(trial, batch, [0])


def _probed(trial: Trial, batch: Batch, rows: list[int]) -> Finding:
    blind: LeakReport | None = None
    ids = trial.special.replacements
    for row in rows:
        reports = probe_objective(trial.objective, trial.model, batch, row=row, ids=ids, alternatives=2)
        for (output, key), report in reports.items():
            example = str(report) if max(report.moved.shape) <= 32 else ""
            if report.leaks or report.across_rows:
                return Finding(
                    FAULT,
                    f"{output} by {key}: {report.verdict}",
                    example,
                    "the model reads what the objective hides, another document, padding or another row",
                )
            if report.inconclusive:
                return Finding(NOT_CHECKED, f"{output} by {key}: {report.verdict}")
            if report.blind and (_declares_its_own(trial.objective) or _is_ours(trial)):
                return Finding(
                    FAULT,
                    f"{output} by {key}: {len(report.blind)} of {int(report.declared.sum())} declared pairs never "
                    f"move, such as output {report.blind[0][0]} with input {report.blind[0][1]}",
                    example,
                    "the model does not read what the objective means it to: is a key of the batch dropped on the way?",
                )
            blind = report if report.blind else blind
    if blind is not None:
        return Finding(NOTE, f"{blind.verdict}: a model with a window, or with few layers?")
    return Finding(OK, f"what moved is what the class declares, in {len(rows)} {'row' if len(rows) == 1 else 'rows'}")


def _declares_its_own(objective: Objective) -> bool:
    return type(objective).reads is not Objective.reads


def _is_ours(trial: Trial) -> bool:
    return isinstance(unwrapped(trial.model), LanguageModel)


def answers(trial: Trial) -> Finding:
    """No output depends on its own answer; tokens that are kept by an option are exempt."""
    visible = _visible(trial)
    if visible is not None:
        return visible
    examples = [trial.example(length, seed) for seed, length in enumerate((12, 9, 5, 7))]
    report = answer_leaks(trial.objective, trial.model, examples, trial.special)
    if report.leaks:
        return Finding(FAULT, str(report), why="a model that reads its answers has a low loss and has learned nothing")
    if not report.tested:
        return Finding(NOT_CHECKED, "0 outputs could be asked: no label changed with a token of the text")
    return Finding(OK, f"{report}")


def _visible(trial: Trial) -> Finding | None:
    """A fault where more answers stand in the input, at the place of their output, than the options keep there."""
    masked = getattr(trial.objective, "mask_replace_prob", 1.0)
    kept = 1.0 - masked - getattr(trial.objective, "random_replace_prob", 0.0)
    batch = trial.sample
    read = batch["decoder_input_ids" if "decoder_input_ids" in batch else "input_ids"]
    for name, target in trial.objective.targets(batch).items():
        if target.labels.shape != read.shape:
            continue
        here = target.loss_mask
        share = float((read == target.labels)[here].double().mean())
        usual = min(1.0, kept + 1.0 / len(trial.special.replacements))  # a random or repeated token may be the same
        allowed = usual + SURE * max(usual * (1 - usual), 0.01) ** 0.5 / max(int(here.sum()), 1) ** 0.5
        if share > allowed:
            return Finding(
                FAULT,
                f"{percent(share)} of the answers of {name} stand in the input at the place of their output, and the "
                f"options keep {percent(max(kept, 0.0))}",
                why="the residual stream copies what an output reads: the loss is low and nothing is learned",
            )
    return None
