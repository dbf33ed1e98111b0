"""How many parameters a shape has, and which shape has about so many."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..checks import check_number, check_type
from ..errors import InputError
from ..models import ARCHITECTURES, ModelConfig

Matrix = tuple[int, int]
"""Its rows and columns. Nothing else is learned: our norms have no gain and our projections no bias."""


@dataclass(frozen=True)
class Parameters:
    """The learned numbers of a model by kind: optimisers, sharding and autocast treat tables and matrices differently.

    >>> count = parameters(ModelConfig(vocab_size=4096), "decoder-only")
    >>> count.tables, count.inner, count.total
    (524288, 790528, 1314816)
    """

    ends: tuple[Matrix, ...]
    """The tables over the vocabulary: one where it is tied, else two."""
    blocks: tuple[tuple[Matrix, ...], ...]
    """The matrices of each block, the encoder's first."""

    @property
    def tables(self) -> int:
        """Numbers in the tables."""
        return size(self.ends)

    @property
    def inner(self) -> int:
        """Numbers in the blocks."""
        return sum(size(block) for block in self.blocks)

    @property
    def total(self) -> int:
        """All of them."""
        return self.tables + self.inner

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Those of all blocks."""
        return tuple(matrix for block in self.blocks for matrix in block)


def size(matrices: tuple[Matrix, ...], devices: int = 1) -> int:
    """Numbers in the matrices; shared out among devices, those of the one that has most.

    `fully_shard` (FSDP2) cuts each matrix between rows, into equal numbers of them while they last: of 4096 rows a
    thousand devices get 5 each, 22% more than a thousandth, and the last 180 devices none.

    >>> size(((4096, 10),), 8), size(((4096, 10),), 1000)
    (5120, 50)
    """
    return sum(math.ceil(rows / devices) * columns for rows, columns in matrices)


def stacks(config: ModelConfig, architecture: str) -> tuple[int, int]:
    """Blocks that read one text, and decoder blocks that read an encoder's memory as well.

    >>> stacks(ModelConfig(vocab_size=8, n_layers=3, n_decoder_layers=2), "encoder-decoder")
    (3, 2)

    Raises `InputError` for an architecture that does not exist.
    """
    check_type(config, ModelConfig, "the shape of a model")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise InputError(f"architecture must be one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    if architecture != "encoder-decoder":
        return config.n_layers, 0
    return config.n_layers, config.n_layers if config.n_decoder_layers is None else config.n_decoder_layers


def parameters(config: ModelConfig, architecture: str) -> Parameters:
    """Exactly what `ARCHITECTURES[architecture](config)` holds.

    A block has 4 D^2 numbers for attention and 3 D F for its gated feed-forward; one that reads a memory has 4 D^2
    more. With F = 8/3 D that is 12 D^2, as in GPT-2 (Kaplan et al. 2020, section 2.1), and 16 D^2.

    >>> config = ModelConfig(vocab_size=4096, d_model=96, n_layers=2, n_decoder_layers=1)
    >>> parameters(config, "encoder-decoder").inner == (12 + 12 + 16) * 96**2
    True

    Raises `InputError` for an architecture that does not exist.
    """
    alone, reading = stacks(config, architecture)
    width, inner = config.d_model, config.feed_forward_size
    attention = ((width, width),) * 4
    feed_forward = ((inner, width), (inner, width), (width, inner))
    blocks = (attention + feed_forward,) * alone + (attention + attention + feed_forward,) * reading
    return Parameters(((config.vocab_size, width),) * (1 if config.tied else 2), blocks)


ASPECT = 100
"""Width over layers that a shape is chosen near to. GPT-3's eight shapes go from 64 to 128 (Brown et al. 2020, table
2.1); within a wide range of it the loss changes by a few percent (Kaplan et al. 2020, figure 5)."""


def config_near(total: float, architecture: str, vocab_size: int = 32_768) -> ModelConfig:
    """A plausible shape of about `total` parameters: heads of 128 (64 below 1e9), one tied table, F = 8/3 D.

    Of the widths that are multiples of 512 (128 below 1e9, 64 below 1e8), each with the number of layers that comes
    nearest to `total`, the one with the least of 10 |ln(parameters / total)| + |ln(width / layers / ASPECT)|. An
    encoder-decoder has as many layers on both sides.

    >>> config = config_near(7e9, "decoder-only")
    >>> config.d_model, config.n_layers, config.n_heads, parameters(config, "decoder-only").total
    (4096, 34, 32, 6981550080)

    Raises `InputError` where no shape comes within 5%: the table over the vocabulary may outweigh the rest.
    """
    if not 1 <= check_number(total, "the number of parameters") <= 1e15:
        raise InputError(f"the number of parameters must lie between 1 and 1e15, got {total!r}")
    head, step = (128, 512) if total >= 1e9 else (64, 128 if total >= 1e8 else 64)
    best: tuple[float, ModelConfig] | None = None
    for width in range(step, math.isqrt(int(total)) + 1, step):  # a block alone has more than D^2 numbers
        one = parameters(ModelConfig(vocab_size, d_model=width, n_layers=1, n_heads=width // head), architecture)
        layers = max(1, round((total - one.tables) / one.inner))
        distance = abs(math.log((one.tables + layers * one.inner) / total))
        score = 10 * distance + abs(math.log(width / layers / ASPECT))
        if distance <= 0.05 and (best is None or score < best[0]):
            best = score, ModelConfig(vocab_size, d_model=width, n_layers=layers, n_heads=width // head)
    if best is None:
        raise InputError(
            f"no shape has about {total:.3g} parameters: the table over {vocab_size:,} ids alone has "
            f"{vocab_size * step:,} at the least width, {step}, and the blocks come on top; choose fewer ids "
            "(--vocab-size) or more parameters"
        )
    return best[1]
