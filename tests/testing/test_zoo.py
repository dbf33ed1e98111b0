"""No right thing is faulted, and its essential checks run."""

from collections import Counter

import pytest

from . import (  # noqa: F401  each adds its things
    zoo_hand_written,
    zoo_hugging_face,
    zoo_own,
)
from .zoo import ZOO


def test_there_are_at_least_forty_and_each_stands_once():
    names = Counter(f"{one.group}: {one.name}" for one in ZOO)
    assert [name for name, count in names.items() if count > 1] == []
    assert len(names) >= 40


@pytest.mark.parametrize(
    "thing",
    [pytest.param(one, id=f"{one.group}-{one.name}", marks=[pytest.mark.slow] if one.slow else []) for one in ZOO],
)
def test_a_right_thing_is_not_faulted(thing, record_property):
    record_property("right", thing.group)
    report = thing.check()  # raises CheckFailed for a fault
    assert report.missing == []
