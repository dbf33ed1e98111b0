"""What the devices of one run must send each other in a step."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import check_type
from .memory import PRECISIONS, known, whole
from .shape import Parameters, size

NUMBER = 4
"""Bytes of a number that is sent: weights and gradients are float32, but for sharded blocks in bfloat16."""


@dataclass(frozen=True)
class Traffic:
    """Bytes that one device sends in a step, and receives as many.

    Each collective is made by a ring, in which the N devices pass parts on: an all-gather or a reduce-scatter of G
    bytes sends (N - 1) / N x G, an all-reduce, which is one after the other, twice that (Patarasuk and Yuan 2009). No
    other way sends less; what a library chooses for small messages may send more.

    >>> from clozelab.planning import Traffic
    >>> Traffic(gathered=200, scattered=100).total
    300
    """

    reduced: int = 0
    """All-reduce of gradients."""
    gathered: int = 0
    """All-gathers of weights."""
    scattered: int = 0
    """Reduce-scatters of gradients."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.reduced + self.gathered + self.scattered


def replicated(count: Parameters, devices: int) -> Traffic:
    """Every device holds all weights (`DistributedDataParallel`): one all-reduce of the gradients a step.

    >>> from clozelab import CausalLM
    >>> from clozelab.models import ModelConfig
    >>> from clozelab.planning import parameters, replicated
    >>> replicated(parameters(CausalLM(), ModelConfig(vocab_size=4096)), 2).total == 4 * 1_314_816
    True

    With accumulation too, for gradients are added up in each device first (`no_sync`).

    Raises `InputError` for an invalid number of devices.
    """
    check_type(count, Parameters, "the parameters", "parameters(objective, config) counts them")
    whole("devices", devices)
    return Traffic(reduced=2 * (devices - 1) * NUMBER * count.total // devices)


def sharded(
    count: Parameters, devices: int, passes: int = 1, *, zero_stage: int = 3, precision: str = "float32"
) -> Traffic:
    """Every device holds its part of each matrix (`fully_shard`, FSDP2), as `training/parallel.py` uses it.

    In stage 3, in each pass of a micro-batch, blocks are gathered twice, for the forward and again for the backward,
    and freed after each; the tables belong to the outermost module and are gathered once; all gradients are reduced and
    scattered once. In stage 2 all weights are gathered once a step, in stage 1 gradients are scattered once a step as
    well. In bfloat16 blocks are gathered as two bytes a number. Matrices that do not divide are padded (see `size` in
    `shape.py`).

    >>> from clozelab import CausalLM
    >>> from clozelab.models import ModelConfig
    >>> from clozelab.planning import parameters, sharded
    >>> count = parameters(CausalLM(), ModelConfig(vocab_size=4096))
    >>> sharded(count, 8).total == 7 * 4 * (3 * count.in_blocks + 2 * count.in_tables) // 8
    True

    That is three times the bytes of the weights, where `replicated` sends two (Rajbhandari et al. 2020, ZeRO, section
    7.2.2).

    Raises `InputError` for invalid numbers of devices or passes, a stage and a precision that do not exist.
    """
    check_type(count, Parameters, "the parameters", "parameters(objective, config) counts them")
    whole("devices", devices)
    whole("passes", passes)
    known("zero_stage", zero_stage, (1, 2, 3))
    known("precision", precision, PRECISIONS)
    blocks, tables = size(count.matrices, devices), size(count.tables, devices)
    others = devices - 1  # each part goes past every device but the one that it ends at
    of_block = 2 if precision == "bfloat16" else NUMBER
    gathered = of_block * (2 * blocks if zero_stage == 3 else blocks) + NUMBER * tables
    return Traffic(
        gathered=others * gathered * (passes if zero_stage == 3 else 1),
        scattered=others * NUMBER * (blocks + tables) * (passes if zero_stage > 1 else 1),
    )
