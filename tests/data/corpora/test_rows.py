"""The chosen column is text by declaration, and rows that cannot be read are named by their line."""

import json
import re
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clozelab.data import load_corpus
from clozelab.data.corpora.files import classify
from clozelab.data.corpora.rows import BadRow, read_rows
from clozelab.errors import InputError

AS_WRITTEN = [
    "NA",
    "null",
    "None",
    "nan",
    "N/A",
    "",
    "007",
    "1e5",
    "1_000",
    "2024-01-01",
    "2024-01-01T00:00:00",
    "True",
]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(path, column="text", **settings):
    return list(read_rows(classify(path), column, **settings))


def lines(*objects):
    return "".join(json.dumps(one) + "\n" for one in objects)


# ------------------------------------------------------------------ text is text


def test_cells_stay_as_they_are_written(tmp_path):
    csv = "id,text\n" + "".join(f"{n},{text}\n" for n, text in enumerate(AS_WRITTEN))
    table = pa.table({"text": AS_WRITTEN, "id": range(len(AS_WRITTEN))})
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    write(tmp_path / "a.csv", csv)
    write(tmp_path / "a.tsv", csv.replace(",", "\t"))
    write(tmp_path / "a.jsonl", lines(*({"id": n, "text": text} for n, text in enumerate(AS_WRITTEN))))
    write(tmp_path / "a.json", json.dumps([{"text": text} for text in AS_WRITTEN], indent=2))
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.arrow"):
        assert rows(tmp_path / name) == AS_WRITTEN, name


def test_a_table_of_digits_or_dates_alone_is_text(tmp_path):
    dates = [f"2024-01-{day:02}" for day in range(1, 29)]
    assert rows(write(tmp_path / "a.jsonl", lines(*({"text": date} for date in dates)))) == dates
    assert rows(write(tmp_path / "a.csv", "text\n" + "\n".join(f"{n:06}" for n in range(300)))) == [
        f"{n:06}" for n in range(300)
    ]


@pytest.mark.parametrize("streaming", [False, True])
def test_other_columns_may_differ_between_files_and_rows(streaming, tmp_path):
    write(tmp_path / "a.jsonl", lines({"text": "one", "id": 5}, {"text": "two", "id": "x", "meta": {"deep": [1]}}))
    write(tmp_path / "b.jsonl", lines({"url": None, "text": "three"}, {"text": "four", "id": [1, {"a": 2}]}))
    pq.write_table(pa.table({"text": ["five"], "id": [5]}), tmp_path.parent / "a.parquet")
    corpus = load_corpus(tmp_path, heldout=0.5, streaming=streaming)
    assert sorted([*corpus.train, *corpus.heldout]) == ["four", "one", "three", "two"]


def test_numbers_in_other_columns_may_be_of_any_length(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"n": ' + "9" * 5000 + ', "f": 1e9999, "text": "a"}\n')
    assert rows(path) == ["a"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow"])
def test_a_nested_column(name, tmp_path):
    nested = [{"data": {"content": "one", "n": 1}}, {"data": {"content": None, "n": 2}}, {"data": None}]
    write(tmp_path / "a.jsonl", lines(*nested))
    table = pa.Table.from_pylist(nested)
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    assert rows(tmp_path / name, "data.content") == ["one", None, None]
    for column in ("data.other", "other.content", "dat"):
        with pytest.raises(InputError, match=f"has no column '{column}': it has 'data'"):
            rows(tmp_path / name, column)


def test_an_object_is_no_text(tmp_path):
    write(tmp_path / "a.jsonl", lines({"data": {"content": "one"}}))
    pq.write_table(pa.table({"data": [{"content": "one"}]}), tmp_path / "a.parquet")
    for name, message in (("a.jsonl", "line 1: column 'data' holds an object"), ("a.parquet", "holds struct<content")):
        with pytest.raises(InputError, match=message):
            load_corpus(tmp_path / name, text_column="data")


def test_a_column_whose_name_has_a_dot(tmp_path):
    assert rows(write(tmp_path / "a.jsonl", lines({"a.b": "one", "a": {"b": "two"}})), "a.b") == ["one"]


def test_a_missing_column_is_null_where_another_row_has_it(tmp_path):
    path = write(tmp_path / "a.jsonl", lines({"id": 1}, {"text": "a"}, {"text": None}))
    assert rows(path) == [None, "a", None]
    with pytest.raises(InputError, match=r"a.jsonl has no column 'body': it has 'id', 'text'; choose"):
        rows(path, "body")
    endless = write(tmp_path / "b.jsonl", lines({"id": 1}) * 1000 + "not reached")
    with pytest.raises(InputError, match="has no column 'text': it has 'id'"):
        rows(endless)


def test_every_type_of_strings_is_text_and_numbers_are_not(tmp_path):
    texts = ["a", "b", "a", None]
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        table = pa.table({"text": pa.array(texts, kind)})
        pq.write_table(table, tmp_path / "a.parquet")
        with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        for name in ("a.parquet", "a.arrow"):
            assert rows(tmp_path / name) == texts, kind
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=r"column 'text' of .*b.parquet holds int64, expected text"):
        rows(tmp_path / "b.parquet")


