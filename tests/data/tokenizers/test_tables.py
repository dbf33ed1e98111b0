"""Vocabulary tables: which tokens begin a word and which end a sentence, for each way of writing a vocabulary."""

import pickle
from types import SimpleNamespace

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from clozelab import MaskedLM
from clozelab.data import SpecialIds, load_tokenizer, pack, train_bpe, train_characters
from clozelab.errors import InputError

TEXT = "The cats sat down. Was the dog there? No, it had gone! It came again."
TEXTS = [TEXT, "unbelievable theories, thereafter gone"] * 3


def trained(backend, trainer):
    backend.train_from_iterator(TEXTS, trainer)
    return load_tokenizer(backend, sentinels=2)


def metaspace_bpe():
    """As Llama 2 has it: the mark is set by the normaliser, and missing characters are spelled in bytes."""
    backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    # Trained on words, since without a pre-tokenizer whole sentences would become tokens.
    words = tokenizers.Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=360, special_tokens=pieces, show_progress=False))
    backend.model = words.model
    return load_tokenizer(backend, sentinels=2)


def unigram():
    """As T5 has it."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    names = ["<pad>", "</s>", "<unk>"]
    return trained(backend, trainers.UnigramTrainer(vocab_size=60, special_tokens=names, unk_token="<unk>"))


def word_piece():
    """As BERT has it."""
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return trained(backend, trainers.WordPieceTrainer(vocab_size=70, special_tokens=names, show_progress=False))


def word_level():
    backend = tokenizers.Tokenizer(models.WordLevel(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return trained(backend, trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))


LAYOUTS = {
    "bytes": lambda: train_bpe(TEXTS, vocab_size=320, sentinels=2),
    "metaspace": metaspace_bpe,
    "unigram": unigram,
    "word pieces": word_piece,
    "words": word_level,
}


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request):
    return SimpleNamespace(name=request.param, tokenizer=LAYOUTS[request.param]())


def words_by_table(tokenizer, text):
    """The number of the word of each token, by the table alone."""
    return tokenizer.special.starts_word[tokenizer.encode(text)].long().cumsum(0).tolist()


def renumbered(words):
    order = list(dict.fromkeys(words))
    return [order.index(word) for word in words]


@pytest.mark.parametrize("text", [TEXT, "unbelievable theories", "cats sat there again, gone"])
def test_the_table_finds_the_words_that_the_tokenizer_splits_a_text_into(layout, text):
    words = layout.tokenizer.word_ids(text)
    if layout.name == "metaspace":  # Llama 2 itself has no words: those of its spaces
        pieces = layout.tokenizer.backend.encode(text, add_special_tokens=False).tokens
        words = [sum(piece.startswith("▁") for piece in pieces[: n + 1]) for n in range(len(pieces))]
    assert len(set(words)) > 1
    assert renumbered(words_by_table(layout.tokenizer, text)) == renumbered(words)


def test_sentences_end_where_a_reader_sees_them_end(layout):
    tokenizer = layout.tokenizer
    ids = tokenizer.encode(TEXT)
    ends = [n for n, end in enumerate(tokenizer.special.ends_sentence[ids].tolist()) if end]
    sentences = ["The cats sat down.", "Was the dog there?", "No, it had gone!", "It came again."]
    assert len(ends) == 4
    begin = 0
    for sentence, end in zip(sentences, ends):
        text = tokenizer.decode(ids[begin : end + 1])
        assert "".join(text.split()) == "".join(sentence.split())
        begin = end + 1


def test_special_ids_begin_no_word_and_end_no_sentence(layout):
    special = layout.tokenizer.special
    for table in (special.starts_word, special.ends_sentence):
        assert table.dtype == torch.bool
        assert table.shape == (special.vocab_size,)
        assert not table[list(special.all)].any()


def test_a_word_of_characters_goes_on_with_letters_and_digits():
    tokenizer = train_characters(["It's 12 o'clock, über naïve."])
    words = tokenizer.special.starts_word[tokenizer.encode("is 12, über's")].tolist()
    assert "".join("|" * starts + sign for starts, sign in zip(words, "is 12, über's")) == "is| 12|,| über|'s"


@pytest.mark.parametrize(
    ("piece", "starts", "ends"),
    [
        (" cat", True, False),
        ("cat", False, False),
        ("12", False, False),
        ("é", False, False),
        ("漢", False, False),
        (",", True, False),
        ("\n", True, False),
        ('!"', True, True),
        (".\n", True, True),
        ("?)", True, True),
        ("。", True, True),
        ("end.", False, True),
        ("...", True, True),
        (".5", True, False),
        ('"', True, False),
    ],
)
def test_tokens_of_bytes_are_judged_by_the_text_that_they_spell(backend, piece, starts, ends):
    written = "".join(part for part, _ in pre_tokenizers.ByteLevel(False, use_regex=False).pre_tokenize_str(piece))
    vocabulary = backend.get_vocab(with_added_tokens=False)
    vocabulary.setdefault(written, len(vocabulary))
    backend.model = models.BPE(vocab=vocabulary, merges=[])
    tokenizer = load_tokenizer(backend, sentinels=0)
    token = vocabulary[written]
    assert tokenizer.decode([token]) == piece
    assert bool(tokenizer.special.starts_word[token]) == starts
    assert bool(tokenizer.special.ends_sentence[token]) == ends


def test_part_of_a_character_begins_no_word(tokenizer):
    parts = [token for token in tokenizer.encode("🐱") if tokenizer.decode([token]) == "\ufffd"]
    assert parts
    assert not tokenizer.special.starts_word[parts].any()


def test_a_vocabulary_of_unknown_layout_has_no_tables(backend):
    backend.pre_tokenizer, backend.decoder = None, decoders.Fuse()
    special = load_tokenizer(backend).special
    assert special.starts_word is None
    assert special.ends_sentence is None


def test_a_vocabulary_that_marks_the_ends_of_words_has_no_table(backend):
    """CLIP writes "cat</w>": whether a token begins a word depends on the token before it."""
    vocabulary = backend.get_vocab(with_added_tokens=False)
    backend.model = models.BPE(vocab=vocabulary, merges=[], end_of_word_suffix="</w>")
    assert load_tokenizer(backend).special.starts_word is None


# ------------------------------------------------------------------ when they are worked out


def test_tables_are_worked_out_once_and_only_when_they_are_read():
    calls = []

    def table():
        calls.append(1)
        return torch.ones(10, dtype=torch.bool)

    special = SpecialIds(10, 0, 1, starts_word=table)
    assert calls == []
    assert special.starts_word is special.starts_word
    assert calls == [1]
    assert special.ends_sentence is None


def test_tables_reach_the_workers_of_a_data_loader(tokenizer):
    before = pickle.loads(pickle.dumps(tokenizer.special))
    assert torch.equal(before.starts_word, tokenizer.special.starts_word)
    assert torch.equal(pickle.loads(pickle.dumps(tokenizer.special)).starts_word, tokenizer.special.starts_word)


@pytest.mark.parametrize("table", [torch.ones(9, dtype=torch.bool), [True] * 10])
def test_a_table_has_one_entry_for_each_id(table):
    with pytest.raises(InputError, match=r"starts_word as a tensor \(10,\)"):
        SpecialIds(10, 0, 1, starts_word=table)
    with pytest.raises(InputError, match=r"starts_word as a tensor \(10,\)"):
        _ = SpecialIds(10, 0, 1, starts_word=lambda: table).starts_word


# ------------------------------------------------------------------ packed text


@pytest.mark.parametrize("options", [{"scheme": "whole-words"}, {"scheme": "geometric-spans", "span_unit": "words"}])
def test_whole_words_of_packed_text_are_hidden_or_untouched(options, tmp_path):
    documents = [f"unbelievable theories number {n} were thereafter squared: {n * n}, again" for n in range(60)]
    tokenizer = train_bpe(documents, vocab_size=275, sentinels=0)  # few merges: words of several tokens
    words = []  # the word of each token of the stream, as the tokenizer splits each document
    for n, document in enumerate(documents):
        words += [(n, word) for word in tokenizer.word_ids(document)] + [(n, "end")]
    length = 50
    blocks = pack(documents, tokenizer, cache_dir=tmp_path).blocks(length)
    objective = MaskedLM(mask_rate=0.3, **options)
    batch = objective.collator(tokenizer.special).block(blocks.take(range(len(blocks))), list(range(len(blocks))))
    hidden = batch["labels"] != -100
    long_words = split_documents = 0
    for block, row in enumerate(hidden.tolist()):
        of_block = words[block * length : (block + 1) * length]
        for word in set(of_block):
            marks = [mark for mark, own in zip(row, of_block) if own == word]
            assert len(set(marks)) == 1, (word, marks)
            long_words += marks[0] and len(marks) > 1
        for document in {number for number, _ in of_block}:
            split_documents += len({mark for mark, (number, _) in zip(row, of_block) if number == document}) == 2
    assert long_words > 50
    assert split_documents > 50  # single words are hidden, not all of a document
    assert 0.2 < hidden.float().mean() < 0.31
