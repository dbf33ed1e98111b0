"""Text that a vocabulary cannot write becomes unknown tokens, which are counted: it never disappears."""

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from clozelab.data import SpecialIds, Tokenizer, load_corpus, load_tokenizer, pack, train_bpe, train_characters
from clozelab.data.tokenizers.unknown import can_drop_text, unknown_id
from clozelab.errors import InputError
from clozelab.training import prepare

BYTES = {f"<0x{byte:02X}>": byte for byte in range(256)}


def of(model, *, words=True, special=()):
    backend = tokenizers.Tokenizer(model)
    if words:
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(list(special))
    return backend


def byte_level(signs):
    backend = of(models.BPE({sign: n for n, sign in enumerate(signs)}, []), words=False)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    return backend


WITHOUT = {
    "bpe": lambda: of(models.BPE({"a": 0, "b": 1}, [])),
    "bpe with tokens behind it": lambda: of(models.BPE({"a": 0, "b": 1}, []), special=["<x>", "<pad>"]),
    "bpe with a name for it": lambda: of(models.BPE({"a": 0, "b": 1, "[UNK]": 2}, []), special=["[UNK]"]),
    "bpe with some bytes": lambda: of(models.BPE({"a": 0, "b": 1, "<0x0A>": 2}, [], byte_fallback=True)),
    "some bytes": lambda: byte_level([*sorted(pre_tokenizers.ByteLevel.alphabet())[:200]]),
    "unigram": lambda: of(models.Unigram([("a", -1.0), ("b", -2.0)], None, False)),
    "unigram with a name for it": lambda: of(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], None, False)),
    "unigram with tokens behind it": lambda: of(models.Unigram([("a", -1.0), ("b", -2.0)], None, False), special="x"),
    "word pieces": lambda: of(models.WordPiece({"a": 0, "b": 1, "##b": 2}, unk_token="[UNK]")),
    "words": lambda: of(models.WordLevel({"a": 0, "b": 1}, unk_token="<unk>")),
}
WITH = {
    "bytes": lambda: train_bpe(["ab"], 400).backend,
    "bpe with all bytes": lambda: of(models.BPE({**BYTES, "a": 256}, [], byte_fallback=True)),
    "unigram with all bytes": lambda: of(
        models.Unigram([("<unk>", 0.0), ("a", -1.0), *((byte, -5.0) for byte in BYTES)], 0, True)
    ),
    "characters": lambda: train_characters(["ab"]).backend,
    "unigram": lambda: of(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0, False)),
}


@pytest.mark.parametrize("make", WITHOUT.values(), ids=WITHOUT)
def test_a_model_without_unknown_token_gets_one_and_keeps_its_ids(make, tmp_path):
    backend = make()
    before, source = backend.get_vocab(with_added_tokens=True), backend.to_str()
    assert can_drop_text(backend)
    tokenizer = load_tokenizer(backend, sentinels=2)
    assert backend.to_str() == source
    after = tokenizer.backend.get_vocab(with_added_tokens=True)
    assert before.items() <= after.items()
    assert len(set(after.values())) == len(after)
    assert tokenizer.unknown in tokenizer.special.others
    assert any(note.startswith("unknown: the model has no unknown token, and gets ") for note in tokenizer.notes)
    assert tokenizer.encode("a \N{CAT FACE} a").count(tokenizer.unknown) >= 1
    assert tokenizer.encode("a") == [before["a"]]
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path, sentinels=2)
    assert again.special == tokenizer.special
    assert again.unknown == tokenizer.unknown
    assert not any(note.startswith("unknown") for note in again.notes)


@pytest.mark.parametrize("make", WITH.values(), ids=WITH)
def test_a_model_that_writes_or_marks_everything_is_left_as_it_is(make):
    backend = make()
    assert not can_drop_text(backend)
    tokenizer = load_tokenizer(backend)
    assert tokenizer.unknown == unknown_id(backend)
    ids = tokenizer.encode("a\N{CAT FACE}a")
    assert tokenizer.unknown in ids or len(ids) >= 4


def test_a_tokenizer_made_by_hand_without_unknown_token_is_an_error_not_a_traceback():
    backend = of(models.Unigram([("<pad>", 0.0), ("a", -1.0)], None, False))
    tokenizer = Tokenizer(backend, SpecialIds(2, pad=0, eos=0))
    for encode in (tokenizer.encode, lambda text: tokenizer.encode_batch([text]), tokenizer.word_ids):
        with pytest.raises(InputError, match="load_tokenizer"):
            encode("ab")


# ------------------------------------------------------------------ packed text


def test_unknown_tokens_and_emptied_documents_are_counted(tmp_path):
    tokenizer = load_tokenizer(WITHOUT["bpe"](), sentinels=0)
    packed = pack(["ab", "a?", "   ", "", "??"], tokenizer, cache_dir=tmp_path)
    assert (len(packed), packed.unknown, packed.emptied) == (11, 3, 1)
    assert packed.encoding_loss == "3 of 11 tokens (27.27%) are unknown, 1 of 5 documents has no token"
    again = pack(["ab", "a?", "   ", "", "??"], tokenizer, cache_dir=tmp_path)
    assert (again.unknown, again.emptied) == (packed.unknown, packed.emptied)


def test_nothing_is_told_where_nothing_is_lost(tokenizer, tmp_path):
    packed = pack(["ab", "\N{CAT FACE}", ""], tokenizer, cache_dir=tmp_path)
    assert (packed.unknown, packed.emptied, packed.encoding_loss) == (0, 0, "")


def test_what_was_guessed_and_lost_is_told_as_a_run_is_prepared(tmp_path, caplog):
    (tmp_path / "text.txt").write_text("ab ab ba\n\nab ba? ab\n\n" * 40)
    WITHOUT["bpe"]().save(str(tmp_path / "t.json"))
    prepared = prepare(load_corpus(tmp_path / "text.txt", heldout=0.3), tokenizer=str(tmp_path / "t.json"))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[: len(prepared.tokenizer.notes)] == [f"tokenizer: {note}" for note in prepared.tokenizer.notes]
    assert f"text: {prepared.text.encoding_loss}" in lines
    assert prepared.text.unknown > 0
