"""A folder of its own for each test of the command line, and finished runs that they share."""

import json
import shutil

import pytest

from clozelab.models import PRESETS

from .commands import DOCUMENTS, train


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder for what several tests use: the cache, and a finished run of each objective."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, shared, monkeypatch):
    """A folder of its own, and models of one block."""
    for sizes in PRESETS.values():
        monkeypatch.setitem(sizes, "tiny", {"d_model": 16, "n_layers": 1, "n_heads": 2})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOZELAB_CACHE", str(shared / "cache"))
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": d}) + "\n" for d in DOCUMENTS))


@pytest.fixture
def trained(shared):
    """`trained("causal")`: `run` holds a finished run of six steps, a copy of one that all tests share."""

    def copied(objective, run="run"):
        if not (shared / objective).exists():
            assert train(objective, run=str(shared / objective)) == 0
        shutil.copytree(shared / objective, run)

    return copied
