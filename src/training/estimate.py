"""How long a run will take on this machine, said once, after its first steps."""

from __future__ import annotations

from .config import TrainConfig
from .evaluations import ROW_COST, evaluations_of

AFTER = 5.0
"""Seconds of steps from which the rest is estimated."""
WORTH = 20.0
"""Seconds that the rest must take, to be worth a line."""


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
