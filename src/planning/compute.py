"""How many floating-point operations a step takes: its matrix products, counted exactly."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..checks import check_type
from ..models import ModelConfig, model_config
from ..objectives import Objective
from ..training.compute import ProductCounter
from ..training.muon import ROUNDS
from .abstract import UnknownValues, at_any_depth
from .memory import OPTIMIZERS, known, whole
from .rows import Row, row_of
from .shape import Parameters, parameters, shape_model


@dataclass(frozen=True)
class Flops:
    """Operations of matrix products, a multiplication and an addition being two; all else is far below 1% of them.

    >>> from clozelab import CausalLM
    >>> from clozelab.models import ModelConfig
    >>> from clozelab.planning import flops, row_of
    >>> work = flops(CausalLM(), ModelConfig(vocab_size=4096), row_of(CausalLM(), 128))
    >>> work.forward, work.total
    (369098752, 1107296256)
    """

    projections: int
    """Forward, of the matrices in the blocks: 2 for each parameter and each token that it is applied to."""
    attention: int
    """Forward, queries with keys and weights with values: 4 T S D in each attention. A causal one is counted whole, as
    PyTorch's formulas do, though a fused kernel leaves out about half."""
    unembedding: int
    """Forward, of the loss positions alone: 2 V D each, 4 D for those of two classes."""
    drawing: int = 0
    """Forward without a backward: 2 V D for each id that the model draws (ELECTRA)."""

    @property
    def forward(self) -> int:
        """All three that have a backward."""
        return self.projections + self.attention + self.unembedding

    @property
    def total(self) -> int:
        """Forward and backward: each product's backward is two of the same size."""
        return 3 * self.forward + self.drawing

    @property
    def recomputed(self) -> int:
        """What a fused attention computes again in its backward, a fifth product: no part of `total`, for the model's
        work does not depend on how it is done (Chowdhery et al. 2022, appendix B)."""
        return self.attention // 2


def flops(objective: Objective, config: ModelConfig, row: Row, rows: int = 1) -> Flops:
    """Of so many rows, counted by PyTorch on the forward pass of the objective's model on the meta device.

    For our blocks that is, with D the width, F the inner width, T tokens, and S those of the encoder:

        block                         2 T (4 D^2 + 3 D F)                     and 4 T^2 D
        block with cross-attention    2 T (6 D^2 + 3 D F) + 2 S (2 D^2)       and 4 T^2 D + 4 T S D
        unembedding                   2 V D for each loss position

    Source: Kaplan et al. 2020, section 2.1, with attention and the unembedding counted rather than left out.
    """
    check_type(objective, Objective, "the objective")
    check_type(config, ModelConfig, "the shape of a model")
    check_type(row, Row, "the row", "row_of(objective, length) makes it")
    whole("rows", rows)
    how = type(objective), tuple(objective.options().items()), row
    projections = at_any_depth(lambda config: _products(astuple(config), *how)[0], config, row)
    attention = at_any_depth(lambda config: _products(astuple(config), *how)[1], config, row)
    of_ids = round(2 * rows * (row.loss_positions - row.of_two_classes) * config.vocab_size * config.d_model)
    unembedding = of_ids + round(4 * rows * row.of_two_classes * config.d_model)
    return Flops(rows * projections, rows * attention, unembedding, of_ids if row.of_two_classes else 0)


def step_flops(
    objective: Objective, *, size: str, vocab_size: int, length: int, batch_size: int, optimizer: str = "adamw"
) -> int:
    """Of a training step of the model of a named size, on rows of `length` input tokens: its products, forward and
    backward, and the optimiser's.

    >>> from clozelab import CausalLM, MaskedLM
    >>> from clozelab.planning import step_flops
    >>> shape = {"size": "tiny", "vocab_size": 4096, "length": 128, "batch_size": 32}
    >>> round(step_flops(CausalLM(), **shape) / step_flops(MaskedLM(), **shape), 2)
    1.44

    Raises `InputError` for a size that does not exist, and a length that the objective cannot use.
    """
    check_type(objective, Objective, "the objective")
    config = model_config(objective.architecture, size, vocab_size)
    rows = flops(objective, config, row_of(objective, length), batch_size).total
    return rows + optimizer_flops(parameters(objective, config), optimizer)


@lru_cache(maxsize=1024)
def _products(
    shape: tuple[Any, ...], kind: type[Objective], options: tuple[tuple[str, Any], ...], row: Row
) -> tuple[int, int]:
    """Operations of the forward pass of a row: those with weights, and those of two activations."""
    objective = kind(**dict(options))
    model = shape_model(objective, ModelConfig(*shape))
    inputs = {key: torch.zeros(1, length, dtype=torch.int64, device="meta") for key, length in row.inputs}
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), UnknownValues(), ProductCounter() as products:
        model(**objective.model_inputs(model, inputs))
    attention = products.by_kind[torch.ops.aten.bmm]
    return products.total - attention, attention


def optimizer_flops(count: Parameters, optimizer: str = "adamw") -> int:
    """Operations of the matrix products of one optimiser step, the same however many tokens the step saw.

    AdamW has none. Muon makes each matrix of the blocks orthogonal, by `ROUNDS` rounds of three products: of a matrix
    with sides a <= b, 4 a^2 b + 2 a^3 operations a round. One that is cut among devices has to be whole for that.

    >>> from clozelab import CausalLM
    >>> from clozelab.models import ModelConfig
    >>> from clozelab.planning import optimizer_flops, parameters
    >>> config = ModelConfig(vocab_size=4096, n_layers=1, d_model=96, d_ff=96)  # 7 matrices of 96 x 96
    >>> optimizer_flops(parameters(CausalLM(), config), "muon") == 7 * 5 * 6 * 96**3
    True

    Raises `InputError` for an optimiser that does not exist.

    Source: Jordan et al. 2024 (Muon), "Runtime analysis".
    """
    known("optimizer", optimizer, OPTIMIZERS)
    sides = [sorted(matrix) for matrix in count.matrices if len(matrix) == 2] if optimizer == "muon" else []
    return ROUNDS * sum(4 * a * a * b + 2 * a**3 for a, b in sides)