def test_bytes_of_parquet_that_are_not_utf8_are_a_bad_row(tmp_path):
    broken = pa.array([b"a", b"caf\xe9", b"b"]).view(pa.string())
    pq.write_table(pa.table({"text": broken}), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet") == ["a", BadRow(f"{tmp_path}/a.parquet, row 2", "not UTF-8: byte 0xe9"), "b"]


# ------------------------------------------------------------------ CSV and TSV


def test_cells_of_csv_may_hold_quotes_commas_and_lines(tmp_path):
    path = write(tmp_path / "a.csv", '\ufeffn,text\r\n1,"a ""b"", c\r\nd"\r\n\r\n2,e\r\n')
    assert rows(path) == ['a "b", c\r\nd', "e"]


def test_quotes_of_tsv_are_text(tmp_path):
    path = write(tmp_path / "a.tsv", 'n\ttext\n1\t"Hello," he said\n2\t5" of snow\n3\t"all of it"\n')
    assert rows(path) == ['"Hello," he said', '5" of snow', '"all of it"']


@pytest.mark.parametrize("number", [1, "1"])
def test_a_cell_of_any_length_in_a_column_that_is_numbered(number, tmp_path):
    path = write(tmp_path / "a.csv", "".join(f"{n},{'word ' * (40000 if n == 0 else 400)}\n" for n in range(20)))
    corpus = load_corpus(path, text_column=number)
    assert sorted({len(text) for text in [*corpus.train, *corpus.heldout]}) == [2000, 200000]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id;text\n1;a\n", "has no column 'text': it has 'id;text'; .* separated by something else than commas"),
        ("text,text\na,b\n", "has 2 columns 'text': expected different names"),
        ("text\n", "holds no rows"),
        ("", "is empty"),
        ("a,b\n1,2\n", "has no column 'text': it has 'a', 'b'"),
    ],
)
def test_csv_that_is_no_such_table(content, message, tmp_path):
    with pytest.raises(InputError, match=message):
        rows(write(tmp_path / "a.csv", content))


# ------------------------------------------------------------------ bad rows

