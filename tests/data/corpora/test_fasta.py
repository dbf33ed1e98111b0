"""FASTA: one record is one document."""

import gzip
import sys

import pytest

from clozelab.data import load_corpus
from clozelab.errors import InputError

RECORDS = [("MKV" * n + "LLA")[: 5 + 3 * n] for n in range(40)]
FASTA = "".join(f">sp|P{n:05}|A protein\n{text[:7]}\n{text[7:]}\n\n" for n, text in enumerate(RECORDS))


@pytest.mark.parametrize("ending", ["fasta", "fa.gz", "faa", "fna"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_record_is_a_document_without_its_name(ending, newline, tmp_path):
    content = FASTA.replace("\n", newline).encode()
    (tmp_path / f"a.{ending}").write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    corpus = load_corpus(tmp_path)
    assert sorted([*corpus.train, *corpus.heldout]) == sorted(RECORDS)
    assert corpus.report.kind == "FASTA files, one document a record"


def test_a_record_without_a_sequence_is_left_out_and_counted(tmp_path):
    (tmp_path / "a.fasta").write_text(FASTA + ">empty\n>last\nMKV\n")
    assert load_corpus(tmp_path).report.counts.missing == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"MKVLLA\n", "is no FASTA: Error in FASTA file at line 1"),
        (b">a\n\xe9\xff\n", "is no FASTA: byte 0xe9 is not UTF-8"),
        (b"", "holds no text"),
    ],
)
def test_what_is_no_fasta(content, message, tmp_path):
    (tmp_path / "a.fasta").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_corpus(tmp_path / "a.fasta")


def test_without_its_reader_it_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.fasta").write_text(FASTA)
    monkeypatch.setitem(sys.modules, "dnaio", None)
    with pytest.raises(InputError, match=r"a.fasta is FASTA, which dnaio reads: pip install 'clozelab\[fasta\]'"):
        load_corpus(tmp_path / "a.fasta")
