"""Is this objective right? One of clozelab's contract, or any function (model, batch) -> loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, nn

from ...checks import check_number, check_type
from ...data import IGNORED
from ...errors import InputError
from ...escape import shown
from ...objectives import Objective
from ..randomness import own_random_state
from ..report import Check, Report, run_checks
from . import attention, claims, corruption, documents, function, ids, loss, noise, parts
from .corruption_trial import AsExample
from .function_trial import FunctionTrial
from .trial import Trial

CHECKS: dict[str, Check[Trial]] = {
    "returns": loss.returns,
    "options": corruption.options,
    "parameters": corruption.parameters,
    "corruption": corruption.repeatable,
    "text": corruption.whole_text,
    "alignment": corruption.alignment,
    "noise": noise.noise,
    "progress": noise.progress,
    "special ids": ids.special,
    "uniform": loss.uniform,
    "value": loss.value,
    "count": loss.scored,
    "likelihood": claims.likelihood,
    "gradient": loss.gradient,
    "separate parts": parts.separate,
    "replaced": parts.replaced,
    "accumulation": loss.accumulation,
    "nothing to predict": loss.nothing,
    "keys": loss.keys,
    "reads": attention.reads,
    "documents": documents.documents,
    "answers": attention.answers,
}
"""Of an `Objective`, by the names that `skip` takes, in the order in which they run."""

ESSENTIAL = ("uniform", "gradient", "accumulation", "reads", "answers")
"""Without these a report says nothing about whether a model learns what it should."""


def check_objective(
    objective: Callable[[nn.Module, Any], Any],
    model: nn.Module,
    batch: Mapping[str, Tensor] | None = None,
    *,
    example: AsExample | None = None,
    tolerance: float = 1e-6,
    skip: Collection[str] = (),
) -> Report:
    """Check an objective on a model and a batch.

    - `objective`: an `Objective`, of which everything is asked from its class; or a function (model, batch) that
      returns a `Loss`, a tuple (sum, count), or a scalar tensor, which is taken to be a mean;
    - `batch`: {key: (B, T) tensor} with `labels`, at least two rows with different numbers of loss positions, or a mean
      of means would look right; None lets an `Objective` make its own from random texts;
    - `example`: from token ids to an example, for an objective whose scheme asks for more than tokens;
    - `tolerance`: of the relative comparisons of gradients and values, which are made in double precision;
    - `skip`: names of checks to leave out.

    A copy of the model is used, on the CPU, in evaluation mode and double precision, with random numbers where a matrix
    is all zeros (fresh blocks of ours are the identity, and would attend to nothing). The model is not changed.

    >>> from clozelab import MaskedLM
    >>> from clozelab.testing import check_objective
    >>> objective = MaskedLM()
    >>> report = check_objective(objective, objective.build_model(60, "tiny", d_model=16, n_layers=1, n_heads=2))
    >>> print(report.headline)
    MaskedLM: 20 passed, 0 failed, 0 not checked
    >>> report.findings["reads"].found
    'what moved is what the class declares, in 130 rows, and nothing else in a row of 150 tokens'

    Returns the `Report`, whose `passed` is False where an essential check could not run. Raises `CheckFailed` for a
    fault, `InputError` for a missing or unsuitable batch, and for a vocabulary that is too small for random texts.
    """
    check_type(model, nn.Module, "the model")
    if not 0 <= check_number(tolerance, "tolerance") < 1:
        raise InputError(f"tolerance is of relative comparisons, in [0, 1), got {tolerance!r}")
    if example is not None and not callable(example):
        raise InputError(f"expected a function from token ids to an example, got {shown(example)}")
    if batch is not None:
        _check_batch(batch)
    name = getattr(objective, "__name__", type(objective).__name__)
    settings: dict[str, Any] = {"essential": ESSENTIAL, "names": CHECKS}
    with own_random_state(0):
        if isinstance(objective, Objective):
            if example is None and (keys := objective.example_keys()):
                raise InputError(
                    f"the objective needs {', '.join(sorted(keys))} of each example: give example=, a function from "
                    "token ids to a dict with them"
                )
            trial = Trial.of(objective, model, batch, tolerance, example)
            return run_checks(name, CHECKS, trial, skip, **settings)
        if not callable(objective):
            raise InputError(f"expected an objective or a function (model, batch) -> loss, got {shown(objective)}")
        if batch is None:
            raise InputError("give a batch: only clozelab's objectives can make their own")
        function_trial = FunctionTrial(objective, model, dict(batch), tolerance)
        return run_checks(name, function.CHECKS, function_trial, skip, **settings)


def _check_batch(batch: Mapping[str, Tensor]) -> None:
    if not isinstance(batch, Mapping) or not isinstance(batch.get("labels"), Tensor) or batch["labels"].dim() != 2:
        raise InputError(f"expected a batch with 'labels' (B, T), got {type(batch).__name__}")
    if not all(isinstance(value, Tensor) and len(value) == len(batch["labels"]) for value in batch.values()):
        raise InputError(f"expected tensors of {len(batch['labels'])} rows in the batch, as its labels have")
    by_row = (batch["labels"] != IGNORED).sum(1).tolist()
    if len(set(by_row)) < 2 and not loss.labels_at_padding(dict(batch)):
        raise InputError(
            f"the rows of this batch have {by_row} loss positions; give at least two that differ, or a mean of means "
            "would look like a mean"
        )


__all__ = ["CHECKS", "ESSENTIAL", "check_objective"]
