"""A page and a notebook for each lesson, from its script and what it recorded, and the gallery of all."""

import importlib.util
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import jupytext

from clozelab.course import Exercise, Result
from clozelab.errors import InputError

from .links import ROOT

SCRIPTS = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
RESULTS = ROOT / "examples" / "results"
EXERCISES = "if in_notebook():\n    LESSON.print_exercises()"
"""The cell of a lesson in whose place a page has the exercises."""


@cache
def result_of(script: Path) -> Result | None:
    """What the lesson recorded, or None where it was not run yet."""
    path = RESULTS / f"{script.stem}.json"
    return Result.load(path) if path.exists() else None


def pages(scripts: Sequence[Path] = SCRIPTS) -> dict[str, str]:
    """{name: content} of pages and notebooks."""
    made = {}
    for script in scripts:
        notebook = jupytext.read(script)
        made[f"course/{script.stem}.md"] = _page(script, notebook)
        for k, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{k}"  # drawn at random otherwise
            if cell.cell_type == "code" and "\nLESSON = " in cell.source:  # it holds the answers
                cell.metadata["jupyter"] = {"source_hidden": True}
        notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        made[f"course/{script.stem}.ipynb"] = jupytext.writes(notebook, fmt="ipynb") + "\n"
    return made


def exercises_of(script: Path) -> tuple[Exercise, ...]:
    """The exercises of a script, which is imported and not run."""
    spec = importlib.util.spec_from_file_location(f"lesson_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # its dataclasses look for it there
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module.LESSON.exercises


def title_of(script: Path) -> str:
    """The first heading of a script, behind its number."""
    found = re.search(r"^# # (?:\d\d )?(.*)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    return f"{script.stem[:2]} {found[1] if found else script.stem[3:]}"


def gallery() -> str:
    """The cards of all lessons, and the table of claims."""
    cards, rows = [], ["| lesson | claim | measured | verdict |", "|---|---|---|---|"]
    for script in SCRIPTS:
        result = result_of(script)
        title = title_of(script)
        picture = RESULTS / f"{script.stem}.png"
        image = ""
        if picture.exists():
            image = f":img-top: ../../examples/results/{picture.name}\n:img-alt: figure of the lesson\n"
        verdict = f"**{result.verdict}**" if result else "not measured yet"
        question = result.question if result else ""
        options = f":link: {script.stem}\n:link-type: doc\n{image}"
        cards.append(f"```{{grid-item-card}} {title}\n{options}\n{question}\n\n{verdict}\n```")
        if result:
            cells = (f"[{title}]({script.stem}.md)", result.claim, result.number, verdict)
            rows.append(f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |")
    grid = "\n".join(["`````{grid} 1 2 2 2", ":gutter: 3", "", *cards, "`````"])
    names = "\n".join(["```{toctree}", ":hidden:", *(script.stem for script in SCRIPTS), "```"])
    table = "\n".join(["## All claims in one table", "", *rows]) if len(rows) > 2 else ""
    return f"{grid}\n\n{table}\n\n{names}\n"


def _page(script: Path, notebook: object) -> str:
    cells = [*filter(None, map(_cell, notebook.cells))]
    setup = next(k for k, cell in enumerate(cells) if cell.startswith("```python"))
    cells[setup] = f"`````{{dropdown}} Imports, claim and answers\n{cells[setup]}\n`````"
    cells = [_exercises(script) if cell == f"```python\n{EXERCISES}\n```" else cell for cell in cells]
    _, _, body = "\n\n".join(cells).partition("\n")
    links = " · ".join(
        (
            f"[Notebook]({script.stem}.ipynb)",
            f"[script](path:../../examples/{script.name})",  # other links to it lead to this page
            "[how to run it](index.md)",
            "[glossary](../glossary.md)",
        )
    )
    return f"# {title_of(script)}\n\n{links}\n\n{_measured(script)}\n\n{body}\n"


def _cell(cell: object) -> str:
    if cell.cell_type == "markdown":
        return cell.source
    return f"```python\n{cell.source}\n```" if cell.source.strip() else ""


def _exercises(script: Path) -> str:
    """What the exercises ask, each with its answer folded away."""
    items = []
    for number, exercise in enumerate(exercises_of(script), 1):
        answer = exercise.right[0].upper() + exercise.right[1:]
        items.append(f"{number}. {exercise.ask}\n\n   ```{{dropdown}} Answer\n   {answer}\n   ```")
    return "\n\n".join(items)


def _measured(script: Path) -> str:
    result = result_of(script)
    if result is None:
        return "```{note}\nThis lesson was not measured yet.\n```"
    seeds = f"{len(result.seeds)} seed{'s' * (len(result.seeds) > 1)}"
    lines = [
        "```{div} verdict",
        f"**{result.claim}**",
        f"Verdict: **{result.verdict}**{f', {result.reason}' if result.reason else ''}. {result.number}",
        f"{seeds}, {result.seconds / 60:.1f} minutes of processor time, PyTorch {result.torch}, {result.machine}.",
        "```",
    ]
    if (picture := RESULTS / f"{script.stem}.png").exists():
        lines.append(f"![what was measured](../../examples/results/{picture.name})")
    return "\n\n".join(lines)


__all__ = ["InputError", "gallery", "pages"]
