"""Bits per byte are of the bytes of the text, for every kind of tokenizer, and the same wherever they are printed."""

import io
import json
import math

import pytest
import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import ByT5Tokenizer

from clozelab import CausalLM
from clozelab.data import load_corpus, load_tokenizer, train_bpe, train_characters
from clozelab.display import print_comparison
from clozelab.evaluation import evaluate, fixed_batches, scored_bytes
from clozelab.models import PRESETS
from clozelab.training import TrainConfig, compare, load_run, prepare

TEXTS = [f"The old lamp, no. {n}, stood on été street ({n * 7}); unbelievable \N{CAT FACE}!" for n in range(40)]


def of(model, trainer=None, words=None, decoder=None):
    backend = tokenizers.Tokenizer(model)
    if words is not None:
        backend.pre_tokenizer = words
    if decoder is not None:
        backend.decoder = decoder
    if trainer is not None:
        backend.train_from_iterator(TEXTS, trainer)
    return backend


def unigram():
    trainer = trainers.UnigramTrainer(vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    return of(models.Unigram(), trainer, pre_tokenizers.Metaspace(), decoders.Metaspace())


def word_piece():
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=["[UNK]"], show_progress=False)
    return of(models.WordPiece(unk_token="[UNK]"), trainer, pre_tokenizers.BertPreTokenizer(), decoders.WordPiece())


def word_level():
    return of(models.WordLevel({"<unk>": 0, "The": 1, "old": 2, "lamp": 3}, "<unk>"), words=pre_tokenizers.Whitespace())


def sentencepiece_model(folder):
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=content, vocab_size=120, minloglevel=2, hard_vocab_limit=False
    )
    (folder / "spiece.model").write_bytes(content.getvalue())
    return folder


KINDS = {
    "bytes": lambda folder: train_bpe(TEXTS, 400, 2),
    "characters": lambda folder: train_characters(TEXTS[:3], 2),
    "WordPiece": lambda folder: word_piece(),
    "Unigram": lambda folder: unigram(),
    "WordLevel": lambda folder: word_level(),
    "SentencePiece": sentencepiece_model,
    "slow": lambda folder: ByT5Tokenizer(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_bits_per_byte_are_the_same_wherever_they_are_printed(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PRESETS["decoder-only"], "tiny", {"d_model": 16, "n_layers": 1, "n_heads": 1})
    tokenizer = load_tokenizer(KINDS[kind](tmp_path), sentinels=2)
    prepared = prepare(load_corpus(TEXTS, heldout=0.2), tokenizer=tokenizer)
    heldout, objective = prepared.heldout, CausalLM()
    config = TrainConfig(length=len(heldout), batch_size=1)  # one block: all held-out text
    run = tmp_path / "runs" / "causal"
    [row] = compare([objective], prepared, tokens=len(heldout), config=config, run=run.parent, progress=True)
    print_comparison([row], "texts")
    printed = capsys.readouterr()

    model = load_run(run, tokenizer=tokenizer if kind == "slow" else None).model
    blocks, collator = heldout.blocks(len(heldout)), objective.collator(tokenizer.special, seed=config.seed)
    batches = fixed_batches(blocks, collator)
    size = scored_bytes(objective, tokenizer, blocks, collator, batches)
    mine = evaluate(objective, model, batches, scored_bytes=size)
    # All text is scored but the first token, which nothing predicts.
    first = tokenizer.byte_counts(prepared.corpus.heldout[0])[0]
    assert size == sum(len(text.encode()) for text in prepared.corpus.heldout) - first
    bits = mine.nats * mine.count / math.log(2) / size
    found = {
        "evaluate": mine.bits_per_byte,
        "compare": row.result.heldout.bits_per_byte,
        "metrics": [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]["bits_per_byte"],
    }
    assert found == {name: pytest.approx(bits, rel=1e-6) for name in found}
    assert f"nats, {bits:.3f} bits per byte" in " ".join(printed.err.split())
    assert f"bits per byte {bits:.3f}" in " ".join(printed.out.split())
