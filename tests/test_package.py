"""The wheel: every subpackage is there, and nothing that would shadow a user's own folders."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> list[str]:
    """The names in a wheel that is built from a copy, so that nothing is left in the working tree."""
    import shutil

    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("src", "examples"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(copy / "dist"), str(copy)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    [path] = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_the_wheel_holds_every_module_of_every_subpackage(wheel):
    here = {f"clozelab/{path.relative_to(ROOT / 'src')}" for path in (ROOT / "src").rglob("*.py")}
    assert here <= set(wheel)
    assert "clozelab/py.typed" in wheel


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
