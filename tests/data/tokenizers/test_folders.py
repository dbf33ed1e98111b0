"""Folders of `save_pretrained`: what they declare."""

import json

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from clozelab.data import load_tokenizer
from clozelab.errors import InputError

NAMES = {
    "upper case": {"pad": "<PAD>", "eos": "<EOS>", "mask": "<MASK>", "unk": "<UNK>", "bos": "<BOS>"},
    "words": {"pad": "PAD_None", "eos": "EOS_None", "mask": "MASK_None", "unk": "UNK", "bos": "BOS_None"},
    "brackets": {"pad": "[pad]", "eos": "[eos]", "mask": "[mask]", "unk": "[unk]", "cls": "[cls]", "sep": "[sep]"},
    "one for two": {"pad": "<|end|>", "eos": "<|end|>"},
}


def theirs(names, *, registered):
    """A Hugging Face tokenizer with special tokens of these names, in the vocabulary before or added by it."""
    unknown = names.get("unk", "[UNK]")
    words = [unknown, "old", "lamp", *(dict.fromkeys(names.values()) if registered else ())]
    backend = tokenizers.Tokenizer(models.WordLevel({w: n for n, w in enumerate(dict.fromkeys(words))}, unknown))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokens = {f"{role}_token": name for role, name in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **tokens)


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_a_folder_gives_the_ids_of_the_object_that_was_saved(names, registered, tmp_path):
    saved = theirs(names, registered=registered)
    saved.save_pretrained(tmp_path)
    special = load_tokenizer(saved, sentinels=2).special
    for source in (tmp_path, str(tmp_path), tmp_path / "tokenizer.json", AutoTokenizer.from_pretrained(tmp_path)):
        assert load_tokenizer(source, sentinels=2).special == special
    for role in ("pad", "eos", "mask"):
        if role in names:
            assert special[role] == saved.convert_tokens_to_ids(names[role])


def test_what_a_folder_declares_is_read_from_each_of_its_files(backend, tmp_path):
    """Older folders hold their tokens in special_tokens_map.json, or as dicts, or only in the config."""
    backend.add_tokens(["<fill>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    fill, size = backend.token_to_id("<fill>"), backend.get_vocab_size()
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"mask_token": {"content": "<fill>", "lstrip": True}, "pad_token": "[CLS]"})
    )
    listed = {str(size): {"content": "<later>", "special": True}, str(fill): {"content": "<fill>", "special": True}}
    config = {"added_tokens_decoder": listed, "pad_token": "<later>", "eos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(tmp_path, sentinels=0)
    assert (tokenizer.special.mask, tokenizer.special.pad) == (fill, size)  # the config is asked last, and holds
    assert tokenizer.special.eos == backend.token_to_id("<|endoftext|>")  # by its name
    assert tokenizer.notes == (f"eos: <|endoftext|> = {tokenizer.special.eos}, by its name",)
    assert fill not in tokenizer.encode("a <fill>")


@pytest.mark.parametrize(
    "config",
    [
        "[]",
        "{",
        '{"pad_token": 3}',
        '{"added_tokens_decoder": {"0": {"content": "<new>"}}}',
        '{"pad_token": {}, "a": 1',
    ],
)
def test_a_damaged_declaration_is_named(config, backend, tmp_path):
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises((InputError, ValueError), match=r"tokenizer_config|damaged"):
        load_tokenizer(tmp_path)


# ------------------------------------------------------------------ what is told


def test_guesses_and_additions_are_told_and_what_is_stated_is_not(backend):
    size = backend.get_vocab_size()
    eos = backend.token_to_id("<|endoftext|>")
    expected = (f"pad: <pad> = {size}, added", f"eos: <|endoftext|> = {eos}, by its name")
    assert load_tokenizer(backend, sentinels=0).notes == (*expected, f"mask: <mask> = {size + 1}, added")
    stated = {"pad": "[CLS]", "eos": "<|endoftext|>", "mask": 3}
    assert load_tokenizer(backend, sentinels=0, roles=stated).notes == ()


def test_words_that_look_special_are_named(backend):
    backend.add_tokens(["<start>", "[USER]", "<|im_start|>", "<0x0A>", "<a b>"])
    told = "text, though written like special tokens: <start>, [USER], <|im_start|>"
    assert load_tokenizer(backend).notes[-1] == told
    backend.add_tokens([f"<w{n}>" for n in range(9)])
    assert load_tokenizer(backend).notes[-1].endswith("<w0>, <w1> and 7 more")
