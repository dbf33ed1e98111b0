"""What changes before a run is resumed, or breaks in it, is refused by name, and the run continues without it."""

import math

import pytest

import clozelab.training
from clozelab.cli import main
from clozelab.data.corpora.documents import is_heldout
from clozelab.training import latest_checkpoint

DOCUMENTS = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(200)]
HELD_OUT = next(n for n, document in enumerate(DOCUMENTS) if is_heldout(document, 0.1))
TRAINED_ON = next(n for n, document in enumerate(DOCUMENTS) if not is_heldout(document, 0.1))
NAMES = ("causal", "masked", "span")


@pytest.fixture
def corpus(tmp_path):
    """A folder of documents, written anew by calling it."""
    folder = tmp_path / "corpus"
    folder.mkdir()

    def write(documents):
        for old in folder.iterdir():
            old.unlink()
        for n, document in enumerate(documents):
            (folder / f"{n:03d}.txt").write_text(document)
        return folder

    write(DOCUMENTS)
    return write


@pytest.fixture
def words(corpus):
    flags = "--vocab-size 400 --length 24 --batch-size 8 --steps 12 --eval-every 5 --checkpoint-every 4"
    common = ["train", "--corpus", str(corpus(DOCUMENTS)), *flags.split(), "--precision", "float32"]
    return lambda objective, run: [*common, "--objective", objective, "--run", str(run)]


def weights(run):
    return (run / "checkpoints" / "step-00000012" / "model.safetensors").read_bytes()


@pytest.mark.faults
@pytest.mark.parametrize(
    "changed",
    [
        [*DOCUMENTS, "One more document, about something else."],
        DOCUMENTS[:-1],
        [*DOCUMENTS[1:], DOCUMENTS[0]],
        [document.replace("Document 7 ", "Document 8 ") for document in DOCUMENTS],
        [document for n, document in enumerate(DOCUMENTS) if n != HELD_OUT],
        [document for n, document in enumerate(DOCUMENTS) if n != TRAINED_ON],
    ],
    ids=["longer", "shorter", "in another order", "one letter", "one held out less", "one trained on less"],
)
def test_a_corpus_that_changed_is_refused_and_the_old_one_continues(
    small, corpus, words, tmp_path, tally, capsys, changed
):
    run, cache = tmp_path / "run", tmp_path / "cache"
    assert main(words("masked", tmp_path / "whole")) == 0
    assert main([*words("masked", run)]) == 0
    for later in sorted((run / "checkpoints").iterdir())[1:]:
        later.rename(tmp_path / "later")  # as if it had been stopped at step 8
    kept = {path: path.read_bytes() for path in cache.iterdir()}
    corpus(changed)
    with tally.trying("a corpus that changed between runs"):
        capsys.readouterr()
        assert main(["train", "--run", str(run), "--resume"]) == 2
        error = capsys.readouterr().err
        assert f"{run} was begun on another text" in error
        assert "bring those back, or begin another run in a folder of its own" in error
        assert main(words("masked", tmp_path / "another")) == 0
        now = {path: path.read_bytes() for path in cache.iterdir()}
        assert now.items() > kept.items()  # made anew beside the old, which is as it was
        corpus(DOCUMENTS)
        assert main(["train", "--run", str(run), "--resume"]) == 0
        assert weights(run) == weights(tmp_path / "whole")


@pytest.mark.faults
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("step", [1, 5, 12])
@pytest.mark.parametrize("objective", NAMES)
def test_a_gradient_that_is_not_finite_is_refused_and_the_run_continues_without_it(
    small, words, tmp_path, tally, capsys, monkeypatch, objective, step, bad
):
    """One number of one gradient, at one step."""
    run = tmp_path / "run"
    assert main(words(objective, tmp_path / "whole")) == 0
    real, steps = clozelab.training.seeded_model, []

    def model_with_a_fault(*arguments, **settings):
        model = real(*arguments, **settings)

        def spoil(gradient):
            steps.append(1)
            spoiled = gradient.clone()
            spoiled.view(-1)[0] = bad if len(steps) == step else spoiled.view(-1)[0]
            return spoiled

        list(model.parameters())[-1].register_hook(spoil)
        return model

    with tally.trying("NaN or infinity in a gradient"):
        with monkeypatch.context() as patch:
            patch.setattr(clozelab.training, "seeded_model", model_with_a_fault)
            capsys.readouterr()
            assert main(words(objective, run)) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        saved = (step - 1) // 4 * 4
        assert f"step {step}: the loss is" in error
        assert "this step changed no weight" in error
        assert "a lower learning rate is the usual cure" in error
        assert not saved or f"the checkpoint of step {saved} is kept" in error
        assert (latest_checkpoint(run).step if saved else 0) == saved
        assert main(["train", "--run", str(run), "--resume"]) == 0
        assert weights(run) == weights(tmp_path / "whole")
