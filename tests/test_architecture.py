"""The rooms and their doors: the core knows nothing of the periphery, and objectives are listed in one place."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clozelab.objectives import OBJECTIVES

SOURCE = Path(__file__).parents[1] / "src"
CORE = ("objectives", "models", "data", "generation", "languages", "training", "evaluation")
PERIPHERY = {"display", "course", "planning", "integrations", "testing", "cli"}
FILES = {str(path.relative_to(SOURCE)): path for path in sorted(SOURCE.rglob("*.py"))}


def imports_of(path: Path, package: str) -> set[str]:
    """All modules that a file imports, inside of functions too, as absolute names: "clozelab.data.noise", "torch"."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}  # a name may be a module
    return found


def package_of(name: str) -> str:
    """The package that relative imports of a file start from."""
    return ".".join(["clozelab", *Path(name).parent.parts])


@pytest.mark.parametrize("room", CORE)
def test_the_core_imports_nothing_from_the_periphery(room):
    files = {name: path for name, path in FILES.items() if name.startswith(f"{room}/")}
    assert files
    for name, path in files.items():
        rooms = {one.split(".")[1] for one in imports_of(path, package_of(name)) if one.startswith("clozelab.")}
        assert not rooms & PERIPHERY, f"{name} imports {', '.join(sorted(rooms & PERIPHERY))}"


def test_relative_imports_are_found_wherever_they_stand(tmp_path):
    """What the test above rests on."""
    path = tmp_path / "file.py"
    path.write_text(
        "from . import a\nfrom ..display import b\nfrom .. import cli as c\nimport torch.nn as nn\n"
        "if True:\n    from ...testing.x import d\ndef f():\n    import clozelab.course\n"
    )
    assert imports_of(path, "clozelab.data.corpora") == {
        *("clozelab.data.corpora", "clozelab.data.corpora.a"),
        *("clozelab.data.display", "clozelab.data.display.b"),
        *("clozelab.data", "clozelab.data.cli"),
        *("clozelab.testing.x", "clozelab.testing.x.d"),
        *("torch.nn", "clozelab.course"),
    }


def test_every_room_is_of_the_core_or_of_the_periphery():
    rooms = {Path(name).parts[0] for name in FILES if "/" in name}
    assert rooms == {*CORE, *PERIPHERY}


def names_in(node: ast.AST) -> set[str]:
    """Objectives that one literal list, tuple, set or dict names, by their name or by their class."""
    classes = {made.__name__: name for name, made in OBJECTIVES.items()}
    elements = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
    named = {one.value for one in elements if isinstance(one, ast.Constant)}
    named |= {classes.get(getattr(one, "id", getattr(one, "attr", "")), "") for one in elements if one is not None}
    return {name for name in named if isinstance(name, str)} & OBJECTIVES.keys()


def test_no_file_but_that_of_the_objectives_lists_them():
    """The classes tell what others need, so that a new objective is one file, its tests and one line."""
    lists = []
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if len(names_in(node)) >= 3 and not name.startswith("objectives/"):
                lists.append(f"{name}:{node.lineno}")
    assert not lists, f"a list of objectives stands in {', '.join(lists)}"


def test_a_list_of_objectives_would_be_found():
    for code in (
        'x = ("causal", "masked", "span")',
        "x = {CausalLM: 1, o.MaskedLM: 2, PrefixLM: 3}",
        "[CausalLM, MaskedLM, 'fim']",
    ):
        assert any(len(names_in(node)) == 3 for node in ast.walk(ast.parse(code)))
    assert not any(names_in(node) for node in ast.walk(ast.parse('x = {"a": "causal"}; f("causal", "masked", "span")')))


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_costs_nothing_and_its_names_are_there():
    """The names are loaded when they are first used."""
    heavy = (
        "[name for name in ('torch', 'numpy', 'datasets', 'tokenizers', 'matplotlib', 'rich') if name in sys.modules]"
    )
    assert run(f"import sys, clozelab; clozelab.__version__; dir(clozelab); print({heavy})") == "[]"
    assert run("from clozelab import MaskedLM; print(MaskedLM.name)") == "masked"
    assert run("from clozelab import *; print(OBJECTIVES['causal'].name, load_corpus.__name__)") == "causal load_corpus"


def test_every_name_that_the_package_offers_is_there():
    import clozelab

    assert all(getattr(clozelab, name) for name in clozelab.__all__)
    assert {*clozelab.__all__} <= {*dir(clozelab)}
    assert all(getattr(clozelab, kind.__name__) is kind for kind in clozelab.OBJECTIVES.values())
    assert not hasattr(clozelab, "NoObjective")
    with pytest.raises(AttributeError, match="no attribute 'HideTokens'"):
        clozelab.HideTokens  # noqa: B018


def test_a_value_in_a_message_is_cut_visibly():
    """`shown` and `shorten` end with an ellipsis what they cut; a precision such as `:.80` cuts it silently."""
    cut = re.compile(r"\{[^{}]*:\.\d+\}")
    found = [name for name, path in FILES.items() if cut.search(path.read_text())]
    assert not found
