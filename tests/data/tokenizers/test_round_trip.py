"""What encoding changes is told: which share of documents does not come back, how, and by an example."""

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from clozelab.data import load_tokenizer, train_bpe, train_characters
from clozelab.data.tokenizers import round_trip
from clozelab.data.tokenizers.round_trip import changed_documents

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SIGNS = [*"ABCDEabcdefglmnopt .<>0x41", "é", "É"]


def characters(normalizer=None, split=r"[\s\S]"):
    vocabulary = {sign: n for n, sign in enumerate(["<unk>", *SIGNS])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(split), "isolated")
    backend.decoder = decoders.Fuse()
    if normalizer is not None:
        backend.normalizer = normalizer
    return load_tokenizer(backend, sentinels=0)


@pytest.mark.parametrize(
    ("normalizer", "text", "told"),
    [
        (normalizers.Lowercase(), "a Cat", "in upper and lower case): 'a Cat' is decoded as 'a cat'"),
        (normalizers.Replace("  ", " "), "a  cat", "in white space): 'a  cat' is decoded as 'a cat'"),
        (
            normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
            "été",
            "in accents and forms of letters)",
        ),
        (normalizers.Replace("t", ""), "a cat", "otherwise): 'a cat' is decoded as 'a ca'"),
        (normalizers.Replace(tokenizers.Regex(r"[\s\S]"), ""), "a cat", "to nothing): 'a cat' is decoded as ''"),
        (None, "a cat!", "by unknown tokens): 'a cat!' is decoded as 'a cat<unk>'"),
    ],
)
def test_what_changed_is_told_with_an_example(normalizer, text, told):
    line = changed_documents([text, text, "a"], characters(normalizer))
    number = 3 if "to nothing" in told else 2
    assert line.startswith(f"{number} of the first 3 documents come back changed ({number} {told.partition(')')[0]})")
    assert told in line


def test_nothing_is_told_where_nothing_changes():
    assert changed_documents(["a cat", "ate", ""], characters()) == ""
    assert changed_documents(["Any \N{CAT FACE}\r\n"], train_bpe(["a"], 400)) == ""
    assert changed_documents([], characters()) == ""


def test_the_work_is_bounded(monkeypatch):
    tokenizer = train_characters(["ab"], sentinels=0)
    assert changed_documents(("c" for _ in range(10**9)), tokenizer).startswith("1,000 of the first 1,000 documents")
    assert changed_documents(("ab" * 10**5 for _ in range(10**9)), tokenizer) == ""
    monkeypatch.setattr(round_trip, "MAX_CHARACTERS", 10)
    assert changed_documents(["abababababc", "c"], tokenizer).startswith("the first document comes back")


@pytest.mark.parametrize("words", [pre_tokenizers.Metaspace(prepend_scheme="never"), None], ids=["words", "no words"])
def test_the_name_of_a_byte_is_no_byte(words):
    """A Unigram model has the tokens of bytes in its vocabulary, and finds `<0x41>` in a text, where it is an A."""
    pieces = [("<unk>", 0.0), ("▁", -2.0), *((sign, -5.0) for sign in SIGNS), *((byte, -1.0) for byte in BYTES)]
    backend = tokenizers.Tokenizer(models.Unigram(pieces, 0, True))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", "never")])
    if words is not None:
        backend.pre_tokenizer = words
    texts = ["<0x41>", "a <0x41>b<0xE9>", "<<0x41>>", "<0x4", "\N{CAT FACE} <0x0A>\n"]
    assert backend.decode(backend.encode(texts[0]).ids) == "A"
    tokenizer = load_tokenizer(backend, sentinels=0)
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts
    assert tokenizer.decode([*tokenizer.encode("a cat"), backend.token_to_id("<0x41>")]) == "a catA"
    assert changed_documents(texts, tokenizer) == ""
