"""The examples run, fast, and learn something even then."""

import importlib.util
import math
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["causal_lm", "masked_lm", "span_corruption"])
def test_an_example_runs_and_its_loss_falls(name, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path))
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    documents = [f"Return a new list of the {n} items in the sequence number {n + 1}." for n in range(600)]
    nats = module.main(steps=12, source=documents)
    assert nats < 0.8 * math.log(400)
    assert "The model" in capsys.readouterr().out
