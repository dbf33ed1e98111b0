"""The GPU script runs, on a processor and with tiny shapes; its figures need a GPU."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clozelab.models import attention_reference, self_attention_mask

pytest.importorskip("transformers")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own."""
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would measure")
def test_without_a_gpu_it_prints_so_in_one_line():
    done = run()
    assert done.returncode == 2
    assert done.stdout.startswith("no CUDA device is present")
    assert len(done.stdout.splitlines()) == 1


def test_it_runs_through_on_a_processor(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("The cat sat on the mat, and the dog sat on the cat. " * 40)
    done = run("--device", "cpu", "--quick", "--corpus", str(corpus), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((tmp_path / "gpu.json").read_text())
    rows = [result["row"] for result in record["results"]]
    counts = {"gpu step": 3, "gpu utilisation": 3, "gpu loss memory": 2, "gpu loss time": 2, "gpu baby GPT": 1}
    assert {row: rows.count(row) for row in rows} == counts
    page = (tmp_path / "gpu.md").read_text()
    assert all(f"| {result['name']} |" in page for result in record["results"])


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_both_kernels_keep_documents_apart(monkeypatch):
    """FlexAttention gets the mask that our models make; it has no backward here, so only forward."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    documents = torch.tensor([[1, 1, 2, 2, 2, 3, 3, 3] * 16, [1] * 100 + [2] * 28])
    q, k, v = torch.randn(3, 2, 2, 128, 16, generator=torch.Generator().manual_seed(0))
    mask = self_attention_mask(documents, causal=True, document_ids=documents)
    with torch.no_grad():
        flex = importlib.import_module("gpu").flex_attend(documents)(q, k, v, mask)
    assert torch.allclose(flex, attention_reference(q, k, v, mask.matrix), atol=1e-5)
