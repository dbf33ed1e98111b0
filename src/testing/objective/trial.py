"""What an objective of the contract is tried on: a double-precision model, random texts, and their batches."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ...data import Batch, SpecialIds
from ...errors import InputError
from ...models.language_model import call
from ...objectives import Objective, Prediction
from ...objectives.model_calls import predictions

LENGTHS = (9, 24, 5, 16, 20, 12)
"""Of the random texts, in tokens: ragged, and short enough for a model of 32 positions."""
SENTINELS = 20


@dataclass(frozen=True, eq=False)
class Trial:
    """An objective, its model, and what both are asked to do."""

    objective: Objective
    model: nn.Module
    """A copy in evaluation mode and double precision."""
    given: Batch | None
    tolerance: float
    widths: Mapping[str, int]
    """V of each output: the width of its logits, or the length of its table."""
    special: SpecialIds

    @classmethod
    def of(cls, objective: Objective, model: nn.Module, given: Mapping[str, Tensor] | None, tolerance: float) -> Trial:
        """Raises `InputError` for a vocabulary with too few ids for text."""
        model = double_copy(model)
        widths = _widths(objective, model)
        special = special_ids(objective, max(widths.values()), getattr(model, "config", None))
        return cls(objective, model, None if given is None else dict(given), tolerance, widths, special)

    def example(self, length: int, seed: int) -> dict[str, Any]:
        """A random text with an id of its own."""
        generator = torch.Generator().manual_seed(seed)
        choice = self.special.replacements
        return {
            "input_ids": choice[torch.randint(len(choice), (length,), generator=generator)].tolist(),
            "example_id": seed,
        }

    @cached_property
    def examples(self) -> list[dict[str, Any]]:
        """Six ragged texts."""
        return [self.example(length, seed) for seed, length in enumerate(LENGTHS)]

    @cached_property
    def batch(self) -> Batch:
        """The caller's, or that of the examples."""
        return self.given if self.given is not None else self.collate(self.examples)

    @cached_property
    def sample(self) -> Batch:
        """512 ragged texts, for what holds on average."""
        return self.collate([self.example(LENGTHS[seed % len(LENGTHS)], 100 + seed) for seed in range(512)])

    def collate(self, examples: list[dict[str, Any]], **settings: Any) -> Batch:
        """A batch by a fresh collator."""
        return self.objective.collator(self.special, **settings)(examples)

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
