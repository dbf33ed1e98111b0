"""Tokenizers of other libraries: slow ones of `transformers`, and objects of one's own."""

import pickle

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from clozelab import CausalLM
from clozelab.data import load_tokenizer, pack
from clozelab.data.tokenizers.objects import ends_by_decoding
from clozelab.errors import InputError
from clozelab.integrations.export import export
from clozelab.training import TrainConfig, load_run, train

TEXTS = [
    "the old lamp",
    "The lamps, it said: <s>",
    "é 漢字 \N{CAT FACE}\n\n two  spaces",
    "[MASK] </s> <pad> [SEP]x",
    "",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "old", "lamp", "##s", "said", "it", "two", "spaces", "pad", "mask", "sep", "s", "x", *",:<>/[]"]


class Letters:
    """A tokenizer of one's own."""

    signs = sorted(set("".join(TEXTS)))

    def encode(self, text):
        return [self.signs.index(sign) for sign in text]

    def decode(self, ids):
        return "".join(self.signs[n] for n in ids)

    def get_vocab(self):
        return {sign: n for n, sign in enumerate(self.signs)}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    path = tmp_path_factory.mktemp("bert") / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, *WORDS]))
    return BertTokenizerLegacy(str(path))


SOURCES = {"ByT5": ByT5Tokenizer, "letters": Letters, "slow BERT": None}


@pytest.fixture(params=SOURCES)
def source(request, bert):
    make = SOURCES[request.param]
    return bert if make is None else make()


@pytest.fixture
def tokenizer(source):
    return load_tokenizer(source, sentinels=3)


def test_ids_are_those_of_the_object(source, tokenizer):
    settings_of_theirs = {} if isinstance(source, Letters) else {"add_special_tokens": False}
    for text in TEXTS[:3]:
        assert tokenizer.encode(text) == source.encode(text, **settings_of_theirs)
    assert tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]


def test_ids_that_the_object_states_are_kept_and_others_stand_behind_its_vocabulary(source, tokenizer):
    for role in ("pad", "eos", "mask"):
        stated = getattr(source, f"{role}_token_id", None)
        assert stated is None or tokenizer.special[role] == stated
    vocabulary = source.get_vocab()
    added = [n for name, n in tokenizer.vocabulary.items() if name not in vocabulary]
    assert not added or min(added) > max(vocabulary.values())


def test_text_is_never_special(tokenizer):
    special = set(tokenizer.special.all) - {tokenizer.unknown}
    names = [tokenizer.token(n) for n in sorted(special)[:40]]
    for text in (*TEXTS, *names, "".join(names), " x ".join(names)):
        if all(sign in Letters.signs for sign in text) or not isinstance(
            getattr(tokenizer.adapter, "source", 0), Letters
        ):
            assert not special & {*tokenizer.encode(text)}


def test_special_ids_decode_to_their_names(tokenizer):
    ids = [*tokenizer.encode("the"), tokenizer.special.sentinels[1], *tokenizer.encode("old"), 10**9]
    assert tokenizer.decode(ids).split("<extra_id_1>")[0].strip() == "the"
    assert tokenizer.decode(ids, skip_special=True).replace(" ", "") == "theold"


def test_it_is_the_same_one_when_it_is_pickled_or_made_again(source, tokenizer):
    for again in (
        pickle.loads(pickle.dumps(tokenizer)),
        load_tokenizer(source, sentinels=3),
        load_tokenizer(tokenizer, 3),
    ):
        assert again.special == tokenizer.special
        assert again.fingerprint == tokenizer.fingerprint
        assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
    assert load_tokenizer(source, sentinels=200).fingerprint != tokenizer.fingerprint


def test_bytes_add_up_to_those_of_the_text_or_are_not_known(source, tokenizer):
    for text in TEXTS[:3]:
        counts = tokenizer.byte_counts(text)
        if tokenizer.unknown in tokenizer.encode(text):
            assert counts is None
        else:
            assert len(counts) == len(tokenizer.encode(text))
            assert sum(counts) == len(text.encode())


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_bytes_of_any_text_are_those_of_its_utf_8(text):
    tokenizer = load_tokenizer(ByT5Tokenizer(), sentinels=0)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    counts = tokenizer.byte_counts(text)
    assert counts is None or sum(counts) == len(text.encode())


def test_what_is_not_spelled_by_decoding_has_no_ends():
    assert ends_by_decoding("the old", [0, 1], lambda ids: "the lamp"[: 4 * len(ids)]) is None
    assert ends_by_decoding("the old", [0], lambda ids: "the") is None  # some text has no token
    assert ends_by_decoding("the ", [0], lambda ids: "the") == [3]


