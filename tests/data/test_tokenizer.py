"""Text to ids and back, and the special ids as plain integers."""

import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import clozelab.data.tokenizers.tokenizer as module
from clozelab.data import load_tokenizer, train_bpe, train_characters
from clozelab.errors import InputError

HOSTILE = "<pad> </s> <mask> <extra_id_0><extra_id_99> <unk>\r\n\t é 漢字 🐱‍👤 \x00 \u200b"


@given(st.text())
def test_any_text_comes_back_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
def test_byte_lengths_add_up_to_the_bytes_of_the_text(tokenizer, text):
    assert tokenizer.byte_lengths[tokenizer.encode(text)].sum() == len(text.encode())


def test_text_never_becomes_a_special_id(tokenizer):
    ids = tokenizer.encode(HOSTILE)
    assert not set(ids) & set(tokenizer.special.all)
    assert tokenizer.decode(ids) == HOSTILE


def test_the_ids_are_where_the_docstring_says():
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


def test_a_small_corpus_gives_fewer_ids_and_says_how_many():
    tokenizer = train_bpe(["ab"], vocab_size=4096)
    assert tokenizer.vocab_size < 4096
    assert max(tokenizer.encode("zebra é")) < tokenizer.vocab_size


def test_words_are_those_of_the_tokenizer(tokenizer):
    text = "unbelievable cats, dogs"
    ids, words = tokenizer.encode(text), tokenizer.word_ids(text)
    assert len(ids) == len(words)
    spelled = {}
    for id, word in zip(ids, words):
        spelled[word] = spelled.get(word, "") + tokenizer.decode([id])
    assert list(spelled.values()) == ["unbelievable", " cats", ",", " dogs"]


def test_characters_are_one_token_each_and_the_rest_is_unknown():
    tokenizer = train_characters(["hello world\n"], sentinels=3)
    text = "hold\nrow"
    assert tokenizer.pieces(tokenizer.encode(text)) == list(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("z") == [tokenizer.special.others[0]]
    assert tokenizer.byte_lengths[tokenizer.encode(text)].sum() == len(text)
    assert not set(tokenizer.encode("<pad>")) & {0, 1, 2}


@pytest.mark.parametrize("make", [lambda: train_bpe(["some text"], 400), lambda: train_characters(["some text"])])
def test_a_saved_tokenizer_is_the_same_one(make, tmp_path):
    first = make()
    first.save(tmp_path / "tokenizer.json")
    for source in (tmp_path, tmp_path / "tokenizer.json", str(tmp_path), first.backend):
        again = load_tokenizer(source)
        assert again.special == first.special
        assert again.encode("some text, some more") == first.encode("some text, some more")
        assert again.fingerprint == first.fingerprint


# ------------------------------------------------------------------ long texts


def split_at(pattern):
    """A byte-level tokenizer whose words are cut by a pattern."""
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend = tokenizers.Tokenizer.from_str(plain_backend().to_str())
    words = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([words, byte_level])
    return load_tokenizer(backend, sentinels=0)


LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPACED = st.text(st.one_of(st.sampled_from(" \n\t\u00a0\u2028aab.,'s19"), st.characters(codec="utf-8")))


@pytest.fixture(scope="module")
def kinds(tokenizer):
    return [tokenizer, train_characters(["hello there"]), split_at(LLAMA_3), split_at(r"\s+")]


@given(text=SPACED, piece=st.integers(1, 8))
def test_the_pieces_of_a_long_text_have_its_tokens(kinds, text, piece):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "PIECE", piece)
        for kind in kinds:
            pieces = list(kind.cut(text))
            assert "".join(pieces) == text
            assert [id for ids in kind.encode_batch(pieces) for id in ids] == kind.encode(text)


def test_a_long_text_is_cut_small_wherever_it_has_words(kinds, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 100)
    text = "The number 12 comes before 13; it's so.\nAnd so on, hello there! " * 50
    for kind in kinds:
        assert max(map(len, kind.cut(text))) < 130
    assert {len(piece) for piece in kinds[1].cut("x" * 1000)} == {100}  # characters can be cut anywhere


def test_a_long_text_without_a_word_is_refused_before_it_needs_its_memory(tokenizer, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 100)
    monkeypatch.setattr(module, "LONGEST", 1000)
    assert list(tokenizer.cut("x" * 1000)) == ["x" * 1000]
    with pytest.raises(InputError, match="2,101 characters cannot be cut after the first 101"):
        list(tokenizer.cut("x" * 101 + " " + "x" * 1999))
    with pytest.raises(InputError, match="is it text"):
        train_bpe(["x" * 1001], vocab_size=400)


