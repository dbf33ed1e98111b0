"""Nothing public ends in a bare error, whatever it is given: calls, command lines, files (see `fuzz.py`)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzz.py")
LEAST = {"calls": 400, "commands": 12, "files": 12}
"""How many doors, commands and kinds of files are tried at least."""


def fuzz(seed, **counts):
    """(the counts of each kind, all that failed), from a process of its own."""
    words = [word for name, count in counts.items() for word in (f"--{name}", str(count))]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--seed", str(seed), *words], capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stderr[-3000:]
    *failures, counted = map(json.loads, done.stdout.splitlines())
    return counted, failures


@pytest.fixture(scope="module")
def results():
    return fuzz(0, calls=600, commands=60, files=120)


@pytest.mark.parametrize("kind", ["calls", "commands", "files"])
def test_only_errors_that_are_meant_come(results, kind):
    counted, failures = results
    assert counted[kind]["of"] >= LEAST[kind]
    assert [failure for failure in failures if kind[:-1] in failure] == []


def test_nothing_is_left_in_the_home_folder(results):
    assert results[0]["left in the home folder"] == []


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(1, 4))
def test_the_same_for_long(seed):
    counted, failures = fuzz(seed, calls=20_000, commands=2_000, files=6_000)
    print(counted)
    assert failures == []
