"""SentencePiece models: the ids of SentencePiece itself, what it states, and text that never becomes a special id."""

import io
import json
import pickle
from itertools import pairwise

import pytest
import sentencepiece

from clozelab import CausalLM
from clozelab.data import load_tokenizer, pack
from clozelab.errors import InputError
from clozelab.training import TrainConfig, load_run, train

TEXT = "<s>old</s> <extra_id_0> [MASK] <pad>"
WORDS = "a quiet garden behind every paper market , two winters long < > / [ ] _ 0 1 2 3 <unk> <mask>"
CORPUS = [
    *("the old lamp stood on a cold bridge .", "It said 12 of 345 words; unbelievable!", WORDS),
    *(
        "Straße naïve é e\u0301 ﬁn １２ №5",
        "これは文です。",
        "x = [1, 2]\n\n\tindent  two",
        "<s>old</s> <extra_id_0>",
        "a" * 60,
    ),
]
KINDS = {
    "unigram": {"model_type": "unigram"},
    "unigram of T5": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "unigram with bytes": {"byte_fallback": True, "vocab_size": 400},
    "unigram without normalising": {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    "unigram in lower case": {"normalization_rule_name": "nmt_nfkc_cf"},
    "byte pairs": {"model_type": "bpe"},
    "byte pairs with bytes": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 400},
    "symbols of a user": {"user_defined_symbols": ["<sep>", "old"], "control_symbols": ["<ctl>"]},
    "spaces behind words": {"treat_whitespace_as_suffix": True},
    "characters": {"model_type": "char"},
    "words": {"model_type": "word"},
}


def trained(**settings) -> bytes:
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3),
        model_writer=content,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"vocab_size": 150, **settings},
    )
    return content.getvalue()


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def model(request) -> bytes:
    return trained(**request.param)


@pytest.fixture
def tokenizer(model, tmp_path):
    (tmp_path / "spiece.model").write_bytes(model)
    return load_tokenizer(tmp_path, sentinels=3)


def test_ids_are_those_of_sentencepiece(model, tokenizer):
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    for text in (*CORPUS, TEXT, "", " ", "  two  spaces ", "\N{CAT FACE}", "<0x41> ▁x"):
        assert tokenizer.encode(text) == theirs.encode(text)
        assert tokenizer.decode(theirs.encode(text)) == theirs.decode(theirs.encode(text)) or tokenizer.unknown in (
            theirs.encode(text)
        )
    for role in ("pad", "eos"):
        stated = getattr(theirs, f"{role}_id")()
        assert stated < 0 or tokenizer.special[role] == stated
    assert tokenizer.unknown == theirs.unk_id()


def test_text_is_never_special(tokenizer):
    special = set(tokenizer.special.all) - {tokenizer.unknown}
    names = [tokenizer.token(n) for n in sorted(special)]
    for text in (TEXT, "".join(names), " ".join(names), *names):
        assert not special & {*tokenizer.encode(text)}
    assert tokenizer.decode([tokenizer.special.eos, *tokenizer.special.sentinels]).endswith("<extra_id_1><extra_id_2>")


def test_bytes_add_up_to_those_of_the_text(tokenizer):
    for text in (*CORPUS, TEXT, "  two  spaces "):
        counts = tokenizer.byte_counts(text)
        assert len(counts) == len(tokenizer.encode(text))
        assert sum(counts) == len(text.encode())


def test_words_begin_at_the_mark(tokenizer, model, tmp_path):
    text = "the old lamp"
    starts = [token.startswith("▁") for token in map(tokenizer.token, tokenizer.encode(text))]
    words = tokenizer.word_ids(text)
    assert words[0] == 0
    assert [after > before for before, after in pairwise(words)] == starts[1:]


def test_a_tokenizer_that_was_saved_or_pickled_is_the_same_one(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "saved" / "tokenizer.json")
    named = tokenizer.special.named
    for again in (
        load_tokenizer(tmp_path / "saved", sentinels=0, roles=named),
        pickle.loads(pickle.dumps(tokenizer)),
        load_tokenizer(tokenizer, sentinels=3),
    ):
        assert again.special == tokenizer.special
        assert again.fingerprint == tokenizer.fingerprint
        assert again.encode_batch(CORPUS) == tokenizer.encode_batch(CORPUS)


