"""A cache that two runs write at once: each gets what it would have made alone."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from clozelab.data import pack, train_bpe

SCRIPT = Path(__file__).parent / "one_packer.py"
REPEATS = 150
"""Texts that each pair packs; every one is new, so that both make it, at the same moment."""
ANOTHER_MACHINE = ["unshare", "--user", "--map-root-user", "--uts", "--pid", "--fork", "sh", "-c"]
"""A name of its own, and numbers of processes of its own."""


def packers(cache, *launchers):
    """Start one packer by each launcher, all with the same texts and moments."""
    begin = time.time() + 15
    return [
        subprocess.Popen(
            [*launcher, *command] if len(launcher) < 5 else [*launcher, f"hostname other && exec {' '.join(command)}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for launcher in launchers
        for command in [[sys.executable, str(SCRIPT), str(cache), str(begin), str(REPEATS)]]
    ]


def all_equal(processes, cache, tally, fault):
    for process in processes:
        printed, _ = process.communicate(timeout=200)
        wrong = REPEATS if process.returncode else len(printed.split())
        for n in range(REPEATS):
            tally.add(fault, survived=n >= wrong)
        assert process.returncode == 0, printed
        assert not printed.split(), f"other tokens than alone, in text {printed}"
    assert not list(cache.glob(".*"))


@pytest.mark.faults
def test_two_runs_that_pack_the_same_text_at_once_get_the_same(tmp_path, tally):
    all_equal(packers(tmp_path, [], []), tmp_path, tally, "a cache written by two runs at once")


@pytest.mark.faults
def test_two_machines_that_share_a_disk_leave_each_other_alone(tmp_path, tally):
    if subprocess.run([*ANOTHER_MACHINE, "hostname other"], capture_output=True).returncode:
        pytest.skip("needs a namespace of its own, which is not allowed here")
    all_equal(packers(tmp_path, [], ANOTHER_MACHINE), tmp_path, tally, "a cache written by two machines at once")


@pytest.mark.faults
def test_two_threads_that_pack_the_same_text_at_once_get_the_same(tmp_path, tally):
    documents = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(100)]
    tokenizer = train_bpe(documents, 400)
    for n in range(REPEATS):
        texts, together, made = [*documents, f"the text {n}"], threading.Barrier(2), []

        def work(texts=texts, together=together, made=made):
            together.wait()
            made.append(pack(texts, tokenizer, cache_dir=tmp_path).tokens.tolist())

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with tally.trying("a cache written by two threads at once"):
            alone = [token for ids in tokenizer.encode_batch(texts) for token in (*ids, tokenizer.special.eos)]
            assert made == [alone, alone]
