"""Training a tokenizer: where the special ids are, and that the same texts give the same tokenizer."""

import pytest

from clozelab.data import train_bpe, train_characters
from clozelab.errors import InputError

TEXTS = [f"The number {n} comes before {n + 1}." for n in range(200)]


def test_the_special_ids_are_where_the_docstring_says():
    tokenizer = train_bpe(["abc"] * 2, vocab_size=400, sentinels=5)
    special = tokenizer.special
    assert (special.pad, special.eos, special.mask) == (0, 1, 2)
    assert special.sentinels == tuple(range(special.vocab_size - 1, special.vocab_size - 6, -1))
    assert tokenizer.decode([special.sentinels[0]]) == "<extra_id_0>"
    assert tokenizer.decode([5, special.eos], skip_special=True) == tokenizer.decode([5])
    assert not special.is_special(special.replacements).any()
    assert len(special.replacements) + len(special.all) == special.vocab_size


def test_training_is_deterministic():
    texts = [f"word{n} and word{n * 7 % 13}" for n in range(200)]
    assert train_bpe(texts, 400).fingerprint == train_bpe(texts, 400).fingerprint
    assert train_bpe(texts, 400).fingerprint != train_bpe(texts, 401).fingerprint


def test_a_small_corpus_gives_a_smaller_vocabulary_than_was_asked_for():
    tokenizer = train_bpe(["ab"], vocab_size=4096)
    assert tokenizer.vocab_size < 4096
    assert max(tokenizer.encode("zebra é")) < tokenizer.vocab_size


def test_characters_are_one_token_each_and_others_are_unknown():
    tokenizer = train_characters(["hello world\n"], sentinels=3)
    text = "hold\nrow"
    assert tokenizer.pieces(tokenizer.encode(text)) == list(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("z") == [tokenizer.special.others[0]]
    assert tokenizer.byte_lengths is None  # an unknown character has as many bytes as it has
    assert tokenizer.byte_counts("hézo") == [1, 2, 1, 1]
    assert not set(tokenizer.encode("<pad>")) & {0, 1, 2}


# ------------------------------------------------------------------ roles


@pytest.mark.parametrize("train", [train_bpe, train_characters])
def test_roles_get_ids_between_the_text_and_the_sentinels(train):
    plain, tokenizer = train(TEXTS, sentinels=5), train(TEXTS, sentinels=5, roles=["fim_prefix", "fim_end"])
    special = tokenizer.special
    last = special.vocab_size - 1
    assert dict(special.roles) == {"fim_prefix": last - 6, "fim_end": last - 5}
    assert special.sentinels == tuple(range(last, last - 5, -1))
    assert special.vocab_size == plain.vocab_size + 2  # the text of both is the same, below any limit
    assert tokenizer.encode(TEXTS[7]) == plain.encode(TEXTS[7])
    assert tokenizer.decode([special["fim_prefix"]]) == "<|fim_prefix|>"


@pytest.mark.parametrize("train", [train_bpe, train_characters])
def test_roles_that_every_tokenizer_has_change_nothing(train):
    plain, tokenizer = train(TEXTS), train(TEXTS, roles=("pad", "eos", "mask"))
    assert tokenizer.special == plain.special
    assert tokenizer.fingerprint == plain.fingerprint


@pytest.mark.parametrize("train", [train_bpe, train_characters])
def test_text_never_becomes_the_id_of_a_role(train):
    text = "a <|fim_prefix|> in the text"
    tokenizer = train([text] * 2, roles=["fim_prefix"])
    assert tokenizer.special["fim_prefix"] not in tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_size_of_the_vocabulary_counts_the_roles():
    assert train_bpe(TEXTS, vocab_size=300, sentinels=5, roles=["a", "b"]).vocab_size == 300
    with pytest.raises(InputError, match="256 bytes, 5 special ids and 5 sentinels need 266"):
        train_bpe(TEXTS, vocab_size=265, sentinels=5, roles=["a", "b"])


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ("fim_prefix", "put it in a list"),
        ([3], "a role as str, got int"),
        (["FIM"], "lower-case"),
        ([""], "lower-case"),
    ],
)
def test_roles_are_a_list_of_lower_case_names(roles, message):
    with pytest.raises(InputError, match=message):
        train_bpe(TEXTS, roles=roles)


# ------------------------------------------------------------------ the cache


def test_a_trained_tokenizer_is_found_again_in_the_cache(tmp_path, monkeypatch):
    first = train_bpe(TEXTS, vocab_size=380, sentinels=5, cache_dir=tmp_path)
    monkeypatch.setattr("clozelab.data.tokenizers.train._train_bpe", lambda *_: pytest.fail("trained again"))
    again = train_bpe(iter(TEXTS), vocab_size=380, sentinels=5, cache_dir=tmp_path)
    assert again.fingerprint == first.fingerprint
    monkeypatch.undo()
    assert train_bpe(TEXTS, vocab_size=380, sentinels=5).fingerprint == first.fingerprint  # as without a cache


def test_the_cache_tells_sizes_sentinels_and_roles_apart(tmp_path):
    settings = [{}, {"vocab_size": 390}, {"sentinels": 4}, {"roles": ["a", "b"]}, {"roles": ["b", "a"]}]
    made = [train_bpe(TEXTS, **{"vocab_size": 380, "sentinels": 5, **one}, cache_dir=tmp_path) for one in settings]
    assert len(list(tmp_path.glob("*.bpe.json"))) == 5
    assert len({tokenizer.fingerprint for tokenizer in made}) == 5
    for one, first in zip(settings, made):
        again = train_bpe(TEXTS, **{"vocab_size": 380, "sentinels": 5, **one}, cache_dir=tmp_path)
        assert again.special == first.special
        assert again.fingerprint == first.fingerprint


def test_a_damaged_tokenizer_in_the_cache_is_trained_again(tmp_path):
    first = train_bpe(TEXTS, vocab_size=380, sentinels=5, cache_dir=tmp_path)
    [kept] = tmp_path.glob("*.bpe.json")
    kept.write_text("{")
    assert train_bpe(TEXTS, vocab_size=380, sentinels=5, cache_dir=tmp_path).fingerprint == first.fingerprint
    assert kept.stat().st_size > 1000  # and kept again


# ------------------------------------------------------------------ bad input


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(InputError, match="256 bytes, 3 special ids and 100 sentinels need 359"):
        train_bpe(["abc"], vocab_size=300)


def test_training_needs_several_texts_with_characters():
    with pytest.raises(InputError, match="put it in a list"):
        train_bpe("abc")
    with pytest.raises(InputError, match="got none"):
        train_characters([])
