"""A corpus packed once into shards: the same tokens with any number of workers and after any interruption."""

import json

import pytest

from clozelab.data import load_corpus, open_shards, pack_shards, train_bpe
from clozelab.errors import InputError
from clozelab.training import prepare


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for file in range(5):
        texts = [f"In file {file} row {row} comes before row {row + 1}." for row in range(40 + file)]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return load_corpus(folder, streaming=True)


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return train_bpe(corpus.train, vocab_size=400)


def packed(corpus, tokenizer, folder, workers=1):
    return pack_shards(corpus.train, list(corpus.heldout), tokenizer, folder, workers=workers)


def texts(shards, tokenizer):
    """The documents of each shard, read back from its tokens."""
    return [tokenizer.decode(part.tokens.tolist()).split("</s>")[:-1] for part in shards.parts]


def test_each_shard_is_one_file_and_together_they_are_the_corpus(corpus, tokenizer, tmp_path):
    shards = packed(corpus, tokenizer, tmp_path)
    assert texts(shards, tokenizer) == [list(corpus.train.part(file, 5)) for file in range(5)]
    assert shards.documents == len(list(corpus.train))
    assert shards.bytes == sum(len(document.encode()) for document in corpus.train)
    own, text, heldout = open_shards(tmp_path)
    assert own.fingerprint == tokenizer.fingerprint == text.tokenizer == heldout.tokenizer
    assert tokenizer.decode(heldout.tokens.tolist()).split("</s>")[:-1] == list(corpus.heldout)


def test_workers_make_the_same_shards(corpus, tokenizer, tmp_path):
    alone, several = packed(corpus, tokenizer, tmp_path / "a"), packed(corpus, tokenizer, tmp_path / "b", workers=2)
    assert alone.fingerprint == several.fingerprint
    assert [part.tokens.tolist() for part in alone.parts] == [part.tokens.tolist() for part in several.parts]


@pytest.mark.parametrize("length", [1, 7, 64])
def test_blocks_are_cut_from_each_shard_and_numbered_consecutively(corpus, tokenizer, tmp_path, length):
    shards = packed(corpus, tokenizer, tmp_path)
    expected = []
    for part in shards.parts:
        expected += [part.tokens[i : i + length].tolist() for i in range(0, len(part) - length + 1, length)]
    blocks = shards.blocks(length)
    assert blocks.take(range(len(blocks))).tolist() == expected
    assert blocks.take([len(blocks) - 1, 0]).tolist() == [expected[-1], expected[0]]
    assert blocks.remainder == len(shards) - length * len(expected)
    with pytest.raises(IndexError):
        blocks.take([len(blocks)])


def test_packing_that_was_interrupted_resumes_and_keeps_finished_shards(corpus, tokenizer, tmp_path):
    expected = [part.tokens.tolist() for part in packed(corpus, tokenizer, tmp_path / "whole").parts]
    folder = tmp_path / "stopped"
    packed(corpus, tokenizer, folder)
    for name in ("packed.json", "00003-of-00005.bin", "00001-of-00005.json"):  # the state after a process was killed
        (folder / name).unlink()
    kept = (folder / "00002-of-00005.bin").stat().st_mtime_ns
    assert [part.tokens.tolist() for part in packed(corpus, tokenizer, folder).parts] == expected
    assert (folder / "00002-of-00005.bin").stat().st_mtime_ns == kept


def test_a_folder_of_another_corpus_is_not_changed(corpus, tokenizer, tmp_path):
    packed(corpus, tokenizer, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="holds another corpus"):
        packed(corpus, train_bpe(corpus.train, vocab_size=410), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["00004-of-00005.bin", "heldout.json", "tokenizer.json", "packed.json"])
def test_a_damaged_file_is_named(corpus, tokenizer, tmp_path, name):
    packed(corpus, tokenizer, tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=name.removesuffix(".bin").removesuffix(".json")):
        open_shards(tmp_path)


def test_a_packed_folder_is_a_corpus_to_train_on(corpus, tokenizer, tmp_path):
    packed(corpus, tokenizer, tmp_path / "packed")
    prepared = prepare(tmp_path / "packed")
    assert prepared.tokenizer.fingerprint == tokenizer.fingerprint
    assert len(prepared.text.blocks(16)) > 0
    assert prepare(tmp_path / "packed", tokenizer=tokenizer).text.fingerprint == prepared.text.fingerprint
    for other in ("characters", train_bpe(corpus.train, vocab_size=410)):
        with pytest.raises(InputError, match="packed with its own tokenizer"):
            prepare(tmp_path / "packed", tokenizer=other)
