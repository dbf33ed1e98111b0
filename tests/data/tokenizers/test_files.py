"""Every file of a tokenizer opens, or is refused by its right name."""

import json
import pickle

import pytest
from transformers import BertTokenizer, GPT2Tokenizer

from clozelab.data import load_tokenizer, train_bpe
from clozelab.errors import InputError

TEXTS = ["The Lamp, it said: «été» 12", "old lamps 漢字", " two  spaces\n\ttab ", "<s> [MASK] [CLS] </s>", "x" * 150]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "the",
    "lamp",
    "##s",
    "it",
    "said",
    ",",
    ":",
    "old",
    "et",
    "##e",
    "1",
    "##2",
    "漢",
    "[",
    "]",
    "two",
    "spaces",
    "s",
]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def without_specials(theirs, text):
    return theirs.encode(text, add_special_tokens=False, split_special_tokens=True)


# ------------------------------------------------------------------ vocab.txt


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("lower", "words"), [(True, WORDS), (False, ["The", "Lamp", *WORDS])])
def test_a_vocab_txt_is_read_as_bert_reads_it(lower, words, end, tmp_path):
    path = write(tmp_path / "vocab.txt", end.join([*BERT, *words, ""]))
    theirs = BertTokenizer({token: n for n, token in enumerate([*BERT, *words])}, do_lower_case=lower)
    for source in (path, tmp_path):
        tokenizer = load_tokenizer(source, sentinels=2)
        for text in TEXTS[:3]:
            assert tokenizer.encode(text) == without_specials(theirs, text)
        special = tokenizer.special
        assert (special.pad, special.eos, special.mask, tokenizer.unknown) == (0, 3, 4, 1)
        assert not {0, 2, 3, 4} & {*tokenizer.encode(TEXTS[3])}
        told = "made lower case, since no token has" if lower else "left as it is, since some tokens have"
        assert f"vocab.txt: text is {told} " in tokenizer.notes[1]


def test_the_settings_beside_a_vocab_txt_hold(tmp_path):
    write(tmp_path / "vocab.txt", "\n".join(["<pad>", "<unk>", "the", "The"]))
    settings = {"do_lower_case": True, "unk_token": "<unk>", "pad_token": "<pad>"}
    write(tmp_path / "tokenizer_config.json", json.dumps(settings))
    tokenizer = load_tokenizer(tmp_path, sentinels=0)
    assert tokenizer.encode("The the old") == [2, 2, 1]
    assert not any("lower case" in note for note in tokenizer.notes)


def test_a_token_on_two_lines_has_the_last_one_and_the_other_id_is_told(tmp_path):
    path = write(tmp_path / "vocab.txt", "\n".join([*BERT, "the", "old", "the"]))
    tokenizer = load_tokenizer(path, sentinels=1)
    assert tokenizer.encode("the old") == [7, 6]
    assert "ids: 1 of the 8 stand for no token" in tokenizer.notes
    assert len(set(tokenizer.vocabulary.values())) == len(tokenizer.vocabulary) == tokenizer.vocab_size


# ------------------------------------------------------------------ vocab.json and merges.txt


@pytest.fixture
def gpt2(tmp_path):
    train_bpe(TEXTS * 2, vocab_size=300, sentinels=0).backend.model.save(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("prefix", [False, True])
def test_merges_and_vocabulary_are_read_as_gpt2_reads_them(prefix, gpt2):
    write(gpt2 / "tokenizer_config.json", json.dumps({"add_prefix_space": prefix}))
    vocabulary = json.loads((gpt2 / "vocab.json").read_text())
    merges = [tuple(line.split(" ")) for line in (gpt2 / "merges.txt").read_text().splitlines()[1:]]
    theirs = GPT2Tokenizer(vocabulary, merges, add_prefix_space=prefix)
    for source in (gpt2, gpt2 / "vocab.json", gpt2 / "merges.txt"):
        tokenizer = load_tokenizer(source, sentinels=0)
        assert [tokenizer.encode(text) for text in TEXTS] == [without_specials(theirs, text) for text in TEXTS]
        assert (tokenizer.special.pad, tokenizer.special.eos) == (0, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merges.txt": "zz qq\n"}, "merges.txt does not fit .*'zz qq' is no pair of its tokens"),
        ({"merges.txt": "a b c\n"}, "'a b c' is no pair"),
        ({"vocab.json": None}, "merges of a BPE, but the vocab.json beside it is missing"),
        ({"merges.txt": None}, "vocab.json is a vocabulary without the merges.txt"),
        ({"vocab.json": "[1]"}, "vocab.json is no vocabulary of a BPE"),
        ({"vocab.json": '{"a": "b"}'}, "vocab.json is no vocabulary of a BPE"),
        ({"vocab.json": '{"a</w>": 0}', "merges.txt": ""}, "marks the ends of words by </w>"),
        ({"vocab.json": '{"▁a": 0}', "merges.txt": ""}, "is not of bytes"),
    ],
)
def test_a_damaged_pair_is_named(change, message, gpt2):
    for name, content in change.items():
        (gpt2 / name).unlink() if content is None else write(gpt2 / name, content)
    with pytest.raises(InputError, match=message):
        load_tokenizer(gpt2)


