"""Text never becomes a special id, for any kind of model and any layout of its vocabulary."""

import pickle
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from clozelab.data import SpecialIds, Tokenizer, load_tokenizer, pack, train_bpe, train_characters

TEXT = "<s>old</s> <extra_id_0> [MASK] <pad>"
WORDS = "the old lamp stood on a cold bridge . extra id MASK pad s < > / [ ] _ 0 1 2 3 [CLS] [SEP] <unk> <mask>"
TEXTS = [WORDS, WORDS.replace(" ", ""), "<s> </s> <pad> <extra_id_0> <extra_id_1>"] * 2
T5 = ["<pad>", "</s>", "<unk>", "<extra_id_1>", "<extra_id_0>"]
XLM_R = ["<s>", "<pad>", "</s>", "<unk>"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def made(model, *, names=(), normalizer=None, words=None, decoder=None):
    backend = tokenizers.Tokenizer(model)
    if normalizer:
        backend.normalizer = normalizer
    if words:
        backend.pre_tokenizer = words
    if decoder:
        backend.decoder = decoder
    backend.add_special_tokens(list(names))
    return backend


def unigram(names, unk_id, *, bytes_too=False, **parts):
    signs = sorted({sign for text in TEXTS for sign in text if sign != " "})
    pieces = [(name, 0.0) for name in names] + [("▁", -2.0), ("old", -3.0), ("▁old", -3.0)]
    pieces += [(sign, -5.0) for sign in signs] + [(byte, -9.0) for byte in BYTES if bytes_too]
    return made(models.Unigram(pieces, unk_id, bytes_too), names=names, **parts)


def metaspace(scheme="always"):
    return {"words": pre_tokenizers.Metaspace(prepend_scheme=scheme), "decoder": decoders.Metaspace("▁", scheme)}


def t5():
    return unigram(T5, 2, **metaspace())


def xlm_r():
    backend = unigram(XLM_R, 3, **metaspace())
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True, normalized=True)])
    return backend


def unigram_bytes():
    decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", "never")])
    return unigram(T5, 2, bytes_too=True, words=pre_tokenizers.Metaspace(prepend_scheme="never"), decoder=decoder)


def unigram_width():
    """Its normaliser makes `</s>` of other characters."""
    return unigram(T5, 2, normalizer=normalizers.NFKC(), **metaspace())


def unigram_without_words():
    return unigram(["</s>", "<s>", "<pad>", "<unk>"], 3, normalizer=normalizers.Replace(" ", "▁"))


def bpe(names, vocabulary=(), merges=(), *, parts, **settings_of_model):
    signs = sorted({sign for text in TEXTS for sign in text.replace(" ", "▁")})
    tokens = list(dict.fromkeys([*names, *signs, *vocabulary, *(left + right for left, right in merges)]))
    return made(models.BPE({token: n for n, token in enumerate(tokens)}, merges, **settings_of_model), **parts)


def llama():
    """Llama 2: no words, missing characters in bytes."""
    names = ["<unk>", "<s>", "</s>"]
    decoder = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    parts = {
        "names": names,
        "normalizer": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        "decoder": decoders.Sequence(decoder),
    }
    merges = [("o", "l"), ("ol", "d")]
    return bpe([*names, *BYTES], merges=merges, parts=parts, unk_token="<unk>", byte_fallback=True, fuse_unk=True)


def bpe_of_merged_names():
    """A BPE that was trained on text with its own special tokens, and so merges their names."""
    merges = [("<", "s"), ("<s", ">"), ("<", "/"), ("</", "s"), ("</s", ">"), ("o", "ld"), ("l", "d")]
    merges = [merges[-1], *merges[:-1]]
    return bpe(["<unk>", "<s>", "</s>"], merges=merges, parts={"names": ["<s>", "</s>"]}, unk_token="<unk>")


def bpe_of_whole_words():
    """Llama 3: a word that the vocabulary has is taken as it is (`ignore_merges`)."""
    parts = {"names": ["</s>", "[MASK]"], "words": pre_tokenizers.WhitespaceSplit()}
    return bpe(["</s>", "[MASK]", "<unk>"], parts=parts, unk_token="<unk>", ignore_merges=True)


def bpe_without_unknown():
    return bpe(["<pad>"], parts={"names": ["<pad>"], "words": pre_tokenizers.Whitespace()})


def byte_level():
    return train_bpe(TEXTS, vocab_size=300, sentinels=2).backend


def word_piece(words):
    backend = made(models.WordPiece(unk_token="[UNK]"), words=words, decoder=decoders.WordPiece())
    backend.train_from_iterator(TEXTS, trainers.WordPieceTrainer(special_tokens=BERT, show_progress=False))
    return backend


def bert():
    return word_piece(pre_tokenizers.BertPreTokenizer())


def word_piece_of_spaced_words():
    return word_piece(pre_tokenizers.WhitespaceSplit())


def word_level():
    names = ["<unk>", *XLM_R[:3], "<extra_id_0>", "[MASK]"]
    tokens = {token: n for n, token in enumerate([*names, "old", "lamp"])}
    return made(models.WordLevel(tokens, "<unk>"), names=names, words=pre_tokenizers.WhitespaceSplit())


def lower_case():
    names = ["<unk>", "<pad>", "</s>", "<mask>"]
    model = models.WordLevel({token: n for n, token in enumerate([*names, "old"])}, "<unk>")
    return made(model, names=names, normalizer=normalizers.Lowercase(), words=pre_tokenizers.WhitespaceSplit())


def characters():
    return train_characters(TEXTS, sentinels=2).backend


