"""What the README says of faults is what the last whole run of them found. Nothing is broken here."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORD = json.loads((ROOT / "docs" / "faults.json").read_text(encoding="utf-8"))
PHASES = ("tokenising", "packing", "training", "evaluating", "checkpointing")


def test_the_readme_holds_the_table(table_of):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"<!-- faults -->\n{table_of(RECORD)}\n<!-- /faults -->" in readme


@pytest.mark.parametrize("fault", RECORD["faults"])
def test_what_was_tried_was_survived_or_lost(fault):
    counts = RECORD["faults"][fault]
    assert counts["tried"] == counts["survived"] + counts["lost"] > 0


def test_fifty_kills_fell_in_all_phases():
    kills = {phase: RECORD["faults"][f"SIGKILL while {phase}"]["tried"] for phase in PHASES}
    assert sum(kills.values()) >= 50
    assert min(kills.values()) >= 5
