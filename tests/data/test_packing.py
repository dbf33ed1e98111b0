"""Documents to one stream: nothing is padded, dropped silently or written in part."""

import os
import platform
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from clozelab.data import document_ids, pack, train_bpe, train_characters
from clozelab.data.corpora.cache import written_whole
from clozelab.errors import InputError

DOCUMENTS = [f"Document {n} is about {n * n}." for n in range(300)]


def test_the_stream_is_every_document_with_an_end_of_text_behind_it(tokenizer, tmp_path):
    packed = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path)
    expected = [token for document in DOCUMENTS for token in (*tokenizer.encode(document), tokenizer.special.eos)]
    assert packed.tokens.tolist() == expected
    assert packed.documents == 300
    assert packed.bytes == sum(len(document.encode()) for document in DOCUMENTS)
    assert packed.tokens.dtype == np.uint16
    assert isinstance(packed.tokens, np.memmap)


def test_blocks_are_views_and_the_remainder_is_reported(tokenizer, tmp_path):
    packed = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path)
    for length in (1, 7, 64, len(packed)):
        blocks = packed.blocks(length)
        assert len(blocks) * length + blocks.remainder == len(packed)
        assert blocks.remainder < length
        rows = blocks.take(range(len(blocks)))
        assert rows.dtype == torch.int64
        assert rows.flatten().tolist() == packed.tokens[: len(blocks) * length].tolist()
    assert torch.equal(packed.blocks(7).take([5, 2]), packed.blocks(7).take(torch.tensor([5, 2])))


def test_blocks_are_a_dataset_of_examples_with_their_ids(tokenizer, tmp_path):
    blocks = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path).blocks(20)
    blocks.set_epoch(3)
    example = blocks[4]
    assert (example["example_id"], example["epoch"]) == (4, 3)
    assert torch.equal(example["input_ids"], blocks.take([4])[0])
    assert torch.equal(blocks[-1]["input_ids"], blocks.take([len(blocks) - 1])[0])
    loaded = [e["example_id"] for batch in DataLoader(blocks, 4, collate_fn=list, num_workers=2) for e in batch]
    assert loaded == list(range(len(blocks)))
    with pytest.raises(IndexError):
        blocks[len(blocks)]


def test_a_taken_block_is_a_copy(tokenizer, tmp_path):
    blocks = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path).blocks(20)
    before = blocks.take([0]).clone()
    blocks.take([0]).fill_(0)
    assert torch.equal(blocks.take([0]), before)


def test_documents_within_a_block_are_told_apart():
    tokens = torch.tensor([[5, 1, 6, 7, 1, 1, 8], [1, 5, 5, 5, 5, 5, 1]])
    assert document_ids(tokens, eos=1).tolist() == [[0, 0, 1, 1, 1, 2, 3], [0, 1, 1, 1, 1, 1, 1]]


def test_a_long_document_that_is_packed_in_pieces_has_the_same_tokens(tokenizer, tmp_path, monkeypatch):
    documents = ["short", " ".join(DOCUMENTS), "", "the end"]
    whole = pack(documents, tokenizer, cache_dir=tmp_path / "whole")
    monkeypatch.setattr("clozelab.data.tokenizers.cutting.PIECE_LENGTH", 50)
    monkeypatch.setattr("clozelab.data.packing.CHARACTERS", 200)
    cut = pack(documents, tokenizer, cache_dir=tmp_path / "cut")
    assert cut.tokens.tolist() == whole.tokens.tolist()
    assert (cut.documents, cut.bytes, cut.fingerprint) == (whole.documents, whole.bytes, whole.fingerprint)


# ------------------------------------------------------------------ the cache


def test_the_same_text_and_tokenizer_are_found_again(tokenizer, tmp_path):
    first = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path)
    written = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = pack(iter(DOCUMENTS), tokenizer, cache_dir=tmp_path)
    assert again.fingerprint == first.fingerprint
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == written


def test_other_text_or_another_tokenizer_is_another_stream(tokenizer, tmp_path):
    first = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path)
    others = [
        pack(DOCUMENTS[:-1], tokenizer, cache_dir=tmp_path),
        pack(["".join(DOCUMENTS)], tokenizer, cache_dir=tmp_path),
        pack(DOCUMENTS, train_bpe(DOCUMENTS, 380), cache_dir=tmp_path),
        pack(DOCUMENTS, train_characters(DOCUMENTS), cache_dir=tmp_path),
    ]
    assert len({packed.fingerprint for packed in [first, *others]}) == 5


