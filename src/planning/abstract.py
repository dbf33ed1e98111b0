"""A model's forward pass without its numbers: what it keeps for the backward is read from PyTorch, not from formulas.

So nothing here has to be edited when a block changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, astuple, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from ..models import ModelConfig
from ..objectives import Objective
from ..objectives.model_calls import predictions
from ..training.recompute import recomputed
from .rows import Row


class UnknownValues(TorchFunctionMode):
    """Answers what a model asks about the values of a tensor that has none: ids are in range, masks hide something."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.aminmax:
            return torch.tensor(0), torch.tensor(0)
        if func in (torch.Tensor.all, torch.Tensor.any) and len(args) == 1 and not kwargs:  # none draws an id
            return torch.tensor(False)
        return func(*args, **(kwargs or {}))


def at_any_depth(cost: Callable[[ModelConfig], int], config: ModelConfig, row: Row) -> int:
    """The cost of a model from those of models of one and two blocks: the blocks of a stack cost the same each."""
    depths = {"n_layers": config.n_layers}
    if row.decoder_length:
        depths["n_decoder_layers"] = config.n_layers if config.n_decoder_layers is None else config.n_decoder_layers
    shallow = replace(config, **dict.fromkeys(depths, 1))
    deeper = {name: replace(shallow, **{name: 2}) for name, depth in depths.items() if depth > 1}
    one = cost(shallow)
    return one + sum((depths[name] - 1) * (cost(other) - one) for name, other in deeper.items())


class Forward(NamedTuple):
    """What a forward pass of the model leaves."""

    kept: int
    """Bytes of all tensors that it keeps for its backward, weights left out."""
    numbers: dict[str, int]
    """Bytes of each number of the states that it outputs, by the output."""


def bytes_kept(
    objective: Objective,
    config: ModelConfig,
    row: Row,
    rows: int,
    *,
    precision: str,
    kind: str,
    recompute: bool = False,
) -> int:
    """Bytes that the forward pass of the model keeps; `recompute`: of the inputs of its blocks, and outside of them.

    Measured on one and two rows, and continued from there: each row costs the same.
    """

    def of_rows(rows: int) -> int:
        how = type(objective), tuple(objective.options().items()), row, rows, precision, kind, recompute
        return at_any_depth(lambda config: _forward(astuple(config), *how).kept, config, row)

    one = of_rows(1)
    return one if rows == 1 else one + (rows - 1) * (of_rows(2) - one)


def bytes_of_numbers(
    objective: Objective, config: ModelConfig, row: Row, *, precision: str, kind: str
) -> dict[str, int]:
    """Bytes of each number of the states that the model outputs, by the output.

    Under bfloat16's autocast states are float32 behind a residual stream, and bfloat16 behind a product alone.
    """
    shallow = replace(config, n_layers=1, **({"n_decoder_layers": 1} if row.decoder_length else {}))
    how = type(objective), tuple(objective.options().items()), row, 1, precision, kind, False
    return _forward(astuple(shallow), *how).numbers


@lru_cache(maxsize=1024)
def _forward(
    shape: tuple[Any, ...],
    kind_of_objective: type[Objective],
    options: tuple[tuple[str, Any], ...],
    row: Row,
    rows: int,
    precision: str,
    kind: str,
    recompute: bool,
) -> Forward:
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes seconds to import

    objective, config = kind_of_objective(**dict(options)), ModelConfig(*shape)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    # Short bfloat16 attention is made of plain products on a processor, which keep all of its weights. A GPU has a
    # fused kernel for it, and so has a processor for float16, whose numbers are as large.
    low = torch.bfloat16 if kind == "cpu" else torch.float16
    with FakeTensorMode(), torch.random.fork_rng(devices=[]):
        model = objective.build_model(**asdict(config))
        inputs = {key: torch.zeros(rows, length, dtype=torch.int64) for key, length in row.inputs}
        weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        with (
            UnknownValues(),
            recomputed(model) if recompute else nullcontext(),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", low, enabled=precision == "bfloat16"),
        ):
            outputs = predictions(model, model(**objective.model_inputs(model, inputs)))
    return Forward(
        sum(one.untyped_storage().nbytes() for place, one in kept.items() if place not in weights),
        {name: output.states.dtype.itemsize for name, output in outputs.items()},
    )
