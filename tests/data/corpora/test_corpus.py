"""Corpora from every kind of source, and the split into training and held-out documents."""

import json
import os
import subprocess
import sys

import datasets
import pytest

from clozelab.data import load_corpus
from clozelab.errors import InputError
from clozelab.training import prepare_stream

DOCUMENTS = [f"Document {n}: naïve, “quoted”,\nand on two lines." for n in range(200)]


def everything(corpus):
    return sorted([*corpus.train, *corpus.heldout])


# ------------------------------------------------------------------ sources


def write_tables(folder):
    rows = datasets.Dataset.from_dict({"n": list(range(200)), "text": DOCUMENTS, "text2": DOCUMENTS[::-1]})
    rows.to_csv(str(folder / "t.csv"))
    rows.to_parquet(str(folder / "t.parquet"))
    rows.to_json(str(folder / "t.jsonl"))
    rows.save_to_disk(str(folder / "disk"))
    [arrow] = (folder / "disk").glob("*.arrow")
    arrow.rename(folder / "t.arrow")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl", "t.arrow"])
@pytest.mark.parametrize("column", ["text", "text2"])
def test_the_chosen_column_of_a_table_is_the_text(name, column, tmp_path):
    write_tables(tmp_path)
    corpus = load_corpus(tmp_path / name, text_column=column)
    assert everything(corpus) == sorted(DOCUMENTS)
    assert corpus.name == name


def test_a_table_without_a_header_has_its_columns_numbered(tmp_path):
    path = tmp_path / "news.csv"
    path.write_text("".join(f'"{n % 4}","Title, {n}","Text ""{n}"" of it"\n' for n in range(100)))
    corpus = load_corpus(str(path), text_column="2")
    assert everything(corpus) == sorted(f'Text "{n}" of it' for n in range(100))


def test_a_number_in_a_first_line_of_text_is_no_name_of_a_column(tmp_path):
    """Of a class, a title and a text, column 3 would be the class, where a document begins with class 3."""
    path = tmp_path / "news.csv"
    path.write_text("".join(f'{n % 4 + 3},"Title {n}","{"A sentence. " * 9}{n}"\n' for n in range(40)))
    with pytest.raises(InputError, match="has columns 0 to 2; 3 stands in its first line, which is long for names"):
        load_corpus(path, text_column="3")
    assert all(text.startswith("A sentence") for text in everything(load_corpus(path, text_column="2")))


def test_a_year_may_be_the_name_of_a_column(tmp_path):
    path = tmp_path / "years.csv"
    path.write_text("2019,2020\n" + "".join(f"old {n},new {n}\n" for n in range(40)))
    assert sorted(everything(load_corpus(path, text_column="2020"))) == sorted(f"new {n}" for n in range(40))


def test_a_text_file_is_one_document_split_by_position(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("".join(DOCUMENTS), encoding="utf-8")
    corpus = load_corpus(path)
    text = "".join(DOCUMENTS)
    cut = int(len(text) * 0.9)
    assert (corpus.train, corpus.heldout) == ([text[:cut]], [text[cut:]])  # nanoGPT's rule


def test_a_folder_of_text_files_is_one_document_for_each_file(tmp_path):
    for n in reversed(range(60)):
        (tmp_path / f"{n:03}").mkdir()
        (tmp_path / f"{n:03}" / "a.txt").write_text(DOCUMENTS[n], encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert everything(load_corpus(tmp_path)) == sorted(DOCUMENTS[:60])


def test_any_iterable_of_strings_is_a_corpus():
    assert everything(load_corpus(DOCUMENTS)) == sorted(DOCUMENTS)
    assert everything(load_corpus(document for document in DOCUMENTS)) == sorted(DOCUMENTS)
    rows = datasets.Dataset.from_dict({"text": DOCUMENTS})
    assert everything(load_corpus(rows["text"])) == sorted(DOCUMENTS)


@pytest.fixture(scope="module")
def builtin(tmp_path_factory):
    """(the builtin corpus as another process made it, its cache folder)."""
    code = """if True:
        import json, sys
        from clozelab.data import load_corpus
        corpus = load_corpus("builtin")
        strangers = [m for m in ("antigravity", "this", "turtle", "idlelib") if m in sys.modules]
        print(json.dumps({"train": corpus.train, "heldout": corpus.heldout, "strangers": strangers}))
    """
    cache = tmp_path_factory.mktemp("cache")
    environment = {**os.environ, "CLOZELAB_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout), cache


def test_builtin_is_about_two_megabytes_of_english_that_comes_with_python(builtin, monkeypatch):
    made, cache = builtin
    text = sorted([*made["train"], *made["heldout"]])
    assert 1.5e6 < sum(map(len, text)) < 4e6
    assert len(set(text)) == len(text)
    assert any("is the built-in" in document or "sequence" in document for document in text)
    monkeypatch.setenv("CLOZELAB_CACHE", str(cache))
    before = sorted(cache.iterdir())
    again = load_corpus("builtin")  # from the cache folder
    assert (again.train, again.heldout) == (made["train"], made["heldout"])
    assert sorted(cache.iterdir()) == before != []


def test_builtin_runs_none_of_the_modules_that_it_reads(builtin):
    """`antigravity` opens a web page when it is imported, `this` prints a poem."""
    made, _ = builtin
    assert made["strangers"] == []


def test_empty_documents_and_missing_values_are_left_out(tmp_path):
    assert everything(load_corpus([*DOCUMENTS, "", " \n"])) == sorted(DOCUMENTS)
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"text": None if n % 10 == 0 else DOCUMENTS[n]}) + "\n" for n in range(100)))
    assert len(everything(load_corpus(path))) == 90


