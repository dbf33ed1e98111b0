"""Optimisers: AdamW for all weights, or Muon for the matrices inside the blocks and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..checks import check_type
from .config import TrainConfig
from .eager_optimizers import AdamW
from .muon import Muon
from .precision import uses_bfloat16


def optimizer_of(model: nn.Module, config: TrainConfig) -> Optimizers:
    """The optimiser that `config.optimizer` names, for the weights that are to be trained.

    "adamw": Loshchilov and Hutter 2019, weight decay on matrices only.
    "muon": the matrices inside the blocks by Muon (Jordan et al. 2024), which makes each step of a matrix orthogonal,
    so that it is as long in every direction; the tables over the vocabulary and all vectors by AdamW.

    >>> from torch import nn
    >>> from clozelab.training import TrainConfig, optimizer_of
    >>> model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 4))
    >>> [len(group["params"]) for group in optimizer_of(model, TrainConfig(optimizer="muon")).param_groups]
    [1, 1, 1]
    """
    check_type(model, nn.Module, "the model")
    check_type(config, TrainConfig, "the settings")
    trained = [p for p in model.parameters() if p.requires_grad]
    tables = _tables(model)
    inner = [p for p in trained if config.optimizer == "muon" and p.dim() == 2 and id(p) not in tables]
    outer = [p for p in trained if not any(p is other for other in inner)]
    groups = [
        {"params": [p for p in outer if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in outer if p.dim() < 2], "weight_decay": 0.0},
    ]
    parts: list[torch.optim.Optimizer] = []
    if any(group["params"] for group in groups):
        filled = [group for group in groups if group["params"]]
        parts.append(AdamW(filled, lr=config.learning_rate, betas=config.betas, fused=True))
    if inner:
        fast = uses_bfloat16(config.precision, inner[0].device)
        settings = config.matrix_learning_rate, config.weight_decay, config.matrix_momentum
        parts.append(Muon(inner, *settings, bfloat16=fast))
    return Optimizers(*parts)


def _tables(model: nn.Module) -> set[int]:
    """The parameters that have a row for each id, or each class, as `id(parameter)`: of ours and of Hugging Face's."""
    tables: list[Any] = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    tables += [getattr(model, name, None) for name in ("unembedding", "verdict")]  # the latter of ELECTRA
    head = getattr(model, "get_output_embeddings", lambda: None)()
    tables.append(getattr(head, "weight", None))
    return {id(table) for table in tables}


class Optimizers:
    """One or two optimisers that step as one, with one learning rate schedule and one state.

    Each group keeps its `peak_lr`; `set_lr_scale` sets every learning rate to the same share of it.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = parts
        for group in self.param_groups:
            group["peak_lr"] = group["lr"]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts, in order."""
        return [group for part in self.parts for group in part.param_groups]

    def set_lr_scale(self, scale: float) -> None:
        """Every learning rate becomes `scale` times its peak."""
        for group in self.param_groups:
            group["lr"] = group["peak_lr"] * scale

    def step(self) -> None:
        """Move the weights."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """The state as that of one optimiser: parameters are numbered through all parts."""
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        for first, part in self._numbered():
            saved = part.state_dict()
            state |= {first + number: values for number, values in saved["state"].items()}
            groups += [{**group, "params": [first + n for n in group["params"]]} for group in saved["param_groups"]]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """The inverse of `state_dict`; raises `ValueError` for a state of other groups of parameters."""
        groups = list(saved["param_groups"])
        for first, part in self._numbered():
            last = first + sum(len(group["params"]) for group in part.param_groups)
            mine, groups = groups[: len(part.param_groups)], groups[len(part.param_groups) :]
            part.load_state_dict(
                {
                    "state": {n - first: values for n, values in saved["state"].items() if first <= n < last},
                    "param_groups": [{**group, "params": [n - first for n in group["params"]]} for group in mine],
                }
            )
        if groups:
            raise ValueError(f"the saved state has {len(groups)} groups of parameters too many")

    def _numbered(self) -> Iterable[tuple[int, torch.optim.Optimizer]]:
        first = 0
        for part in self.parts:
            yield first, part
            first += sum(len(group["params"]) for group in part.param_groups)
