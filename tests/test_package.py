"""The wheel and the source distribution hold what they should, and nothing that would shadow a user's own folders."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import clozelab

ROOT = Path(__file__).parents[1]
NOT_COPIED = ("__pycache__", "*.egg-info", ".*", "build", "dist", "runs")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder of a source distribution, and of the wheel that is built from it alone.

    Both are built from a copy, so that nothing is left in the working tree.
    """
    copy = tmp_path_factory.mktemp("copy") / "clozelab"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    command = [sys.executable, "-m", "build", "--outdir", str(copy / "dist"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(built) -> list[str]:
    """The names in the wheel."""
    [path] = built.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


@pytest.fixture(scope="module")
def sdist(built) -> set[str]:
    """The names in the source distribution, without the folder that holds them all."""
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as file:
        return {name.partition("/")[2] for name in file.getnames()}


def test_the_source_distribution_can_run_the_tests_and_build_the_pages(sdist):
    top = {path.name for path in ROOT.glob("*.*") if path.suffix in (".md", ".cff", ".toml", ".txt")}
    assert {*top, "LICENSE", "docs/conf.py", "docs/start.md", "tests/conftest.py", "src/py.typed"} <= sdist
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")} <= sdist
    assert not [
        name
        for name in sdist
        if name.startswith(("runs/", ".git/", "build/", "docs/api/clozelab", "docs/course/0", "docs/project/"))
    ]


def test_version_and_licence_are_said_alike_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert clozelab.__version__ == project["version"] == citation["version"]
    assert project["license"] == citation["license"]
    assert f"## {clozelab.__version__}\n" in changes
    bibtex = (ROOT / "docs" / "start.md").read_text(encoding="utf-8").partition("```bibtex")[2].partition("```")[0]
    for said in (citation["title"], citation["version"], *(one["name"] for one in citation["authors"])):
        assert f"{{{said}}}" in bibtex


def test_what_is_installed_is_pinned():
    """Every package that an extra names has a version in constraints.txt, so that two installations are alike."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = {re.match(r"[\w-]+", one)[0] for one in [*project["dependencies"], *extras["test"], *extras["docs"]]}
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= pinned


def test_the_wheel_holds_every_module_of_every_subpackage(wheel):
    here = {f"clozelab/{path.relative_to(ROOT / 'src')}" for path in (ROOT / "src").rglob("*.py")}
    assert here <= set(wheel)
    assert "clozelab/py.typed" in wheel
    templates = [path.name for path in (ROOT / "src/display/pages/templates").iterdir()]
    assert {f"clozelab/display/pages/templates/{name}" for name in templates} <= set(wheel)


def test_the_wheel_holds_the_lessons_and_what_they_recorded(wheel):
    here = [path.name for path in (ROOT / "examples").glob("*.py")]
    recorded = [f"results/{path.name}" for path in (ROOT / "examples" / "results").glob("*.json")]
    assert len(recorded) >= 13
    assert {f"clozelab/lessons/{name}" for name in (*here, *recorded)} <= set(wheel)


def test_the_wheel_puts_nothing_but_clozelab_at_the_top(wheel):
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"clozelab"}
    assert not tops & {"src", "models", "data", "objectives", "training"}


def test_help_needs_no_torch_and_objectives_need_no_datasets():
    """`clozelab --help` is quick, and an objective costs little more than torch."""
    for code, absent in (
        ("import clozelab.cli as c; c.build_parser()", ("torch", "datasets", "matplotlib")),
        ("import clozelab.objectives", ("datasets", "matplotlib", "pandas", "pyarrow", "transformers", "rich")),
    ):
        check = f"{code}; import sys; print([m for m in {absent!r} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"


def test_every_gate_runs_what_the_script_of_ci_runs():
    """The workflow calls `.ci/run`, and what is formatted before a commit is formatted as it is there."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    [job] = workflow["jobs"].values()
    assert {"run": "bash .ci/run"} in job["steps"]
    pinned = re.search(r"^ruff==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert hooks[0]["rev"] == f"v{pinned[1]}"
