"""How many floating-point operations a step takes: its matrix products, counted exactly."""

from __future__ import annotations

from dataclasses import dataclass

from ..models import ModelConfig
from .memory import OPTIMIZERS, known
from .rows import Row
from .shape import Parameters, stacks


@dataclass(frozen=True)
class Flops:
    """Operations of matrix products, a multiplication and an addition being two; all else is far below 1% of them.

    >>> from clozelab.objectives import CausalLM
    >>> from clozelab.planning import row_of
    >>> work = flops(ModelConfig(vocab_size=4096), "decoder-only", row_of(CausalLM(), 128))
    >>> work.forward, work.total
    (369098752, 1107296256)
    """

    projections: int
    """Forward, of the matrices in the blocks: 2 for each parameter and each token that it reads."""
    attention: int
    """Forward, queries with keys and weights with values: 4 T S D in each attention. A causal one is counted whole, as
    `FlopCounterMode` does, though a fused kernel leaves out about half."""
    unembedding: int
    """Forward, of paid positions alone: 2 V D each."""

    @property
    def forward(self) -> int:
        """All three."""
        return self.projections + self.attention + self.unembedding

    @property
    def total(self) -> int:
        """Forward and backward: each product's backward is two of the same size."""
        return 3 * self.forward

    @property
    def recomputed(self) -> int:
        """What a fused attention computes again in its backward, a fifth product: no part of `total`, for the model's
        work does not depend on how it is done (Chowdhery et al. 2022, appendix B)."""
        return self.attention // 2

    def times(self, rows: int) -> Flops:
        """Of so many rows."""
        return Flops(self.projections * rows, self.attention * rows, self.unembedding * rows)


def flops(config: ModelConfig, architecture: str, row: Row) -> Flops:
    """Of one row, for our own models.

    D width, F inner width, T tokens read; of an encoder-decoder S read and T said:

        block                 2 T (4 D^2 + 3 D F)                          and 4 T^2 D
        block with a memory   2 T (6 D^2 + 3 D F) + 2 S (2 D^2)            and 4 T^2 D + 4 T S D
        unembedding           2 V D for each paid position

    The memory's keys and values are made anew in every decoder block: 4 S D^2 that a paid token of span corruption
    costs beside its own.

    Raises `InputError` for an architecture that does not exist.

    Source: Kaplan et al. 2020, section 2.1, with attention and the unembedding counted rather than left out.
    """
    alone, reading = stacks(config, architecture)
    width, inner = config.d_model, config.feed_forward_size
    token = 4 * width**2 + 3 * width * inner
    projections = 2 * alone * row.read * token
    projections += 2 * reading * (row.said * (token + 2 * width**2) + row.read * 2 * width**2)
    attention = 4 * width * (alone * row.read**2 + reading * (row.said**2 + row.said * row.read))
    return Flops(projections, attention, 2 * row.paid * config.vocab_size * width)


ROUNDS = 5
"""Of Newton and Schulz, in each step of `torch.optim.Muon`."""


def optimizer_flops(count: Parameters, optimizer: str = "adamw") -> int:
    """Operations of the matrix products of one optimiser step, the same however many tokens the step saw.

    AdamW has none. Muon makes each matrix of the blocks orthogonal, by `ROUNDS` rounds of three products: of a matrix
    with sides a <= b, 4 a^2 b + 2 a^3 operations a round. One that is cut among devices has to be whole for that.

    >>> from clozelab.planning import parameters
    >>> config = ModelConfig(vocab_size=4096, n_layers=1, d_model=96, feed_forward=96)  # 7 matrices of 96 x 96
    >>> optimizer_flops(parameters(config, "decoder-only"), "muon") == 7 * 5 * 6 * 96**3
    True

    Raises `InputError` for an optimiser that does not exist.

    Source: Jordan et al. 2024 (Muon), "Runtime analysis".
    """
    known("optimizer", optimizer, OPTIMIZERS)
    sides = [sorted(matrix) for matrix in count.matrices] if optimizer == "muon" else []
    return ROUNDS * sum(4 * a * a * b + 2 * a**3 for a, b in sides)
