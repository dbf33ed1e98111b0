"""How long a run will take on this machine, said once, after its first steps, and whether others slow it down."""

from __future__ import annotations

import time

import torch

from .config import TrainConfig
from .evaluations import ROW_COST, evaluations_of

AFTER = 5.0
"""Seconds of steps from which the rest is estimated."""
WORTH = 20.0
"""Seconds that the rest must take, to be worth a line."""

CROWDED = 0.5
"""Share of its threads that runs at a time, below which a process has to share its cores with others."""


def say_if_crowded(processor: float, seconds: float, threads: int) -> str | None:
    """A line where other programs use the cores; None where they do not, or where there is a single thread.

    `processor` is the processor time of all threads within `seconds`. PyTorch's threads wait for each other after each
    product. Where one of them has to wait for a core, so have all others: with two threads beside ten other programs a
    run made 33 tokens a second, and 264 with one.

    >>> from clozelab.training.estimate import say_if_crowded
    >>> print(say_if_crowded(processor=6.0, seconds=10.0, threads=2))
    other programs use the processor: 0.6 of 2 threads run at a time; OMP_NUM_THREADS=1 may be several times faster
    >>> print(say_if_crowded(processor=16.0, seconds=10.0, threads=2))
    None
    """
    running = processor / max(seconds, 1e-9)
    if threads == 1 or running >= CROWDED * threads:
        return None
    fewer = f"OMP_NUM_THREADS={max(1, round(running))} may be several times faster"
    return f"other programs use the processor: {running:.1f} of {threads} threads run at a time; {fewer}"


class Estimate:
    """The time that the rest of a run takes, once its first steps have shown how fast this machine is.

    >>> from clozelab.training import TrainConfig
    >>> from clozelab.training.estimate import Estimate
    >>> estimate = Estimate(TrainConfig(steps=100, eval_every=50))
    >>> [estimate.after(step, seconds, evaluation=4.0) for step, seconds in ((1, 9.0), (2, 12.0), (4, 18.0), (5, 21.0))]
    [None, None, 296.0, None]
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.first: tuple[int, float] | None = None
        self.done = config.total_steps is None  # the clock ends the run
        self.began = time.process_time(), time.perf_counter()

    def after(self, step: int, seconds: float, evaluation: float) -> float | None:
        """Seconds that are left after a step, the last evaluation having taken `evaluation`, 0 where none was made yet;
        None where it is too early to say, was said before, or is not worth it."""
        if self.done:
            return None
        if self.first is None:
            self.first = step, seconds  # the first step itself takes longer than others
            return None
        since, begun = self.first
        steps = self.config.steps - step
        if seconds - begun < AFTER or steps == 0:
            return None
        self.done = True
        due, each = evaluations_of(self.config), (seconds - begun) / (step - since)
        cost = evaluation or ROW_COST * due.rows / self.config.batch_size * each
        rest = steps * each + due.left(step, self.config.steps) * cost
        return rest if rest >= WORTH else None

    def crowded(self, device: torch.device) -> str | None:
        """`say_if_crowded` of the time since this was made; None on an accelerator, whose processor waits for it."""
        processor, seconds = time.process_time() - self.began[0], time.perf_counter() - self.began[1]
        return say_if_crowded(processor, seconds, torch.get_num_threads()) if device.type == "cpu" else None
