"""Bits per byte are of the bytes of the text that is scored, for every tokenizer."""

import json
import math

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from clozelab import CausalLM, FillInTheMiddle, MaskedDiffusion, MaskedLM, PrefixLM, SpanCorruption
from clozelab.data import load_tokenizer, pack, train_bpe, train_characters
from clozelab.errors import InputError
from clozelab.evaluation import fixed_batches, scored_bytes
from clozelab.objectives import options
from clozelab.training import TrainConfig, train

DOCUMENTS = [
    "The  lamp was dark; the café closed.",
    " A river, slow and cold!\n",
    "Übermut tut  selten gut \N{CAT FACE} .",
    "unbelievable, the lamp",
] * 3
ROLES = FillInTheMiddle.roles


def word_piece():
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(special_tokens=names, vocab_size=60, show_progress=False)
    backend.train_from_iterator(DOCUMENTS[:2], trainer)
    return backend


def unigram():
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    names = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=names, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator(DOCUMENTS[:2], trainer)
    return backend


def bpe_without_unknown():
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.train_from_iterator(DOCUMENTS[:2], trainers.BpeTrainer(vocab_size=60, show_progress=False))
    return backend


KINDS = {
    "word pieces": word_piece,
    "unigram": unigram,
    "bpe without unknown": bpe_without_unknown,
    "characters": lambda: train_characters(DOCUMENTS[:2]).backend,
    "bytes": lambda: train_bpe(DOCUMENTS, 400).backend,
}


@pytest.fixture(params=KINDS)
def tokenizer(request):
    return load_tokenizer(KINDS[request.param](), sentinels=4, roles=ROLES)


def counted(objective, tokenizer, packed, length, **sizes):
    collator = objective.collator(tokenizer.special)
    blocks = packed.blocks(length)
    return scored_bytes(objective, tokenizer, blocks, collator, fixed_batches(blocks, collator, **sizes))


def bytes_before(tokenizer, text, n):
    """UTF-8 bytes of a text up to the end of its n-th token."""
    offsets = tokenizer._encode(text).offsets[:n]
    return len(text[: offsets[-1][1]].encode())


def test_the_whole_of_a_text_has_its_bytes(tokenizer, tmp_path):
    packed = pack(DOCUMENTS[:2], tokenizer, cache_dir=tmp_path, byte_counts=True)
    assert packed.unknown == 0
    assert packed.bytes == sum(len(document.encode()) for document in DOCUMENTS[:2])
    assert counted(MaskedDiffusion(), tokenizer, packed, len(packed)) == packed.bytes


def test_unknown_tokens_that_are_never_hidden_are_not_counted(tokenizer, tmp_path):
    packed = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path, byte_counts=True)
    assert (packed.unknown > 0) == (tokenizer.unknown is not None)
    if packed.byte_counts is not None:
        assert packed.byte_counts.sum() == packed.bytes
        of_unknown = packed.byte_counts[packed.tokens == tokenizer.unknown].sum()
        assert counted(MaskedDiffusion(), tokenizer, packed, len(packed)) == packed.bytes - of_unknown < packed.bytes


def test_all_but_the_first_token_have_the_other_bytes(tokenizer, tmp_path):
    packed = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path, byte_counts=True)
    first = bytes_before(tokenizer, DOCUMENTS[0], 1)
    for objective in (CausalLM(), FillInTheMiddle(fim_rate=0.0)):
        assert counted(objective, tokenizer, packed, len(packed)) == packed.bytes - first


def test_blocks_have_the_bytes_of_their_tokens(tokenizer, tmp_path):
    """Of one document, whose blocks can be cut by hand."""
    text = (
        " ".join(DOCUMENTS).replace("\N{CAT FACE}", "?").replace("é", "e").replace("Ü", "U")
    )  # no part of a character
    packed = pack([text], tokenizer, cache_dir=tmp_path, byte_counts=True)
    length, rows = 7, 5
    ends = [bytes_before(tokenizer, text, n) for n in range(1, rows * length + 1)]
    by_token = [end - before for end, before in zip(ends, [0, *ends])]
    expected = sum(size for n, size in enumerate(by_token) if n % length)
    assert counted(CausalLM(), tokenizer, packed, length, rows=rows, batch_size=2) == expected


def test_a_prefix_is_not_counted_and_a_moved_middle_is(tokenizer, tmp_path):
    packed = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path, byte_counts=True)
    whole = counted(CausalLM(), tokenizer, packed, 12)
    assert 0 < counted(PrefixLM(), tokenizer, packed, 12) < whole
    moved = counted(FillInTheMiddle(fim_rate=1.0), tokenizer, packed, 12)
    assert whole <= moved <= packed.bytes  # a row that begins with a role has all its text in the loss


