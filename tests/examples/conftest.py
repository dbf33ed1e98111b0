"""What the tests of lessons share: the lesson itself."""

import importlib.util
import sys
from pathlib import Path

import pytest

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
