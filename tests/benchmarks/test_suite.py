"""The benchmarks run, and write what they should. No time is looked at: that is for a quiet machine."""

import json

import pytest

from clozelab.objectives import OBJECTIVES

pytest.importorskip("transformers")
pytestmark = pytest.mark.slow  # half a minute

FIGURES = {
    "batches": 6,
    "training step": 3,
    "training step, larger": 6,
    "compiled step": 3,
    "step memory": 3,
    "loss memory": 2,
    "loss time": 2,
    "loop": len(OBJECTIVES) + 1,
    "muon": 1,
    "utilisation": 6,
    "start-up": 3,
    "tokenising": 1,
    "growth": 6,
}
"""How many figures each row of a quick table has."""
WITHOUT_GOAL = {"batches"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, run_script):
    """What a quick run of all rows wrote."""
    folder = tmp_path_factory.mktemp("benchmarks")
    run_script("suite", "--quick", "--out", folder)
    return folder


@pytest.fixture(scope="module")
def record(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def results(record):
    return [result for row in record["rows"].values() for result in row["results"]]


def test_every_row_is_there(results):
    rows = [result["row"] for result in results]
    assert {row: rows.count(row) for row in rows} == FIGURES


def test_every_figure_has_a_goal_and_a_spread(results):
    for result in results:
        assert (result["goal"] is None) == (result["row"] in WITHOUT_GOAL), result["name"]
        figure = result["figure"]
        assert figure["low"] <= figure["median"] <= figure["high"], result["name"]


def test_the_peak_of_the_machine_is_measured(record):
    for row in record["rows"].values():
        assert set(row["peak"]) == {"float32", "bfloat16"}
        assert all(speed > 0 for speed in row["peak"].values())


def test_table_and_picture_are_written(folder, results):
    page = (folder / "README.md").read_text()
    assert all(f"| {result['name']} |" in page for result in results)
    assert "a quick one" in page
    assert (folder / "benchmarks.png").stat().st_size > 50_000


def test_an_unknown_row_is_refused(run_script, capsys):
    with pytest.raises(SystemExit) as refused:
        run_script("suite", "--only", "nothing")
    assert refused.value.code == 2
    assert "choose from batches" in capsys.readouterr().err
