"""Compressed files are unpacked within bounds, and what is no text is told what it is."""

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clozelab.data import load_corpus
from clozelab.data.corpora import signatures
from clozelab.data.corpora.files import classify
from clozelab.data.corpora.rows import BadRow, read_rows
from clozelab.errors import InputError

TEXTS = [f"Row {n} of the table, “quoted”." for n in range(300)]
CONTENT = {
    "jsonl": "".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(TEXTS)),
    "csv": "n,text\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(TEXTS)),
    "tsv": "text\tn\n" + "".join(f"{text}\t{n}\n" for n, text in enumerate(TEXTS)),
    "txt": "".join(f"{text}\n" for text in TEXTS),
}
CONTENT["ndjson"] = CONTENT["json"] = CONTENT["jsonl"]


def zstd(data):
    return pa.Codec("zstd").compress(data, asbytes=True)


COMPRESS = {"gz": gzip.compress, "zst": zstd, "xz": lzma.compress, "bz2": bz2.compress}


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("ending", CONTENT)
def test_compressed_files_are_read_and_streamed(ending, compression, tmp_path):
    content = CONTENT[ending].encode()
    packed = COMPRESS[compression](content)
    path = write(tmp_path / f"part-0.{ending}.{compression}", packed)
    for streaming in (False, True):
        corpus = load_corpus(path, streaming=streaming, lines=ending == "txt")
        assert sorted([*corpus.train, *corpus.heldout]) == sorted(TEXTS)
        if not streaming:
            assert corpus.report.unpacked == [(len(packed), len(content))]
            assert f"unpacked  {len(packed):,} bytes to {len(content):,}" in str(corpus.report)


def test_a_compressed_text_file_is_one_document(tmp_path):
    corpus = load_corpus(write(tmp_path / "book.TXT.GZ", gzip.compress(b"\xef\xbb\xbfabcdefghij")))
    assert (corpus.train, corpus.heldout) == (["abcdefghi"], ["j"])


@pytest.mark.parametrize("compression", COMPRESS)
def test_files_that_were_compressed_in_parts_are_read_to_their_end(compression, tmp_path):
    """Parts that are joined by `cat`, and by tools that compress in parallel."""
    lines = CONTENT["jsonl"].encode().splitlines(keepends=True)
    packed = b"".join(COMPRESS[compression](b"".join(lines[start : start + 100])) for start in (0, 100, 200))
    path = write(tmp_path / f"a.jsonl.{compression}", packed)
    assert list(read_rows(classify(path))) == TEXTS


def test_a_folder_mixes_compressed_files_and_others_of_a_kind(tmp_path):
    lines = CONTENT["jsonl"].encode().splitlines(keepends=True)
    write(tmp_path / "a.jsonl.gz", gzip.compress(b"".join(lines[:100])))
    write(tmp_path / "b.json", b"".join(lines[100:200]))
    write(tmp_path / "c.ndjson.zst", zstd(b"".join(lines[200:])))
    for streaming in (False, True):
        corpus = load_corpus(tmp_path, streaming=streaming)
        assert sorted([*corpus.train, *corpus.heldout]) == sorted(TEXTS)