LOSSLESS = (t5, xlm_r, unigram_bytes, llama, byte_level, characters)
"""Those that write TEXT in full."""
FINDS_NAMES = (
    t5,
    xlm_r,
    unigram_bytes,
    unigram_width,
    unigram_without_words,
    bpe_of_merged_names,
    bpe_of_whole_words,
    word_piece_of_spaced_words,
    word_level,
    lower_case,
)
"""Those whose models find names of special tokens in text, which the wrapper must prevent."""
LAYOUTS = [*dict.fromkeys([*LOSSLESS, *FINDS_NAMES, bpe_without_unknown, bert])]


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda layout: layout.__name__)
def layout(request):
    tokenizer = load_tokenizer(request.param(), sentinels=2)
    names = [tokenizer.backend.id_to_token(n) for n in tokenizer.special.all]
    hostile = [TEXT, " ".join(names), "".join(names), "x".join(names), *names, *(f"a {name}b" for name in names)]
    hostile += [text.upper() for text in hostile] + ["＜/s＞ old", "</s></s>", "<</s>>", "##</s>", " ▁</s>▁"]
    return SimpleNamespace(make=request.param, tokenizer=tokenizer, hostile=hostile)


def special_ids(tokenizer, ids):
    """The special ids among some, but that of an unknown token."""
    return set(ids) & set(tokenizer.special.all) - {tokenizer.unknown}


def test_text_never_becomes_a_special_id(layout):
    for text in layout.hostile:
        ids = layout.tokenizer.encode(text)
        assert ids or not text.strip()
        assert special_ids(layout.tokenizer, ids) == set(), text


def test_the_layouts_whose_models_find_names_are_among_those_tried(layout):
    """Without the wrapper's own encoder these fail."""
    backend = layout.tokenizer.backend
    found = {text for text in layout.hostile if special_ids(layout.tokenizer, backend.encode(text).ids)}
    assert bool(found) == (layout.make in FINDS_NAMES) or layout.make is characters


def test_every_way_to_encode_agrees(layout, tmp_path):
    tokenizer = layout.tokenizer
    batch = tokenizer.encode_batch(layout.hostile)
    assert batch == [tokenizer.encode(text) for text in layout.hostile]
    for text, ids in zip(layout.hostile, batch):
        assert len(tokenizer.word_ids(text)) == len(ids)
        assert [n for piece in tokenizer.cut(text) for n in tokenizer.encode(piece)] == ids
    tokens = pack(layout.hostile, tokenizer, cache_dir=tmp_path).tokens.tolist()
    assert tokens == [n for ids in batch for n in [*ids, tokenizer.special.eos]]


@pytest.mark.parametrize("make", LOSSLESS)
def test_text_of_names_is_decoded_exactly(make):
    tokenizer = load_tokenizer(make(), sentinels=2)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_a_tokenizer_that_was_saved_or_pickled_encodes_alike(layout, tmp_path):
    tokenizer = layout.tokenizer
    tokenizer.save(tmp_path / "tokenizer.json")
    expected = tokenizer.encode_batch(layout.hostile)
    for again in (load_tokenizer(tmp_path, sentinels=2), pickle.loads(pickle.dumps(tokenizer)), deepcopy(tokenizer)):
        assert again.special == tokenizer.special
        assert again.fingerprint == tokenizer.fingerprint
        assert again.unknown == tokenizer.unknown
        assert again.encode_batch(layout.hostile) == expected


def test_other_text_is_encoded_as_by_the_backend(layout):
    for text in ("old lamp", "the cold bridge.", "a lamp stood on  the\nbridge", "Emoji \N{CAT FACE} é"):
        assert layout.tokenizer.encode(text) == layout.tokenizer.backend.encode(text, add_special_tokens=False).ids


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["<", "/", "s", ">", "</s>", "<s>", "<pad>", " ", "▁", "old", "##", "[MASK]"])))
def test_no_mixture_of_names_and_their_parts_is_special(layout, parts):
    assert special_ids(layout.tokenizer, layout.tokenizer.encode("".join(parts))) == set()


def test_a_token_of_text_that_was_given_a_role_is_no_longer_found():
    backend = byte_level()
    backend.add_tokens(["<blank>", "<word>"])
    blank, word = backend.token_to_id("<blank>"), backend.token_to_id("<word>")
    tokenizer = load_tokenizer(backend, sentinels=0, roles={"mask": "<blank>"})
    assert tokenizer.special.mask == blank
    assert tokenizer.backend.encode("a<blank>").ids[-1] == blank
    assert blank not in tokenizer.encode("a<blank> <word>")
    assert word in tokenizer.encode("a<blank> <word>")  # text that stays one token
    assert tokenizer.decode(tokenizer.encode("a<blank> <word>")) == "a<blank> <word>"


def test_ids_that_are_special_by_hand_are_not_found_either():
    backend = unigram(["<unk>", "<doc>"], 0, **metaspace())
    special = SpecialIds(backend.get_vocab_size(), pad=1, eos=1, others=(0,))
    assert Tokenizer(backend, special).encode("<doc>").count(1) == 0


def test_ordinary_tokens_that_are_declared_further_ids_still_make_up_words():
    """`display.word_tokenizer` declares the single bytes, so that no replacement is one."""
    tokenizer = train_bpe(["the cat"] * 2, vocab_size=400, sentinels=0)
    bytes_of_text = tuple(n for n in range(3, 3 + 256))
    by_hand = Tokenizer(tokenizer.backend, replace(tokenizer.special, others=bytes_of_text))
    assert by_hand.encode("the cat") == tokenizer.encode("the cat") != []


def test_byte_level_text_is_encoded_by_the_backend_itself():
    """No copy is made, and nothing is slower, where a model cannot find the name of a special token."""
    for make in (byte_level, llama, bpe_without_unknown):
        tokenizer = load_tokenizer(make(), sentinels=2)
        assert tokenizer._encoder is tokenizer.backend
