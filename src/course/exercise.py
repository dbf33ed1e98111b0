"""Exercises of a lesson: a line to change, and what number comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError


@dataclass(frozen=True)
class Exercise:
    """A line to change, the range in which the number that comes out lies, and why.

    >>> from clozelab.course import Exercise
    >>> exercise = Exercise("Hide all tokens: what is the loss?", answer=(1.3, 1.5), why="Nothing is left to read.")
    >>> print(exercise.check(1.38))
    Right: between 1.3 and 1.5. Nothing is left to read.
    >>> print(exercise.check(0.2))
    Not yet: 0.2 is too low. If you changed a line, run the cells below it again.

    Raises `InputError` for a range that is none.
    """

    ask: str
    answer: tuple[float, float]
    """The lowest and the highest number that are right."""
    why: str

    def __post_init__(self) -> None:
        if not self.answer[0] <= self.answer[1]:
            raise InputError(f"an answer is a range (low, high), got {self.answer}")

    @property
    def right(self) -> str:
        """The right numbers in words, and why they are."""
        low, high = self.answer
        return f"{f'between {low:g} and {high:g}' if low < high else f'{low:g}'}. {self.why}"

    def check(self, value: float) -> str:
        """Whether a learner's number is right, and if so why."""
        low, high = self.answer
        if low <= value <= high:
            return f"Right: {self.right}"
        fault = "no number" if math.isnan(value) else "too low" if value < low else "too high"
        return f"Not yet: {value:g} is {fault}. If you changed a line, run the cells below it again."
