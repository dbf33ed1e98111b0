"""The settings of a run."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..checks import check_int, check_number, check_type
from ..errors import InputError
from ..escape import shown

ADAMW_PEAK_LR = {"muon": 0.03, "adamw": 0.003}
"""By optimizer: of the tables over the vocabulary and of all vectors beside Muon, and of all weights without it."""
WHOLE = ("steps", "length", "batch_size", "checkpoint_every", "sample_every", "seed")
WHOLE_OR_NONE = ("micro_batch_size", "eval_rows", "eval_every")


@dataclass(frozen=True)
class TrainConfig:
    """How long, how large, how fast. Frozen, checked, and saved as JSON beside the weights.

    >>> from clozelab.training import TrainConfig
    >>> TrainConfig(steps=100, batch_size=8, micro_batch_size=2).batch_size
    8
    >>> TrainConfig().learning_rate, TrainConfig(optimizer="adamw").learning_rate
    (0.03, 0.003)

    Raises `InputError` for numbers that make no sense.
    """

    steps: int = 1000
    """Optimiser steps."""
    minutes: float | None = None
    """Stop after this much training time instead, the schedule following the clock. Such a run depends on the speed
    of the machine, so it cannot be repeated bit for bit, and objectives that change with progress refuse it."""
    length: int = 128
    """Input tokens of an example; for span corruption the text itself is longer (568 for 512)."""
    batch_size: int = 16
    """Examples of a step, over all micro-batches."""
    micro_batch_size: int | None = None
    """Examples of one forward pass of one process; its whole share of a batch where None. But for rounding, gradients
    do not depend on it."""
    optimizer: str = "muon"
    """muon: Muon for the matrices inside the blocks, AdamW for all else; or adamw for all."""
    learning_rate: float = None  # pyright: ignore[reportAssignmentType]  (a number once it is made)
    """The peak learning rate of AdamW, after the warm-up; unless it is given, `ADAMW_PEAK_LR` of the optimizer. So
    `dataclasses.replace` with another optimizer needs another rate too, or `learning_rate=None`."""
    matrix_learning_rate: float = 0.02
    """The peak learning rate of Muon, whose steps are scaled in another way."""
    matrix_momentum: float = 0.9
    """Of Muon's moving average of gradients."""
    warmup: float = 0.02
    """Share of the run in which the learning rate rises from zero,"""
    decay: float = 0.8
    """share of the run, at its end, in which it falls to zero, both on a straight line."""
    weight_decay: float = 0.1
    """Of matrices; vectors (norms) have none."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Of AdamW's two moving averages."""
    max_grad_norm: float = 1.0
    """A step's gradient is scaled down to this norm where it is longer."""
    precision: str = "auto"
    """float32, bfloat16 (autocast), or auto: bfloat16 where the processor multiplies in it."""
    recompute: bool = False
    """Whether each block keeps its inputs alone for the backward, and computes the rest again: a third more products,
    much less memory, the same gradients."""
    seed: int = 0
    """Of the weights, the order of the examples, and their noise."""
    within_documents: bool = False
    """Whether attention stays within documents."""
    eval_every: int | None = None
    """Steps between evaluations on held-out text, the first before the first step; one is always made at the end. 0:
    only then. None: as often as less than a twentieth of the time of the run allows (see `evaluations_of`)."""
    eval_rows: int | None = None
    """Held-out examples of an evaluation: the first ones, with masks that never change. None: 256, or as many fewer as
    the same twentieth demands."""
    checkpoint_every: int = 500
    """Steps between checkpoints; one is always written at the end. 0: only then."""
    async_checkpoints: bool = False
    """Whether checkpoints are copied at once and written while the run goes on, at the price of the copies' memory."""
    sample_every: int = 0
    """Steps between samples of what the model can do. 0: none."""
    extended: tuple[int, ...] = ()
    """Steps at which the run was finished, and then extended (see `extend`)."""

    def __post_init__(self) -> None:
        check_type(self.betas, Sequence, "betas")
        object.__setattr__(self, "betas", tuple(check_number(beta, "each of betas") for beta in self.betas))
        if len(self.betas) != 2:
            raise InputError(f"betas must be two, got {self.betas!r}")
        if self.optimizer not in tuple(ADAMW_PEAK_LR):
            raise InputError(f"optimizer must be {' or '.join(ADAMW_PEAK_LR)}, got {shown(self.optimizer)}")
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", ADAMW_PEAK_LR[self.optimizer])
        rates = ("learning_rate", "matrix_learning_rate")
        for name in ("weight_decay", *rates, "matrix_momentum", "max_grad_norm", "warmup", "decay"):
            check_number(getattr(self, name), name)
        for name in (*WHOLE, *(name for name in WHOLE_OR_NONE if getattr(self, name) is not None)):
            object.__setattr__(self, name, check_int(getattr(self, name), name))
        for name, most in (("steps", 10**12), ("length", 2**20), ("batch_size", 2**20), ("eval_rows", 2**20)):
            if getattr(self, name) is not None and not 1 <= getattr(self, name) <= most:
                raise InputError(f"{name} must be a whole number from 1 to {most}, got {getattr(self, name)!r}")
        for name in ("eval_every", "checkpoint_every", "sample_every", "weight_decay"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)!r}")
        for name in (*rates, "max_grad_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be positive and finite, got {getattr(self, name)!r}")
        if not all(0 <= beta < 1 for beta in (*self.betas, self.matrix_momentum)):
            raise InputError(f"betas and matrix_momentum must lie in [0, 1), got {self.betas}, {self.matrix_momentum}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed must be a whole number from 0 to 2^63 - 1, got {self.seed!r}")
        if self.minutes is not None and not 0 < check_number(self.minutes, "minutes") < math.inf:
            raise InputError(f"minutes must be positive and finite, got {self.minutes!r}")
        if self.micro_batch_size is not None and (self.micro_batch_size < 1 or self.batch_size % self.micro_batch_size):
            raise InputError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        if not (0 <= self.warmup <= 1 and 0 <= self.decay <= 1):
            raise InputError(f"warmup {self.warmup} and decay {self.decay} are shares of the run, in [0, 1]")
        for name in ("within_documents", "recompute", "async_checkpoints"):
            check_type(getattr(self, name), bool, name)
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise InputError(f"precision must be auto, float32 or bfloat16, got {self.precision!r}")
        check_type(self.extended, Sequence, "extended")
        object.__setattr__(self, "extended", tuple(check_int(step, "each of extended", 1) for step in self.extended))
        bounds = [*self.extended, self.steps]
        if bounds != sorted(set(bounds)):
            raise InputError(f"extended must rise, and stay below steps {self.steps}, got {shown(self.extended)}")
        if self.extended and self.minutes is not None:
            raise InputError("a run by the clock cannot be extended by steps: begin another one from its weights")

    @property
    def total_steps(self) -> int | None:
        """Steps of the run; None where it runs by the clock."""
        return self.steps if self.minutes is None else None

    @property
    def first_steps(self) -> int | None:
        """Steps of the run before it was extended, in which the progress of an objective goes from 0 to 1."""
        return self.extended[0] if self.extended else self.total_steps

    def extend(self, steps: int) -> TrainConfig:
        """The settings of this run, once it is finished, with so many steps more.

        In them the learning rate follows its schedule once more: up from zero, level, down to zero. The optimiser keeps
        its moments, the batches go on, and an objective that changes with progress stays as it was at the end.

        >>> from clozelab.training import TrainConfig
        >>> config = TrainConfig(steps=100, warmup=0.1, decay=0.5).extend(50)
        >>> config.steps, config.extended
        (150, (100,))
        >>> [round(config.lr_scale(step, seconds=0.0), 2) for step in (50, 99, 105, 125, 150)]
        [1.0, 0.02, 1.0, 1.0, 0.0]

        Raises `InputError` for a run by the clock.
        """
        steps = self.steps + check_int(steps, "the steps of an extension", 1)
        return replace(self, steps=steps, extended=(*self.extended, self.steps))

    def progress(self, step: float, seconds: float) -> float:
        """The share of the run that is done: of its steps, or of its minutes where it runs by the clock."""
        return step / self.steps if self.minutes is None else seconds / (60 * self.minutes)

    def lr_scale(self, step: float, seconds: float) -> float:
        """The share of the peak learning rate at a step: the schedule of the run, and of each extension anew."""
        if not self.extended:
            return self.schedule(self.progress(step, seconds))
        bounds = (0, *self.extended, self.steps)
        end = bisect_left(bounds, step, lo=1, hi=len(bounds) - 1)
        return self.schedule((step - bounds[end - 1]) / (bounds[end] - bounds[end - 1]))

    def schedule(self, progress: float) -> float:
        """The share of the peak learning rate when `progress` (0 to 1) of the run is done: up, level, down to zero.

        >>> from clozelab.training import TrainConfig
        >>> config = TrainConfig(warmup=0.1, decay=0.5)
        >>> [round(config.schedule(p), 2) for p in (0.05, 0.1, 0.5, 0.75, 1.0)]
        [0.5, 1.0, 1.0, 0.5, 0.0]
        """
        up = progress / self.warmup if self.warmup else 1.0
        down = (1.0 - progress) / self.decay if self.decay else 1.0
        return max(0.0, min(1.0, up, down))
