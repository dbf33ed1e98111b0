"""The streaming benchmark runs, on a corpus that is soon read; no figure is looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "streaming.py"


@pytest.mark.slow
def test_it_goes_through_a_corpus_in_every_way(tmp_path):
    words = [sys.executable, str(SCRIPT), "--gigabytes", "0.01", "--out", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "streaming.json").read_text())["rows"]
    assert [row["way"] for row in rows] == ["stream", "pack", "packed"]
    assert all(row["tokens"] > 0 and row["peak"] > 0 and row["cpu"] > 0 for row in rows)
    assert (tmp_path / "streaming.png").exists()
