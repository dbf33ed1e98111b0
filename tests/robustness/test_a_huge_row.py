"""A document of a gigabyte: read in a few copies, learned from and encoded in memory that its length does not set."""

import subprocess
import sys

import pytest

CHILD = """
import resource, sys
from pathlib import Path
from clozelab.data import load_corpus, pack, train_bpe

path, kind, size, encode = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "encode"
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

line = "The number 12 comes before 13, and so on; it's odd. "
before, behind = {"txt": ("", ""), "jsonl": ('{"text": "', '"}\\n'), "csv": ('text\\n"', '"\\n')}[kind]
with open(path / f"row.{kind}", "w") as file:
    file.write(before)
    for _ in range(size // (1000 * len(line))):
        file.write(line * 1000)
    file.write(behind)
start = peak()
corpus = load_corpus(path / f"row.{kind}", split="position")
read = peak() - start
if encode:
    tokenizer = train_bpe(corpus.train[:1], vocab_size=400, sentinels=10)
    trained = peak() - start
    packed = pack(corpus.train, tokenizer, cache_dir=path)
    assert packed.documents == 1 and packed.bytes == len(corpus.train[0])
    print(read, trained, peak() - start)
else:
    print(read)
"""


def memory(tmp_path, kind, size, encode=False):
    """By how many bytes the peak has grown once a row of `size` bytes is read, learned from, encoded."""
    command = [sys.executable, "-c", CHILD, str(tmp_path), kind, str(size), "encode" if encode else ""]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    figures = [int(number) for number in done.stdout.split()]
    print(kind, size, *(f"{figure / 1e9:.2f} GB" for figure in figures))
    return figures


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("kind", "copies"), [("txt", 5), ("jsonl", 9), ("csv", 9)])
def test_a_row_of_a_gigabyte_is_read_in_a_few_copies(kind, copies, tmp_path):
    [read] = memory(tmp_path, kind, 10**9)
    assert read < copies * 10**9


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_long_row_is_learned_from_and_encoded_in_pieces(tmp_path):
    """At once it would be 140 bytes for each character: 14 GB. In pieces a hundred million need what ten million do."""
    small = memory(tmp_path, "txt", 10**7, encode=True)
    large = memory(tmp_path, "txt", 10**8, encode=True)
    for before, after in zip(small, large):
        assert after - before < 6 * 10**8
