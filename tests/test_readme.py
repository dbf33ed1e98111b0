"""The README's code runs as it stands there."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=[block.splitlines()[2][:40] for block in BLOCKS])
def test_the_code_of_the_readme_runs(code):
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert "labels" in names["batch"]
    if "loss" in names:
        assert names["loss"].count == 2  # one hidden token in each of the two rows


def test_the_readme_names_every_room():
    for room in ("objectives", "models", "data", "training", "evaluation", "display"):
        assert f"{room}/" in README
