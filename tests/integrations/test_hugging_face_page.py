"""What the README and the page on Hugging Face show runs as it stands there, and is as short as the page says."""

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "hugging_face.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    assert (ROOT / path).exists()


def test_the_example_of_the_readme_runs(monkeypatch):
    """With a small tokenizer and model in the place of "bert-base-uncased", which is not downloaded."""
    import transformers
    from tokenizers import BertWordPieceTokenizer

    wordpiece = BertWordPieceTokenizer()
    wordpiece.train_from_iterator(["the cat sat.", "a dog ran."] * 2, vocab_size=60, show_progress=False)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "cls", "sep", "mask", "unk")}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=wordpiece._tokenizer, **names)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    model = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=len(tokenizer), **shape))
    asked = []
    for kind, made in ((transformers.AutoTokenizer, tokenizer), (transformers.AutoModelForMaskedLM, model)):
        monkeypatch.setattr(kind, "from_pretrained", lambda name, made=made: (asked.append(name), made)[1])
    [code] = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "from transformers" in code]
    exec(compile(code, "README.md", "exec"), {})
    assert asked == ["bert-base-uncased"] * 2
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0