def test_a_tokenizer_that_has_no_words_gets_its_text_whole(monkeypatch):
    monkeypatch.setattr(module, "PIECE", 100)
    backend = plain_backend()
    backend.pre_tokenizer = None
    assert len(list(load_tokenizer(backend).cut("the cat " * 50))) == 1


def test_training_on_pieces_is_training_on_the_whole(monkeypatch):
    texts = [" ".join(f"The number {n} comes\nbefore {n + 1}." for n in range(start, start + 50)) for start in (0, 300)]
    whole = train_bpe(texts, vocab_size=450)
    monkeypatch.setattr(module, "PIECE", 64)
    assert train_bpe(texts, vocab_size=450).fingerprint == whole.fingerprint


def plain_backend():
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>", "[CLS]"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["hello there"] * 3, trainer)
    return backend


def test_what_a_tokenizer_lacks_is_added_behind_its_ids_and_the_source_is_not_changed():
    backend = plain_backend()
    before = backend.to_str()
    size = backend.get_vocab_size()
    tokenizer = load_tokenizer(backend, sentinels=7)
    special = tokenizer.special
    assert special.eos == backend.token_to_id("<|endoftext|>")
    assert special.others == (backend.token_to_id("[CLS]"),)
    assert len(special.sentinels) == 7
    assert min(special.pad, special.mask, *special.sentinels) >= size
    assert special.vocab_size == size + 9
    assert backend.to_str() == before
    assert tokenizer.encode("hello") == backend.encode("hello", add_special_tokens=False).ids


@pytest.mark.parametrize("sentinels", [0, 4])
def test_a_hugging_face_tokenizer_with_and_without_sentinels(sentinels):
    backend = plain_backend()
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


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is not a tokenizer.json"), ("{}", "is not a tokenizer.json"), ('{"model": 3}', "is not a tokenizer.json")],
)
def test_a_damaged_file_is_named(content, message, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=message):
        load_tokenizer(tmp_path)


def test_a_file_cut_in_half_is_named(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    whole = (tmp_path / "t.json").read_text()
    (tmp_path / "t.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"t\.json is not a tokenizer\.json"):
        load_tokenizer(tmp_path / "t.json")
    assert json.loads(whole)


def test_other_bad_input_is_told_what_was_expected(tmp_path):
    with pytest.raises(InputError, match="256 bytes, 3 special ids and 100 sentinels need 359"):
        train_bpe(["abc"], vocab_size=300)
    with pytest.raises(InputError, match="put it in a list"):
        train_bpe("abc")
    with pytest.raises(InputError, match="got none"):
        train_characters([])
    with pytest.raises(FileNotFoundError):
        load_tokenizer(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="got int"):
        load_tokenizer(3)


def test_a_trained_tokenizer_is_found_again_in_the_cache(tmp_path, monkeypatch):
    texts = [f"The number {n} comes before {n + 1}." for n in range(200)]
    first = train_bpe(texts, vocab_size=380, sentinels=5, cache_dir=tmp_path)
    monkeypatch.setattr("clozelab.data.tokenizers.tokenizer._trained_bpe", lambda *_: pytest.fail("trained again"))
    again = train_bpe(iter(texts), vocab_size=380, sentinels=5, cache_dir=tmp_path)
    assert again.fingerprint == first.fingerprint
    monkeypatch.undo()
    assert train_bpe(texts, vocab_size=380, sentinels=5).fingerprint == first.fingerprint  # as without a cache
    for others in ({"vocab_size": 390}, {"sentinels": 4}):
        other = train_bpe(texts, **{"vocab_size": 380, "sentinels": 5, **others}, cache_dir=tmp_path)
        assert other.fingerprint != first.fingerprint
    assert len(list(tmp_path.glob("*.bpe.json"))) == 3
    [kept] = [path for path in tmp_path.glob("*.bpe.json") if load_tokenizer(path, 0).fingerprint == first.fingerprint]
    kept.write_text("{")  # damaged: trained anew
    assert train_bpe(texts, vocab_size=380, sentinels=5, cache_dir=tmp_path).fingerprint == first.fingerprint
