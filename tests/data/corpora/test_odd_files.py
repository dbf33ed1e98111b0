"""Files as people have them: every one is read as what it is, or refused in one line that says what to do."""

import gzip
import io
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clozelab.cli import main
from clozelab.data import load_corpus
from clozelab.errors import InputError

TEXTS = [f"Row {n} of the table says {n * 7}." for n in range(60)]
JSON = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
CSV = "text,n\n" + "".join(f"{text},1\n" for text in TEXTS)


def parquet(column):
    file = io.BytesIO()
    pq.write_table(pa.table({"text": column}), file)
    return file.getvalue()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


READ = {
    "bom.jsonl": "\ufeff" + JSON,
    "bom.tsv.gz": gzip.compress(("\ufeff" + CSV.replace(",", "\t")).encode()),
    "crlf.jsonl": JSON.replace("\n", "\r\n"),
    "carriage_returns.csv": CSV.replace("\n", "\r"),
    "blank_rows.csv": CSV.replace("\n", "\n\n"),
    "quoted_header.csv": CSV.replace("text,n", '"text","n"'),
    "other_columns_twice.csv": "text,n,n\n" + "".join(f"{text},1,2\n" for text in TEXTS),
    "not_a_number.jsonl": JSON.replace("}", ', "x": NaN}'),
    "array.json": json.dumps([{"text": text} for text in TEXTS], indent=1),
    "UPPER.JSONL.GZ": gzip.compress(JSON.encode()),
    "padded.jsonl.gz": gzip.compress(JSON.encode()) + bytes(512),  # as on a tape
    "dictionary.parquet": parquet(pa.array(TEXTS).dictionary_encode()),
    "view.parquet": parquet(pa.array(TEXTS).cast(pa.string_view())),
    "new\nline/a=b.jsonl": JSON,
    "-\x1b[31m.jsonl": JSON,
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("streaming", [False, True])
def test_what_is_read_as_it_is(name, streaming, tmp_path):
    corpus = load_corpus(write(tmp_path / name, READ[name]), streaming=streaming)
    assert sorted([*corpus.train, *corpus.heldout]) == sorted(TEXTS)


REFUSED = {
    "zeros.txt": (bytes(5000), "a run of zero bytes, as a crash or a full disk leaves it: the file is damaged"),
    "zeros_at_its_end.txt": ("a text " * 100 + "\0" * 4096, "a run of zero bytes"),
    "zeros.csv": ("text\n" + "\n".join(TEXTS) + "\n" + "\0" * 4096, "zeros.csv, line 62: a run of zero bytes"),
    "zeros.jsonl": (JSON + "\0" * 4096, "zeros.jsonl, line 61: no JSON"),
    "a.jsonl.bak": (JSON, "begins with a JSON object, and its name does not say what it is: name it with .jsonl"),
    "a.jsonl.1": (JSON, "begins with a JSON object"),
    "table.txt.parquet": (JSON, "cannot be read as Parquet"),
    "parquet.csv": (parquet(pa.array(TEXTS)), "is Parquet, not text: name it with .parquet at the end"),
    "text_twice.csv": ("text,text\na,b\n", "has 2 columns 'text': expected different names"),
    "csv.jsonl": (CSV, "csv.jsonl, line 1: no JSON"),
    "json.csv": (JSON, "has no column 'text'"),
    "commas.jsonl": (JSON.replace("\n", ",\n"), "commas.jsonl, line 1: no JSON: Extra data"),
    "object.json": (json.dumps({"data": [{"text": "a"}]}, indent=1), "line 1: an object over several lines"),
    "strings.json": (json.dumps(TEXTS), "strings.json, row 1: a string, expected an object with a column 'text'"),
    "garbage_behind.jsonl.gz": (gzip.compress(JSON.encode()) + b"garbage", "is damaged: it cannot be unpacked"),
    "bytes.parquet": (parquet(pa.array([text.encode() for text in TEXTS])), "holds binary, expected text"),
    "deep.jsonl": (JSON + '{"text": "x", "y": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, tmp_path):
    content, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        load_corpus(write(tmp_path / name, content))


def test_a_zero_byte_is_a_character():
    """It is a run of them that no text has."""
    assert load_corpus(["a\0b" * 9], split="position").train == [("a\0b" * 9)[:24]]


def test_links_to_folders_are_left_out_and_links_to_files_read(tmp_path):
    write(tmp_path / "corpus/a.jsonl", JSON)
    write(tmp_path / "elsewhere.jsonl", JSON.replace("Row", "Line"))
    os.symlink("..", tmp_path / "corpus/loop")
    os.symlink("nowhere", tmp_path / "corpus/broken.jsonl")
    os.symlink("../elsewhere.jsonl", tmp_path / "corpus/linked.jsonl")
    corpus = load_corpus(tmp_path / "corpus")
    assert len([*corpus.train, *corpus.heldout]) == 120
    assert corpus.report.left_out == {"a link to a folder": ["loop/"], "no regular file": ["broken.jsonl"]}


def test_thousands_of_small_files_are_a_corpus_and_three_of_their_names_are_told(tmp_path):
    for n in range(3000):
        (tmp_path / f"{n}.txt").write_text(f"file {n}")
    report = load_corpus(tmp_path).report
    assert report.train[0] + report.heldout[0] == 3000
    assert "in 0.txt, 1.txt, 10.txt and 2,997 more" in str(report)


def test_odd_names_are_written_readably(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "new\nline\x1b[31m.jsonl", JSON + "{bad\n")
    assert main(["train", "--corpus", "new\nline\x1b[31m.jsonl", "--run", "run"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "\x1b" not in line
    assert "line 61: no JSON" in line
