"""Checks of a collator of clozelab's: its objective is asked, and what the class declares is held against batches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...data import Collator
from ..objective import claims, corruption, ids, noise
from ..objective.corruption_trial import CorruptionTrial
from ..report import NOT_CHECKED, Check, Finding
from .trial import CollatorTrial


@dataclass(frozen=True, eq=False)
class OwnTrial(CorruptionTrial):
    """The objective behind a collator, and copies of that collator."""

    made: Collator

    def collator(self, **settings: Any) -> Collator:
        return copy.deepcopy(self.made)


def of_the_class(check: Callable[[CorruptionTrial], Finding | None]) -> Check[CollatorTrial]:
    """A check of an objective, on the collator that was given."""

    def asked(trial: CollatorTrial) -> Finding | None:
        if trial.objective is None or not isinstance(trial.collator, Collator):
            return Finding(NOT_CHECKED, "this is no collator of clozelab, whose objective could be asked")
        as_example = trial.example if trial.collator.extra or trial.collator.keep else None
        return check(OwnTrial(trial.objective, trial.special, as_example, None, trial.collator))

    asked.__doc__ = check.__doc__
    return asked


class_levels = of_the_class(claims.levels)
"""Of a weighted loss, by the packed way in, which is faster."""

CHECKS: dict[str, Check[CollatorTrial]] = {
    "options": of_the_class(corruption.options),
    "corruption": of_the_class(corruption.repeatable),
    "text": of_the_class(corruption.whole_text),
    "alignment": of_the_class(corruption.alignment),
    "noise": of_the_class(noise.noise),
    "progress": of_the_class(noise.progress),
    "special ids": of_the_class(ids.special),
}