def test_the_masks_of_prefix_lm_are_those_of_the_evaluation(tokenizer, tmp_path):
    """Its scored tokens, found among the numbered ones, spell those of the batch: several documents and prefixes."""
    packed = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path, byte_counts=True)
    objective, blocks = PrefixLM(), packed.blocks(len(packed))
    batch = objective.collator(tokenizer.special).block(blocks.take([0]), [0], epoch=-1, progress=1.0)
    sizes = torch.from_numpy(packed.byte_counts.astype("int64")) if packed.byte_counts is not None else None
    if sizes is None:
        sizes = tokenizer.byte_lengths[blocks.take([0])[0]]
    expected = sizes[batch["labels"][0] != -100].sum()
    assert counted(objective, tokenizer, packed, len(packed)) == expected


@pytest.mark.parametrize("objective", [MaskedLM(), SpanCorruption()])
def test_a_loss_that_is_no_likelihood_has_no_bytes(objective, tokenizer, tmp_path):
    packed = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path, byte_counts=True)
    assert counted(objective, tokenizer, packed, 12) is None


def test_bytes_that_were_not_counted_are_not_estimated(tokenizer, tmp_path):
    """And are counted when they are asked for, though the text was packed before."""
    packed = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path)
    found = counted(CausalLM(), tokenizer, packed, 12)
    again = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path, byte_counts=True)
    if tokenizer.byte_lengths is None:
        assert found is None
        assert counted(CausalLM(), tokenizer, again, 12) > 0
    else:
        assert found == counted(CausalLM(), tokenizer, again, 12)
    assert pack(DOCUMENTS, tokenizer, cache_dir=tmp_path).fingerprint == again.fingerprint


def test_an_objective_whose_places_cannot_be_told_is_not_defined(tmp_path):
    @options
    class Odd(CausalLM):
        """Its corruption depends on the ids."""

        name = "odd"

        def corrupt(self, examples):
            batch = CausalLM.corrupt(self, examples)
            ids = batch["input_ids"]
            batch["labels"] = torch.where(ids % 2 == 0, batch["labels"], -100)
            return batch

    tokenizer = load_tokenizer(word_piece(), sentinels=0)
    packed = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path, byte_counts=True)
    assert counted(Odd(), tokenizer, packed, 12) is None


def test_decoding_token_by_token_is_another_number():
    """What bits per byte were divided by before: too few or too many bytes, silently."""
    tokenizer = load_tokenizer(word_piece(), sentinels=0)
    text = "the lamp was dark; unbelievable, the lamp"
    estimate = sum(len(tokenizer.decode([token]).encode()) for token in tokenizer.encode(text))
    assert estimate != len(text.encode()) == sum(tokenizer.byte_counts(text))


def test_bytes_counted_are_refused_for_another_type(tokenizer, tmp_path):
    packed = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path)
    collator = CausalLM().collator(tokenizer.special)
    with pytest.raises(InputError, match="tokenizer"):
        scored_bytes(CausalLM(), None, packed.blocks(4), collator, fixed_batches(packed.blocks(4), collator))


# ------------------------------------------------------------------ where it is printed


@pytest.mark.parametrize("with_bytes", [True, False])
def test_the_bits_of_a_run_are_those_of_its_text_wherever_they_are_printed(with_bytes, tmp_path, capsys):
    tokenizer = load_tokenizer(word_piece(), sentinels=0)
    text = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path / "text")
    heldout = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path, byte_counts=with_bytes)
    objective = CausalLM()
    model = objective.build_model(tokenizer.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=1)
    config = TrainConfig(steps=1, length=len(heldout), batch_size=1)
    result = train(objective, model, tokenizer, text, heldout, config, run=tmp_path / "run", progress=True).heldout
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["bits_per_byte"] for line in lines if "heldout" in line][-1] == result.bits_per_byte
    shown = capsys.readouterr()
    assert f"nats{result.per_byte}" in " ".join((shown.out + shown.err).split())
    if with_bytes:
        size = heldout.bytes - bytes_before(tokenizer, DOCUMENTS[0], 1)
        assert result.bits_per_byte == pytest.approx(result.nats * result.count / math.log(2) / size)
        assert result.per_byte == f", {result.bits_per_byte:.3f} bits per byte"
    else:
        assert result.bits_per_byte is None
        assert result.per_byte == ", bits per byte not defined"
