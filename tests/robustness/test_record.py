"""What docs/faults.md holds of faults is what the last whole run of them found. Nothing is broken here."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHASES = ("tokenising", "packing", "training", "evaluating", "checkpointing")


@pytest.fixture
def record():
    return json.loads((ROOT / "docs" / "faults.json").read_text(encoding="utf-8"))


def test_the_page_holds_the_table(record, table_of):
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert f"<!-- faults -->\n{table_of(record)}\n<!-- /faults -->" in page


def test_what_was_tried_was_survived_or_lost(record):
    for fault, counts in record["faults"].items():
        assert counts["tried"] == counts["survived"] + counts["lost"] > 0, fault


def test_fifty_kills_fell_in_all_phases(record):
    kills = {phase: record["faults"][f"SIGKILL while {phase}"]["tried"] for phase in PHASES}
    assert sum(kills.values()) >= 50
    assert min(kills.values()) >= 5