# ------------------------------------------------------------------ damaged, and too large


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("compression", COMPRESS)
def test_a_cut_file_is_refused_even_where_bad_rows_are_left_out(compression, streaming, tmp_path):
    noise = random.Random(0)
    rows = "".join(json.dumps({"text": f"{noise.getrandbits(400):x}"}) + "\n" for _ in range(2000))
    packed = COMPRESS[compression](rows.encode())
    write(tmp_path / f"a.jsonl.{compression}", packed[: len(packed) // 2])
    with pytest.raises(InputError, match=r"a\.jsonl\.\w+ is damaged: it cannot be unpacked to its end"):
        list(load_corpus(tmp_path, streaming=streaming, skip_bad_rows=True).train)


@pytest.mark.parametrize("compression", ["gz", "xz", "bz2"])  # Zstandard has a checksum only where it is asked for
def test_a_flipped_bit_is_noticed(compression, tmp_path):
    packed = COMPRESS[compression](CONTENT["jsonl"].encode())
    for place in range(20, len(packed), len(packed) // 12):
        damaged = bytearray(packed)
        damaged[place] ^= 16
        write(tmp_path / f"a.jsonl.{compression}", bytes(damaged))
        with pytest.raises(InputError, match=r"is damaged"):
            load_corpus(tmp_path, skip_bad_rows=True)


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_file_that_unpacks_to_far_more_than_text_does_is_refused(compression, tmp_path, monkeypatch):
    monkeypatch.setattr(signatures, "ALWAYS_ALLOWED", 2**18)
    packed = COMPRESS[compression](b'{"text": "a"}\n' * 10**5)
    write(tmp_path / f"a.jsonl.{compression}", packed)
    for streaming in (False, True):
        with pytest.raises(InputError, match=rf"a\.jsonl\.\w+ of {len(packed):,} bytes unpacks to more than [\d,]+"):
            list(load_corpus(tmp_path, streaming=streaming).train)


# ------------------------------------------------------------------ what is no text


def archive(kind):
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as made:
            made.writestr("a.txt", "text")
    else:
        with tarfile.open(fileobj=file, mode="w") as made:
            made.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


def parquet():
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"]}), file)
    return file.getvalue()


OTHERS = {
    "gzip": (gzip.compress(b"text"), r"is gzip, not text: name it with \.gz at the end"),
    "Zstandard": (zstd(b"text"), r"is Zstandard, not text: name it with \.zst"),
    "xz": (lzma.compress(b"text"), r"is xz, not text: name it with \.xz"),
    "bzip2": (bz2.compress(b"text"), r"is bzip2, not text: name it with \.bz2"),
    "zip": (archive("zip"), "is zip, not text: unpack it"),
    "tar": (archive("tar"), "is tar, not text: unpack it"),
    "Parquet": (parquet(), r"is Parquet, not text: name it with \.parquet"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "is PDF, not text: extract its text"),
    "an old Word file": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "is an old office document"),
    "SQLite": (b"SQLite format 3\0" + bytes(100), "is SQLite, not text"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "LFS pointer.*: .*git lfs pull"),
    "UTF-16": ("\ufefflamp".encode("utf-16-le"), "is UTF-16, not UTF-8: .*iconv -f utf-16 -t"),
    "UTF-16, high byte first": ("\ufefflamp".encode("utf-16-be"), "is UTF-16, .*iconv -f utf-16 -t"),
    "UTF-16 without a mark": ("lamp dark bridge".encode("utf-16-le"), "is UTF-16, .*iconv -f utf-16le"),
    "UTF-16, high byte first, without a mark": (
        "lamp dark bridge".encode("utf-16-be"),
        "is UTF-16, .*iconv -f utf-16be",
    ),
    "UTF-32": ("\ufefflamp".encode("utf-32-le"), "is UTF-32, .*iconv -f utf-32 -t"),
    "UTF-32 without a mark": ("lamp dark bridge".encode("utf-32-be"), "is UTF-32, .*iconv -f utf-32be"),
}


@pytest.mark.parametrize("ending", ["txt", "jsonl", "csv", "tsv"])
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_text_is_told_what_it_is(name, ending, tmp_path):
    content, message = OTHERS[name]
    write(tmp_path / f"a.{ending}", content)
    for settings in ({}, {"skip_bad_rows": True}):
        with pytest.raises(InputError, match=message):
            load_corpus(tmp_path / f"a.{ending}", **settings)
    if name not in ("gzip",):
        write(tmp_path / f"a.{ending}.gz", gzip.compress(content))
        with pytest.raises(InputError, match=message):
            load_corpus(tmp_path / f"a.{ending}.gz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n', "is named as gzip and is not compressed"),
        (zstd(b"{}"), "is named as gzip and is Zstandard: name it"),
        (OTHERS["Git LFS"][0], "is named as gzip and is a Git LFS pointer: fetch the file itself by git lfs pull"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "is gzip, not text"),
        (b"", "is empty"),
    ],
)
def test_a_file_that_is_not_compressed_as_its_name_says(content, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_corpus(write(tmp_path / "a.jsonl.gz", content))


@pytest.mark.parametrize(
    ("text", "encoding", "advice"),
    [
        ("“A café”, he said, and left. " * 9, "cp1252", "iconv -f cp1252 -t utf-8 if it was written on Windows"),
        ("A café, he said, and left. " * 9, "latin1", "iconv -f latin1 -t utf-8 if it is in a language of Western"),
        ("Старый мост и тёмная река. " * 9, "koi8-r", r"iconv -f ENCODING -t utf-8 .*koi8-r"),
        ("古い橋と暗い川。" * 9, "shift_jis", r"iconv -f ENCODING -t utf-8"),
    ],
)
def test_other_encodings_are_advised_by_their_bytes(text, encoding, advice, tmp_path):
    path = write(tmp_path / "a.txt", text.encode(encoding))
    with pytest.raises(InputError, match=advice):
        load_corpus(path)


def test_text_that_is_damaged_is_not_advised_to_be_converted(tmp_path):
    content = ("Das Mädchen geht über die Brücke. " * 20).encode()
    path = write(tmp_path / "a.txt", content[:101] + b"\xff" + content[102:])
    with pytest.raises(InputError, match=r"the text around it is UTF-8, so it was damaged or cut$"):
        load_corpus(path)
    noise = write(tmp_path / "b.txt", random.Random(0).randbytes(1000))
    with pytest.raises(InputError, match="looks like binary data"):
        load_corpus(noise)


def test_a_text_file_that_is_not_utf8_can_be_left_out_of_a_folder(tmp_path):
    write(tmp_path / "a.txt", "one " * 100)
    write(tmp_path / "b.txt", b"caf\xe9")
    corpus = load_corpus(tmp_path, skip_bad_rows=True)
    assert corpus.report.counts.bad_rows == [BadRow(str(tmp_path / "b.txt"), corpus.report.counts.bad_rows[0].reason)]
    assert "".join([*corpus.train, *corpus.heldout]) == "one " * 100


def test_text_that_begins_like_something_else_is_text(tmp_path):
    for content in ("PARIS is a city.", "BZh, he said.", "PKs", "Rar! " * 3, "a\0b", "\0" * 20 + "text after zeros"):
        corpus = load_corpus(write(tmp_path / "a.txt", content))
        assert "".join([*corpus.train, *corpus.heldout]) == content