# ------------------------------------------------------------------ the split


def test_the_split_by_hash_never_moves():
    whole = load_corpus(DOCUMENTS)
    assert 5 <= len(whole.heldout) <= 40
    fewer = load_corpus(DOCUMENTS[50:][::-1])
    assert set(fewer.heldout) == set(whole.heldout) & set(DOCUMENTS[50:])
    assert not set(whole.train) & set(whole.heldout)


def test_a_larger_share_holds_out_more_and_keeps_what_it_held():
    small, large = load_corpus(DOCUMENTS, heldout=0.1), load_corpus(DOCUMENTS, heldout=0.4)
    assert set(small.heldout) < set(large.heldout)


def test_the_split_by_position_keeps_every_character_and_the_order():
    corpus = load_corpus(DOCUMENTS, split="position", heldout=0.25)
    text = "".join(DOCUMENTS)
    assert "".join(corpus.train) == text[: int(len(text) * 0.75)]
    assert "".join([*corpus.train, *corpus.heldout]) == text


def test_a_lone_document_cannot_be_split_by_hash():
    with pytest.raises(InputError, match=r"leaves \d to train on and \d held out.*position"):
        load_corpus(["only one"], split="hash")


# ------------------------------------------------------------------ streaming


def test_a_streamed_table_can_be_read_again_and_again(tmp_path):
    write_tables(tmp_path)
    streamed, whole = load_corpus(tmp_path / "t.jsonl", streaming=True), load_corpus(tmp_path / "t.jsonl")
    for _ in range(2):
        assert list(streamed.train) == whole.train
        assert list(streamed.heldout) == whole.heldout


