"""A long text is cut into pieces whose tokens are those of the whole text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clozelab.data import load_tokenizer, train_bpe, train_characters
from clozelab.data.tokenizers import cutting
from clozelab.errors import InputError

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPACED = st.text(st.one_of(st.sampled_from(" \n\t\u00a0\u2028aab.,'s19"), st.characters(codec="utf-8")))


@pytest.fixture(scope="module")
def kinds(tokenizer, split_at):
    others = [load_tokenizer(split_at(pattern), sentinels=0) for pattern in (LLAMA_3, r"\s+")]
    return [tokenizer, train_characters(["hello there"]), *others]


@given(text=SPACED, length=st.integers(1, 8))
def test_the_pieces_of_a_long_text_have_its_tokens(kinds, text, length):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cutting, "PIECE_LENGTH", length)
        for kind in kinds:
            pieces = list(kind.cut(text))
            assert "".join(pieces) == text
            assert [token for ids in kind.encode_batch(pieces) for token in ids] == kind.encode(text)


def test_a_long_text_is_cut_into_short_pieces_wherever_it_has_words(kinds, monkeypatch):
    monkeypatch.setattr(cutting, "PIECE_LENGTH", 100)
    text = "The number 12 comes before 13; it's so.\nAnd so on, hello there! " * 50
    for kind in kinds:
        assert max(map(len, kind.cut(text))) < 130
    assert {len(piece) for piece in kinds[1].cut("x" * 1000)} == {100}  # characters can be cut anywhere


def test_a_long_text_without_a_word_is_refused_before_it_needs_its_memory(tokenizer, monkeypatch):
    monkeypatch.setattr(cutting, "PIECE_LENGTH", 100)
    monkeypatch.setattr(cutting, "MAX_UNCUT_LENGTH", 1000)
    assert list(tokenizer.cut("x" * 1000)) == ["x" * 1000]
    with pytest.raises(InputError, match="2,101 characters cannot be cut after the first 101"):
        list(tokenizer.cut("x" * 101 + " " + "x" * 1999))
    with pytest.raises(InputError, match="is it text"):
        train_bpe(["x" * 1001], vocab_size=400)


def test_a_tokenizer_without_words_gets_its_text_whole(backend, monkeypatch):
    monkeypatch.setattr(cutting, "PIECE_LENGTH", 100)
    backend.pre_tokenizer = None
    assert len(list(load_tokenizer(backend).cut("the cat " * 50))) == 1


def test_training_on_pieces_is_training_on_the_whole(monkeypatch):
    texts = [" ".join(f"The number {n} comes\nbefore {n + 1}." for n in range(start, start + 50)) for start in (0, 300)]
    whole = train_bpe(texts, vocab_size=450)
    monkeypatch.setattr(cutting, "PIECE_LENGTH", 64)
    assert train_bpe(texts, vocab_size=450).fingerprint == whole.fingerprint