# ------------------------------------------------------------------ what is refused


PICKLE = pickle.dumps({"old": 1})
REFUSED = {
    "o200k.tiktoken": (b"IQ== 0\n", "a vocabulary of tiktoken without its pattern"),
    "tekken.json": (b'{"config": {}}', "a vocabulary of mistral-common"),
    "dict.txt": (b"the 100\n", "a dictionary of fairseq"),
    "spm.vocab": (b"the\t-3.1\n", "the readable list of a SentencePiece vocabulary"),
    "tokenizer.pkl": (PICKLE, "a pickle, which runs code as it is opened"),
    "config.json": (b'{"model_type": "bert"}', "part of a model, which holds no tokenizer"),
    "model.safetensors": (b"\0" * 30, "part of a model, which holds no tokenizer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_called_by_their_names(name, tmp_path):
    content, kind = REFUSED[name]
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=f"{name} is {kind}"):
        load_tokenizer(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PICKLE, "is a pickle, which runs code as it is opened"),
        (b"[1, 2]", "is not a tokenizer.json: expected a JSON object with a model"),
        (b'{"a": 1}', "is not a tokenizer.json: expected a JSON object with a model"),
        (b"old lamp", "is not a tokenizer.json"),
        (b'{"object": "mine.Letters"}', "stands for an object of the class mine.Letters, which no file can hold"),
    ],
)
def test_what_is_no_tokenizer_json_is_named(content, message, tmp_path):
    path = write(tmp_path / "t.json", content)
    with pytest.raises(InputError, match=message):
        load_tokenizer(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe" + "the\nold\n".encode("utf-16-le"), "vocab.txt is not UTF-8 text: byte 0"),
        (b"a long article " * 100, "vocab.txt is no WordPiece vocabulary: expected a token on each of its 1 lines"),
        (b"", "vocab.txt is no WordPiece vocabulary"),
        (b"\0\0\n\0\0\n", "vocab.txt is no WordPiece vocabulary"),
    ],
)
def test_a_damaged_vocab_txt_is_named(content, message, tmp_path):
    path = write(tmp_path / "vocab.txt", content)
    with pytest.raises(InputError, match=message):
        load_tokenizer(path)


def test_a_folder_without_a_tokenizer_says_what_it_holds(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tokenizer(tmp_path)
    write(tmp_path / "config.json", "{}")
    write(tmp_path / "model.safetensors", "x")
    with pytest.raises(InputError, match=r"holds a model \(config\.json, model\.safetensors\) and no tokenizer"):
        load_tokenizer(tmp_path)
    write(tmp_path / "tokenizer_config.json", '{"tokenizer_class": "ByT5Tokenizer"}')
    with pytest.raises(InputError, match=r"the settings of a ByT5Tokenizer .*give load_tokenizer the object"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_json_is_preferred_to_other_files(tmp_path):
    made = train_bpe(TEXTS, vocab_size=300, sentinels=2)
    made.save(tmp_path / "tokenizer.json")
    write(tmp_path / "vocab.txt", "the\nold\n")
    assert load_tokenizer(tmp_path, sentinels=2).fingerprint == made.fingerprint
