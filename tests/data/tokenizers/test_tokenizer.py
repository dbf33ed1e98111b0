"""Text to ids and back, and the special ids as plain integers."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clozelab.data import Tokenizer, load_tokenizer, train_bpe, train_characters

HOSTILE = "<pad> </s> <mask> <extra_id_0><extra_id_99> <unk>\r\n\t é 漢字 🐱‍👤 \x00 \u200b"


@given(st.text())
def test_any_text_is_decoded_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
def test_byte_lengths_add_up_to_the_bytes_of_the_text(tokenizer, text):
    assert tokenizer.byte_lengths[tokenizer.encode(text)].sum() == len(text.encode())


def test_text_never_becomes_a_special_id(tokenizer):
    ids = tokenizer.encode(HOSTILE)
    assert not set(ids) & set(tokenizer.special.all)
    assert tokenizer.decode(ids) == HOSTILE


def test_words_are_those_of_the_tokenizer(tokenizer):
    text = "unbelievable cats, dogs"
    ids, words = tokenizer.encode(text), tokenizer.word_ids(text)
    assert len(ids) == len(words)
    spelled = {}
    for token, word in zip(ids, words):
        spelled[word] = spelled.get(word, "") + tokenizer.decode([token])
    assert list(spelled.values()) == ["unbelievable", " cats", ",", " dogs"]


@pytest.mark.parametrize("roles", [(), ("fim_prefix", "fim_middle")])
@pytest.mark.parametrize("train", [train_bpe, train_characters])
def test_a_saved_tokenizer_is_the_same_one(train, roles, tmp_path):
    first = train(["some text"], roles=roles)
    first.save(tmp_path / "tokenizer.json")
    for source in (tmp_path, tmp_path / "tokenizer.json", str(tmp_path), first.backend, first):
        again = load_tokenizer(source)
        assert again.special == first.special
        assert set(again.special.roles) == set(roles)
        assert again.encode("some text, some more") == first.encode("some text, some more")
        assert again.fingerprint == first.fingerprint


def test_the_fingerprint_is_of_the_tokenizer_json_and_the_special_ids():
    """Caches and run folders are found by it, so it changes only with what it stands for."""
    tokenizer = train_bpe(["abc"], vocab_size=400, sentinels=2)
    size = tokenizer.vocab_size
    ids = f"SpecialIds(vocab_size={size}, pad=0, eos=1, mask=2, sentinels=({size - 1}, {size - 2}), others=())"
    content = tokenizer.backend.to_str() + ids
    assert tokenizer.fingerprint == hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def test_roles_that_are_chosen_by_hand_change_the_fingerprint():
    tokenizer = train_bpe(["abc"], vocab_size=400, sentinels=2)
    special = tokenizer.special
    made = [{}, {"decoder_start": special.eos}, {"decoder_start": special.pad}, {"start": 7}, {"start": 8}]
    fingerprints = {Tokenizer(tokenizer.backend, replace(special, roles=roles)).fingerprint for roles in made}
    assert len(fingerprints) == 5
