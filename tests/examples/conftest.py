"""What the tests of lessons share: the lesson itself, and two short visits to it."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from clozelab.course.lesson import Visit

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def lesson(request):
    """The script NN_name.py that a file test_lesson_NN.py is about, as a module."""
    [script] = EXAMPLES.glob(f"{request.path.stem.removeprefix('test_lesson_')}_*.py")
    spec = importlib.util.spec_from_file_location(f"lesson_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


@pytest.fixture(scope="module")
def trial(lesson, tmp_path_factory):
    """The figures of a visit that is shorter than `--fast`: too short to learn much, it runs from end to end."""

    def least(visit, whole, *, fast, full=None):
        if isinstance(fast, tuple):
            return tuple(least(visit, whole, fast=one) for one in fast)
        if isinstance(fast, float):
            return fast / 4
        return min(fast, max(8, fast // 8)) if isinstance(fast, int) else fast

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Visit, "choose", least)
        return visited(lesson, tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="module")
def fast(lesson, tmp_path_factory):
    """The figures of a visit with `--fast`, which shows the direction: several seconds, so for slow tests."""
    return visited(lesson, tmp_path_factory.mktemp("fast"))


def visited(lesson, folder):
    """The figures of one seed, once result and picture are seen to be written."""
    result = lesson.main(["--fast", "--out", str(folder)])
    stem = Path(lesson.__file__).stem
    assert result.verdict == "not judged"
    assert json.loads((folder / f"{stem}.json").read_text())["figures"] == result.figures
    assert (folder / f"{stem}.png").stat().st_size > 10_000
    return {name: values[0] for name, values in result.figures.items()}
