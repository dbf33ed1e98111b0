"""One document of a gigabyte: read, learned from and encoded in memory that has little to do with its length."""

import subprocess
import sys

import pytest

GIGABYTE = 10**9
CHILD = """
import resource, sys, warnings
from pathlib import Path
import numpy as np
from clozelab.data import load_corpus, pack, train_bpe

path, kind, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

line = "The number 12 comes before 13, and so on; it's odd. "
before, behind = {"txt": ("", ""), "jsonl": ('{"text": "', '"}\\n'), "csv": ('text\\n"', '"\\n')}[kind]
with open(path / f"row.{kind}", "w") as file:
    file.write(before)
    for _ in range(size // 52_000):
        file.write(line * 1000)
    file.write(behind)
start = peak()
corpus = load_corpus(path / f"row.{kind}", split="position")
read = peak()
if kind == "txt":
    tokenizer = train_bpe(corpus.train[:1], vocab_size=400, sentinels=10)
    trained = peak()
    packed = pack(corpus.train, tokenizer, cache_dir=path)
    assert packed.documents == 1 and packed.bytes == len(corpus.train[0])
    once = tokenizer.encode(line)
    assert np.array_equal(packed.tokens[: len(once)], once)
    print(*(round(value / size, 2) for value in (read - start, trained - start, peak() - start)))
else:
    print(round((read - start) / size, 2))
"""


def needs(tmp_path, kind, size):
    """Bytes of memory for each byte of a row, as its peak grew: read, and for text also learned from, and encoded."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), kind, str(size)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [float(number) for number in done.stdout.split()]


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_a_row_of_a_gigabyte(kind, tmp_path):
    figures = needs(tmp_path, kind, GIGABYTE)
    print(f"{kind}: {figures} bytes of memory for each byte")
    assert max(figures) < 8
