"""The course is whole: each lesson has its result and its picture, and its header states the finding.

Nothing is trained here.
"""

import ast
import importlib.util
import re
import sys
from itertools import takewhile
from pathlib import Path

import pytest

from clozelab.course import Lesson, claims_table, read_results

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "examples" / "results"
SCRIPTS = sorted(path for path in (ROOT / "examples").glob("[0-9][0-9]_*.py"))
MEASURED = sorted(RESULTS.glob("[0-9][0-9]_*.json"))
ONES = read_results(RESULTS)


def in_one_line(text):
    """The text with single spaces, however its lines break."""
    return " ".join(text.split())


def header_of(script):
    """The first cell, without comment marks."""
    lines = (ROOT / "examples" / script).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# %% [markdown]", f"{script} does not begin with a cell of text"
    header = takewhile(lambda line: line.startswith("#") and not line.startswith("# %%"), lines[1:])
    return in_one_line(" ".join(line.removeprefix("#") for line in header))


def lesson_of(script):
    """The `Lesson` of a script, which is imported and not run."""
    spec = importlib.util.spec_from_file_location(f"read_{script[:2]}", ROOT / "examples" / script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module.LESSON


def test_each_lesson_has_a_result_and_a_picture_and_the_other_way_round():
    stems = [path.stem for path in SCRIPTS]
    assert [path.stem for path in MEASURED] == stems
    assert sorted(path.stem for path in RESULTS.glob("[0-9][0-9]_*.png")) == stems
    assert len({stem[:2] for stem in stems}) == len(stems)  # no number twice


@pytest.mark.parametrize("one", ONES, ids=lambda one: one.lesson)
def test_a_result_is_that_of_its_script(one):
    assert lesson_of(one.script) == Lesson(one.script, one.title, claim=one.claim)
    assert (RESULTS / f"{Path(one.script).stem}.json").exists()
    assert one.lesson == one.script[:2]


@pytest.mark.parametrize("one", ONES, ids=lambda one: one.lesson)
def test_the_header_of_a_lesson_states_its_finding(one):
    header = header_of(one.script)
    assert in_one_line(one.finding) in header
    assert f"python examples/{one.script}" in header


@pytest.mark.parametrize("one", ONES, ids=lambda one: one.lesson)
def test_a_result_is_of_a_whole_run_over_at_least_three_seeds(one):
    assert one.verdict != "not judged"
    assert "--fast" not in one.arguments
    assert len(one.seeds) >= 3
    assert one.figures
    for name, values in one.figures.items():
        assert len(values) == len(one.seeds), f"{name}: {len(values)} values for {len(one.seeds)} seeds"


@pytest.mark.parametrize("one", ONES, ids=lambda one: one.lesson)
def test_a_finding_can_stand_in_a_table(one):
    assert "|" not in one.finding + one.claim + one.title
    assert all(len(row) == len(one.headings) for row in one.rows)
    assert (RESULTS / f"{Path(one.script).stem}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem[:2])
def test_a_lesson_uses_public_names_alone(script):
    """Nothing that begins with an underscore, of a module or of an object."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        names = [node.attr] if isinstance(node, ast.Attribute) else []
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [part for alias in node.names for part in alias.name.split(".")]
            names += (getattr(node, "module", None) or "").split(".")
        private = [name for name in names if re.fullmatch(r"_(?!_).*", name)]
        assert not private, f"line {node.lineno}: {private}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem[:2])
def test_a_lesson_tells_how_far_it_is(script):
    calls = [node for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert [call for call in calls if ast.unparse(call.func) == "visit.track"]


def test_the_readme_holds_the_table():
    assert claims_table(ONES) in (ROOT / "README.md").read_text(encoding="utf-8")