BAD = {
    "half an emoji": (b'{"text": "a \\ud83d b"}', r"half a character, \\ud83d"),
    "a cut line": (b'{"text": "a ', "no JSON: Unterminated string starting at character 10"),
    "a list": (b'["a", "b"]', "a list, expected an object with a column 'text'"),
    "a string": (b'"a"', "a string, expected an object"),
    "null": (b"null", "null, expected an object"),
    "two objects": (b'{"text": "a"} {"text": "b"}', "no JSON: Extra data at character 15"),
    "a number": (b'{"text": 3}', "column 'text' holds a number, expected text"),
    "false": (b'{"text": false}', "holds true or false, expected text"),
    "a list of texts": (b'{"text": ["a", "b"]}', "holds a list, expected text"),
    "latin1": ('{"text": "café"}'.encode("latin1"), "not UTF-8 text: byte 13 is 0xe9; .*iconv -f latin1"),
    "a tab": (b'{"text": "a\tb"}', "no JSON: Invalid control character at character 12"),
    "Python": (b"{'text': 'a'}", "no JSON: Expecting property name enclosed in double quotes at character 2"),
    "deep lists": (b'{"text": "a", "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "nested too deeply"),
    "deep objects": (b'{"text": "a", "x": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "nested too deeply"),
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_of_json_is_named_by_its_line_or_left_out(name, streaming, tmp_path, caplog):
    bad, message = BAD[name]
    good = [f"Row {n} is good." for n in range(60)]
    content = [json.dumps({"text": text}).encode() for text in good]
    write(tmp_path / "a.jsonl", b"\n".join([*content[:7], b"", bad, *content[7:]]))
    began = time.perf_counter()
    with pytest.raises(InputError, match=f"a.jsonl, line 9: .*{message}.*skip_bad_rows=True leaves out such rows"):
        list(load_corpus(tmp_path / "a.jsonl", streaming=streaming).train)
    corpus = load_corpus(tmp_path / "a.jsonl", streaming=streaming, skip_bad_rows=True)
    assert sorted([*corpus.train, *corpus.heldout]) == sorted(good)
    assert time.perf_counter() - began < 20  # 10,000 levels took more than 100 s
    if not streaming:
        assert (corpus.report.counts.rows, corpus.report.counts.bad) == (61, 1)
        assert "a.jsonl, line 9: " in str(corpus.report)
    else:
        assert [record.message.split(": ")[1] for record in caplog.records] == [f"left out {tmp_path}/a.jsonl, line 9"]


def test_the_line_of_a_bad_row_is_true_far_into_a_file(tmp_path):
    good = json.dumps({"text": "some words of a text"}) + "\n"
    path = write(tmp_path / "a.jsonl", good * 60_000 + good[:20] + "\n" + good * 10)
    with pytest.raises(InputError, match=r"a.jsonl, line 60001: no JSON: Unterminated string"):
        load_corpus(path)


def test_bad_rows_of_csv_lose_no_rows_behind_them(tmp_path):
    """A stray quote opens a cell that ends at the next quote, lines later: only its own line is left out."""
    content = (
        'n,text\n1,one\n2,"two\n3,three\n4,four, and more\n5,five\n6,"six"\n7\n8,caf\udce9\n9,"ni"ne\n10,"t""en"\n'
    )
    path = write(tmp_path / "a.csv", content.encode("utf-8", "surrogateescape"))
    found = rows(path)
    assert [row for row in found if isinstance(row, str)] == ["one", "three", "five", "six", 't"en']
    places = [(row.place.rpartition(", ")[2], row.reason) for row in found if isinstance(row, BadRow)]
    assert [place for place, _ in places] == ["line 3", "line 5", "line 8", "line 9", "line 10"]
    assert "in line 7, so a quote in line 3 was not meant to open a cell" in places[0][1]
    assert places[1][1] == "the number of cells is 3, expected 2"
    assert "byte 0xe9" in places[3][1]


def test_a_quote_that_never_ends_loses_one_line(tmp_path):
    found = rows(write(tmp_path / "a.csv", 'text\n"one\n' + "two\n" * 2000))
    assert [type(found[0]), *found[1:]] == [BadRow, *["two"] * 2000]


def test_a_bad_json_array_is_refused_with_its_line(tmp_path):
    with pytest.raises(InputError, match=r"a.json, line 3: no JSON: Expecting property name"):
        rows(write(tmp_path / "a.json", '[\n{"text": "a"},\n{text: "b"}]'))
    with pytest.raises(InputError, match="nested too deeply"):
        rows(write(tmp_path / "b.json", "[" * 100_000))
    found = rows(write(tmp_path / "c.json", '[{"text": "a"}, 5]'))
    assert found == ["a", BadRow(f"{tmp_path}/c.json, row 2", "a number, expected an object with a column 'text'")]


def test_all_rows_bad_is_no_corpus_even_where_they_may_be_left_out(tmp_path):
    path = write(tmp_path / "a.jsonl", "one\ntwo\n")
    with pytest.raises(
        InputError,
        match=r"a.jsonl holds no text: its rows are left out, 2 not readable; .*line 1: no JSON: Expecting value",
    ):
        load_corpus(path, skip_bad_rows=True)


INPUTS = {  # the name of a file, its content, and its rows, or the reason why it is refused
    "lines of Windows": ("a.jsonl", '{"text": "a"}\r\n{"text": "b"}\r\n', ["a", "b"]),
    "a mark of UTF-8": ("a.ndjson", '\ufeff{"text": "a"}\n', ["a"]),
    "no end of the last line": ("a.jsonl", '{"text": "a"}\n{"text": "b"}', ["a", "b"]),
    "a separator of lines in a string": ("a.jsonl", '{"text": "a\u2028b\x85c"}\n', ["a\u2028b\x85c"]),
    "escapes": ("a.jsonl", '{"text": "\\u00e9\\ud83d\\ude00\\u0000"}\n', ["é😀\0"]),
    "an array behind empty lines": ("a.json", '\n\n [{"text": "a"}, {"id": 1}]', ["a", None]),
    "an object over lines": (
        "a.json",
        '{\n"text": "a"\n}\n',
        "line 1: an object over several lines, expected one object a",
    ),
    "lists by columns": ("a.json", '{"text": ["a", "b"]}', "line 1: column 'text' holds a list"),
    "objects in a field": ("a.json", '{"data": [{"text": "a"}]}', "has no column 'text': it has 'data'"),
    "commas between lines": (
        "a.jsonl",
        '{"text": "a"},\n{"text": "b"},\n',
        "line 1: no JSON: Extra data at character 14",
    ),
    "one line for all rows": ("a.jsonl", '{"text": "a"}{"text": "b"}', "line 1: no JSON: Extra data at character 14"),
    "lines of an old Mac": ("a.csv", "text\ra\rb\r", ["a", "b"]),
    "zeros in a cell": ("a.csv", "text\na\0b\n", ["a\0b"]),
    "a header of other letters": ("a.csv", "Text\na\n", "has no column 'text': it has 'Text'"),
    "spaces in a header": ("a.csv", "n, text\n1,a\n", "has no column 'text': it has 'n', ' text'"),
    "tabs in a CSV file": ("a.csv", "n\ttext\n1\ta\n", "Tabs are read in a .tsv file"),
    "a comma at the end of rows": ("a.csv", "text,n\na,1,\n", "line 2: the number of cells is 3, expected 2"),
    "single quotes": ("a.csv", "text\n'a, b'\n", "line 2: the number of cells is 2, expected 1"),
    "lines in a cell of TSV": ("a.tsv", 'text\tn\n"a\nb"\t1\n', "line 2: the number of cells is 1, expected 2"),
    "nulls alone": ("a.jsonl", '{"text": null}\n' * 5, "holds no text: its rows are left out, 5 missing"),
    "white space alone": ("a.csv", "text\n \n  \n", "holds no text: its rows are left out, 2 empty"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_is_read_as_it_is_or_refused_with_the_reason(name, tmp_path):
    path, content, expected = INPUTS[name]
    write(tmp_path / path, content)
    if isinstance(expected, list):
        assert rows(tmp_path / path) == expected
    else:
        with pytest.raises(InputError, match=expected):
            load_corpus(tmp_path / path)


# ------------------------------------------------------------------ one document a line


@pytest.mark.parametrize("streaming", [False, True])
def test_each_line_is_a_document(streaming, tmp_path):
    path = write(tmp_path / "a.txt", "\ufeffCCO\r\nC1=CC=CC=C1\n\n  \nN#N\u2028O\rS\nlast")
    corpus = load_corpus(path, lines=True, heldout=0.7, streaming=streaming)
    assert sorted([*corpus.train, *corpus.heldout]) == sorted(["CCO", "C1=CC=CC=C1", "N#N\u2028O\rS", "last"])


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    path = write(tmp_path / "a.txt", b"one\ncaf\xe9\ntwo\nthree\nfour\nfive\n")
    with pytest.raises(InputError, match=r"a.txt, line 2: not UTF-8 text: byte 3 is 0xe9"):
        load_corpus(path, lines=True)
    corpus = load_corpus(path, lines=True, skip_bad_rows=True, split="position")
    assert "".join([*corpus.train, *corpus.heldout]) == "onetwothreefourfive"


def test_text_without_lines_cannot_be_streamed(tmp_path):
    with pytest.raises(InputError, match=r"only tables can be streamed .* or text with one document a line"):
        load_corpus(write(tmp_path / "a.txt", "a"), streaming=True)


def test_the_names_of_a_table_without_a_header_are_cut_in_the_error(tmp_path):
    """Its first row stands there, which may be a whole document."""
    (tmp_path / "a.csv").write_text("word " * 5000 + "\nmore\n")
    with pytest.raises(InputError, match="has no column") as error:
        load_corpus(tmp_path / "a.csv")
    assert len(str(error.value)) < 500


# ------------------------------------------------------------------ what is advised


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("bad", "good"),
    [(b"caf\xe9 cr\xe8me\n", b"coffee\n"), (b"\0" * 600 + b"\n", b"coffee\n")],
    ids=["Latin-1", "zeros"],
)
def test_leaving_out_rows_is_advised_where_others_are_left(bad, good, streaming, tmp_path):
    """Before the bad one, or behind it; where all are bad, nothing would be left."""
    advice = r"skip_bad_rows=True leaves out such rows\)$"
    for content, helps in ((bad + good, True), (good + bad, True), (bad, False), (bad * 3, False)):
        path = write(tmp_path / "a.txt", content)
        with pytest.raises(InputError, match=r"a.txt, line [12]: ") as refused:
            list(load_corpus(path, lines=True, streaming=streaming).train)
        assert bool(re.search(advice, str(refused.value))) == helps


def test_leaving_out_the_only_file_is_not_advised(tmp_path):
    path = write(tmp_path / "a.txt", b"caf\xe9 cr\xe8me")
    with pytest.raises(InputError, match=r"a.txt: not UTF-8 text: .* if it is in a language of Western Europe$"):
        load_corpus(path)
    write(tmp_path / "b.txt", "coffee")
    with pytest.raises(InputError, match=r"a.txt: not UTF-8 text: .* \(skip_bad_rows=True leaves out such rows\)$"):
        load_corpus(tmp_path)
    assert load_corpus(tmp_path, skip_bad_rows=True).train == ["coffe"]
