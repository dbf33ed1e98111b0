"""The README's code runs as it stands there."""

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_code_of_the_readme_runs(capsys):
    """From top to bottom, as a reader would paste it."""
    names: dict = {}
    for code in BLOCKS:
        exec(compile(code, "README.md", "exec"), names)
    assert names["loss"].count == 2  # one hidden token in each of the two rows
    assert "labels" in names["batch"]
    assert "one_window: all 11 checks passed" in capsys.readouterr().out


def test_the_readme_names_every_room():
    for room in (
        "objectives",
        "models",
        "data",
        "training",
        "planning",
        "planning",
        "evaluation",
        "display",
        "testing",
        "course",
    ):
        assert f"{room}/" in README
