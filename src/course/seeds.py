"""A quantity measured over several seeds: its mean, its 95% interval, and what the interval says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ..errors import InputError
from ..escape import shown

LEVEL = 0.05
"""Chance, where there is no difference, that a two-sided t-test finds one."""

ROUNDING = 1e-12
"""What is nearer to zero is a rounding error: 0.1 + 0.2 - 0.3, equal in all seeds, would be significant."""

_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Student's t below which 97.5% lie, with 1, 2, 3, ... degrees of freedom."""


def t_quantile(degrees: int) -> float:
    """Student's t for a 95% interval; beyond 30 degrees of freedom by the Cornish-Fisher expansion.

    >>> from clozelab.course.seeds import t_quantile
    >>> t_quantile(4), round(t_quantile(100), 3)
    (2.776, 1.984)
    """
    if degrees <= len(_QUANTILES):
        return _QUANTILES[degrees - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


@dataclass(frozen=True)
class Seeds:
    """A quantity measured once for each seed, in the order of the seeds.

    >>> from clozelab.course import Seeds
    >>> causal, masked = Seeds((0.52, 0.55, 0.51, 0.54, 0.53)), Seeds((0.61, 0.66, 0.59, 0.63, 0.62))
    >>> print(masked)
    0.622 ± 0.032
    >>> print(masked - causal), (masked - causal).above  # pairs of the same seed
    0.092 ± 0.014
    (None, True)

    `±` is half of the 95% interval of the mean by Student's t over the seeds. An interval that excludes zero is a
    two-sided t-test at 0.05. Raises `InputError` for no values, for values that are not finite numbers, and for
    operands with different numbers of seeds.
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

    @classmethod
    def by_name(cls, runs: Sequence[Mapping[str, float]]) -> dict[str, Seeds]:
        """The figures of one run for each seed, put together by their names.

        >>> from clozelab.course import Seeds
        >>> Seeds.by_name([{"causal": 0.5, "masked": 0.6}, {"causal": 0.7, "masked": 0.5}])["causal"].values
        (0.5, 0.7)
        """
        return {name: cls(tuple(run[name] for run in runs)) for name in runs[0]}

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return fmean(self.values)

    @property
    def half_width(self) -> float:
        """Half of the 95% interval of the mean; infinite for a single seed, which says nothing of others."""
        n = len(self.values)
        return t_quantile(n - 1) * stdev(self.values) / math.sqrt(n) if n > 1 else math.inf

    @property
    def error(self) -> float:
        """The length of an error bar: the half width, and zero for a single seed."""
        return self.half_width if len(self.values) > 1 else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the mean."""
        return self.mean - self.half_width, self.mean + self.half_width

    @property
    def above(self) -> bool:
        """Significantly more than zero: the interval lies above it."""
        return self.interval[0] > ROUNDING

    @property
    def below(self) -> bool:
        """Significantly less than zero: the interval lies below it."""
        return self.interval[1] < -ROUNDING

    def within(self, margin: float) -> bool:
        """Equivalent to zero: the interval lies inside ±margin. No significant difference is not enough for that."""
        low, high = self.interval
        return -margin < low and high < margin

    def map(self, function: Callable[..., float], *others: Seeds) -> Seeds:
        """What a function makes of it, seed by seed, together with that of `others`.

        >>> from clozelab.course import Seeds
        >>> Seeds((0.5, 0.7)).map(min, Seeds((0.6, 0.1))).values
        (0.5, 0.1)
        """
        for other in others:
            self._paired(other)  # raises where the seeds are not as many
        return Seeds(tuple(map(function, self.values, *(other.values for other in others))))

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
        """Mean ± half width, both in the format `spec`, as in f"{seeds:.1f}"; a + sign applies to the mean alone."""
        spec = spec or ".3f"
        after = f" ± {format(self.half_width, spec.replace('+', ''))}" if len(self.values) > 1 else ""
        return f"{format(self.mean, spec)}{after}"

    def __str__(self) -> str:
        return f"{self:.3f}"


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation: 1 for one order, -1 for the reverse, 0 for none; equal values share their mean rank.

    0 also where all values of a side are equal. Raises `InputError` for sides of different lengths.

    >>> from clozelab.course import rank_correlation
    >>> rank_correlation([1, 2, 3, 3], [10, 20, 30, 40])
    0.9486832980505138
    """
    if len(a) != len(b):
        raise InputError(f"expected as many values on both sides, got {len(a)} and {len(b)}")

    def ranks(values: Sequence[float]) -> list[float]:
        """Each value's rank, less the mean rank."""
        below = [sum(other < value for other in values) for value in values]
        return [low + (values.count(value) - 1) / 2 - (len(values) - 1) / 2 for low, value in zip(below, values)]

    one, two = ranks(a), ranks(b)
    size = math.sqrt(sum(x * x for x in one) * sum(y * y for y in two))
    return sum(x * y for x, y in zip(one, two)) / size if size else 0.0
