"""The GPU script runs, on a processor and with tiny shapes; its figures need a GPU."""

import json

import pytest
import torch

from clozelab.models import attention_reference, self_attention_mask

pytest.importorskip("transformers")


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would measure")
def test_without_a_gpu_it_prints_so_in_one_line(run_script, capsys):
    with pytest.raises(SystemExit) as ended:
        run_script("gpu")
    assert ended.value.code == 2
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("no CUDA device is present")


def test_it_runs_through_on_a_processor(run_script, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("The cat sat on the mat, and the dog sat on the cat. " * 40)
    run_script("gpu", "--device", "cpu", "--quick", "--corpus", corpus, "--out", tmp_path)
    record = json.loads((tmp_path / "gpu.json").read_text())
    rows = [result["row"] for result in record["results"]]
    counts = {"gpu step": 3, "gpu utilisation": 3, "gpu loss memory": 2, "gpu loss time": 2, "gpu baby GPT": 1}
    assert {row: rows.count(row) for row in rows} == counts
    page = (tmp_path / "gpu.md").read_text()
    assert all(f"| {result['name']} |" in page for result in record["results"])


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_both_kernels_keep_documents_apart(module):
    """FlexAttention gets the mask that our models make; it has no backward here, so only forward."""
    documents = torch.tensor([[1, 1, 2, 2, 2, 3, 3, 3] * 16, [1] * 100 + [2] * 28])
    q, k, v = torch.randn(3, 2, 2, 128, 16, generator=torch.Generator().manual_seed(0))
    mask = self_attention_mask(documents, causal=True, document_ids=documents)
    with torch.no_grad():
        flex = module("gpu").flex_attend(documents)(q, k, v, mask)
    assert torch.allclose(flex, attention_reference(q, k, v, mask.matrix), atol=1e-5)
