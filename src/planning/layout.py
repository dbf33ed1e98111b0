"""A strategy applied: what a device holds and sends."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .network import NUMBER, Traffic
from .shape import Parameters, size

STRATEGIES = ("one device", "replicated", "ZeRO 1", "ZeRO 2", "ZeRO 3")
"""In order of preference: each needs less memory than the one before it, and of the sharded ones, which bear the names
of their stages, each sends at least as much (see `training/parallel.py`)."""


@dataclass(frozen=True)
class Memory:
    """Bytes on the device that holds most, while it holds most.

    >>> from clozelab.planning import Memory
    >>> Memory(weights=4, gradients=4, optimizer=8, copies=0, casts=2, saved=30, work=10, staged=0).total
    58
    """

    weights: int
    gradients: int
    """In ZeRO stage 1 whole, where a step has several passes."""
    optimizer: int
    copies: int
    """Replicated: the buckets that gradients are sent in. Sharded: what is gathered at a time, and its gradients."""
    casts: int
    """bfloat16 copies of matrices that autocast keeps until the backward; none of sharded weights."""
    saved: int
    """What a micro-batch keeps for its backward, without the casts."""
    work: int
    """What the loss needs while it is computed, or the backward with the block that it computes again, whichever is
    more."""
    staged: int
    """Copies of which a checkpoint is written while the run goes on, where the device is a processor."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Layout:
    """A strategy applied: how a step is cut, what a device holds and what it sends.

    >>> from clozelab import CausalLM
    >>> from clozelab.planning import Machine, config_near, plan
    >>> run = plan(CausalLM(), config_near(7e9, CausalLM()), tokens=1e12, machine=Machine(devices=8))
    >>> layout = run.layout("ZeRO 3")
    >>> layout.micro_batch_size, layout.passes, layout.fits
    (3, 86, True)
    """

    strategy: str
    """One of `STRATEGIES`."""
    micro_batch_size: int
    """Rows of one pass on one device; 1 where not even one has room."""
    passes: int
    """Forward and backward passes of a step on the device that has most rows."""
    memory: Memory
    """With that micro-batch."""
    traffic: Traffic
    fits: bool
    """Whether a device has room for it."""


def gathered(count: Parameters, zero_stage: int, precision: str) -> int:
    """Bytes that a device has gathered at a time, of sharded weights, with the gradients on their way.

    Stage 3: the tables with their gradients, two blocks, one in use and the next, and the gradients of one, as they are
    computed and as they are sent. Stages 2 and 1 have all blocks; in stage 1 whole gradients are counted elsewhere.
    An estimate of the sizes that matter: of steps of a small model the highest point lies between 80% and 103% of the
    plan (`tests/planning/test_memory.py`), as nothing is in flight there while something else is computed.
    """
    number, block = 2 if precision == "bfloat16" else NUMBER, max(size(block) for block in count.blocks)
    if zero_stage == 1:
        return NUMBER * count.in_tables + number * count.in_blocks + NUMBER * block
    blocks = 2 * block if zero_stage == 3 else count.in_blocks
    return 2 * NUMBER * count.in_tables + number * blocks + (number + NUMBER) * block


def zero_stage_of(strategy: str) -> int:
    """The stage of a sharded strategy, 0 of any other."""
    return int(strategy.removeprefix("ZeRO ")) if strategy.startswith("ZeRO ") else 0