# ------------------------------------------------------------------ folders


@pytest.fixture(scope="module")
def t5() -> bytes:
    return trained(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)


def test_the_sentinels_of_a_folder_of_t5_are_numbered_as_t5_numbers_them(t5, tmp_path):
    (tmp_path / "spiece.model").write_bytes(t5)
    names = [f"<extra_id_{k}>" for k in range(10)]
    config = {"tokenizer_class": "T5Tokenizer", "pad_token": "<pad>", "eos_token": "</s>", "extra_ids": 10}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"additional_special_tokens": names}))
    tokenizer = load_tokenizer(tmp_path, sentinels=4)
    size = sentencepiece.SentencePieceProcessor(model_proto=t5).vocab_size()
    assert tokenizer.special.sentinels == tuple(range(size + 9, size - 1, -1))
    assert (tokenizer.special.pad, tokenizer.special.eos) == (0, 1)
    assert tokenizer.notes[0] == "ids are those of spiece.model itself; T5Tokenizer may number them otherwise"


def test_a_symbol_that_is_stated_to_be_special_is_no_longer_found(tmp_path):
    (tmp_path / "m.model").write_bytes(trained(user_defined_symbols=["<sep>"]))
    assert "<sep> (special by --eos '<sep>')" in load_tokenizer(tmp_path).notes[-1]
    tokenizer = load_tokenizer(tmp_path / "m.model", roles={"eos": "<sep>"})
    assert tokenizer.special.eos not in tokenizer.encode("old<sep>lamp <SEP>")
    assert sum(tokenizer.byte_counts("old<sep>lamp")) == 12


def test_a_piece_that_words_are_made_of_cannot_be_special(t5, tmp_path):
    (tmp_path / "spiece.model").write_bytes(t5)
    tokenizer = load_tokenizer(tmp_path, roles={"mask": "▁"})
    with pytest.raises(InputError, match=r"to the special ids \d+ \(mask\), which no text may become: 'the old lamp'"):
        tokenizer.encode("the old lamp")


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"old lamp " * 99])
def test_a_damaged_model_is_named(damage, t5, tmp_path):
    (tmp_path / "spiece.model").write_bytes(damage(t5))
    with pytest.raises(InputError, match=r"spiece\.model is no SentencePiece model, or is damaged"):
        load_tokenizer(tmp_path)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path):
    with (tmp_path / "spiece.model").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"has 1,099,511,627,776 bytes, expected at most"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "change", [{"sentencepiece": "%%%"}, {"sentencepiece": 3}, {"added": [1]}, {"added": {"a": -1}}]
)
def test_a_damaged_copy_is_named(change, t5, tmp_path):
    (tmp_path / "spiece.model").write_bytes(t5)
    saved = json.loads(load_tokenizer(tmp_path).to_json())
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved | change))
    with pytest.raises(InputError, match=r"tokenizer\.json is damaged"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_missing_package_is_one_line(t5, tmp_path, monkeypatch):
    (tmp_path / "spiece.model").write_bytes(t5)
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    with pytest.raises(InputError, match=r"pip install 'clozelab\[sentencepiece\]'"):
        load_tokenizer(tmp_path)


def test_a_run_is_restored_with_its_model(t5, tmp_path):
    (tmp_path / "spiece.model").write_bytes(t5)
    tokenizer = load_tokenizer(tmp_path, sentinels=2, roles={"decoder_start": "</s>"})
    text, heldout = (pack(CORPUS, tokenizer, cache_dir=tmp_path, byte_counts=True) for _ in range(2))
    model = CausalLM().build_model(tokenizer.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=1)
    config = TrainConfig(steps=1, length=16, batch_size=2)
    result = train(CausalLM(), model, tokenizer, text, heldout, config, run=tmp_path / "run")
    assert result.heldout.bits_per_byte > 0
    again = load_run(tmp_path / "run").tokenizer
    assert (again.special, again.fingerprint) == (tokenizer.special, tokenizer.fingerprint)
