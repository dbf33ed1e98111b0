"""Checks of what an objective's model depends on: what it reads, and never its own answers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...data import IGNORED, Batch
from ...evaluation import LeakReport, answer_leaks, probe_objective
from ...evaluation.answer_leaks import kept_share
from ...evaluation.perturbation import differ, repeat
from ...models import LanguageModel, eval_mode
from ...objectives import unwrapped
from ..report import FAULT, NOT_CHECKED, NOTE, OK, SURE, Finding, percent, table
from .corruption_trial import real_tokens
from .trial import Trial

LONG = (150, 100, 64, 48, 30)
"""Lengths of the one long text, in tokens, of which the first is taken that the model takes."""
SHORT = (4, 9, 6, 7, 5, 8)
"""Lengths of the many short texts, in tokens."""
IDS = ("input_ids", "decoder_input_ids")
"""Keys of ids whose influence an objective declares."""


def reads(trial: Trial) -> Finding:
    """What moved equals what the class declares, in rows of every kind."""
    lengths = (trial.batch["labels"] != IGNORED).sum(1)
    rows = {0, int(lengths.argmax()), int(lengths.argmin())}  # the last is padded
    for values in trial.objective.breakdown(trial.batch).values():
        rows |= {int((values == value).nonzero()[0, 0]) for value in values.unique()[:16]}
    many = trial.collate([trial.example(SHORT[n % len(SHORT)], 1000 + n) for n in range(128)])
    finding = probed(trial, trial.batch, sorted(rows), many)
    if finding.verdict not in (OK, NOTE):
        return finding
    leak, length = _long_row(trial)
    if not length:
        return dataclasses.replace(finding, found=f"{finding.found}; no row of {LONG[-1]} tokens could be read")
    return leak or dataclasses.replace(finding, found=f"{finding.found}, and nothing else in a row of {length} tokens")


def _long_row(trial: Trial) -> tuple[Finding | None, int]:
    """(a leak in a long row of which some inputs are changed, its tokens): as long as model and sentinels allow."""
    for length in LONG:
        try:
            batch = trial.collate([trial.example(length, 7000)])
            with torch.no_grad():
                trial.outputs(batch)
        except Exception:  # more spans than sentinels, or places than the model has
            continue
        return _leak_in_long_row(trial, batch), length
    return None, 0


def _leak_in_long_row(trial: Trial, batch: Batch) -> Finding | None:
    for (output, key), declared in trial.objective.reads(batch).items():
        ids, choice = batch[key], trial.special.replacements
        places = torch.linspace(0, ids.shape[1] - 1, min(9, ids.shape[1])).long().unique()  # (N,)
        copies = {name: repeat(value, len(places) + 1) for name, value in batch.items()}
        changed = copies[key].clone()
        other = choice[(torch.searchsorted(choice, ids[0, places]) + 1) % len(choice)]
        changed[torch.arange(len(places)) + 1, places] = torch.where(other == ids[0, places], choice[0], other)
        with torch.no_grad(), eval_mode(trial.model):
            states = trial.outputs({**copies, key: changed})[output].states
        moved = differ(states[:1].expand(len(places), *states.shape[1:]), states[1:], trial.movement)  # (N, T)
        leaks = moved & ~declared[0, :, places].T
        if bool(leaks.any()):
            n, t = leaks.nonzero()[0].tolist()
            return Finding(
                FAULT,
                f"output {t} moves with {key} {int(places[n])} of a row of {ids.shape[1]}, which it may not read",
                why="the model reads what the objective hides, in long rows: is a mask wrong behind its first block?",
            )
    return None


def _undeclared(trial: Trial, batch: Batch) -> Finding | None:
    """A fault where `reads` leaves out an output, or an input of which the model takes the ids."""
    inputs = trial.objective.model_inputs(trial.model, batch)
    wanted = {(name, key) for name in trial.objective.targets(batch) for key in IDS if key in inputs}
    declared = trial.objective.reads(batch)
    if missing := sorted(wanted - declared.keys()):
        output, key = missing[0]
        return Finding(
            FAULT,
            f"reads() does not say which {key} may move {output}",
            why="a pair that is not declared is never probed: a model that reads its answers would pass",
        )
    for (output, key), matrix in declared.items():
        rows, outputs = trial.objective.targets(batch)[output].labels.shape
        if matrix.dtype != torch.bool or matrix.shape != (rows, outputs, batch[key].shape[1]):
            return Finding(
                FAULT,
                f"reads() has {matrix.dtype} {tuple(matrix.shape)} for {output} by {key}, not torch.bool "
                f"{(rows, outputs, batch[key].shape[1])}",
            )
    return None


def probed(trial: Trial, batch: Batch, rows: list[int], many: Batch) -> Finding:
    """Some rows, each alone beside an unchanged one, and all rows of another batch at once."""
    if fault := _undeclared(trial, many):
        return fault
    finding = _judged(trial, batch, rows, many, 0.0)
    return _judged(trial, batch, rows, many, trial.movement) if finding.verdict == FAULT else finding


def _judged(trial: Trial, batch: Batch, rows: list[int], many: Batch, tolerance: float) -> Finding:
    """What the reports come to; with a tolerance of 0 a leak may be rounding."""
    blind: LeakReport | None = None
    sides = _Sides()
    for name, report in _reports(trial, batch, rows, many, tolerance):
        example = str(report) if max(report.moved.shape) <= 32 else ""
        if report.leaks or report.across_rows:
            return Finding(
                FAULT,
                f"{name}: {report.verdict}",
                example,
                "the model reads what the objective hides, another document, padding or another row",
            )
        if report.inconclusive:
            return Finding(NOT_CHECKED, f"{name}: {report.verdict}")
        if report.blind and (trial.objective.declares("reads") or _is_ours(trial)):
            return Finding(
                FAULT,
                f"{name}: {len(report.blind)} of {int(report.declared.sum())} declared pairs never move, such as "
                f"output {report.blind[0][0]} with input {report.blind[0][1]}",
                example,
                "the model does not read what the objective means it to: is a key of the batch dropped on the way?",
            )
        blind = report if report.blind else blind
        if trial.objective.architecture != "encoder-decoder":
            sides.add(report)
    if one := sides.never:
        return Finding(
            FAULT,
            f"no output moves with a token on its {one}, and the objective declares such pairs",
            why="the model reads one side alone: a causal model for an objective that reads both sides?",
        )
    if blind is not None:
        return Finding(NOTE, f"{blind.verdict}: a model with a window, or with few layers?")
    count = len(many["input_ids"]) + (0 if many is batch else len(rows))
    return Finding(OK, f"what moved is what the class declares, in {count} rows")


class _Sides:
    """Whether outputs moved with tokens on their left and on their right, of those that are declared."""

    def __init__(self) -> None:
        self.declared, self.moved = {"left": 0, "right": 0}, {"left": 0, "right": 0}

    def add(self, report: LeakReport) -> None:
        """Count the pairs of a matrix that has a column for each output."""
        if report.perturbed != "input_ids" or report.moved.shape[0] != report.moved.shape[1]:
            return
        for side, diagonal in (("left", lambda m: m.tril(-1)), ("right", lambda m: m.triu(1))):
            self.declared[side] += int(diagonal(report.declared).sum())
            self.moved[side] += int(diagonal(report.moved & report.declared).sum())

    @property
    def never(self) -> str:
        """The side that is declared and never read, while the other one is."""
        for side, other in (("left", "right"), ("right", "left")):
            if self.declared[side] >= 20 and not self.moved[side] and self.moved[other]:
                return side
        return ""


def _reports(
    trial: Trial, batch: Batch, rows: list[int], many: Batch, tolerance: float
) -> Iterator[tuple[str, LeakReport]]:
    """(output and input, report) of each row."""
    ids = trial.special.replacements
    for row in rows:
        settings: dict[str, Any] = {"ids": ids, "alternatives": 2, "tolerance": tolerance}
        reports = probe_objective(trial.objective, trial.model, batch, row=row, **settings)
        yield from ((f"row {row}, {output} by {key}", report) for (output, key), report in reports.items())
    for (output, key), declared in trial.objective.reads(many).items():
        side = "decoder_" if "decoder_input_ids" in many else ""
        is_token = many[f"{side}attention_mask"] != 0 if f"{side}attention_mask" in many else None  # (B, T)
        moved, unread = _moved_at_once(trial, many, output, key, tolerance)
        for b in range(len(moved)):
            here = torch.ones_like(moved[b, :, :1]) if is_token is None else is_token[b, :, None]
            may = declared[b] if unread is None else declared[b] & ~unread[b]
            yield f"text {b}, {output} by {key}", LeakReport(moved[b] & here, may & here, key)


def _moved_at_once(trial: Trial, batch: Batch, output: str, key: str, tolerance: float) -> tuple[Tensor, Tensor | None]:
    """(B, T, S) bool: outputs that moved with each input; (B, S) bool: inputs that changed nothing that it reads, as
    the output of a model that draws ids reads those.

    One forward pass changes an input in all rows, which read nothing of one another.
    """
    ids, choice = batch[key].contiguous(), trial.special.replacements
    others = choice[(torch.searchsorted(choice, ids) + 1) % len(choice)]  # (B, S)
    others = torch.where(others == ids, choice[0], others)
    columns, unread = [], []
    with torch.no_grad(), eval_mode(trial.model):
        before = trial.outputs(batch)[output]
        for s in range(ids.shape[1]):
            changed = ids.clone()
            changed[:, s] = others[:, s]
            after = trial.outputs({**batch, key: changed})[output]
            columns.append(differ(before.states, after.states, tolerance))
            if after.sampled is not None and before.sampled is not None:
                unread.append((after.sampled == before.sampled).all(1))
    return torch.stack(columns, 2), torch.stack(unread, 1) if unread else None


def _is_ours(trial: Trial) -> bool:
    return isinstance(unwrapped(trial.model), LanguageModel)


def answers(trial: Trial) -> Finding:
    """No output depends on its own answer; tokens that are kept by an option, and copied targets, are exempt."""
    if fault := _visible(trial) or _no_copies(trial):
        return fault
    examples = [trial.example(SHORT[n % len(SHORT)], 3000 + n) for n in range(64)]
    settings: dict[str, Any] = {"alternatives": 1}
    report = answer_leaks(trial.objective, trial.model, examples, trial.special, **settings)
    if report.leaks:  # to the last bit, which may be rounding
        report = answer_leaks(
            trial.objective, trial.model, examples, trial.special, tolerance=trial.movement, **settings
        )
    if report.leaks:
        return Finding(FAULT, str(report), why="a model that reads its answers has a low loss and has learned nothing")
    if not report.tested:
        return Finding(NOT_CHECKED, "0 outputs could be asked: no label changed with a token of the text")
    return Finding(OK, f"{report}")


def _no_copies(trial: Trial) -> Finding | None:
    """A fault where targets are said to be copies of the inputs, and are not: whatever they leak would be excused."""
    batch = trial.sample
    copied = trial.objective.copied(batch)
    if copied is None:
        return None
    target = next(iter(trial.objective.targets(batch).values()))
    for row, here, read in zip(target.labels, copied & target.loss_mask, real_tokens(batch)):
        if missing := Counter(row[here].tolist()) - Counter(read):
            return Finding(
                FAULT,
                f"copied() holds a target {next(iter(missing))} that does not stand in the inputs of its row",
                table(input_ids=read[:16], labels=row[:16], copied=here[:16]),
                "a hidden target that is called a copy would be excused for reading its answer",
            )
    return None


def _visible(trial: Trial) -> Finding | None:
    """A fault where more answers stand in the input, and are read by their output, than the options keep there."""
    kept = kept_share(trial.objective)
    batch = trial.sample
    read = batch["decoder_input_ids" if "decoder_input_ids" in batch else "input_ids"]
    for name, target in trial.objective.targets(batch).items():
        if target.labels.shape != read.shape or target.detects_replaced:  # which asks of visible tokens by design
            continue
        here = target.loss_mask & ~trial.special.is_special(target.labels.clamp(min=0))  # a sentinel may be repeated
        visible = read == target.labels
        if trial.objective.architecture == "decoder-only":  # whose answer is the next token, perhaps read
            reads_next = trial.objective.reads(batch)[name, "input_ids"].diagonal(1, 1, 2)  # (B, T - 1)
            visible[:, :-1] |= reads_next & (read[:, 1:] == target.labels[:, :-1])
        share = float(visible[here].double().mean())
        tokens = 1 + (trial.objective.architecture == "decoder-only")  # that may be the same by chance
        usual = min(1.0, kept + tokens / len(trial.special.replacements))
        allowed = usual + SURE * max(usual * (1 - usual), 0.01) ** 0.5 / max(int(here.sum()), 1) ** 0.5
        if share > allowed:
            return Finding(
                FAULT,
                f"{percent(share)} of the answers of {name} stand in the input where their output reads them, and the "
                f"options keep {percent(kept)}",
                why="the residual stream copies what an output reads: the loss is low and nothing is learned",
            )
    return None