def test_a_folder_of_tables_is_all_their_rows_in_the_order_of_their_names(tmp_path):
    for name, texts in (("b", ["three", "four"]), ("a", ["one", "two"])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    corpus = load_corpus(tmp_path, heldout=0.5, split="position")
    assert "".join(corpus.train + corpus.heldout) == "onetwothreefour"
    streamed = load_corpus(tmp_path, streaming=True)
    assert sorted([*streamed.train, *streamed.heldout]) == ["four", "one", "three", "two"]


def test_a_folder_with_tables_of_two_kinds_is_refused(tmp_path):
    write_tables(tmp_path)
    for streaming in (False, True):
        with pytest.raises(InputError, match=r"several kinds, 1 of Arrow \(such as t.arrow\) and 1 of CSV"):
            load_corpus(tmp_path, streaming=streaming)


# ------------------------------------------------------------------ bad input


def test_a_missing_file_is_not_looked_for_on_the_hub():
    for name in ("nowhere.txt", "./nowhere", "/no/where", "some/nowhere.csv", "~/nowhere.jsonl"):
        with pytest.raises(FileNotFoundError, match="no such corpus"):
            load_corpus(name)


def test_without_a_network_the_message_suggests_the_builtin_corpus(monkeypatch):
    """Offline mode raises the error of a machine without a network at once."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for streaming in (False, True):
        with pytest.raises(InputError, match=r"could not be loaded from the hub.*builtin"):
            load_corpus("nobody/nothing-at-all", streaming=streaming)


def refused(make, message, tmp_path, **settings):
    path = make(tmp_path)
    with pytest.raises(InputError, match=message):
        load_corpus(path, **settings)


def file(name, content):
    def make(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (file("a.txt", b""), "holds no text"),
        (file("a.txt", b" \n\t\n"), "holds no text"),
        (file("a.txt", b"caf\xe9 au lait"), r"not UTF-8 text: byte 3 is 0xe9"),
        (file("a.csv", b""), "is empty"),
        (file("a.csv", b"n,words\n1,hello\n"), r"no column 'text': it has 'n', 'words'"),
        (
            file("a.jsonl", b'{"text": "a"}\n{"text'),
            r"a.jsonl, line 2: no JSON: Unterminated string starting at character 2",
        ),
        (file("a.jsonl", b'{"text": 3}\n{"text": 4}\n'), "line 1: column 'text' holds a number, expected text"),
        (file("a.csv", b"text\ncaf\xe9\n"), "line 2: not UTF-8: byte 0xe9"),
        (file("a.parquet", b"not parquet"), "cannot be read as Parquet"),
        (lambda folder: folder, "holds neither text files nor tables"),
        (lambda folder: ["a", 3], "got int in place 1"),
        (lambda folder: [], "holds no text"),
        (lambda folder: 7, "got int"),
        (lambda folder: b"bytes", "got bytes"),
    ],
)
def test_bad_sources_are_refused_with_the_reason(make, message, tmp_path):
    refused(make, message, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"), [({"split": "random"}, "split must be"), ({"heldout": 10}, "strictly between 0 and 1")]
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        load_corpus(DOCUMENTS, **settings)


# ------------------------------------------------------------------ why documents cannot be split


CURE = r'; split="position" cuts through documents, and validation=FILE holds out another text$'


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (
            ["the same"] * 50,
            r"splitting 50 documents of documents leaves \d+ to train on and \d+ held out: all are equal, ",
        ),
        (
            ["a", "b"] * 20,
            "only 2 of them are different, and equal documents have one hash, which decides where they go",
        ),
        (["a", "b"], r"splitting 2 documents .*: so few documents may all have hashes of one side"),
    ],
    ids=["one", "two", "few"],
)
def test_documents_that_cannot_be_split_are_refused_with_the_cause(documents, message):
    with pytest.raises(InputError, match=message + ".*" + CURE):
        load_corpus(documents, heldout=0.001)
    assert len("".join(load_corpus(documents, split="position", heldout=0.5).heldout)) == len("".join(documents)) / 2


def test_a_text_that_is_too_short_is_not_advised_to_be_split_otherwise():
    with pytest.raises(
        InputError, match=r"splitting 1 document of documents .*: the text is too short; use more, or hold"
    ):
        load_corpus(["a"])


@pytest.mark.parametrize(("share", "message"), [(1e-9, "is held out"), (1 - 1e-9, "is trained on")])
def test_a_stream_of_equal_documents_names_the_side_that_has_none(share, message, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "the same"}\n' * 50)
    with pytest.raises(InputError, match=f"no document of a.jsonl {message}, where equal documents have one hash: "):
        prepare_stream(load_corpus(path, streaming=True, heldout=share))


def test_a_test_file_beside_train_is_neither_trained_on_nor_held_out(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text(f"{name}ing " * 30)
    corpus = load_corpus(tmp_path)
    assert "testing" not in "".join([*corpus.train, *corpus.heldout])
    assert "  left out  test.txt: test files, neither trained on nor held out" in str(corpus.report).splitlines()
    assert set(load_corpus(tmp_path, validation=tmp_path / "test.txt").heldout) == {"testing " * 30}


def test_a_report_counts_one_in_the_singular():
    lines = str(load_corpus(["a b"], split="position", heldout=0.5).report).splitlines()
    assert lines[0] == "corpus documents: 1 string"
    assert lines[1:3] == [
        "  train     1 document, 1 character",
        "  held out  1 document, 2 characters, the end of the text",
    ]
