"""The report of a corpus, and the flags of the command line that a corpus needs."""

import gzip
import json

import datasets
import pytest

from clozelab.cli import main
from clozelab.data import load_corpus
from clozelab.data.corpora.hub import read_hub
from clozelab.training import prepare, prepare_stream, read_run

TEXTS = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(120)]
FAST = ["--length", "16", "--batch-size", "4", "--tokenizer", "characters", "--steps", "1", "--sample-every", "0"]


def lines(texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one of everything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "corpus"
    made.mkdir()
    (made / "README.md").write_text("# Card")
    (made / "train.jsonl").write_text(lines([*TEXTS[:100], None, " ", ""]) + "not JSON\x1b[31m\n" * 5)
    (made / "val.jsonl").write_text(lines([*TEXTS[100:], TEXTS[0]]))
    (made / "test.jsonl").write_text(lines(["secret"]))
    return made


def test_the_report_says_what_a_path_is(folder):
    report = load_corpus(folder, skip_bad_rows=True).report
    assert str(report).splitlines() == [
        "corpus corpus: JSON files, column 'text', 129 rows",
        f"  train     100 documents, {sum(map(len, TEXTS[:100])):,} characters in train.jsonl",
        f"  held out  21 documents, {sum(map(len, TEXTS[100:])) + len(TEXTS[0])} characters in val.jsonl",
        "            of them in the training text too, word for word: 1",
        "  left out  README.md: documentation",
        "  left out  test.jsonl: test files, neither trained on nor held out",
        "  left out  8 of 129 rows: 1 missing, 2 empty, 5 not readable",
        *(
            f"            {folder}/train.jsonl, line {n}: no JSON: Expecting value at character 1"
            for n in (104, 105, 106)
        ),
        "            and 2 more",
    ]
    assert (report.counts.missing, report.counts.empty, report.counts.bad) == (1, 2, 5)


def test_the_report_of_a_stream_says_what_is_known_before_it_is_read(folder):
    report = load_corpus(folder, skip_bad_rows=True, streaming=True).report
    assert str(report).splitlines() == [
        "corpus corpus: JSON files, column 'text'",
        "  train     read during training in train.jsonl",
        "  held out  read during training in val.jsonl",
        "  left out  README.md: documentation",
        "  left out  test.jsonl: test files, neither trained on nor held out",
    ]


def test_a_name_of_a_file_cannot_command_the_terminal(tmp_path):
    (tmp_path / "a\x1b[31m.txt").write_text("text and more")
    assert "\x1b" not in str(load_corpus(tmp_path).report)


def test_many_files_are_three_and_a_number(tmp_path):
    for n in range(2000):
        (tmp_path / f"{n:04}.txt").touch()
        (tmp_path / f"{n:04}.png").touch()
    (tmp_path / "0000.txt").write_text("text and more")
    report = str(load_corpus(tmp_path).report)
    assert "in 0000.txt, 0001.txt, 0002.txt and 1,997 more" in report
    assert "left out  0000.png, 0001.png, 0002.png and 1,997 more: unknown ending .png" in report
    assert len(report) < 600


def test_rows_that_are_left_out_of_a_stream_are_logged_once(folder, caplog):
    corpus = load_corpus(folder, skip_bad_rows=True, streaming=True)
    for _ in range(3):
        assert len(list(corpus.train)) == 100
    assert [record.message.removeprefix(f"corpus: left out {folder}/") for record in caplog.records] == [
        *(f"train.jsonl, line {n}: no JSON: Expecting value at character 1" for n in (104, 105, 106)),
        "corpus: left out 5 of 108 rows, which cannot be read",
    ]


def test_a_stream_goes_on_from_any_position(folder):
    (folder / "train.jsonl").write_text(lines(TEXTS[:50]))
    (folder / "train-2.jsonl.gz").write_bytes(gzip.compress(lines(TEXTS[50:]).encode()))
    documents = load_corpus(folder, streaming=True).train
    whole = list(documents)
    assert sorted(whole) == sorted(TEXTS)
    reading, read = documents.read(), []
    for texts in reading:
        read += texts
        position = json.loads(json.dumps(reading.position))
        assert read + [text for texts in documents.read(position) for text in texts] == whole


# ------------------------------------------------------------------ the command line


def test_each_command_prints_the_report_once(folder, capsys):
    capsys.readouterr()
    for command in (
        ["train", *FAST, "--objective", "causal", "--run", "run"],
        ["compare", *FAST[:6], "--objectives", "causal", "--tokens", "100", "--out", "out"],
        ["pack", "--tokenizer", "characters", "--out", "packed"],
        ["train", *FAST, "--objective", "causal", "--run", "stream", "--stream"],
    ):
        assert main([*command, "--corpus", "corpus", "--skip-bad-rows"]) == 0
        error = capsys.readouterr().err
        assert error.startswith("corpus corpus: JSON files, column 'text'")
        assert error.count("corpus corpus: ") == 1
        assert error.count("left out  test.jsonl: test files, neither trained on nor held out") == 1


def test_bad_rows_are_refused_in_one_line_by_default(folder, capsys):
    assert main(["train", *FAST, "--corpus", "corpus", "--run", "run"]) == 2
    error = capsys.readouterr().err
    assert error.splitlines() == [
        "clozelab: corpus/train.jsonl, line 104: no JSON: Expecting value at character 1 (--skip-bad-rows "
        "leaves out such rows)"
    ]


def test_a_run_resumes_with_the_flags_of_its_corpus(folder, capsys):
    (folder.parent / "lines.txt").write_text("\n".join(TEXTS))
    (folder.parent / "held.txt").write_text("\n".join(reversed(TEXTS[:60])))
    flags = ["--corpus", "lines.txt", "--lines", "--validation", "held.txt", "--skip-bad-rows"]
    for stream in ([], ["--stream"]):
        run = f"run{len(stream)}"
        assert main(["train", *FAST, *flags, *stream, "--run", run]) == 0
        assert main(["train", "--run", run, "--resume"]) == 0
        command = read_run(run)["description"]["command"]
        assert (command["lines"], command["validation"], command["column"]) == (True, "held.txt", None)
        (folder.parent / "held.txt").write_text("\n".join(TEXTS[:59]))
        assert main(["train", "--run", run, "--resume"]) == 2
        (folder.parent / "held.txt").write_text("\n".join(reversed(TEXTS[:60])))
    capsys.readouterr()
    assert main(["train", "--run", "run0", "--resume", "--validation", "other.txt"]) == 2
    assert "was begun with --validation held.txt, not other.txt" in capsys.readouterr().err


def test_flags_of_a_corpus_on_what_is_packed_are_refused(folder, capsys):
    assert main(["pack", "--corpus", "corpus", "--skip-bad-rows", "--out", "packed", "--tokenizer", "characters"]) == 0
    capsys.readouterr()
    assert main(["train", *FAST[:4], "--steps", "1", "--corpus", "packed", "--run", "a", "--sample-every", "0"]) == 0
    assert capsys.readouterr().err.startswith("corpus packed: 1 packed shard, ")
    for flags in (["--lines"], ["--validation", "corpus"], ["--column", "text"], ["--skip-bad-rows"]):
        assert main(["train", *FAST[:4], "--corpus", "packed", "--run", "b", *flags]) == 2
        assert "packed is packed: how its corpus was read" in capsys.readouterr().err


def test_the_report_comes_before_the_text_is_tokenised(folder):
    told = []
    for make in (prepare, prepare_stream):
        corpus = load_corpus(folder, skip_bad_rows=True, streaming=make is prepare_stream)
        prepared = make(corpus, tokenizer="characters", announce=told.append)
        assert told[-1] is prepared.corpus.report
    assert len(told) == 2


# ------------------------------------------------------------------ datasets of the hub


def test_the_splits_of_a_dataset_are_kept_apart(folder, monkeypatch):
    """A folder stands for the hub: `datasets` reads both alike."""
    (folder / "train.jsonl").write_text(lines(TEXTS[:100]))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder.parent / "datasets"))
    for streaming in (False, True):
        train, validation, others = read_hub(str(folder), streaming=streaming)
        assert [row["text"] for row in train] == TEXTS[:100]
        assert [row["text"] for row in validation] == [*TEXTS[100:], TEXTS[0]]
        assert others == ["test"]
    named = "clozelab.data.corpora.sources.read_hub"
    for streaming in (False, True):
        monkeypatch.setattr(named, lambda name, streaming: read_hub(str(folder), streaming=streaming))
        corpus = load_corpus("somebody/dataset", streaming=streaming)
        assert (list(corpus.train), list(corpus.heldout)) == (TEXTS[:100], [*TEXTS[100:], TEXTS[0]])
        assert corpus.report.left_out == {"other splits": ["test"]}
