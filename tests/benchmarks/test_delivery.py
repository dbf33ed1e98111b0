"""The script that times the making of batches runs; no time is looked at."""

import subprocess
import sys
from pathlib import Path

from clozelab.objectives import OBJECTIVES

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "delivery.py"


def test_it_prints_a_speed_for_each_objective():
    done = subprocess.run([sys.executable, str(SCRIPT), "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(OBJECTIVES)
    assert all("M tokens/s of one core" in line for line in done.stdout.splitlines())
