"""A figure that was measured from several seeds: its mean, its spread, and whether a difference is more than chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ..errors import InputError

SURE = 2.0
"""Standard errors that a mean must lie from zero to be called sure."""


@dataclass(frozen=True)
class Seeds:
    """One figure, measured once for each seed, in the order of the seeds.

    >>> causal, masked = Seeds((0.52, 0.55, 0.51)), Seeds((0.61, 0.66, 0.59))
    >>> print(masked)
    0.620 ± 0.036
    >>> print(masked - causal), (masked - causal).sure  # pairs of the same seed
    0.093 ± 0.015
    (None, True)

    `±` is the standard deviation over seeds. Raises `InputError` for no values, for values that are no finite numbers,
    and for pairs of unequal number.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "values", tuple(float(value) for value in self.values))
        except (TypeError, ValueError) as error:
            raise InputError(f"expected a number for each seed, got {self.values!r:.80}") from error
        if not self.values:
            raise InputError("expected a value for each seed, got none")
        if not all(map(math.isfinite, self.values)):
            raise InputError(f"expected finite values, got {self.values}: did the run of a seed diverge?")

    @classmethod
    def of(cls, measure: Callable[[int], float], seeds: Sequence[int]) -> Seeds:
        """What `measure(seed)` comes to for each seed."""
        return cls(tuple(measure(seed) for seed in seeds))

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 for one."""
        return stdev(self.values) if len(self.values) > 1 else 0.0

    @property
    def sure(self) -> bool:
        """Whether it is more than chance that this is not zero.

        All seeds must agree on the sign, and the mean must be more than two standard errors from zero; one seed is
        never sure. Three seeds that agree by luck do so one time in four, so the second condition does the work. It
        is no strict one: where nothing differs (normal deviates of mean zero) three seeds pass in 18 of 100 cases,
        five in 6. Who makes many comparisons, or a small one, should ask for a size as well.
        """
        n = len(self.values)
        agree = min(self.values) > 0 or max(self.values) < 0
        return n > 1 and agree and abs(self.mean) > SURE * self.spread / math.sqrt(n)

    @property
    def above(self) -> bool:
        """Surely more than zero."""
        return self.sure and self.mean > 0

    @property
    def below(self) -> bool:
        """Surely less than zero."""
        return self.sure and self.mean < 0

    def _paired(self, other: Seeds | float) -> Iterator[tuple[float, float]]:
        theirs = other.values if isinstance(other, Seeds) else (float(other),) * len(self.values)
        if len(theirs) != len(self.values):
            raise InputError(f"expected as many seeds on both sides, got {len(self.values)} and {len(theirs)}")
        return zip(self.values, theirs)

    def __sub__(self, other: Seeds | float) -> Seeds:
        """Seed by seed, or less a number."""
        return Seeds(tuple(a - b for a, b in self._paired(other)))

    def __truediv__(self, other: Seeds | float) -> Seeds:
        """Seed by seed, or divided by a number."""
        return Seeds(tuple(a / b for a, b in self._paired(other)))

    def __format__(self, spec: str) -> str:
        """Mean and spread, each as `spec` says: f"{seeds:.1f}", f"{seeds:.0%}"; a + is of the mean alone."""
        spec = spec or ".3f"
        spread = f" ± {format(self.spread, spec.replace('+', ''))}" if len(self.values) > 1 else ""
        return f"{format(self.mean, spec)}{spread}"

    def __str__(self) -> str:
        return f"{self:.3f}"
