"""A checkpoint that is damaged, or of another run, is refused in one line with the remedy."""

import json
import random
import re
import shutil

import pytest

from clozelab.cli import main
from clozelab.errors import InputError
from clozelab.training import latest_checkpoint, load_run

FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
NAMES = ("causal", "masked", "span")
CURE = "delete it to continue from step-00000008"


@pytest.fixture
def words(tmp_path):
    """A run of 12 steps on little text, by its objective and its folder."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(200)))
    flags = "--vocab-size 400 --length 24 --batch-size 8 --steps 12 --eval-every 5 --checkpoint-every 4"
    common = ["train", "--corpus", str(corpus), *flags.split(), "--precision", "float32"]
    return lambda objective, run: [*common, "--objective", objective, "--run", str(run)]


REPORT = re.compile(r"\Acorpus .*\n(  .*\n)*")
"""What was found in the corpus, which is printed before it is refused for another reason."""


@pytest.fixture
def refused(capsys):
    """Check that `--resume` and `load_run` refuse a run in one line that mentions all of this."""

    def check(run, *mentions):
        capsys.readouterr()
        assert main(["train", "--run", str(run), "--resume"]) == 2
        error = REPORT.sub("", capsys.readouterr().err).strip()
        assert len(error.splitlines()) == 1, error
        for mention in (str(run), *mentions):
            assert mention in error, error
        with pytest.raises(InputError):
            load_run(run)

    return check


def goes_on_without(path, run, weights):
    """Do what the message advises."""
    shutil.rmtree(path)
    assert main(["train", "--run", str(run), "--resume"]) == 0
    assert (run / "checkpoints" / "step-00000012" / "model.safetensors").read_bytes() == weights


@pytest.mark.faults
@pytest.mark.parametrize("objective", NAMES)
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found(small, words, refused, tmp_path, tally, objective, name):
    """Every bit of state.json, 200 of each of the others."""
    run = tmp_path / "run"
    assert main(words(objective, run)) == 0
    checkpoint = latest_checkpoint(run)
    path, moment = checkpoint.path / name, random.Random(0)
    written, weights = path.read_bytes(), (checkpoint.path / "model.safetensors").read_bytes()
    every = range(8 * len(written))
    for bit in every if name == "state.json" else moment.sample(every, 200):
        damaged = bytearray(written)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        if name == "state.json" and means_the_same(damaged, written):
            continue
        with tally.trying(f"a bit flipped: {name}"), pytest.raises(InputError, match=r"step-00000012"):
            latest_checkpoint(run)
    path.write_bytes(damaged)
    refused(run, "step-00000012")
    goes_on_without(checkpoint.path, run, weights)


def means_the_same(damaged, written):
    """As where the e of 1e-08 became an E."""
    try:
        return json.loads(damaged) == json.loads(written)
    except ValueError:
        return False


@pytest.mark.faults
@pytest.mark.parametrize("objective", NAMES)
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_off_is_found(small, words, refused, tmp_path, tally, objective, name):
    """At 20 random places, at its beginning, one byte before its end; and a file that is missing."""
    run = tmp_path / "run"
    assert main(words(objective, run)) == 0
    checkpoint = latest_checkpoint(run)
    path, moment = checkpoint.path / name, random.Random(0)
    written, weights = path.read_bytes(), (checkpoint.path / "model.safetensors").read_bytes()
    for length in (*moment.sample(range(len(written)), 20), 0, len(written) - 1):
        path.write_bytes(written[:length])
        with tally.trying(f"a file cut off: {name}"), pytest.raises(InputError, match=f"is damaged: .*{CURE}"):
            latest_checkpoint(run)
    path.unlink()
    with tally.trying(f"a file cut off: {name}"):
        refused(run, "is damaged", CURE)
        goes_on_without(checkpoint.path, run, weights)


@pytest.mark.faults
@pytest.mark.parametrize("version", [1, 2, 4, "3", None])
def test_another_format_is_named(small, words, refused, tmp_path, tally, version):
    run = tmp_path / "run"
    assert main(words("masked", run)) == 0
    path = latest_checkpoint(run).path / "state.json"
    written = path.read_bytes()
    path.write_text(json.dumps({**json.loads(written), "format": version}))
    with tally.trying("a checkpoint of another format"):
        old = version in (1, 2)
        refused(
            run, "was written by clozelab 0.1" if old else f"written in format {version}, this version reads format 3"
        )
        path.write_bytes(written)
        assert main(["train", "--run", str(run), "--resume"]) == 0


@pytest.mark.faults
@pytest.mark.parametrize("theirs", NAMES)
@pytest.mark.parametrize("mine", NAMES)
def test_a_checkpoint_of_another_objective_is_refused(small, words, refused, tmp_path, tally, mine, theirs):
    """Of causal and masked LM the weights have the same names and shapes."""
    if mine == theirs:
        return
    for name in (mine, theirs):
        assert main(words(name, tmp_path / name)) == 0
    run = tmp_path / mine
    path = latest_checkpoint(run).path
    weights = (path / "model.safetensors").read_bytes()
    shutil.rmtree(path)
    shutil.copytree(latest_checkpoint(tmp_path / theirs).path, path)
    with tally.trying("a checkpoint of another objective"):
        refused(run, f"its objective is {theirs}, not {mine}", CURE)
        goes_on_without(path, run, weights)


@pytest.mark.faults
@pytest.mark.parametrize("shape", [{"d_model": 48}, {"n_layers": 2}, {"d_model": 16}], ids=str)
@pytest.mark.parametrize("objective", NAMES)
def test_a_checkpoint_of_another_shape_is_refused(
    small, words, refused, tmp_path, tally, objective, shape, monkeypatch
):
    run, other = tmp_path / "run", tmp_path / "other"
    assert main(words(objective, run)) == 0
    with monkeypatch.context() as patch:
        resize(patch, **shape)
        assert main(words(objective, other)) == 0
    path = latest_checkpoint(run).path
    weights = (path / "model.safetensors").read_bytes()
    shutil.rmtree(path)
    shutil.copytree(latest_checkpoint(other).path, path)
    with tally.trying("a checkpoint of another shape of model"):
        refused(run, "is of another run", "describes another", CURE)
        goes_on_without(path, run, weights)


def resize(patch, **shape):
    from clozelab.models import presets

    for sizes in presets.PRESETS.values():
        patch.setitem(sizes, "tiny", {**sizes["tiny"], **shape})
