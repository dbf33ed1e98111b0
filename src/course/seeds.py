"""A quantity measured over several seeds: its mean, its spread, and whether it differs from zero significantly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean, stdev

from ..errors import InputError
from ..escape import shown

STANDARD_ERRORS = 2.0
"""Standard errors that a mean must lie from zero to be significant."""


@dataclass(frozen=True)
class Seeds:
    """A quantity measured once for each seed, in the order of the seeds.

    >>> from clozelab.course import Seeds
    >>> causal, masked = Seeds((0.52, 0.55, 0.51)), Seeds((0.61, 0.66, 0.59))
    >>> print(masked)
    0.620 ± 0.036
    >>> print(masked - causal), (masked - causal).significant  # pairs of the same seed
    0.093 ± 0.015
    (None, True)

    `±` is the standard deviation over seeds. Raises `InputError` for no values, for values that are not finite numbers,
    and for operands with different numbers of seeds.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "values", tuple(float(value) for value in self.values))
        except (TypeError, ValueError) as error:
            raise InputError(f"expected a number for each seed, got {shown(self.values)}") from error
        if not self.values:
            raise InputError("expected a value for each seed, got none")
        if not all(map(math.isfinite, self.values)):
            raise InputError(f"expected finite values, got {self.values}: did the run of a seed diverge?")

    @classmethod
    def of(cls, measure: Callable[[int], float], seeds: Iterable[int]) -> Seeds:
        """The values of `measure(seed)`, one for each seed."""
        return cls(tuple(measure(seed) for seed in seeds))

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return fmean(self.values)

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds; 0 for a single one."""
        return stdev(self.values) if len(self.values) > 1 else 0.0

    @property
    def significant(self) -> bool:
        """Whether this differs from zero: |t| > 2, and all seeds have the same sign.

        t is the mean over its standard error; a single seed is never significant. The test is a lenient one. Without
        any difference (normal deviates of mean zero) it passes with probability 0.18 for three seeds and 0.06 for five.
        With several comparisons, require a minimal size of the difference as well.
        """
        n = len(self.values)
        agree = min(self.values) > 0 or max(self.values) < 0
        return n > 1 and agree and abs(self.mean) > STANDARD_ERRORS * self.spread / math.sqrt(n)

    @property
    def above(self) -> bool:
        """Significantly more than zero."""
        return self.significant and self.mean > 0

    @property
    def below(self) -> bool:
        """Significantly less than zero."""
        return self.significant and self.mean < 0

    def _paired(self, other: Seeds | float) -> Iterator[tuple[float, float]]:
        theirs = other.values if isinstance(other, Seeds) else (float(other),) * len(self.values)
        if len(theirs) != len(self.values):
            raise InputError(f"expected as many seeds on both sides, got {len(self.values)} and {len(theirs)}")
        return zip(self.values, theirs)

    def __sub__(self, other: Seeds | float) -> Seeds:
        """The difference, seed by seed, or from a number."""
        return Seeds(tuple(a - b for a, b in self._paired(other)))

    def __truediv__(self, other: Seeds | float) -> Seeds:
        """The ratio, seed by seed, or to a number."""
        return Seeds(tuple(a / b for a, b in self._paired(other)))

    def __format__(self, spec: str) -> str:
        """Mean ± spread, both in the format `spec`, as in f"{seeds:.1f}"; a + sign applies to the mean alone."""
        spec = spec or ".3f"
        spread = f" ± {format(self.spread, spec.replace('+', ''))}" if len(self.values) > 1 else ""
        return f"{format(self.mean, spec)}{spread}"

    def __str__(self) -> str:
        return f"{self:.3f}"
