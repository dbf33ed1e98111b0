"""The page for users of Hugging Face: its examples run as they stand there, and are as short as it says."""

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

PAGE = (Path(__file__).parents[2] / "docs" / "hugging_face.md").read_text(encoding="utf-8")
SETUP, *EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_run_from_top_to_bottom(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict = {}
    for code in (SETUP, *EXAMPLES):
        exec(compile(code, "hugging_face.md", "exec"), names)
    printed = capsys.readouterr().out
    print(printed)
    assert "0 ids were added; pad 0 mask 4" in printed
    assert "[MASK]" in printed
    assert "['attention_mask', 'input_ids', 'labels']" in printed
    assert len(names["heldout"]) == 10
    assert names["heldout"][-1] < names["heldout"][0] - 0.2  # it learns
    assert names["hf_tokenizer"].vocab_size == len(names["hf_tokenizer"])  # not changed


def test_there_are_three_and_each_has_at_most_twenty_lines():
    assert len(EXAMPLES) == 3
    assert all(len(code.splitlines()) <= 20 for code in EXAMPLES)


@pytest.mark.parametrize("path", re.findall(r"`((?:tests|examples)/[\w/]+(?:\.py)?)`", PAGE))
def test_the_files_that_it_names_exist(path):
    assert (Path(__file__).parents[2] / path).exists()
