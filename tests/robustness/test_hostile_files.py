"""Hostile files: no code runs, nothing is written elsewhere, memory stays bounded, and one line names the reason."""

import hashlib
import json
import os
import pickle
import re
import shutil
import struct
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clozelab.cli import main
from clozelab.course import Result
from clozelab.data import load_corpus, load_tokenizer, train_bpe
from clozelab.errors import InputError
from clozelab.escape import escape_control_characters
from clozelab.training import load_run, read_checkpoint, read_metrics, read_run

DOCUMENTS = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}, which is odd." for n in range(200)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of each kind, to be copied and tampered with."""
    folder = tmp_path_factory.mktemp("trained")
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": document}) + "\n" for document in DOCUMENTS))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CLOZELAB_CACHE", str(folder / "cache"))
        sizes = ["--steps", "3", "--length", "32", "--batch-size", "4", "--vocab-size", "400"]
        assert main(["train", "--corpus", str(corpus), "--run", str(folder / "run"), *sizes]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOZELAB_CACHE", str(trained / "cache"))
    shutil.copytree(trained / "run", "run")
    return Path("run")


REPORT = re.compile(r"\Acorpus .*\n(  .*\n)*")
"""What was found in the corpus, which is printed before it is refused for another reason."""


def refused(capsys, arguments, message=""):
    capsys.readouterr()
    code = main(arguments)
    error = REPORT.sub("", capsys.readouterr().err)
    assert code == 2, error
    assert len(error.strip().splitlines()) == 1, error
    assert "\x1b" not in error
    assert message in error, error


def checkpoint_of(run):
    [path] = (run / "checkpoints").iterdir()
    return path


def sealed(run, name, content):
    """Put a file into the checkpoint, with its true sum in state.json."""
    (checkpoint_of(run) / name).write_bytes(content)
    with changed_state(run) as state:
        state["sha256"][name] = hashlib.sha256(content).hexdigest()


@contextmanager
def changed_state(run):
    """The checkpoint's state, to be tampered with; afterwards its own sum is right again."""
    path = checkpoint_of(run) / "state.json"
    state = json.loads(path.read_text())
    del state["sha256_of_this"]
    yield state
    state["sha256_of_this"] = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(state))


