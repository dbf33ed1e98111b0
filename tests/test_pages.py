"""The README and the documentation: their code runs and prints what they say, their commands can be parsed."""

import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch

from clozelab.cli import COMMANDS
from clozelab.cli.parsing import parse
from clozelab.objectives import OBJECTIVES

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
"""A block of Python, and the block of what it prints, where one follows."""


def run(page: Path, leave_out: str = "nothing") -> tuple[dict, list[tuple[str, str]]]:
    """Run the blocks of a page from top to bottom, as a reader would paste them.

    Returns the names that they leave, and for each block what it printed and what the page says that it prints.
    """
    names: dict = {}
    printed = []
    torch.manual_seed(0)
    for code, promised in BLOCK.findall(page.read_text(encoding="utf-8")):
        if leave_out in code:
            continue
        with redirect_stdout(StringIO()) as out:
            exec(compile(code, page.name, "exec"), names)
        printed.append((out.getvalue(), promised))
    return names, printed


OWN = sorted((ROOT / "docs" / "your_own").glob("*.md"))


@pytest.mark.parametrize("page", [page for page in OWN if page.stem != "index"], ids=lambda page: page.stem)
def test_what_you_write_yourself_is_checked_on_its_page(page):
    _, printed = run(page)
    for found, promised in printed:
        assert found == promised
    assert any(re.search(r"\d+ passed, 0 failed", found) for found, _ in printed)


def test_the_code_of_the_readme_runs():
    """But for the block on Hugging Face, which `tests/integrations/test_hugging_face_page.py` runs."""
    names, printed = run(README, leave_out="from transformers")
    assert names["loss"].count == 2  # one hidden token in each of the two rows
    assert "labels" in names["batch"]
    assert len(printed) == 2
    assert re.search(r"one_window: \d+ passed, 0 failed", printed[1][0])


def commands(page: Path) -> list[str]:
    """Lines of its shell blocks that begin with `clozelab`; those that go on in the next line are one."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("clozelab ") and "--help" not in line]


COMMAND_LINES = sorted({line for page in PAGES for line in commands(page)})


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_the_commands_of_the_pages_can_be_parsed(line):
    _, name, *rest = shlex.split(line, comments=True)
    parse(name, COMMANDS[name], rest)


def test_the_readme_fits_on_a_few_screens_and_names_every_objective():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(commands(README)) >= 4
    rows = [
        f"| [`{kind.__name__}`](src/objectives/{kind.__module__.split('.')[-1]}.py) |" for kind in OBJECTIVES.values()
    ]
    assert [row for row in rows if row not in text] == []


def test_contributing_names_every_room():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for room in sorted(path.parent.name for path in (ROOT / "src").glob("*/__init__.py")):
        assert f"{room}/" in text


def anchors(page: Path) -> set[str]:
    """The names that headings of a page have as targets of links, by GitHub's rule."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "benchmarks" / "README.md"], ids=lambda page: str(page.relative_to(ROOT))
)
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, anchor = link.removeprefix("path:").partition("#")  # MyST's word for a file to download
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link
