"""What an objective of the contract is tried on: a double-precision model, random texts, and their batches."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...data import Batch, SpecialIds
from ...errors import InputError
from ...models.language_model import call
from ...objectives import Objective, Prediction
from ...objectives.model_calls import predictions
from .corruption_trial import AsExample, CorruptionTrial

SENTINELS = 20


@dataclass(frozen=True, eq=False)
class Trial(CorruptionTrial):
    """An objective, its model, and what both are asked to do."""

    model: nn.Module
    """A copy in evaluation mode and double precision."""
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
        """Raises `InputError` for a vocabulary with too few ids for text."""
        model = double_copy(model)
        widths = _widths(objective, model)
        special = special_ids(objective, max(widths.values()), getattr(model, "config", None))
        batch = None if given is None else dict(given)
        return cls(objective, special, as_example, batch, model, tolerance, widths)

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


def double_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU that attends: matrices that are all zeros get random numbers."""
    model = copy.deepcopy(model).to("cpu", torch.float64).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2 and not bool(parameter.any()):
                parameter.normal_(std=0.2)
    return model


def special_ids(objective: Objective, vocab_size: int, config: Any = None) -> SpecialIds:
    """Special ids for a vocabulary of this size, with the roles that the objective declares and no others."""
    pad = getattr(config, "pad_token_id", None)
    pad = pad if isinstance(pad, int) and 0 <= pad < vocab_size else 0
    roles = [role for role in objective.roles if role not in ("pad", "eos", "mask", "decoder_start")]
    start = getattr(config, "decoder_start_token_id", None)
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
    if isinstance(start, int):
        named["decoder_start"] = start
    return SpecialIds(
        vocab_size,
        pad=pad,
        eos=free[0],
        mask=free[1] if "mask" in objective.roles else None,
        sentinels=free[: -sentinels - 1 : -1],
        roles=named,
    )


def _widths(objective: Objective, model: nn.Module) -> dict[str, int]:
    """V of each output, found by reading three tokens."""
    ids, ones = torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.int64)
    batch = {"input_ids": ids, "attention_mask": ones, "document_ids": ones, "reading_rank": ids}
    batch |= {f"decoder_{key}": batch[key] for key in ("input_ids", "attention_mask", "document_ids")}
    inputs = objective.model_inputs(model, batch)
    with torch.no_grad():
        outputs = predictions(model, call(model, **inputs))
    return {name: one.states.shape[-1] if one.table is None else len(one.table) for name, one in outputs.items()}
