"""From a shape, an objective and a machine to what a run needs, and which strategy has room for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from ..checks import check_number, check_type
from ..errors import InputError
from ..models import ModelConfig
from ..objectives import Objective
from .compute import Flops, flops, optimizer_flops
from .layout import STRATEGIES, Layout, Memory, gathered, zero_stage_of
from .machine import MOST_DEVICES, Machine
from .memory import OPTIMIZERS, PRECISIONS, backward_work, known, loss_work, recomputed_work, saved, state
from .network import NUMBER, replicated, sharded
from .rows import Row, row_of
from .shape import Parameters, parameters

DELIVERED = 1.96e6
"""Tokens of text a second of which one core makes batches: the slowest of the objectives, UL2R, from packed text, 64
rows of 512 input tokens at a time. `benchmarks/delivery.py` measured it, in processor time of a thread of an AMD EPYC
that other programs kept busy; causal LM came to twenty times as many."""


@dataclass(frozen=True)
class Plan:
    """What a run needs; `plan` makes it. Seconds are those of a step.

    >>> from clozelab import SpanCorruption
    >>> from clozelab.planning import config_near, plan
    >>> config = config_near(2.5e8, SpanCorruption())
    >>> run = plan(SpanCorruption(), config, tokens=1e10, length=512, batch_tokens=2**17)
    >>> run.rows, run.step_tokens, run.steps, run.chosen.strategy
    (230, 130640, 76547, 'one device')
    """

    objective: Objective
    config: ModelConfig
    row: Row
    machine: Machine
    precision: str
    optimizer: str
    rows: int
    """Of a step, over all devices."""
    steps: int
    delivered: float
    """Tokens of text a second that one core makes batches of."""
    recompute: bool = False
    """Whether blocks keep their inputs alone for the backward."""
    async_checkpoints: bool = False
    """Whether checkpoints are written from copies, while the run goes on."""

    @cached_property
    def parameters(self) -> Parameters:
        """Of the model."""
        return parameters(self.objective, self.config)

    @cached_property
    def flops(self) -> Flops:
        """Of one row."""
        return flops(self.objective, self.config, self.row)

    @property
    def step_tokens(self) -> int:
        """Tokens of text in a step."""
        return self.rows * self.row.text

    @property
    def run_flops(self) -> int:
        """Of the model's products in the whole run, over all devices; the optimiser's are not counted."""
        return self.steps * self.rows * self.flops.total

    @property
    def rows_of_device(self) -> int:
        """Of a step: those of the device that has most, for which the others wait."""
        return math.ceil(self.rows / self.machine.devices)

    @property
    def seconds_computing(self) -> float:
        """At the stated utilisation, the optimiser's products too, which every device makes for itself.

        Blocks that are computed again take another forward pass, which is no part of `run_flops`.
        """
        again = self.flops.projections + self.flops.attention if self.recompute else 0
        work = self.rows_of_device * (self.flops.total + again) + optimizer_flops(self.parameters, self.optimizer)
        return work / (self.machine.flops * self.machine.utilisation)

    @cached_property
    def layouts(self) -> tuple[Layout, ...]:
        """Each strategy that makes sense for so many devices, whether it has room or not."""
        return tuple(self.layout(name) for name in (STRATEGIES[:1] if self.machine.devices == 1 else STRATEGIES[1:]))

    @property
    def chosen(self) -> Layout | None:
        """The first of them that has room."""
        return next((layout for layout in self.layouts if layout.fits), None)

    def layout(self, strategy: str) -> Layout:
        """A strategy with the largest micro-batch that has room."""
        most, least_not = self.rows_of_device, self.rows_of_device + 1
        fitting = 0
        while least_not - fitting > 1:  # binary search: more rows never need less
            middle = (fitting + least_not) // 2
            fits = self.memory(strategy, middle).total <= self.machine.memory
            fitting, least_not = (middle, least_not) if fits else (fitting, middle)
        micro_batch_size = max(1, fitting)
        passes = math.ceil(most / micro_batch_size)
        if stage := zero_stage_of(strategy):
            how = {"zero_stage": stage, "precision": self.precision}
            traffic = sharded(self.parameters, self.machine.devices, passes, **how)
        else:
            traffic = replicated(self.parameters, self.machine.devices)
        return Layout(
            strategy, micro_batch_size, passes, self.memory(strategy, micro_batch_size), traffic, fits=fitting > 0
        )

    def memory(self, strategy: str, micro_batch_size: int) -> Memory:
        """Of one device, with so many rows in a pass.

        Raises `InputError` for a strategy that does not exist.
        """
        known("strategy", strategy, STRATEGIES)
        count, stage, devices = self.parameters, zero_stage_of(strategy), self.machine.devices
        how = {"precision": self.precision, "kind": self.machine.kind}
        held = state(count, self.optimizer, devices if stage else 1)
        kept = saved(self.objective, self.config, self.row, micro_batch_size, **how, recompute=self.recompute)
        gradients = held.gradients
        if stage == 1 and micro_batch_size < self.rows_of_device:
            gradients = NUMBER * count.total
        in_forward = loss_work(self.config, self.row, micro_batch_size, **how)
        in_backward = backward_work(self.config, self.row, micro_batch_size, precision=self.precision)
        casts = 0 if stage else kept.casts
        if self.recompute:
            in_backward += recomputed_work(self.objective, self.config, self.row, micro_batch_size, **how)
            if self.precision == "bfloat16" and not stage:  # autocast has them until the forward ends
                in_forward += 2 * count.in_blocks
        return Memory(
            weights=held.weights,
            gradients=gradients,
            optimizer=held.optimizer,
            copies=gathered(count, stage, self.precision) if stage else held.gradients * (strategy == "replicated"),
            casts=casts,
            saved=kept.total - kept.casts,
            work=max(in_forward, in_backward),
            staged=self.staged(strategy) if self.machine.kind == "cpu" else 0,
        )

    def staged(self, strategy: str) -> int:
        """Bytes of the host's memory for each device, of which a checkpoint is written while the run goes on.

        Raises `InputError` for a strategy that does not exist.
        """
        known("strategy", strategy, STRATEGIES)
        held = state(self.parameters, self.optimizer, self.machine.devices if zero_stage_of(strategy) else 1)
        return held.weights + held.optimizer if self.async_checkpoints else 0

    def seconds_sending(self, layout: Layout) -> float:
        """At the full speed of the network."""
        return layout.traffic.total / self.machine.network

    def seconds(self, layout: Layout, *, overlapped: bool = True) -> float:
        """Of a step: sending hidden behind computing as far as possible, or one after the other; a run lies between."""
        parts = self.seconds_computing, self.seconds_sending(layout)
        return max(parts) if overlapped else sum(parts)

    def tokens_a_second(self, layout: Layout) -> float:
        """Of text, over all devices, at the most: what the data must be delivered at."""
        return self.step_tokens / self.seconds(layout)

    def devices_needed(self) -> int | None:
        """The least number of devices that has room, in ZeRO stage 3; None where no number has.

        The tables, two blocks and what one row keeps for its backward are whole on every device. Where these alone are
        too much, more devices of this kind do not help: what helps is to keep less and to compute it again
        (`recompute`), and then to cut within the blocks (tensor parallelism: Shoeybi et al. 2019, section 3) or to give
        each device some of the blocks (pipeline parallelism: Huang et al. 2019, section 2), which clozelab does not
        offer.
        """
        least, most = 0, MOST_DEVICES + 1
        while most - least > 1:
            middle = (least + most) // 2
            other = replace(self, machine=replace(self.machine, devices=middle))
            has_room = other.memory("ZeRO 3", 1).total <= self.machine.memory
            least, most = (least, middle) if has_room else (middle, most)
        return most if most <= MOST_DEVICES else None


def plan(
    objective: Objective,
    config: ModelConfig,
    *,
    tokens: float,
    length: int = 2048,
    batch_tokens: float = 2**22,
    machine: Machine | None = None,
    precision: str = "bfloat16",
    optimizer: str = "adamw",
    delivered: float | None = None,
    recompute: bool = False,
    async_checkpoints: bool = False,
) -> Plan:
    """What pretraining `config` by `objective` on `tokens` tokens of text needs of a machine. Nothing is run.

    `length` is the input tokens of a row, `batch_tokens` the tokens of text of a step; the last step is a whole one.
    `delivered` is how many tokens of text a second one core makes batches of; None: what was measured, `DELIVERED`.
    `recompute` and `async_checkpoints` are those of `TrainConfig`.

    >>> from clozelab import CausalLM
    >>> from clozelab.planning import Machine, config_near, plan
    >>> run = plan(CausalLM(), config_near(7e9, CausalLM()), tokens=1e12, machine=Machine(devices=8))
    >>> run.steps, run.chosen.strategy, run.devices_needed()
    (238419, 'ZeRO 1', 2)
    >>> round(run.steps * run.seconds_computing / 86400)  # days
    164

    Raises `InputError` for numbers that make no sense, and for a step that has fewer rows than there are devices.
    """
    machine = Machine() if machine is None else check_type(machine, Machine, "the machine")
    check_type(objective, Objective, "the objective")
    check_type(config, ModelConfig, "the shape of the model")
    for name, value in (("tokens", tokens), ("batch_tokens", batch_tokens)):
        if not 1 <= check_number(value, name) <= 1e18:
            raise InputError(f"{name} must be a number from 1 to 1e18, got {value!r}")
    known("precision", precision, PRECISIONS)
    known("optimizer", optimizer, OPTIMIZERS)
    row = row_of(objective, length)
    rows = max(1, int(batch_tokens) // row.text)
    if rows < machine.devices:
        raise InputError(
            f"a step of {int(batch_tokens):,} tokens has {rows:,} rows of {row.text:,}, too few for "
            f"{machine.devices:,} devices: choose a step of at least {machine.devices * row.text:,} tokens, shorter "
            "rows or fewer devices"
        )
    steps = math.ceil(tokens / (rows * row.text))
    delivered = DELIVERED if delivered is None else delivered
    if not 0 < check_number(delivered, "delivered") < math.inf:
        raise InputError(f"delivered must be a number of tokens a second above 0, got {delivered!r}")
    return Plan(
        objective,
        config,
        row,
        machine,
        precision,
        optimizer,
        rows=rows,
        steps=steps,
        delivered=delivered,
        recompute=check_type(recompute, bool, "recompute"),
        async_checkpoints=check_type(async_checkpoints, bool, "async_checkpoints"),
    )
