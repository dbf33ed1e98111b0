"""What a path is: which files are read, which are held out, and which are left out, with the reason."""

import gzip
import json

import pytest

from clozelab.data import load_corpus
from clozelab.data.corpora.files import find_files
from clozelab.errors import InputError

TEXTS = [f"Row {n} of the table." for n in range(40)]
ROWS = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
OTHERS = "".join(json.dumps({"text": text.replace("Row", "Other")}) + "\n" for text in TEXTS)


def tree(folder, files):
    """Write files, given by their names below a folder; bytes as they are, text as UTF-8."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def everything(corpus):
    return sorted([*corpus.train, *corpus.heldout])


def names(files, folder):
    return [file.path.relative_to(folder).as_posix() for file in files]


FOLDERS = {  # files -> (trained on, held out, left out)
    "a clone of a hub's dataset": (
        ["README.md", ".gitattributes", ".git/config", "data/train.jsonl"],
        (["data/train.jsonl"], [], {"documentation": ["README.md"], "hidden": [".git/", ".gitattributes"]}),
    ),
    "C4": (
        [
            "README.md",
            "en/c4-train.00000-of-00002.json.gz",
            "en/c4-train.00001-of-00002.json.gz",
            "en/c4-validation.00000-of-00001.json.gz",
        ],
        (
            ["en/c4-train.00000-of-00002.json.gz", "en/c4-train.00001-of-00002.json.gz"],
            ["en/c4-validation.00000-of-00001.json.gz"],
            {"documentation": ["README.md"]},
        ),
    ),
    "Dolma": (
        ["documents/books-0000.json.gz", "documents/wiki-0000.json.gz", "attributes/toxic/books-0000.json.gz"],
        (["documents/books-0000.json.gz", "documents/wiki-0000.json.gz"], [], {"about documents": ["attributes/"]}),
    ),
    "RedPajama 2": (
        [
            "documents/2023-06/0000/en_head.json.gz",
            "quality_signals/2023-06/0000/en_head.signals.json.gz",
            "minhash/2023-06/0000/en_head.minhash.parquet",
            "duplicates/2023-06/0000/en_head.duplicates.parquet",
        ],
        (
            ["documents/2023-06/0000/en_head.json.gz"],
            [],
            {"about documents": ["duplicates/", "minhash/", "quality_signals/"]},
        ),
    ),
    "the Pile": (
        ["train/00.jsonl.zst", "train/01.jsonl.zst", "val.jsonl.zst", "test.jsonl.zst"],
        (
            ["train/00.jsonl.zst", "train/01.jsonl.zst"],
            ["val.jsonl.zst"],
            {"test files, neither trained on nor held out": ["test.jsonl.zst"]},
        ),
    ),
    "folders of splits": (
        ["train/a.txt", "dev/a.txt", "test/train.txt"],
        (["test/train.txt", "train/a.txt"], ["dev/a.txt"], {}),  # the deepest name decides
    ),
    "WikiText": (
        ["wiki.train.txt", "wiki.valid.txt", "wiki.test.txt"],
        (["wiki.train.txt"], ["wiki.valid.txt"], {"test files, neither trained on nor held out": ["wiki.test.txt"]}),
    ),
    "train files beside all of them": (
        ["train.csv", "all.csv", "evaluation.csv"],
        (
            ["train.csv"],
            [],
            {
                "not named as train files are": ["all.csv"],
                "test files, neither trained on nor held out": ["evaluation.csv"],
            },
        ),
    ),
    "words that hold the names": (
        ["contest.txt", "latest.txt", "retrain.txt", "validated.txt"],
        (["contest.txt", "latest.txt", "retrain.txt", "validated.txt"], [], {}),
    ),
    "what save_to_disk writes": (
        ["data-00000-of-00001.arrow", "cache-1234.arrow", "dataset_info.json", "state.json"],
        (
            ["data-00000-of-00001.arrow"],
            [],
            {"a cache of datasets": ["cache-1234.arrow"], "describes the data": ["dataset_info.json", "state.json"]},
        ),
    ),
    "notebooks and a Mac": (
        [".ipynb_checkpoints/a-checkpoint.txt", "__MACOSX/a.txt", "._a.txt", ".DS_Store", "a.txt", "Thumbs.db"],
        (
            ["a.txt"],
            [],
            {
                "hidden": [".ipynb_checkpoints/", "._a.txt", ".DS_Store"],
                "of other programs": ["__MACOSX/"],
                "unknown ending .db": ["Thumbs.db"],
            },
        ),
    ),
    "what Spark writes": (
        ["_SUCCESS", "_temporary/0/part-0.json", ".part-0.json.crc", "part-0.json"],
        (
            ["part-0.json"],
            [],
            {"no ending": ["_SUCCESS"], "of other programs": ["_temporary/"], "hidden": [".part-0.json.crc"]},
        ),
    ),
    "a table and its compressed copy": (
        ["a.jsonl", "a.jsonl.gz", "b.ndjson.gz"],
        (["a.jsonl", "b.ndjson.gz"], [], {"a compressed copy of the file beside it": ["a.jsonl.gz"]}),
    ),
    "documentation that is the corpus": (
        ["README.md", "guide/README.md", "guide/start.md"],
        (["README.md", "guide/README.md", "guide/start.md"], [], {}),
    ),
    "documentation beside the corpus": (
        ["README.md", "LICENSE.md", "a.txt", "b.TXT"],
        (["a.txt", "b.TXT"], [], {"documentation": ["LICENSE.md", "README.md"]}),
    ),
    "downloads that are not finished": (
        ["a.jsonl", "b.jsonl.part", "c.parquet.gz", "d.tar.gz"],
        (
            ["a.jsonl"],
            [],
            {
                "unknown ending .part": ["b.jsonl.part"],
                "unknown ending .parquet.gz": ["c.parquet.gz"],
                "unknown ending .tar.gz": ["d.tar.gz"],
            },
        ),
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_files_of_a_folder(name, tmp_path):
    files, (train, validation, left_out) = FOLDERS[name]
    tree(tmp_path, dict.fromkeys(files, ""))
    found = find_files(tmp_path)
    assert names(found.train, tmp_path) == train
    assert names(found.validation, tmp_path) == validation
    assert {reason: sorted(some) for reason, some in found.left_out.items()} == {
        reason: sorted(some) for reason, some in left_out.items()
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.txt", "b.txt", "train.jsonl"], r"several kinds, 1 of JSON \(such as train.jsonl\) and 2 of text"),
        (["a.csv", "b.tsv"], "1 of CSV .* and 1 of TSV"),
        (["a.xml", "b.docx", "c.pdf", "d.html"], r"holds a.xml \(unknown ending .xml\), .* and 1 more; expected names"),
        (["test.jsonl", "val.jsonl"], "holds test and validation files alone, such as test.jsonl"),
        ([".hidden.txt"], r"it holds .hidden.txt \(hidden\)"),
    ],
)
def test_a_folder_that_is_no_corpus_is_refused(files, message, tmp_path):
    tree(tmp_path, dict.fromkeys(files, ROWS))
    for streaming in (False, True):
        with pytest.raises(InputError, match=message):
            load_corpus(tmp_path, streaming=streaming, lines=False)


def test_a_file_that_is_named_is_read_whatever_its_name_is(tmp_path):
    tree(tmp_path, {"test.jsonl": ROWS, "book": "one two", "molecules.smi": "CCO\nC1=CC=CC=C1\nCC(=O)O\n" * 9})
    assert everything(load_corpus(tmp_path / "test.jsonl")) == sorted(TEXTS)
    assert "".join([*load_corpus(tmp_path / "book").train, *load_corpus(tmp_path / "book").heldout]) == "one two"
    assert set(everything(load_corpus(tmp_path / "molecules.smi", lines=True, split="position"))) >= {"CCO"}


# ------------------------------------------------------------------ training, validation and test apart


def test_test_files_are_never_read_and_validation_files_are_held_out(tmp_path):
    tree(tmp_path, {"train.jsonl": ROWS, "validation.jsonl": OTHERS, "test.jsonl": '{"text": "secret"}\n'})
    for streaming in (False, True):
        corpus = load_corpus(tmp_path, streaming=streaming)
        assert list(corpus.train) == TEXTS
        assert list(corpus.heldout) == [text.replace("Row", "Other") for text in TEXTS]
        assert corpus.report.left_out == {"test files, neither trained on nor held out": ["test.jsonl"]}
        assert corpus.report.validation == ["validation.jsonl"]


def test_a_split_that_is_chosen_leaves_validation_files_out(tmp_path):
    tree(tmp_path, {"train.jsonl": ROWS, "val.jsonl": OTHERS})
    corpus = load_corpus(tmp_path, split="hash")
    assert everything(corpus) == sorted(TEXTS)
    assert corpus.report.left_out == {'not held out, since split is "hash"': ["val.jsonl"]}


def test_a_notebook_copy_of_the_held_out_text_is_not_trained_on(tmp_path):
    text = "".join(TEXTS)
    tree(tmp_path, {"a.txt": text, ".ipynb_checkpoints/a-checkpoint.txt": text})
    corpus = load_corpus(tmp_path, split="position")
    assert "".join([*corpus.train, *corpus.heldout]) == text


@pytest.mark.parametrize("streaming", [False, True])
def test_a_validation_file_that_is_named_is_held_out_and_not_trained_on(streaming, tmp_path):
    tree(tmp_path, {"a.jsonl": ROWS, "b.jsonl": OTHERS, "elsewhere/c.csv.gz": gzip.compress(b"text\nalone\n")})
    corpus = load_corpus(tmp_path / "a.jsonl", validation=tmp_path / "b.jsonl", streaming=streaming)
    assert (list(corpus.train), len(list(corpus.heldout))) == (TEXTS, 40)
    (tmp_path / "elsewhere" / "c.csv.gz").rename(tmp_path.parent / "c.csv.gz")
    inside = load_corpus(tmp_path, validation=str(tmp_path / "b.jsonl"), streaming=streaming)
    assert (list(inside.train), inside.report.files) == (TEXTS, ["a.jsonl"])
    other = load_corpus(tmp_path, validation=tmp_path.parent / "c.csv.gz", streaming=streaming)
    assert (len(list(other.train)), list(other.heldout)) == (80, ["alone"])


def test_a_validation_folder_is_read_by_the_names_in_it(tmp_path):
    tree(
        tmp_path, {"a.txt": "train on this", "held/val.txt": "hold out this", "held/train.txt": "no", "one/x.txt": "x"}
    )
    corpus = load_corpus(tmp_path / "a.txt", validation=tmp_path / "held")
    assert (corpus.train, corpus.heldout) == (["train on this"], ["hold out this"])
    assert load_corpus(["train on this"], validation=tmp_path / "one").heldout == ["x"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation": "a.jsonl"}, "nothing is left to train on"),
        ({"validation": "a.jsonl", "split": "hash"}, "would have no effect: the validation text is held out"),
        ({"validation": "empty.txt"}, "holds no text"),
        ({"validation": 5}, "expected validation as a path"),
        ({"lines": True}, "lines=True would have no effect: .*a.jsonl is no text file"),
    ],
)
def test_bad_settings_are_refused(settings, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, {"a.jsonl": ROWS, "empty.txt": "\n"}))
    with pytest.raises(InputError, match=message):
        load_corpus("a.jsonl", **settings)


def test_a_column_of_what_has_no_columns_is_refused(tmp_path):
    tree(tmp_path, {"a.txt": "text"})
    for source in (tmp_path / "a.txt", "builtin", ["one", "two"]):
        with pytest.raises(InputError, match=r"would have no effect: .* has no columns"):
            load_corpus(source, text_column="text")


def test_a_validation_file_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such corpus"):
        load_corpus(["a", "b"], validation=tmp_path / "nowhere.txt")