class Exploit:
    """What a pickle does when it is read."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


USES = [["generate", "run", "Document"], ["train", "--run", "run", "--resume"]]


# ------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("use", USES, ids=lambda use: use[0])
@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Exploit()),
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 99) + b'{"a":',
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 66) + b'{"embedding.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,'.ljust(66),
        b"",
        b"PK\x03\x04" + b"\0" * 100,
    ],
    ids=["pickle", "header of 2^60", "cut short", "nested", "a list", "no JSON", "empty", "zip"],
)
@pytest.mark.parametrize("seal", [True, False], ids=["sum is right", "sum is wrong"])
def test_weights_that_are_no_safetensors_are_refused(seal, content, use, run, capsys):
    if seal:
        sealed(run, "model.safetensors", content)
    else:
        (checkpoint_of(run) / "model.safetensors").write_bytes(content)
    refused(capsys, use, "is damaged: model.safetensors")
    assert not Path("hacked").exists()


def test_a_pickle_beside_the_weights_is_never_opened(run, capsys):
    for name in ("pytorch_model.bin", "model.pt", "optimizer.pt", "model.pkl", ".metadata"):
        (checkpoint_of(run) / name).write_bytes(pickle.dumps(Exploit()))
    assert main(["generate", "run", "Document"]) == 0
    assert not Path("hacked").exists()


@pytest.mark.parametrize(
    "tamper",
    [
        lambda tensors: {},
        lambda tensors: {**tensors, "x": torch.zeros(1)},
        lambda tensors: {**tensors, "999.exp_avg": torch.zeros(1)},
        lambda tensors: {name: value for name, value in tensors.items() if not name.startswith("0.")},
        lambda tensors: {**tensors, "0.exp_avg": torch.zeros(3)},
    ],
    ids=["none", "no number", "too many", "too few", "another shape"],
)
def test_the_optimiser_state_of_another_run_is_refused(tamper, run, capsys):
    tensors = tamper(load_file(checkpoint_of(run) / "optimizer.safetensors"))
    save_file(tensors, "changed.safetensors")
    sealed(run, "optimizer.safetensors", Path("changed.safetensors").read_bytes())
    refused(capsys, USES[1], "the optimiser's state cannot be read")


def test_settings_of_the_optimiser_are_never_read_from_a_file(run, capsys):
    with changed_state(run) as state:
        for group in state["param_groups"]:
            group |= {"lr": "x", "highest": "x", "betas": [7, 7], "foreach": {"a": 1}}
    assert main(USES[1]) == 0


ABSURD = [10**400, 1e999, -1, float("nan"), "x", None, [], {}]


@pytest.mark.parametrize("value", ABSURD, ids=str)
@pytest.mark.parametrize("key", ["step", "seconds", "format", "sha256"])
def test_absurd_numbers_in_a_state_are_refused(key, value, run, capsys):
    with changed_state(run) as state:
        state[key] = value
    for use in USES:
        refused(capsys, use, "step-00000003")


@pytest.mark.parametrize("use", USES, ids=lambda use: use[0])
@pytest.mark.parametrize("name", ["../../../secret", "/etc/passwd", "a\0b", "..", "", "x" * 5000, "\x1b[31m"], ids=repr)
def test_a_state_that_names_files_elsewhere_is_refused(name, use, run, capsys):
    Path("secret").write_text("x")
    with changed_state(run) as state:
        state["sha256"][name] = hashlib.sha256(b"x").hexdigest()
    refused(capsys, use, "is damaged")


@pytest.mark.parametrize("sums", [[["model.safetensors", 1]], [[1, 2]], {"model.safetensors": None}, "ab", [[[], 1]]])
def test_invalid_checksums_are_refused(sums, run, capsys):
    with changed_state(run) as state:
        state["sha256"] = sums
    for use in USES:
        refused(capsys, use, "is damaged")


CONTENTS = {
    "empty": b"",
    "no JSON": b"{'a': 1}",
    "no UTF-8": b"\xff\xfe{}",
    "nested": b"[" * 200_000,
    "nested objects": b'{"a":' * 200_000,
    "a number of a million digits": b'{"format": 1' + b"0" * 10**6 + b"}",
    "a list": b"[1]",
    "null": b"null",
    "huge": b" " * (2**26 + 1),
}


@pytest.mark.parametrize("use", USES, ids=lambda use: use[0])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("name", ["run.json", "state.json", "tokenizer.json"])
def test_files_of_another_format_than_their_names_are_refused(name, content, use, run, capsys):
    (checkpoint_of(run) if name == "state.json" else run).joinpath(name).write_bytes(content)
    refused(capsys, use, name)


@pytest.mark.parametrize(
    "shape",
    [
        {"d_model": 2**40},
        {"d_model": 2**40, "n_heads": 2**38},
        {"n_layers": 10**12},
        {"n_decoder_layers": 10**12},
        {"vocab_size": 10**15},
        {"feed_forward": 10**15},
        {"d_model": "128"},
        {"d_model": None},
        {"n_heads": 0},
        {"dropout": "x"},
        {"rotary_base": 1e999},
        {"unheard_of": 1},
        {"n_layers": 3},
        {"vocab_size": 401},
    ],
    ids=str,
)
def test_a_model_is_not_built_unless_it_is_as_large_as_its_weights(shape, run, write_run, capsys):
    described = read_run(run)
    described["model"] |= shape
    write_run(run, described)
    refused(capsys, USES[0], "run")


@pytest.mark.parametrize(
    "command",
    [
        {"help": True},
        {"version": True},
        {"steps": "9" * 5000},
        {"run": "/elsewhere"},
        {"corpus": "\x1b]0;x\x07"},
        {"": 1},
        {"objective": "\x1b[31m"},
        {"corpus": "../secret.txt"},
        {"tokenizer": ["a"]},
        {"length": {"a": 1}},
    ],
    ids=str,
)
def test_a_command_in_a_run_folder_cannot_do_more_than_flags_can(command, run, write_run, capsys):
    described = read_run(run)
    described["description"]["command"] |= command
    write_run(run, described)
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    code = main(USES[1])
    captured = capsys.readouterr()
    if command == {"run": "/elsewhere"} or command == {"tokenizer": ["a"]}:  # ignored: the run is where it is
        assert code == 0, captured.err
    else:
        assert code == 2, captured.err
        assert len(REPORT.sub("", captured.err).strip().splitlines()) == 1
    assert "\x1b" not in captured.err + captured.out
    assert not Path("/elsewhere").exists()
    assert sorted(Path().rglob("*")) == before


# ------------------------------------------------------------------ links


def test_nothing_is_written_through_a_link_in_a_run_folder(run, capsys):
    outside = Path("outside")
    shutil.move(run / "checkpoints", outside)
    (run / "checkpoints").symlink_to(outside.resolve())
    refused(capsys, USES[1], "checkpoints is a link")
    assert [path.name for path in outside.iterdir()] == ["step-00000003"]
    shutil.rmtree(outside)
    refused(capsys, USES[1], "checkpoints is a link")


def test_metrics_that_are_a_link_are_replaced_and_not_followed(run):
    Path("precious").write_text('{"a": 1}\n')
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(Path("precious").resolve())
    assert main(USES[1]) == 0
    assert Path("precious").read_text() == '{"a": 1}\n'


def test_a_link_to_a_run_folder_is_followed(run, capsys):
    Path("link").symlink_to("run")
    assert main(["generate", "link", "Document"]) == 0
    assert main(["train", "--run", "link", "--resume"]) == 0
    Path("nowhere").symlink_to("missing")
    refused(capsys, ["train", "--corpus", "x.txt", "--run", "nowhere"])
    refused(capsys, ["generate", "nowhere", "x"], "holds no run")


def test_a_pipe_in_place_of_a_file_does_not_block(run, capsys):
    for path in (run / "tokenizer.json", checkpoint_of(run) / "state.json", run / "metrics.jsonl", run / "run.json"):
        kept = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        refused(capsys, USES[path.name == "metrics.jsonl"], path.name)
        path.unlink()
        path.write_bytes(kept)


def test_a_corpus_folder_may_hold_loops_pipes_and_broken_links(tmp_path):
    for n, text in enumerate(DOCUMENTS[:40]):
        (tmp_path / f"{n}.txt").write_text(text)
    (tmp_path / "self").symlink_to(".")
    (tmp_path / "up").symlink_to("..")
    (tmp_path / "broken.txt").symlink_to("nowhere")
    (tmp_path / "itself.txt").symlink_to("itself.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "folder.txt").mkdir()
    corpus = load_corpus(tmp_path)
    assert sorted([*corpus.train, *corpus.heldout]) == sorted(DOCUMENTS[:40])


@pytest.mark.parametrize("name", ["a[1].jsonl", "star*.jsonl", "what?.jsonl", "two words.jsonl", "100%.jsonl"])
def test_the_name_of_a_corpus_is_not_a_pattern(name, tmp_path):
    rows = "".join(json.dumps({"text": document}) + "\n" for document in DOCUMENTS)
    (tmp_path / name).write_text(rows)
    for other in ("a1.jsonl", "star-other.jsonl", "whatx.jsonl"):
        (tmp_path / other).write_text(rows.replace("Document", "Other"))
    corpus = load_corpus(tmp_path / name)
    assert sorted([*corpus.train, *corpus.heldout]) == sorted(DOCUMENTS)


# ------------------------------------------------------------------ tokenizers


@pytest.fixture(scope="module")
def described():
    return json.loads(train_bpe(DOCUMENTS, vocab_size=400, sentinels=4).backend.to_str())


def changed(described, **parts):
    return json.loads(json.dumps(described)) | parts


def with_id(described, number):
    copy = changed(described)
    copy["model"]["vocab"]["zz"] = number
    return copy


def doubling(kind, times):
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    return {"type": "Sequence", kind: [step] * times}


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (lambda t: with_id(t, 2**40), "is not a tokenizer.json"),
        (lambda t: with_id(t, 2**31 - 1), "1 to 2,000,000 ids"),
        (lambda t: with_id(t, 2**32 - 1), "1 to 2,000,000 ids"),
        (lambda t: with_id(t, -1), "is not a tokenizer.json"),
        (lambda t: with_id(t, 1.5), "is not a tokenizer.json"),
        (lambda t: with_id(t, 5), "expected an id for each token, but '.+' and '.+' have the same, 5"),
        (lambda t: changed(t, normalizer=doubling("normalizers", 40)), "1,099,511,627,776 times as long"),
        (lambda t: changed(t, decoder=doubling("decoders", 40)), "times as long"),
        (lambda t: changed(t, normalizer={"type": "Prepend", "prepend": 5}), "is not a tokenizer.json"),
        (lambda t: changed(t, pre_tokenizer={"type": "Split"}), "is not a tokenizer.json"),
        (lambda t: changed(t, model={"type": "Unheard"}), "is not a tokenizer.json"),
        (lambda t: changed(t, added_tokens=[{"id": 0}]), "is not a tokenizer.json"),
        (lambda t: [], "is not a tokenizer.json"),
    ],
)
def test_an_absurd_tokenizer_is_refused(tamper, message, described, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(tamper(described)))
    with pytest.raises(InputError, match=message):
        load_tokenizer(tmp_path)


def test_the_ids_of_a_gap_are_no_text(described, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(with_id(described, 10_000)))
    special = load_tokenizer(tmp_path).special
    there = train_bpe(DOCUMENTS, vocab_size=400, sentinels=4).special
    assert set(special.replacements.tolist()) <= {*there.replacements.tolist(), 10_000}


def test_dropout_in_a_tokenizer_file_is_ignored(described, tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        json.dumps(changed(described, model={**described["model"], "dropout": 0.9}))
    )
    tokenizer = load_tokenizer(tmp_path)
    without = train_bpe(DOCUMENTS, vocab_size=400, sentinels=4)
    assert tokenizer.encode("Document 7 says") == without.encode("Document 7 says")


def test_a_pattern_that_backtracks_too_long_is_an_error(described, tmp_path):
    """The library stops at a limit of its own, and panics with what is no `Exception`."""
    backtracks = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed(described, pre_tokenizer=backtracks)))
    tokenizer = load_tokenizer(tmp_path)
    for call in (tokenizer.encode, tokenizer.word_ids, lambda text: tokenizer.encode_batch([text])):
        with pytest.raises(InputError, match="does its pattern backtrack"):
            call("a" * 60 + "!")


def test_many_added_tokens_are_only_many(described, tmp_path):
    added = changed(described)
    one = added["added_tokens"][0]
    added["added_tokens"] += [{**one, "content": f"<q{n}>", "id": 400 + n} for n in range(10_000)]
    (tmp_path / "tokenizer.json").write_text(json.dumps(added))
    assert len(load_tokenizer(tmp_path).special.others) == 10_000


# ------------------------------------------------------------------ control characters

CONTROLS = "\x1b[31mred\x1b]0;title\x07\x1bP\x9b2J\r\x08\x7f\u202ereversed\u2066"


def test_every_control_character_becomes_a_visible_symbol():
    for code in range(0x110000):
        sign = chr(code)
        shown = escape_control_characters(sign)
        if sign in "\t\n":
            assert shown == sign
        elif code < 32 or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000:
            assert shown != sign
            assert shown.isprintable()
    assert escape_control_characters("café 漢字 👩‍💻 नमस्ते\t\n") == "café 漢字 👩‍💻 नमस्ते\t\n"


def controls(text):
    return {sign for sign in text if escape_control_characters(sign) != sign}


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", CONTROLS],
        ["generate", "run", f"Document {CONTROLS}", "--tokens", "3"],
        ["generate", CONTROLS, "x"],
        ["train", "--corpus", f"{CONTROLS}.txt", "--run", "new"],
        ["train", "--corpus", "corpus.jsonl", "--column", CONTROLS, "--run", "new"],
        ["train", "--objective", CONTROLS],
        ["fill", "run", CONTROLS],
        ["check", f"{CONTROLS}:x"],
        ["check", "hostile.py:scheme"],
        ["course", "--folder", "results"],
        ["course", "--folder", "results", "--markdown"],
        ["course", "--folder", CONTROLS],
    ],
    ids=lambda arguments: " ".join(arguments[:2])[:20].encode("ascii", "replace").decode(),
)
def test_nothing_that_is_printed_controls_the_terminal(arguments, run, capfd):
    Path("corpus.jsonl").write_text(json.dumps({"text": CONTROLS}) + "\n")
    Path("hostile.py").write_text(f"def scheme(tokens, maskable, generator):\n    raise ValueError({CONTROLS!r})\n")
    Path("results").mkdir()
    texts = [field.name for field in fields(Result) if field.type == "str"]
    more = {"lesson": "01", "verdict": "held", "seeds": [0], "seconds": 1.0, "arguments": [], "figures": {}}
    lists = {
        "headings": [CONTROLS],
        "rows": [[CONTROLS]],
        "gates": [[CONTROLS, "passed"]],
        "parts": [[CONTROLS, "held"]],
    }
    Path("results/01_a.json").write_text(json.dumps({**dict.fromkeys(texts, CONTROLS), **more, **lists}))
    capfd.readouterr()
    main(arguments)
    captured = capfd.readouterr()
    assert captured.out + captured.err
    assert not controls(captured.out + captured.err)


def test_a_sample_above_the_progress_bar_is_escaped(trained, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path / "cache"))
    Path("corpus.jsonl").write_text("".join(json.dumps({"text": f"{CONTROLS} {n}"}) + "\n" for n in range(300)))
    sizes = ["--steps", "1", "--length", "32", "--batch-size", "4", "--vocab-size", "400", "--sample-every", "1"]
    assert main(["train", "--corpus", "corpus.jsonl", "--run", "new", *sizes]) == 0
    captured = capfd.readouterr()
    assert "reversed" in captured.err
    assert not controls(captured.out + captured.err)


def test_metrics_are_data_and_lines_of_any_length_are_kept(run):
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 1, "sample": "\\u001b[31m"}\n' + b'{"step": "x"}\n[1]\n' + b"9" * 2_000_000 + b"\n")
    assert main(USES[1]) == 0
    assert b"9" * 2_000_000 in (run / "metrics.jsonl").read_bytes()
    assert all(isinstance(line["step"], int) for line in read_metrics(run / "metrics.jsonl"))


def test_the_library_refuses_the_same_files(run):
    path = checkpoint_of(run)
    sealed(run, "model.safetensors", pickle.dumps(Exploit()))
    with pytest.raises(InputError, match="is damaged"):
        load_run(run)
    assert read_checkpoint(path).step == 3  # its files are whole; what is in them is read by load_run
    with pytest.raises(InputError, match="no result of a lesson"):
        Result.load(path / "state.json")


def test_a_tokenizer_that_panics_is_refused(run, monkeypatch):
    """The library panics in Rust, which arrives as an error that is no `Exception`; Ctrl-C is passed on."""

    class PanicException(BaseException):
        pass

    class Backend:
        def from_str(text):
            raise Backend.error

    monkeypatch.setattr("clozelab.data.tokenizers.files.tokenizers.Tokenizer", Backend)
    Backend.error = PanicException("range end index 18446744073709551613 out of range for slice of length 8")
    with pytest.raises(InputError, match=r"is not a tokenizer\.json: range end index"):
        load_tokenizer(run / "tokenizer.json")
    Backend.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        load_tokenizer(run / "tokenizer.json")
