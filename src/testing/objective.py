"""Is this objective right? Ours, or any function (model, batch) -> loss, such as `lambda m, b: m(**b).loss`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_number, check_type
from ..data import IGNORED, SpecialIds
from ..errors import InputError
from ..evaluation import probe_objective
from ..objectives import Objective
from .randomness import own_random_state
from .report import FAULT, NOTE, OK, Check, Finding, Report, run_checks


def check_objective(
    objective: Callable[[nn.Module, Any], Any],
    model: nn.Module,
    batch: Mapping[str, Tensor] | None = None,
    *,
    tolerance: float = 1e-4,
    skip: Collection[str] = (),
) -> Report:
    """Check an objective on a model and a batch.

    - `objective(model, batch)` returns a `Loss`, anything with a `sum` and a `count`, or a scalar tensor, which is
      taken to be a mean;
    - `batch`: rows that pay for different numbers of positions, or a mean of means would look right; None lets one of
      our objectives make its own;
    - `tolerance`: of the relative comparisons of gradients and values;
    - `skip`: names of checks that are not wanted.

    Copies of the model are used, in evaluation mode; the model itself is not changed.

    >>> from clozelab.objectives import MaskedLM
    >>> objective = MaskedLM()
    >>> print(check_objective(objective, objective.build_model(60, "tiny", d_model=16, n_layers=1, n_heads=2)))
    MaskedLM: all 5 checks passed
      ok    uniform: a model that knows nothing pays 4.0943 nats a position, ln 60
      ok    unpaid: no gradient where nothing is paid
      ok    accumulation: 6 batches of one row have the gradient of one batch of 6
      ok    nothing to predict: a batch without labels has the loss 0 and gradients of 0
      ok    leaks: nothing is read that may not be

    Returns the `Report`. Raises `CheckFailed` for a fault, `InputError` for a batch that is missing or pays alike in
    every row.
    """
    check_type(model, nn.Module, "the model")
    if not 0 <= check_number(tolerance, "tolerance") < 1:
        raise InputError(f"tolerance is of relative comparisons, in [0, 1), got {tolerance!r}")
    if batch is None:
        if not isinstance(objective, Objective):
            raise InputError("give a batch: only clozelab's objectives can make their own")
        batch = _batch_for(objective, model)
    if not isinstance(batch, Mapping) or not isinstance(batch.get("labels"), Tensor):
        raise InputError(f"expected a batch with 'labels', got {type(batch).__name__}")
    trial = _Trial(objective, model, batch, tolerance)
    if len(trial.paid_by_row) < 2 or len(set(trial.paid_by_row)) < 2:
        raise InputError(
            f"the rows of this batch pay for {trial.paid_by_row} positions; give at least two that differ, or a mean "
            "of means could not be told from a mean"
        )
    name = getattr(objective, "__name__", type(objective).__name__)
    return run_checks(name, CHECKS, trial, skip)


def _batch_for(objective: Objective, model: nn.Module) -> Mapping[str, Tensor]:
    """Six ragged random texts, as the objective's collator makes them."""
    config = getattr(model, "config", None)
    vocab_size = getattr(config, "vocab_size", None)
    if not isinstance(vocab_size, int) or vocab_size < 20:
        raise InputError(f"give a batch: {type(model).__name__} tells no vocabulary of 20 or more ids in its config")
    special = SpecialIds(vocab_size, pad=0, eos=1, mask=2, sentinels=range(vocab_size - 1, vocab_size - 11, -1))
    generator = torch.Generator().manual_seed(0)
    texts = [
        special.replacements[torch.randint(vocab_size - 13, (n,), generator=generator)] for n in (9, 24, 5, 16, 30, 12)
    ]
    return objective.collator(special)([{"input_ids": text, "example_id": n} for n, text in enumerate(texts)])


