"""When a run is evaluated, and on how much: so that evaluations take less than a twentieth of its time."""

from __future__ import annotations

from dataclasses import dataclass

from .config import TrainConfig

SHARE = 0.04
"""Of the time of training, that evaluations may take by default."""
ROW_COST = 0.36
"""Time of a row that is evaluated, of that of a row that is trained on: measured with the smallest models."""
ROWS = (8, 256)
"""The least and the most held-out examples of an evaluation, by default."""
CLOCK_ROWS = 64
"""Of an evaluation of a run by the clock, whose number of steps is not known."""
MOST = 10
"""Evaluations of a run, by default, with that at its end."""


@dataclass(frozen=True)
class Evaluations:
    """When a run is evaluated, besides its end, and on how many held-out examples; `evaluations_of` makes it."""

    rows: int
    """Held-out examples of an evaluation."""
    every: int | None
    """Steps between evaluations, 0 where there is only one at the end; None in a run by the clock."""
    at_start: bool
    """Whether one is made before the first step."""
    seconds: float = 0.0
    """Of training, in a run by the clock."""

    def is_due(self, step: int, since: float, cost: float) -> bool:
        """Whether one is due after a step, `since` seconds of training after the last one, which took `cost` seconds.

        Only a run by the clock asks how much time has passed.

        >>> from clozelab.training import TrainConfig
        >>> from clozelab.training.evaluations import evaluations_of
        >>> due = evaluations_of(TrainConfig(minutes=10))
        >>> due.is_due(7, since=61.0, cost=2.0), due.is_due(7, since=61.0, cost=4.0)
        (True, False)
        """
        if self.every is None:
            return since >= max(self.seconds / MOST, cost / SHARE)
        return self.every > 0 and step % self.every == 0

    def left(self, step: int, steps: int) -> int:
        """How many come after a step of a run of so many, with that at the end."""
        return 1 + ((steps - 1) // self.every - step // self.every if self.every else 0)


def evaluations_of(config: TrainConfig) -> Evaluations:
    """The evaluations that `config.eval_every` and `config.eval_rows` ask for.

    Where `eval_rows` is None, it follows from the examples of the run before it was extended: an evaluation takes a
    third of a twenty-fifth of its time, with 8 examples at least and 256 at most. Where `eval_every` is None, there are
    as many evaluations, up to 10, as a twenty-fifth of the time has room for, and none before the first step, whose
    training loss tells what the untrained model knows. A run by the clock is evaluated on 64 examples, each tenth of
    its time, or less often where that would take too much of it.

    Several processes divide the examples among them, as they do those of a step.

    >>> from clozelab.training import TrainConfig
    >>> from clozelab.training.evaluations import evaluations_of
    >>> due = [evaluations_of(TrainConfig(steps=steps)) for steps in (20, 100, 1000, 10_000)]
    >>> [(one.rows, one.every) for one in due]
    [(11, 7), (59, 34), (256, 167), (256, 1000)]
    """
    rows, every = config.eval_rows, config.eval_every
    by_clock, steps = config.total_steps is None, config.first_steps
    if by_clock:
        rows = CLOCK_ROWS if rows is None else rows
    else:
        budget = SHARE / ROW_COST * (steps or 1) * config.batch_size
        rows = min(ROWS[1], max(ROWS[0], int(budget / 3))) if rows is None else rows
        if every is None:
            every = -(-(steps or 1) // min(MOST, max(1, int(budget / rows))))
    return Evaluations(rows, every, bool(config.eval_every), 60.0 * (config.minutes or 0.0))
