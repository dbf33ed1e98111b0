"""Tokens in pictures: nothing in them is invisible or moves the cursor, whatever the vocabulary."""

import unicodedata

import pytest
import tokenizers
from rich.cells import cell_len
from tokenizers import decoders, models, pre_tokenizers

from clozelab.data import load_tokenizer, train_bpe, train_characters
from clozelab.display import word_tokenizer
from clozelab.display.tokens import cuts_words, text_cells, token_texts

BYTES = train_bpe(["the cat"] * 2, vocab_size=400)


def backend(model, pre_tokenizer, decoder):
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer, made.decoder = pre_tokenizer, decoder
    return load_tokenizer(made, sentinels=1)


def wordpiece():
    words = ["[UNK]", "the", "cat", "##a", "##logue"]
    model = models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]")
    return backend(model, pre_tokenizers.BertPreTokenizer(), decoders.WordPiece())


def sentencepiece():
    pieces = ["<unk>", "▁the", "▁cat", "a", "logue", *(f"<0x{byte:02X}>" for byte in range(256))]
    model = models.Unigram([(piece, -float(n)) for n, piece in enumerate(pieces)], unk_id=0, byte_fallback=True)
    decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return backend(model, pre_tokenizers.Metaspace(), decoder)


def of_one_token(text):
    model = models.WordLevel({text: 0, "[UNK]": 1}, unk_token="[UNK]")
    return backend(model, pre_tokenizers.Split("\0", "isolated"), decoders.Fuse())


def shown(tokenizer, text, **settings):
    return token_texts(tokenizer, tokenizer.encode(text), **settings)


def test_bytes_of_a_character_are_written_as_bytes_and_the_text_shows_the_character():
    assert shown(BYTES, "世") == ["<0xE4>", "<0xB8>", "<0x96>"]
    assert text_cells(BYTES, BYTES.encode("the 世é"), spaces=True) == ["the", "␣", "世", "+", "+", "é", "+"]
    assert text_cells(BYTES, BYTES.encode("世")[:2]) == ["<0xE4>", "<0xB8>"]  # the third is missing


def test_a_token_of_whole_characters_shows_them():
    assert shown(train_bpe(["世界 é"] * 2, vocab_size=400), "世界 é") == ["世界", "é"]


def test_spaces_are_shown_on_request_whatever_the_vocabulary_writes_for_them():
    for tokenizer in (BYTES, sentencepiece()):
        assert shown(tokenizer, "the cat")[-2:] == ["the", "cat"]
        assert shown(tokenizer, "the cat", spaces=True)[-1] == "␣cat"
    assert shown(BYTES, "the cat   ")[2:] == ["␣"] * 3
    assert shown(train_characters(["a b"], sentinels=0), "a b") == ["a", "␣", "b"]


def test_the_marks_of_word_pieces_and_of_bytes_stay():
    assert shown(wordpiece(), "the catalogue") == ["the", "cat", "##a", "##logue"]
    assert shown(sentencepiece(), "the é")[-2:] == ["<0xC3>", "<0xA9>"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("\n", "\\n"),
        ("\t", "\\t"),
        ("\r", "\\r"),
        ("\x1b[31m", "␛[31m"),
        ("\x9b", "<U+009B>"),
        ("\u200b", "<U+200B>"),
        ("\ufeff", "<U+FEFF>"),
        ("\u202e", "<U+202E>"),
        ("\ufffd", "<U+FFFD>"),
        ("\u3164", "<U+3164>"),
        ("\u1160", "<U+1160>"),
        ("\u0301", "◌\u0301"),
        ("\ufe0f", "<U+FE0F>"),
        ("\u200d", "<U+200D>"),
        ("e\u0301", "e\u0301"),
        ("❤\ufe0f", "❤\ufe0f"),
        ("👨\u200d👩", "👨\u200d👩"),
        ("a" + "\xa0" + "b", "a<U+00A0>b"),
        (" " * 12, "␣×12"),
    ],
    ids=ascii,
)
def test_what_cannot_be_seen_is_written(text, written):
    assert shown(of_one_token(text), text) == [written]


def test_every_character_of_the_lower_planes_is_visible_and_has_a_width():
    """One token each: no control, no format character, no empty cell."""
    signs = [chr(code) for code in range(0x3100) if not 0xD800 <= code < 0xE000]
    tokenizer = train_characters(["".join(signs)], sentinels=0)
    ids = [tokenizer.encode(sign)[0] for sign in signs]
    for sign, text in zip(signs, token_texts(tokenizer, ids)):
        assert cell_len(text) > 0, hex(ord(sign))
        assert not {unicodedata.category(one) for one in text} & {"Cc", "Cf", "Cn", "Zl", "Zp", "Zs"}, hex(ord(sign))


def test_words_are_cut_where_letters_meet():
    assert not cuts_words(BYTES, BYTES.encode("the cat"))
    assert cuts_words(BYTES, BYTES.encode("the cats"))
    assert not cuts_words(word_tokenizer("well , it is"), word_tokenizer("well , it is").encode("well , it is"))
