"""Every planted fault is found, by the check that is named for it."""

import re
from collections import Counter
from pathlib import Path

import pytest

from . import (  # noqa: F401  each adds its faults
    catalogue_blanks,
    catalogue_collators,
    catalogue_corruptions,
    catalogue_declarations,
    catalogue_denoisers,
    catalogue_functions,
    catalogue_heads,
    catalogue_mixtures,
    catalogue_models,
    catalogue_noise,
    catalogue_objectives,
    catalogue_orders,
    catalogue_rates,
    catalogue_replaced,
    catalogue_schemes,
    catalogue_spans,
)
from .catalogue import FAULTS


def test_there_are_at_least_sixty_and_each_stands_once():
    names = Counter(fault.name for fault in FAULTS)
    assert [name for name, count in names.items() if count > 1] == []
    assert len(names) >= 60


def test_the_page_says_how_many_there_are():
    """Of those that the named command plants."""
    page = (Path(__file__).parents[2] / "docs" / "your_own" / "index.md").read_text()
    planted = sum(not fault.slow for fault in FAULTS)
    assert f"They find {planted} of {planted} planted faults" in page


@pytest.mark.parametrize(
    "fault",
    [pytest.param(one, id=f"{one.group}-{one.name}", marks=[pytest.mark.slow] if one.slow else []) for one in FAULTS],
)
def test_a_planted_fault_is_found_by_its_check(fault, record_property):
    record_property("planted", fault.group)
    found = fault.find()
    assert set(fault.checks) <= found.keys(), f"{fault.mistake} Found: {found or 'nothing'}"
    said = found[fault.checks[0]]
    assert re.search(fault.says, said) if fault.says else not said.startswith("raises"), said
