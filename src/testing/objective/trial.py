"""What an objective of the contract is tried on: a double-precision model, random texts, and their batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ...data import Batch, SpecialIds
from ...errors import InputError
from ...models.language_model import call
from ...objectives import Objective, Prediction
from ...objectives.model_calls import decoder_start, predictions
from ..report import raised
from .corruption_trial import AsExample, CorruptionTrial

SENTINELS = 20


@dataclass(frozen=True, eq=False)
class Trial(CorruptionTrial):
    """An objective, its model, and what both are asked to do."""

    model: nn.Module
    """A copy in evaluation mode and double precision, or in single precision where it does not run in double."""
    tolerance: float
    widths: Mapping[str, int]
    """V of each output: the width of its logits, or the length of its table."""

    @classmethod
    def of(
        cls,
        objective: Objective,
        model: nn.Module,
        given: Mapping[str, Tensor] | None,
        tolerance: float,
        as_example: AsExample | None = None,
    ) -> Trial:
        """Raises `InputError` for a model that cannot be called, and for a vocabulary with too few ids for text."""
        batch = None if given is None else dict(given)

        def made(copied: nn.Module) -> Trial:
            widths = _widths(objective, copied)
            special = special_ids(objective, max(widths.values()), copied)
            return cls(objective, special, as_example, batch, copied, tolerance_of(copied, tolerance), widths)

        def gradient(copied: nn.Module) -> Tensor:
            trial = made(copied)
            return trial.gradient(objective(copied, trial.batch).mean)

        return made(runnable_copy(model, gradient))

    @cached_property
    def movement(self) -> float:
        """How far an output may change by rounding alone, as where a router sends one token to another expert."""
        with torch.no_grad():
            largest = max(float(one.states.abs().max()) for one in self.outputs(self.batch).values())
        return rounding(self.model) * largest

    @property
    def remark(self) -> str:
        """For the report, where the model does not run in double precision."""
        return "" if precision(self.model) == torch.float64 else " (in float32: the model does not run in double)"

    def outputs(self, batch: Batch) -> Mapping[str, Prediction]:
        """The model's outputs."""
        return predictions(self.model, call(self.model, **self.objective.model_inputs(self.model, batch)))

    def gradient(self, value: Tensor) -> Tensor:
        """The gradient of a scalar with respect to all parameters, flat."""
        self.model.zero_grad()
        value.backward()
        return self.current_gradient()

    def current_gradient(self) -> Tensor:
        """What the parameters have gathered, flat; zeros where a parameter has none."""
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.model.parameters()]
        return torch.cat([piece.flatten() for piece in pieces]).double()


def runnable_copy(model: nn.Module, gradient: Callable[[nn.Module], Tensor]) -> nn.Module:
    """A copy in double precision, or in single precision where only that has a finite gradient.

    Some models do not run in double: kernels for grouped products take none, and two least numbers add up to -inf.
    """
    double = attending_copy(model, torch.float64)
    if _runs(double, gradient):
        return double
    single = attending_copy(model, torch.float32)
    return single if _runs(single, gradient) else double  # whose problem is reported


def _runs(model: nn.Module, gradient: Callable[[nn.Module], Tensor]) -> bool:
    try:
        found = gradient(model)
    except Exception:  # it comes again in the check of what is returned
        return False
    model.zero_grad()
    return bool(found.isfinite().all())


def precision(model: nn.Module) -> torch.dtype:
    """Of the first parameter of floating point."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float64)


def rounding(model: nn.Module) -> float:
    """What another order of the same sums may change, relative to the largest output."""
    return 1e-10 if precision(model) == torch.float64 else 1e-5


def tolerance_of(model: nn.Module, asked: float) -> float:
    """Of relative comparisons: what was asked for, and no less than single precision allows."""
    return asked if precision(model) == torch.float64 else max(asked, 1e-4)


def attending_copy(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy on the CPU that attends: matrices that are all zeros get random numbers."""
    model = copy.deepcopy(model).to("cpu", dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2 and not bool(parameter.any()):
                parameter.normal_(std=0.2)
    return model


def special_ids(objective: Objective, vocab_size: int, model: nn.Module) -> SpecialIds:
    """Special ids for a vocabulary of this size, with the roles that the objective declares and no others."""
    pad = getattr(getattr(model, "config", None), "pad_token_id", None)
    pad = pad if isinstance(pad, int) and 0 <= pad < vocab_size else 0
    roles = [role for role in objective.roles if role not in ("pad", "eos", "mask", "decoder_start")]
    start = decoder_start(model) if objective.architecture == "encoder-decoder" else None
    start = start if start is not None and 0 <= start < vocab_size else None
    free = [one for one in range(vocab_size) if one not in (pad, start)]
    if start is None:  # neither pad nor eos, or a start that is written into the corruption would not be found
        roles = [*roles, "decoder_start"]
    sentinels = min(SENTINELS, vocab_size // 3)
    if len(free) < 2 + len(roles) + sentinels + 8:
        raise InputError(
            f"{vocab_size} ids are too few for the special ids of {objective.name} and 8 ids of text: try a model with "
            "a larger vocabulary"
        )
    named = dict(zip(roles, free[2:]))
    if start is not None:
        named["decoder_start"] = start
    return SpecialIds(
        vocab_size,
        pad=pad,
        eos=free[0],
        mask=free[1] if "mask" in objective.roles else None,
        sentinels=free[: -sentinels - 1 : -1],
        roles=named,
        starts_word=torch.arange(vocab_size) % 2 == 0,
        ends_sentence=torch.arange(vocab_size) % 7 == 0,
    )


def _widths(objective: Objective, model: nn.Module) -> dict[str, int]:
    """V of each output, found by reading three tokens."""
    ids, ones = torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.int64)
    batch = {"input_ids": ids, "attention_mask": ones, "document_ids": ones, "reading_rank": ids}
    batch |= {f"decoder_{key}": batch[key] for key in ("input_ids", "attention_mask", "document_ids")}
    inputs = objective.model_inputs(model, batch)
    try:
        with torch.no_grad():
            outputs = predictions(model, call(model, **inputs))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{type(model).__name__} cannot be called with three tokens: {raised(error)}") from error
    return {name: one.states.shape[-1] if one.table is None else len(one.table) for name, one in outputs.items()}
