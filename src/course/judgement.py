"""What a verdict stands on: gates that must be passed before judging, and the parts of the claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .seeds import Seeds

HELD, IN_PART, CONTRADICTED, CANNOT_TELL, NOT_JUDGED = VERDICTS = (
    *("held", "held in part", "contradicted", "cannot tell"),
    "not judged",
)
"""The verdicts on a claim. "not judged": a single seed, as in a fast run."""


def share_learned(loss: Seeds, guess: Seeds | float, floor: Seeds | float) -> Seeds:
    """How much of its own task a model has learned: 0 at the loss of a guess by frequency, 1 at the entropy floor.

    >>> from clozelab.course import Seeds, share_learned
    >>> print(share_learned(Seeds((1.2, 1.1)), guess=2.0, floor=1.0))
    0.850 ± 0.635

    Raises `InputError` where the guess is no worse than the floor: such a task has nothing to learn.
    """
    every = [one if isinstance(one, Seeds) else Seeds((one,) * len(loss.values)) for one in (guess, floor)]
    room = every[0] - every[1]
    if min(room.values) <= 0:
        raise InputError(f"expected a guess above the floor, got {every[0].values} and {every[1].values}")
    return (every[0] - loss) / room


@dataclass(frozen=True)
class Gate:
    """What must be true before a claim can be judged; exactly one of `above` and `below` is given.

    - what a contestant must have reached: "the causal model has learned 80% of its own task";
    - with `control`, an effect that must appear where it is known to be: "errors compound in the running sum".

    It is passed where the value is significantly above (below) the bound. Raises `InputError` for no bound, or two.

    >>> from clozelab.course import Gate, Seeds
    >>> Gate("has learned 80% of its own task", Seeds((0.93, 0.95, 0.91)), above=0.8).passed
    True
    """

    what: str
    value: Seeds
    above: Seeds | float | None = None
    below: Seeds | float | None = None
    control: bool = False

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise InputError(f"the gate {self.what!r} needs one bound: above= or below=")

    @property
    def passed(self) -> bool:
        """Whether the value is significantly beyond the bound."""
        if self.above is not None:
            return (self.value - self.above).above
        assert self.below is not None
        return (self.value - self.below).below

    def __str__(self) -> str:
        bound, side = (self.above, "above") if self.above is not None else (self.below, "below")
        limit = f"{bound:.3g}" if isinstance(bound, Seeds) else f"{bound:g}"
        return f"{self.what}: {self.value:.3g}, must be {side} {limit}"


@dataclass(frozen=True)
class Part:
    """One part of a claim: that a difference is above zero or, with `within`, that it does not matter.

    >>> from clozelab.course import Part, Seeds
    >>> Part("both sides tell senses better", Seeds((0.05, 0.04, 0.06))).outcome
    'held'
    >>> Part("the mask rate does not matter", Seeds((0.05, 0.04, 0.06)), within=0.02).outcome
    'contradicted'
    >>> Part("the mask rate does not matter", Seeds((0.05, -0.03, 0.01)), within=0.02).outcome
    'cannot tell'
    """

    what: str
    difference: Seeds
    within: float | None = None
    """The margin inside which a difference does not matter, fixed before the measurement."""

    @property
    def outcome(self) -> str:
        """Held, contradicted (significantly the other way), or cannot tell."""
        if self.within is None:
            held, other_way = self.difference.above, self.difference.below
        else:
            low, high = self.difference.interval
            held, other_way = self.difference.within(self.within), low > self.within or high < -self.within
        return HELD if held else CONTRADICTED if other_way else CANNOT_TELL

    def __str__(self) -> str:
        margin = "" if self.within is None else f" (margin ±{self.within:g})"
        return f"{self.what}: {self.difference:+.3g}{margin}, {self.outcome}"


@dataclass(frozen=True)
class Judgement:
    """A verdict, and why."""

    verdict: str
    """One of `VERDICTS`."""
    reason: str
    """Empty, or what a verdict other than "held" is due to."""
    gates: tuple[Gate, ...]
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return summary(self.verdict, [part.outcome for part in self.parts])

    @property
    def title(self) -> str:
        """The verdict, to begin the title of a picture."""
        return str(self).capitalize()


def summary(verdict: str, outcomes: Sequence[str]) -> str:
    """A verdict; one in part says how many parts held, since one of nine is less than eight of nine.

    >>> from clozelab.course.judgement import summary
    >>> summary("held in part", ["held", "cannot tell", "contradicted"])
    'held in part (1 of 3 parts, 1 contradicted)'
    """
    if verdict != IN_PART:
        return verdict
    contradicted = outcomes.count(CONTRADICTED)
    against = f", {contradicted} contradicted" if contradicted else ""
    return f"{verdict} ({outcomes.count(HELD)} of {len(outcomes)} parts{against})"


def judge(gates: Sequence[Gate], parts: Sequence[Part]) -> Judgement:
    """The verdict that gates and parts give.

    If a gate is not passed, "cannot tell". Else all parts held: "held"; some of them: "held in part"; none, and one is
    significantly the other way: "contradicted"; else "cannot tell". With one seed, "not judged".

    >>> from clozelab.course import Gate, Part, Seeds, judge
    >>> learned, ahead = Seeds((0.9, 0.91, 0.92)), Seeds((0.3, 0.2, 0.25))
    >>> judge([Gate("has learned", learned, above=0.8)], [Part("is ahead", ahead)]).verdict
    'held'
    >>> judge([Gate("has learned", learned, above=0.95)], [Part("is ahead", ahead)]).verdict
    'cannot tell'

    Raises `InputError` for no parts, and for gates and parts of different numbers of seeds.
    """
    if not parts:
        raise InputError("a claim has at least one part")
    counts = {len(part.difference.values) for part in parts} | {len(gate.value.values) for gate in gates}
    if len(counts) > 1:
        raise InputError(f"expected as many seeds in all gates and parts, got {sorted(counts)}")
    failed = [gate for gate in gates if not gate.passed]
    missed = [part for part in parts if part.outcome != HELD]
    reason = "; ".join(str(part) for part in missed)
    if len(parts[0].difference.values) == 1:
        verdict, reason = NOT_JUDGED, "one seed"
    elif failed:
        verdict, reason = CANNOT_TELL, "not passed: " + "; ".join(str(gate) for gate in failed)
    elif not missed:
        verdict = HELD
    elif len(missed) < len(parts):
        verdict = IN_PART
    elif any(part.outcome == CONTRADICTED for part in missed):
        verdict = CONTRADICTED
    else:
        verdict = CANNOT_TELL
    return Judgement(verdict, reason, tuple(gates), tuple(parts))