# ------------------------------------------------------------------ what is no tokenizer


@pytest.mark.parametrize("thing", [3, None, [], object(), {"a": 1}])
def test_what_neither_encodes_nor_decodes_is_refused(thing):
    with pytest.raises(InputError, match=r"an object with encode\(text\), decode\(ids\) and get_vocab\(\)"):
        load_tokenizer(thing)


def test_a_class_is_not_an_object_of_it():
    with pytest.raises(InputError, match="got the class Letters: call it"):
        load_tokenizer(Letters)


def test_an_object_that_answers_wrongly_is_refused():
    class Wrong(Letters):
        def encode(self, text):
            return text

    class Beyond(Letters):
        def encode(self, text):
            return [10**6]

    class Twice(Letters):
        def get_vocab(self):
            return {"a": 0, "b": 0}

    with pytest.raises(InputError, match=r"expected token ids from Wrong\.encode, got str"):
        load_tokenizer(Wrong()).encode("old")
    with pytest.raises(InputError, match=r"Letters\.encode failed on a text .*does its vocabulary lack a character"):
        load_tokenizer(Letters()).encode("0ld")
    with pytest.raises(InputError, match="outside of its"):
        load_tokenizer(Beyond()).encode("old")
    with pytest.raises(InputError, match="each for one token"):
        load_tokenizer(Twice())


def test_words_are_refused_where_they_are_not_known():
    with pytest.raises(InputError, match="does not tell where words begin"):
        load_tokenizer(Letters()).word_ids("old")


# ------------------------------------------------------------------ runs


def test_a_run_asks_for_the_object_that_no_file_can_hold(tmp_path):
    tokenizer = load_tokenizer(Letters(), sentinels=1)
    text, heldout = (pack(TEXTS, tokenizer, cache_dir=tmp_path, byte_counts=True) for _ in range(2))
    model = CausalLM().build_model(tokenizer.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=1)
    config = TrainConfig(steps=1, length=16, batch_size=2)
    train(CausalLM(), model, tokenizer, text, heldout, config, run=tmp_path / "run")
    with pytest.raises(InputError, match=r"the class .*Letters, which no file can hold: give it, load_run"):
        load_run(tmp_path / "run")
    again = load_run(tmp_path / "run", tokenizer=load_tokenizer(Letters(), sentinels=1)).tokenizer
    assert again.special == tokenizer.special
    for other in (load_tokenizer(Letters(), sentinels=2), load_tokenizer(Letters(), sentinels=1, roles={"eos": "x"})):
        with pytest.raises(InputError, match="another tokenizer than the one that is given"):
            load_run(tmp_path / "run", tokenizer=other)
    with pytest.raises(InputError, match="expected a tokenizer that a"):
        export(CausalLM(), model, tmp_path / "exported", tokenizer)


# ------------------------------------------------------------------ tiktoken


@pytest.fixture(scope="module")
def encoding():
    ranks = {bytes([byte]): byte for byte in range(256)}
    for token in ("th", "the", " o", "ol", " old", "la", "mp", "lamp", "aa", "aaaa", "é"):
        ranks[token.encode()] = len(ranks)
    special = {"<|endoftext|>": len(ranks), "<|fim_prefix|>": len(ranks) + 1}
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
    return tiktoken.Encoding("small", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)


def test_an_encoding_of_tiktoken_has_its_ids(encoding, tmp_path):
    tokenizer = load_tokenizer(encoding, sentinels=2)
    for text in (*TEXTS, "aaaaaaa the old lamp's <|endoftext|> 12\r\n\n x"):
        assert tokenizer.encode(text) == encoding.encode_ordinary(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.byte_lengths[tokenizer.encode(text)].sum() == len(text.encode())
    assert tokenizer.special.eos == encoding.eot_token
    assert tokenizer.special["fim_prefix"] == encoding.n_vocab - 1
    tokenizer.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path, sentinels=2).special == tokenizer.special


def test_an_encoding_that_cannot_be_read_exactly_is_refused(encoding):
    holes = tiktoken.Encoding(
        "holes", pat_str=r"\S+|\s+", mergeable_ranks=encoding._mergeable_ranks, special_tokens={"x": 900}
    )
    with pytest.raises(InputError, match="ids between those of its tokens and x = 900"):
        load_tokenizer(holes)
