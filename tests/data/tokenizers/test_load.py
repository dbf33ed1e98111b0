"""Loading a tokenizer that somebody else made: what it has is kept, what it lacks is added."""

import json

import pytest
import tokenizers
from transformers import PreTrainedTokenizerFast

from clozelab.data import load_tokenizer
from clozelab.errors import InputError


def test_what_a_tokenizer_lacks_is_added_behind_its_ids_and_the_source_is_not_changed(backend):
    before = backend.to_str()
    size = backend.get_vocab_size()
    tokenizer = load_tokenizer(backend, sentinels=7)
    special = tokenizer.special
    assert special.eos == backend.token_to_id("<|endoftext|>")
    assert special.others == (backend.token_to_id("[CLS]"),)
    assert len(special.sentinels) == 7
    assert min(special.pad, special.mask, *special.sentinels) >= size
    assert special.vocab_size == size + 9
    assert special.roles == {}
    assert backend.to_str() == before
    assert tokenizer.encode("hello") == backend.encode("hello", add_special_tokens=False).ids


@pytest.mark.parametrize("sentinels", [0, 4])
def test_a_hugging_face_tokenizer_keeps_its_special_ids_and_sentinels(backend, sentinels):
    theirs = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    theirs.add_tokens([f"<extra_id_{k}>" for k in range(sentinels)], special_tokens=True)
    size = len(theirs)
    tokenizer = load_tokenizer(theirs, sentinels=6)
    assert tokenizer.special.pad == tokenizer.special.eos == theirs.eos_token_id
    assert len(tokenizer.special.sentinels) == 6
    assert [theirs.convert_tokens_to_ids(f"<extra_id_{k}>") for k in range(sentinels)] == list(
        tokenizer.special.sentinels[:sentinels]
    )
    assert len(theirs) == size


# ------------------------------------------------------------------ roles


def test_roles_that_are_missing_are_added_before_the_sentinels(backend):
    size = backend.get_vocab_size()
    tokenizer = load_tokenizer(backend, sentinels=2, roles=("mask", "fim_prefix", "fim_end"))
    special = tokenizer.special
    assert dict(special.roles) == {"fim_prefix": size + 2, "fim_end": size + 3}  # behind pad and mask
    assert special.sentinels == (size + 5, size + 4)


@pytest.mark.parametrize("is_special", [True, False])
def test_roles_that_exist_keep_their_ids_and_are_no_longer_text(backend, is_special):
    """The vocabulary of Qwen2.5 has `<|fim_prefix|>` as a token that is not special."""
    backend.add_tokens([tokenizers.AddedToken("<|fim_prefix|>", special=is_special)])
    existing = backend.token_to_id("<|fim_prefix|>")
    tokenizer = load_tokenizer(backend, sentinels=0, roles=["fim_prefix"])
    assert tokenizer.special["fim_prefix"] == existing
    assert existing not in tokenizer.encode("a <|fim_prefix|> b")
    again = load_tokenizer(tokenizer.backend, sentinels=0)
    assert again.special == tokenizer.special
    assert existing not in again.encode("a <|fim_prefix|> b")


def test_special_tokens_named_as_roles_are_roles_unless_they_have_a_meaning(backend):
    backend.add_special_tokens(["<|im_start|>", "<|pad|>", "<|Start|>", "<im_end>"])
    special = load_tokenizer(backend, sentinels=0).special
    assert dict(special.roles) == {"im_start": backend.token_to_id("<|im_start|>")}
    assert special.pad == backend.token_to_id("<|pad|>")
    assert set(special.others) == {backend.token_to_id(name) for name in ("[CLS]", "<|Start|>", "<im_end>")}


def test_a_role_may_be_stated_as_a_token_or_its_id(backend):
    backend.add_special_tokens(["<fim_prefix>", "<s>"])
    prefix, start = backend.token_to_id("<fim_prefix>"), backend.token_to_id("<s>")
    roles = {"fim_prefix": "<fim_prefix>", "decoder_start": start, "mask": "[CLS]", "fim_end": None}
    special = load_tokenizer(backend, sentinels=0, roles=roles).special
    assert (special["fim_prefix"], special["decoder_start"]) == (prefix, start)
    assert special.mask == backend.token_to_id("[CLS]")
    assert special["fim_end"] == special.vocab_size - 1  # None: a token of its own
    assert special.others == ()


def test_a_stated_start_that_is_padding_is_what_is_there_anyway(backend):
    backend.add_special_tokens(["<pad>"])
    assert load_tokenizer(backend, roles={"decoder_start": "<pad>"}).special == load_tokenizer(backend).special


def test_a_loaded_tokenizer_loaded_again_keeps_what_was_stated(backend):
    once = load_tokenizer(backend, sentinels=2, roles={"decoder_start": "[CLS]"})
    assert load_tokenizer(once, sentinels=2).special == once.special


@pytest.mark.parametrize("content", ['{"decoder_start_token_id": 5}', "{}", "[]", '{"decoder_start_token_id": null}'])
def test_the_start_of_the_decoder_is_read_beside_the_tokenizer(content, backend, tmp_path):
    """A folder that `save_pretrained` wrote, such as BART's."""
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(content)
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        special = load_tokenizer(source, sentinels=0).special
        assert special["decoder_start"] == (5 if "5" in content else special.pad)
    assert load_tokenizer(tmp_path, sentinels=0, roles={"decoder_start": 6}).special["decoder_start"] == 6


@pytest.mark.parametrize("token", ["<nothing>", 10**6, -1, 1.5, [1]])
def test_a_role_of_a_token_that_does_not_exist_is_refused(token, backend):
    with pytest.raises(InputError, match="decoder_start"):
        load_tokenizer(backend, roles={"decoder_start": token})


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize("content", ["", "{}", '{"model": 3}'])
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=r"tokenizer\.json is not a tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_a_file_cut_in_half_is_named(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    whole = (tmp_path / "t.json").read_text()
    (tmp_path / "t.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"t\.json is not a tokenizer\.json"):
        load_tokenizer(tmp_path / "t.json")
    assert json.loads(whole)


def test_what_is_no_tokenizer_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tokenizer(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="got int"):
        load_tokenizer(3)