@pytest.mark.parametrize("damage", ["cut", "json", "missing"])
def test_a_damaged_cache_is_made_again(damage, tokenizer, tmp_path):
    first = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path)
    expected = first.tokens.tolist()
    [stream], [described] = tmp_path.glob("*.bin"), tmp_path.glob("*.json")
    if damage == "cut":
        content = stream.read_bytes()
        stream.unlink()  # a mapped file is replaced, not shortened under its reader
        stream.write_bytes(content[:-3])
    elif damage == "json":
        described.write_text('{"format"')
    else:
        stream.unlink()
    assert pack(DOCUMENTS, tokenizer, cache_dir=tmp_path).tokens.tolist() == expected


SLOW = """
import sys, time
from clozelab.data import pack, train_bpe
documents = [f"Document {n} is about {n * n}." for n in range(300)]
tokenizer = train_bpe(documents, 400)
class Slow(list):
    passes = 0
    def __iter__(self):
        Slow.passes += 1
        for n, document in enumerate(super().__iter__()):
            if Slow.passes == 2 and n == 150:
                print("half way", flush=True)
                time.sleep(60)
            yield document
import clozelab.data.packing as packing
packing.BATCH = 10
pack(Slow(documents), tokenizer, cache_dir=sys.argv[1])
"""


def test_a_run_killed_half_way_leaves_no_partial_cache(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "half way"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    left = list(tmp_path.iterdir())
    assert len(left) == 1  # the temporary file
    assert left[0].name.startswith(".")
    tokenizer = train_bpe(DOCUMENTS, 400)
    packed = pack(DOCUMENTS, tokenizer, cache_dir=tmp_path)
    assert packed.documents == 300
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # the temporary file was removed


def test_two_processes_may_write_the_same_stream(tmp_path):
    quick = SLOW.replace("time.sleep(60)", "time.sleep(0.2)")
    processes = [subprocess.Popen([sys.executable, "-c", quick, str(tmp_path)], stdout=subprocess.PIPE) for _ in "ab"]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    packed = pack(DOCUMENTS, train_bpe(DOCUMENTS, 400), cache_dir=tmp_path)
    assert packed.documents == 300


def test_the_temporary_file_of_a_running_process_is_kept(tmp_path):
    running = tmp_path / f".name~{platform.node()}~{os.getppid()}~1"
    elsewhere = tmp_path / ".name~another machine~999999999~1"  # a number that no process here has
    dead = tmp_path / f".name~{platform.node()}~999999999~1"
    for theirs in (running, elsewhere, dead):
        theirs.write_text("being written")
    with written_whole(tmp_path / "name") as file:
        file.write(b"mine")
    assert running.exists()
    assert elsewhere.exists()
    assert not dead.exists()
    assert (tmp_path / "name").read_bytes() == b"mine"


def test_a_full_disk_leaves_no_partial_file(tokenizer, tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")

    def write():
        with written_whole(tmp_path / "name") as file, open("/dev/full", "wb", buffering=0) as full:
            file.write(b"the first half")
            full.write(b"x")

    with pytest.raises(OSError, match="No space left"):
        write()
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ bad input


def test_text_shorter_than_a_block_says_how_much_there_is(tokenizer, tmp_path):
    packed = pack(["tiny"], tokenizer, cache_dir=tmp_path)
    with pytest.raises(InputError, match=rf"1 documents has {len(packed)} tokens, which does not fill one block of 99"):
        packed.blocks(99)
    with pytest.raises(InputError, match="at least 1 token"):
        packed.blocks(0)


@pytest.mark.parametrize(
    ("documents", "message"),
    [(["a", 3], "got int in place 1"), ([], "got none"), (["a", "\ud800"], "document 1 is not Unicode text")],
)
def test_documents_must_be_text(documents, message, tokenizer, tmp_path):
    with pytest.raises(InputError, match=message):
        pack(documents, tokenizer, cache_dir=tmp_path)
