"""Pages that are made of the code: docstrings, a page for each objective, every public name once."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

import clozelab
from clozelab.objectives import OBJECTIVES, MaskedLM, options

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def make_pages():
    """The modules that make pages, which lie beside the pages and not in the package."""
    sys.path.insert(0, str(DOCS))
    try:
        yield {
            name: importlib.import_module(f"make_pages.{name}")
            for name in ("api", "docstrings", "lessons", "links", "objectives")
        }
    finally:
        sys.path.remove(str(DOCS))


@pytest.mark.parametrize(
    ("markdown", "rest"),
    [
        ("One `name` and `Packed`s.", "One ``name`` and ``Packed``\\ s."),
        ("p(a | b) of a_ and *args", "p(a \\| b) of a\\_ and \\*args"),
        ("Text:\n- one\n- two", "Text:\n\n- one\n- two"),
        ("    a   b\n\n    c", ".. code-block:: text\n\n    a   b\n\n    c"),
        ("- an item\n\n    that goes on", "- an item\n\n    that goes on"),
        ("Text.\n>>> 1 + 1\n2", "Text.\n\n>>> 1 + 1\n2"),
        (
            "| a | b |\n|---|---|\n| 1 | 2 |",
            ".. list-table::\n   :header-rows: 1\n\n   * - a\n     - b\n   * - 1\n     - 2",
        ),
    ],
)
def test_docstrings_become_rest(markdown, rest, make_pages):
    assert "\n".join(make_pages["docstrings"].to_rest(markdown.split("\n"))).strip() == rest


def test_a_new_objective_gets_its_page_by_itself(make_pages, monkeypatch):
    @options
    class Newest(MaskedLM):
        """Hide what is newest."""

        name, canonical, hides = "newest", "NEW", "the newest tokens"
        grade: float = 0.5
        """How new."""

    module = make_pages["objectives"]
    monkeypatch.setattr(module, "OBJECTIVES", {"newest": Newest})
    monkeypatch.setattr(module, "source_file", lambda kind: DOCS / "conf.py")
    [(name, page)] = module.pages().items()
    assert name == "objectives/newest.md"
    assert page.startswith("# Newest\n")
    for part in ("as in NEW", "| the newest tokens |", "| `grade` | `--grade` | `0.5` | How new. |", "<iframe"):
        assert part in page
    assert "No exact floor of this loss is known." in page  # a claim that it does not inherit
    assert "newest" in module.contents()


def test_floors_and_mistakes_of_the_page_of_evidence_stand_with_their_objectives(make_pages):
    rows = make_pages["objectives"]._rows_of
    assert all(len(rows("Proved", kind)) == 1 for kind in OBJECTIVES.values())
    assert len(rows("A museum of mistakes", MaskedLM)) == 4
    assert sum(len(rows("A museum of mistakes", kind)) for kind in OBJECTIVES.values()) == 14


def test_every_public_name_is_described_once(make_pages, monkeypatch):
    """But for those of `clozelab.integrations`, which the build imports with a stand-in for `transformers`."""
    api = make_pages["api"]
    monkeypatch.setattr(api, "_integrations", list)
    text = "\n".join(api.pages().values())
    described = re.findall(r"(?:auto\w+::|\{py:data\}) (clozelab\.\S+)", text)
    assert len(described) == len(set(described))
    names = {f"{package}.{name}" for package, module in api.packages().items() for name in api.public(module)}
    homes = {
        api.homes()[id(getattr(module, name))] for module in api.packages().values() for name in api.public(module)
    }
    objectives = {
        f"clozelab.objectives.{kind.__name__}" for kind in OBJECTIVES.values()
    }  # which have pages of their own
    assert homes - objectives <= set(described)
    assert len(names) > 250
    assert {getattr(clozelab, name) is not None for name in clozelab.__all__} == {True}
    for value in re.findall(r"\{py:data\} \S+\n(.*)\n", text):
        assert value, "a public value without a docstring"


def test_links_of_the_repository_become_links_of_the_site(make_pages):
    links = make_pages["links"]
    text = (
        "[a](../src/objectives/prefix_lm.py) [b](../CONTRIBUTING.md#x) `[c](d)` [e](https://f) [g](../examples/03_x.py)"
    )
    made = links.relinked(text, DOCS / "start.md", DOCS / "your_own" / "scheme.md")
    assert made == (
        "[a](../objectives/prefix.md) [b](../project/contributing.md#x) `[c](d)` [e](https://f) [g](../course/03_x.md)"
    )


def test_a_longer_fence_holds_shorter_ones(make_pages):
    """Closed by the first three backticks, the code would end within, and the links behind it would count as code."""
    text = "````md\n```sh\n[a](../CONTRIBUTING.md)\n```\n````\n[b](../CONTRIBUTING.md)\n"
    made = make_pages["links"].relinked(text, DOCS / "start.md", DOCS / "your_own" / "scheme.md")
    assert made == text.replace("[b](../CONTRIBUTING.md)", "[b](../project/contributing.md)")


def test_a_lesson_asks_its_exercises_and_folds_the_answers(make_pages):
    lessons = make_pages["lessons"]
    [script] = [script for script in lessons.SCRIPTS if script.stem.startswith("03")]
    pages = lessons.pages([script])
    page, notebook = pages[f"course/{script.stem}.md"], json.loads(pages[f"course/{script.stem}.ipynb"])
    exercises = page.partition("## Exercises")[2]
    for number, exercise in enumerate(lessons.exercises_of(script), 1):
        asked = f"{number}. {exercise.ask}\n\n   ```{{dropdown}} Answer\n"
        assert exercises.count(asked) == 1
        assert exercise.why in exercises.partition(asked)[2].partition("```")[0]
    assert "print_exercises" not in exercises
    hidden = [cell for cell in notebook["cells"] if cell["metadata"].get("jupyter") == {"source_hidden": True}]
    assert ["Exercise(" in "".join(cell["source"]) for cell in hidden] == [True]
    assert sum("why=" in "".join(cell["source"]) for cell in notebook["cells"]) == 1  # no answer elsewhere
