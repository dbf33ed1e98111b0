"""What the README shows works as it stands there."""

import re
import shlex
from pathlib import Path

import pytest

from clozelab.cli import COMMANDS
from clozelab.cli.parsing import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PAGES = README + (ROOT / "docs" / "masking.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", PAGES, re.DOTALL))
WORDS = [shlex.split(line, comments=True) for line in SHELL.splitlines() if line.startswith("clozelab ")]


def test_the_code_of_the_readme_runs(capsys):
    """From top to bottom, as a reader would paste it."""
    names: dict = {}
    for code in BLOCKS:
        exec(compile(code, "README.md", "exec"), names)
    assert names["loss"].count == 2  # one hidden token in each of the two rows
    assert "labels" in names["batch"]
    assert re.search(r"one_window: \d+ passed, 0 failed", capsys.readouterr().out)


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_the_commands_of_the_readme_can_be_parsed(words):
    _, name, *rest = words
    parse(name, COMMANDS[name], rest)


def test_the_readme_has_commands():
    assert len(WORDS) > 5


def test_the_readme_names_every_room():
    for room in sorted(path.parent.name for path in (ROOT / "src").glob("*/__init__.py")):
        assert f"{room}/" in README
