"""A tokenizer beside an exported model: the same ids and texts in `transformers`, and back again."""

import os
from dataclasses import replace

import pytest

pytest.importorskip("transformers")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from transformers import AutoConfig, AutoTokenizer

from clozelab.data import Tokenizer, load_tokenizer, train_bpe, train_characters
from clozelab.integrations.export import export
from clozelab.objectives import CausalLM, FillInTheMiddle, MaskedLM, SpanCorruption

OBJECTIVES = {"decoder-only": CausalLM(), "encoder-only": MaskedLM(), "encoder-decoder": SpanCorruption()}


def small(architecture, vocab_size=500):
    return OBJECTIVES[architecture].build_model(vocab_size, "tiny", d_model=16, n_layers=1, n_heads=1)


@pytest.mark.parametrize("architecture", OBJECTIVES)
def test_the_tokenizer_goes_along(architecture, tmp_path, tokenizer):
    special = tokenizer.special
    folder = export(OBJECTIVES[architecture], small(architecture), tmp_path / "out", tokenizer)
    theirs = AutoTokenizer.from_pretrained(folder)
    for text in ("Thank you for inviting me.", "  two  spaces\n\tand a tab ", "naïve 🐱 日本語", "don't ,stop ."):
        assert theirs(text)["input_ids"] == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.mask_token_id) == (special.pad, special.eos, special.mask)
    assert theirs.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_99>"]) == [special.sentinels[k] for k in (0, 99)]
    assert set(theirs(["a", "a cat"], padding=True)) == {"input_ids", "attention_mask"}
    config = AutoConfig.from_pretrained(folder)
    assert (config.pad_token_id, config.eos_token_id) == (special.pad, special.eos)
    # And back again: our own loader finds what it wrote, in the folder and in their object.
    for source in (folder, theirs):
        again = load_tokenizer(source)
        assert again.special == special
        assert again.encode("the <mask> cat") == tokenizer.encode("the <mask> cat")


def test_in_their_tokenizer_a_special_name_in_a_text_is_special(tmp_path, tokenizer):
    folder = export(MaskedLM(), small("encoder-only"), tmp_path / "out", tokenizer)
    theirs = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.special.mask in theirs("the <mask> cat")["input_ids"]  # what their pipelines rely on
    assert tokenizer.special.mask not in tokenizer.encode("the <mask> cat")


def test_a_character_tokenizer_and_one_without_sentinels_go_along(tmp_path):
    characters, plain = train_characters(["some text"], sentinels=3), train_bpe(["some text"] * 2, 259, sentinels=0)
    for name, tokenizer in (("characters", characters), ("plain", plain)):
        folder = export(CausalLM(), small("decoder-only", vocab_size=tokenizer.vocab_size), tmp_path / name, tokenizer)
        theirs = AutoTokenizer.from_pretrained(folder)
        assert theirs("some text, met").input_ids == tokenizer.encode("some text, met")
        assert theirs.decode(tokenizer.encode("some text")) == "some text"
        assert len(theirs) == tokenizer.vocab_size


def test_roles_keep_their_ids_and_their_names(tmp_path):
    roles = ("fim_prefix", "fim_suffix", "fim_middle", "fim_end")
    tokenizer = train_bpe(["some text"] * 2, 270, sentinels=2, roles=roles)
    model = FillInTheMiddle().build_model(tokenizer.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=1)
    folder = export(FillInTheMiddle(), model, tmp_path / "out", tokenizer)
    theirs = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.special[role] for role in roles]
    assert set(ids) <= set(theirs.all_special_ids)
    assert theirs.decode(ids, skip_special_tokens=True) == ""
    assert load_tokenizer(folder, sentinels=2).special == tokenizer.special


def test_the_start_of_the_decoder_comes_back_with_the_folder(tmp_path, tokenizer):
    special = replace(tokenizer.special, roles={**tokenizer.special.roles, "decoder_start": tokenizer.special.eos})
    folder = export(SpanCorruption(), small("encoder-decoder"), tmp_path / "out", Tokenizer(tokenizer.backend, special))
    assert load_tokenizer(folder).special == special
