"""The script that times the making of batches runs; no time is looked at."""

import subprocess
import sys
from pathlib import Path

from clozelab.planning.plan import DELIVERED

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "delivery.py"


def test_it_prints_a_speed_for_each_objective_that_the_plan_knows_one_of():
    done = subprocess.run([sys.executable, str(SCRIPT), "--quick"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(DELIVERED)
    assert all("M tokens/s of one core" in line for line in done.stdout.splitlines())