@dataclass(frozen=True, eq=False)
class _Trial:
    objective: Callable[[nn.Module, Any], Any]
    given: nn.Module
    batch: Mapping[str, Tensor]
    tolerance: float

    @cached_property
    def model(self) -> nn.Module:
        """A copy in evaluation mode that reads: fresh blocks of ours are the identity, so it gets random weights."""
        model = copy.deepcopy(self.given).eval()
        with own_random_state(0), torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() >= 2 and not bool(parameter.any()):
                    parameter.normal_(std=0.2)
        return model

    @property
    def paid_by_row(self) -> list[int]:
        return (self.batch["labels"] != IGNORED).sum(1).tolist()

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """(sum, count), or (mean, None)."""
        result = self.objective(model, batch)
        if isinstance(result, Tensor):
            return result, None
        return result.sum, torch.as_tensor(result.count)

    def mean(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        total, count = self.loss(model, batch)
        return total if count is None else total / count.clamp(min=1)

    def gradient(self, batches: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """The gradient of a step that accumulates over batches, as who wrote the objective would have it."""
        self.model.zero_grad()
        counted: list[Tensor | None] = []
        for batch in batches:
            total, count = self.loss(self.model, batch)
            (total if count is not None else total / len(batches)).backward()
            counted.append(count)
        total_count = sum((int(count) for count in counted if count is not None), 0)
        flat = torch.cat([p.grad.flatten().double() for p in self.model.parameters() if p.grad is not None])
        return flat / max(total_count, 1)


def _uniform(trial: _Trial) -> Finding:
    """A model whose table over the vocabulary is zero says that every id is equally likely."""
    model = copy.deepcopy(trial.given).eval()
    head = getattr(model, "unembedding", None)
    ends: list[Any] = [head] if isinstance(head, Tensor) else []
    theirs = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    ends += [] if theirs is None else list(theirs.parameters())
    ends += [parameter for name, parameter in model.named_parameters() if name.endswith("predictions.bias")]
    if not ends:
        return Finding(NOTE, "no unembedding was found on this model, so its value for a uniform guess is not known")
    with torch.no_grad():
        for end in ends:
            end.zero_()
        mean = float(trial.mean(model, trial.batch))
    vocab_size = len(ends[0])
    expected = math.log(vocab_size)
    if not abs(mean - expected) <= trial.tolerance * expected:
        return Finding(
            FAULT,
            f"a model that knows nothing pays {mean:.4f} nats a position, not ln {vocab_size} = {expected:.4f}",
            why="the cross-entropy of a uniform guess is ln V, whatever the labels: a term, a weight or the sign is "
            "wrong, or a mean is taken for a sum",
        )
    return Finding(OK, f"a model that knows nothing pays {mean:.4f} nats a position, ln {vocab_size}")


def _unpaid(trial: _Trial) -> Finding:
    """Watch the gradient at the model's outputs, before the vocabulary."""
    model, seen = trial.model, []

    def keep(module: nn.Module, inputs: Any, outputs: Any) -> None:
        watched = outputs if module is model else inputs[0]
        if isinstance(watched, Tensor) and watched.requires_grad and watched.dim() == 3:
            watched.retain_grad()
            seen.append(watched)

    theirs = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # type: ignore[operator]
    hook = (model if theirs is None else theirs).register_forward_hook(keep)
    try:
        trial.mean(model, trial.batch).backward()
    finally:
        hook.remove()
        model.zero_grad()
    if not seen or seen[-1].grad is None:
        return Finding(NOTE, "this model shows no outputs (B, T, ...), so their gradients could not be seen")
    moved = seen[-1].grad.abs().sum(-1) > 0  # (B, T)
    in_place = trial.batch["labels"] != IGNORED
    shifted = torch.nn.functional.pad(in_place[:, 1:], (0, 1))
    if moved.shape != in_place.shape:
        return Finding(NOTE, f"outputs {tuple(moved.shape)} and labels {tuple(in_place.shape)} cannot be compared")
    if bool((moved & ~in_place).any()) and bool((moved & ~shifted).any()):
        row, at = (moved & ~in_place & ~shifted).nonzero()[:1].flatten().tolist() or (0, 0)
        return Finding(
            FAULT,
            f"output {at} of row {row} has a gradient though its label is {IGNORED}",
            why="the model is trained on positions that it can read, or on padding; multiply before you average",
        )
    return Finding(OK, "no gradient where nothing is paid")


def _accumulation(trial: _Trial) -> Finding:
    rows = len(trial.paid_by_row)
    single = [{key: value[b : b + 1] for key, value in trial.batch.items()} for b in range(rows)]
    at_once, added = trial.gradient([trial.batch]), trial.gradient(single)
    off = float((at_once - added).norm() / at_once.norm().clamp(min=1e-30))
    if not off <= trial.tolerance:
        means = [float(trial.mean(trial.model, one).detach()) for one in single]
        return Finding(
            FAULT,
            f"{rows} batches of one row have another gradient than one batch of {rows}: it is off by {off:.2%}",
            f"positions paid by row    {trial.paid_by_row}\nmean of the row's loss   "
            f"{[round(mean, 3) for mean in means]}\nmean of these means      {sum(means) / rows:.4f}\n"
            f"mean over all positions  {float(trial.mean(trial.model, trial.batch).detach()):.4f}",
            "a mean of means weighs a position by the length of its neighbours: batch size, accumulation and the "
            "number of processes change what is trained; add sums and counts, divide once",
        )
    return Finding(OK, f"{rows} batches of one row have the gradient of one batch of {rows}")


def _nothing(trial: _Trial) -> Finding:
    empty = {**trial.batch, "labels": torch.full_like(trial.batch["labels"], IGNORED)}
    mean = trial.mean(trial.model, empty)
    why = "one such batch makes every weight NaN; clamp the count, and keep the zero connected to the model"
    if not bool(mean.isfinite()):
        return Finding(FAULT, f"a batch without labels has the loss {float(mean.detach())}", why=why)
    if not mean.requires_grad:
        return Finding(FAULT, "the loss of a batch without labels is a constant: backward() raises", why=why)
    trial.model.zero_grad()
    mean.backward()
    gradients = [p.grad for p in trial.model.parameters() if p.grad is not None]
    if any(not bool(gradient.isfinite().all()) or bool(gradient.any()) for gradient in gradients) or bool(
        mean.detach() != 0
    ):
        return Finding(
            FAULT,
            f"a batch without labels has the loss {float(mean.detach()):.4f} and gradients that are not 0",
            why=why,
        )
    return Finding(OK, "a batch without labels has the loss 0 and gradients of 0")


def _leaks(trial: _Trial) -> Finding | None:
    if not isinstance(trial.objective, Objective):
        return Finding(NOTE, "whether the model reads what it must not is for clozelab.evaluation.probe to say")
    for stream, report in probe_objective(trial.objective, trial.model, trial.batch).items():
        if not report.passed:
            return Finding(
                FAULT if report.leaks or report.across_rows else NOTE,
                f"{stream}: {report.verdict}",
                str(report) if max(report.moved.shape) <= 32 else "",
                "a model that reads its answers has a low loss and has learned nothing",
            )
    return Finding(OK, "nothing is read that may not be")


CHECKS: dict[str, Check[_Trial]] = {
    "uniform": _uniform,
    "unpaid": _unpaid,
    "accumulation": _accumulation,
    "nothing to predict": _nothing,
    "leaks": _leaks,
}
"""By the names that `skip` takes, in the order in which they run."""
