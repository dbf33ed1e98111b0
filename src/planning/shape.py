"""How many parameters a shape has, and which shape has about so many."""

from __future__ import annotations

import math
from dataclasses import asdict, astuple, dataclass
from functools import lru_cache
from typing import Any

from torch import nn

from ..checks import check_number, check_type
from ..errors import InputError
from ..models import ModelConfig
from ..models.sketch import sketched
from ..objectives import Objective
from ..training.recompute import blocks

Shape = tuple[int, ...]
"""Of one learned tensor, as PyTorch gives it."""


@dataclass(frozen=True)
class Parameters:
    """The learned tensors of a model by kind: optimisers, sharding and autocast treat tables and blocks differently.

    >>> from clozelab import CausalLM
    >>> from clozelab.models import ModelConfig
    >>> from clozelab.planning import parameters
    >>> count = parameters(CausalLM(), ModelConfig(vocab_size=4096))
    >>> count.in_tables, count.in_blocks, count.total
    (524288, 790528, 1314816)
    """

    tables: tuple[Shape, ...]
    """The tensors outside of the blocks: the tables over the vocabulary, one where it is tied, else two."""
    blocks: tuple[tuple[Shape, ...], ...]
    """The tensors of each block, the encoder's first."""

    @property
    def in_tables(self) -> int:
        """Numbers in the tables."""
        return size(self.tables)

    @property
    def in_blocks(self) -> int:
        """Numbers in the blocks."""
        return size(self.matrices)

    @property
    def total(self) -> int:
        """All of them."""
        return self.in_tables + self.in_blocks

    @property
    def matrices(self) -> tuple[Shape, ...]:
        """The tensors of all blocks."""
        return tuple(shape for block in self.blocks for shape in block)


def size(shapes: tuple[Shape, ...], devices: int = 1) -> int:
    """Numbers in tensors; shared out among devices, those of the device that has most.

    `fully_shard` (FSDP2) cuts each tensor between rows, into equal numbers of them while they last: of 4096 rows a
    thousand devices get 5 each, 22% more than a thousandth, and the last 180 devices none.

    >>> from clozelab.planning.shape import size
    >>> size(((4096, 10),), 8), size(((4096, 10),), 1000)
    (5120, 50)
    """
    return sum(math.ceil(rows / devices) * math.prod(rest) for rows, *rest in shapes)


def shape_model(objective: Objective, config: ModelConfig) -> nn.Module:
    """The model that the objective builds of a configuration, on PyTorch's meta device: shapes without numbers."""
    with sketched():
        return objective.build_model(**asdict(config))


def parameters(objective: Objective, config: ModelConfig) -> Parameters:
    """Exactly the parameters of the model that `objective.build_model` makes of this configuration.

    A block of ours has 4 D^2 numbers for attention and 3 D F for its gated feed-forward, and 4 D^2 more for
    cross-attention. With F = 8/3 D that is 12 D^2, as in GPT-2 (Kaplan et al. 2020, section 2.1), and 16 D^2.

    >>> from clozelab import SpanCorruption
    >>> from clozelab.models import ModelConfig
    >>> from clozelab.planning import parameters
    >>> config = ModelConfig(vocab_size=4096, d_model=96, n_layers=2, n_decoder_layers=1)
    >>> parameters(SpanCorruption(), config).in_blocks == (12 + 12 + 16) * 96**2
    True
    """
    check_type(objective, Objective, "the objective")
    check_type(config, ModelConfig, "the shape of a model")
    return _parameters(type(objective), tuple(objective.options().items()), astuple(config))


@lru_cache(maxsize=256)
def _parameters(kind: type[Objective], options: tuple[tuple[str, Any], ...], shape: tuple[Any, ...]) -> Parameters:
    model = shape_model(kind(**dict(options)), ModelConfig(*shape))
    of_blocks = [list(block.parameters()) for block in blocks(model)]
    inside = {id(parameter) for block in of_blocks for parameter in block}
    tables = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    shapes = [tuple(tuple(parameter.shape) for parameter in group) for group in (tables, *of_blocks)]
    return Parameters(shapes[0], tuple(shapes[1:]))


ASPECT = 100
"""Width over layers that a shape is chosen near to. Seven of GPT-3's eight shapes lie between 64 and 129, one at 43
(Brown et al. 2020, table 2.1); within a wide range the loss changes by a few percent (Kaplan et al. 2020, figure 5)."""


def config_near(total: float, objective: Objective, vocab_size: int = 32_768) -> ModelConfig:
    """A plausible shape of about `total` parameters: heads of 128 (64 below 1e9), one tied table, F = 8/3 D.

    Of the widths that are multiples of 512 (128 below 1e9, 64 below 1e8), each with the number of layers that comes
    nearest to `total`, the one with the least of 10 |ln(parameters / total)| + |ln(width / layers / ASPECT)|. An
    encoder-decoder has as many layers on both sides.

    >>> from clozelab import CausalLM
    >>> from clozelab.planning import config_near, parameters
    >>> config = config_near(7e9, CausalLM())
    >>> config.d_model, config.n_layers, config.n_heads, parameters(CausalLM(), config).total
    (4096, 34, 32, 6981550080)

    Raises `InputError` where no shape comes within 5%: the table over the vocabulary may outweigh the rest.
    """
    if not 1 <= check_number(total, "the number of parameters") <= 1e15:
        raise InputError(f"the number of parameters must lie between 1 and 1e15, got {total!r}")
    d_head, step = (128, 512) if total >= 1e9 else (64, 128 if total >= 1e8 else 64)
    best: tuple[float, ModelConfig] | None = None
    for width in range(step, math.isqrt(int(total)) + 1, step):  # a block alone has more than D^2 numbers
        one, two = (
            parameters(objective, ModelConfig(vocab_size, d_model=width, n_layers=n, n_heads=width // d_head)).total
            for n in (1, 2)
        )
        layers = max(1, 1 + round((total - one) / (two - one)))  # heads, where there are any, do not grow with them
        distance = abs(math.log((one + (layers - 1) * (two - one)) / total))
        aspect = math.log(width / layers / ASPECT)
        score = 10 * distance + abs(aspect)
        if distance <= 0.05 and (best is None or score < best[0]):
            best = score, ModelConfig(vocab_size, d_model=width, n_layers=layers, n_heads=width // d_head)
        if aspect > 2 or (best is not None and aspect > best[0]):
            break  # greater widths have fewer layers still
    if best is None:
        raise InputError(
            f"no shape has about {total:.3g} parameters: the table over {vocab_size:,} ids alone has "
            f"{vocab_size * step:,} at the least width, {step}, and the blocks come on top; choose fewer ids "
            "(--vocab-size) or more parameters"
        )
    return best[1]
