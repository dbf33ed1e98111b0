"""The course is whole: each lesson asks first, is judged by gates and parts, and has its result and its picture.

By default nothing is trained here.
"""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

from clozelab.course import claims_table, read_results

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "examples" / "results"
SCRIPTS = sorted(path for path in (ROOT / "examples").glob("[0-9][0-9]_*.py"))
MEASURED = sorted(RESULTS.glob("[0-9][0-9]_*.json"))
ONES = read_results(RESULTS) if MEASURED else []


def in_one_line(text):
    """The text with single spaces, however its lines break."""
    return " ".join(text.split())


def cells_of(script):
    """("text" or "code", its content) of each cell; the text without comment marks, on one line."""
    content = script.read_text(encoding="utf-8")
    assert content.startswith("# %% [markdown]\n"), f"{script.name} does not begin with a cell of text"
    cells = []
    for part in re.split(r"^# %%", content, flags=re.MULTILINE)[1:]:
        first, _, rest = part.partition("\n")
        text = " ".join(line.removeprefix("#") for line in rest.splitlines())
        cells.append(("text", in_one_line(text)) if "[markdown]" in first else ("code", rest))
    return cells


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


of_each_result = pytest.mark.parametrize("one", ONES, ids=lambda one: one.lesson)
of_each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem[:2])


@of_each_result
def test_a_result_is_that_of_its_script(one):
    lesson = lesson_of(one.script)
    for name in ("script", "title", "claim", "question", "literature", "previous"):
        assert getattr(lesson, name) == getattr(one, name), name
    assert one.lesson == one.script[:2]


@of_each_result
def test_a_result_is_of_a_whole_run_over_five_seeds_and_names_its_commit(one):
    assert "--fast" not in one.arguments
    first = lesson_of(one.script).first_seed
    assert one.seeds == list(range(first, first + 5))
    assert re.fullmatch("[0-9a-f]{7,40}(, with changes)?", one.commit)
    assert one.figures
    for name, values in one.figures.items():
        assert len(values) == len(one.seeds), f"{name}: {len(values)} values for {len(one.seeds)} seeds"


@of_each_result
def test_a_verdict_is_what_gates_and_parts_say(one):
    assert one.gates, "a claim is judged behind a gate"
    passed, held = (
        {outcome == good for _, outcome in rows} for rows, good in ((one.gates, "passed"), (one.parts, "held"))
    )
    if False in passed:
        assert one.verdict == "cannot tell"
    else:
        assert (one.verdict == "held") == (held == {True})
        assert (one.verdict == "held in part") == (held == {True, False})


@of_each_result
def test_a_result_can_stand_in_a_table(one):
    assert "|" not in one.number + one.finding + one.claim + one.title
    assert all(len(row) == len(one.headings) for row in one.rows)
    assert (RESULTS / f"{Path(one.script).stem}.png").read_bytes()[:4] == b"\x89PNG"


@of_each_script
def test_a_lesson_asks_first_and_answers_last(script):
    """Cells of text, from the first to the last: the question, what a reader expects, and what came out at the end."""
    texts = [text for kind, text in cells_of(script) if kind == "text"]
    assert f"python examples/{script.name}" in texts[0]
    assert "Before you run" in texts[0]
    assert "?" in texts[0]
    came_out = " ".join(texts).partition("What came out")[2]
    assert came_out
    assert "rule of judgement" not in came_out.lower()  # the rule stands before the figures
    [one] = [one for one in ONES if one.script == script.name]
    assert one.verdict in came_out.lower()


@of_each_script
def test_a_lesson_has_three_exercises_and_shows_something(script):
    assert len(lesson_of(script.name).exercises) == 3
    shows = [text.strip() for kind, text in cells_of(script) if kind == "code" and "if in_notebook():" in text]
    assert len(shows) > 1
    assert shows[-1] == "if in_notebook():\n    LESSON.print_exercises()"  # in its place a page of the site asks them


@pytest.mark.slow
@of_each_script
def test_the_cells_of_a_notebook_show_something_within_seconds(script, monkeypatch, capsys):
    """All but the last one, which runs the lesson."""
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    module = type(sys)(f"notebook_{script.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for kind, text in cells_of(script):
        if kind == "code" and "__main__" not in text:
            exec(compile(text, str(script), "exec"), module.__dict__)
    assert capsys.readouterr().out.strip()


@of_each_script
def test_a_lesson_uses_public_names_alone(script):
    """Nothing that begins with an underscore, of a module or of an object."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        names = [node.attr] if isinstance(node, ast.Attribute) else []
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [part for alias in node.names for part in alias.name.split(".")]
            names += (getattr(node, "module", None) or "").split(".")
        private = [name for name in names if re.fullmatch(r"_(?!_).*", name)]
        assert not private, f"line {node.lineno}: {private}"


@of_each_script
def test_a_lesson_tells_how_far_it_is(script):
    calls = [node for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert [call for call in calls if ast.unparse(call.func) == "visit.track"]


def test_the_readme_holds_the_table():
    assert claims_table(ONES) in (ROOT / "README.md").read_text(encoding="utf-8")
