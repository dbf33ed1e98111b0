"""Token ids train without a tokenizer: every objective, resumed, on the command line."""

import json
import shutil

import numpy as np
import pytest
import torch

from clozelab import SpecialIds
from clozelab.cli import main
from clozelab.data import load_corpus
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES
from clozelab.training import TrainConfig, load_run, prepare, read_metrics, seeded_model, train

NAMES = dict.fromkeys(role for objective in OBJECTIVES.values() for role in objective.roles if role != "mask")
SPECIAL = SpecialIds(
    60,
    pad=50,
    eos=51,
    mask=52,
    sentinels=range(53, 58),
    roles={name: 40 + n for n, name in enumerate(NAMES)},
    ends_sentence=torch.arange(60) % 7 == 0,
)
WALK = 10 + np.cumsum(np.random.default_rng(0).integers(-1, 2, 4000)) % 30
SMALL = {"d_model": 16, "n_layers": 1, "n_heads": 1}


@pytest.mark.parametrize("objective", [cls() for cls in OBJECTIVES.values()], ids=[*OBJECTIVES])
def test_every_objective_trains_on_ids_and_its_resumed_run_is_the_run_bit_for_bit(objective, tmp_path):
    prepared = prepare(load_corpus(WALK, special=SPECIAL))
    sample = 3 if objective.completes else 0
    config = TrainConfig(
        steps=4, length=32, batch_size=4, eval_rows=4, eval_every=0, checkpoint_every=3, sample_every=sample
    )

    def run(folder, resume=False):
        model = seeded_model(objective, SPECIAL.vocab_size, "tiny", 0, **SMALL)
        result = train(
            objective, model, prepared.tokenizer, prepared.text, prepared.heldout, config, run=folder, resume=resume
        )
        return result, model.state_dict()

    result, straight = run(tmp_path / "straight")
    assert (result.heldout.bits_per_byte, result.heldout.per_byte) == (None, "")
    shutil.copytree(tmp_path / "straight", tmp_path / "again")
    shutil.rmtree(tmp_path / "again/checkpoints/step-00000004")
    _, again = run(tmp_path / "again", resume=True)
    assert all(torch.equal(straight[key], again[key]) for key in straight)
    if sample:
        text = next(line["sample"] for line in read_metrics(tmp_path / "again/metrics.jsonl") if "sample" in line)
        assert {*text} <= {*"0123456789 []"}
    loaded = load_run(tmp_path / "again")
    assert loaded.tokenizer.special == SPECIAL


FLAGS = ["--vocab-size", "40", "--length", "16", "--batch-size", "4", "--steps", "3", "--sentinels", "0"]


def test_the_command_line_trains_on_ids_resumes_and_continues_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("walk.npy", WALK)
    flags = ["--corpus", "walk.npy", "--tokenizer", "ids", "--eos", "0", *FLAGS]
    assert main(["train", *flags, "--run", "run", "--sample-every", "2", "--objective", "causal"]) == 0
    told = capsys.readouterr()
    assert "corpus walk.npy: NumPy arrays of token ids" in told.err
    assert "train     1 document, 3,600 token ids" in told.err
    assert "bits per byte" not in told.out + told.err
    shutil.rmtree("run/checkpoints/step-00000003")
    assert main(["train", "--run", "run", "--resume"]) == 0
    capsys.readouterr()
    assert main(["generate", "run", "11 12 13", "--tokens", "4", "--greedy"]) == 0
    numbers = capsys.readouterr().out.replace("[", " ").replace("]", " ").split()
    assert numbers[:3] == ["11", "12", "13"]
    assert all(number.isdecimal() for number in numbers)
    assert main(["generate", "run", "the cat"]) == 2
    assert "expected token ids as numbers with spaces between them, got 'the'" in capsys.readouterr().err
    further = ["--corpus", "walk.npy", "--init-from", "run", "--steps", "2", "--length", "16", "--objective", "causal"]
    assert main(["train", *further, "--run", "further", "--sample-every", "0"]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--corpus walk.npy", "holds numbers: are they token ids? Then state their vocabulary"),
        ("--corpus walk.npy --tokenizer ids", "--tokenizer ids needs --vocab-size"),
        ("--corpus walk.npy --tokenizer ids --vocab-size 20 --sentinels 100", "is too large: expected 0 to 19"),
        ("--corpus walk.npy --tokenizer ids --vocab-size 40 --eos 0 --mask 15", "id 15 in place"),
        ("--corpus walk.npy --tokenizer ids --vocab-size 40 --pad <pad>", "pad: expected an id of the corpus, 0 to 39"),
        ("--corpus walk.npy --tokenizer ids --vocab-size 40 --eos 1 --pad 1 --mask 1", "must all be different ids"),
        ("--corpus a.txt --tokenizer ids --vocab-size 40", "a.txt is text, and token ids are read from"),
        ("--tokenizer ids --vocab-size 40", "the builtin corpus is text and no token ids"),
    ],
)
def test_what_is_no_corpus_of_ids_is_one_line(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("walk.npy", WALK)
    (tmp_path / "a.txt").write_text("5 6 7 8 9")
    assert main(["train", *flags.split(), "--objective", "masked", "--run", "run"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_lists_of_ids_are_streamed_packed_and_mixed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        rows = [WALK[n : n + 30].tolist() for n in range(0, 3900, 10)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"tokens": row}) + "\n" for row in rows))
    ids = ["--tokenizer", "ids", "--column", "tokens", *FLAGS[:2]]
    fast = [*FLAGS[2:8], "--objective", "causal", "--sample-every", "0", "--sentinels", "0"]
    assert main(["train", "--corpus", "a.jsonl", *ids, *fast, "--stream", "--run", "stream"]) == 0
    mixture = ["--corpus", "a.jsonl=1", "--corpus", "b.jsonl=2"]
    assert main(["train", *mixture, *ids, *fast, "--run", "mixture"]) == 0
    assert main(["pack", "--corpus", "a.jsonl", *ids, "--out", "packed"]) == 0
    assert "bytes" not in capsys.readouterr().out
    assert main(["train", "--corpus", "packed", *fast[:-2], "--run", "packed-run"]) == 0


def test_ids_need_no_tokenizer():
    corpus = load_corpus(WALK, special=SPECIAL)
    for tokenizer in ("characters", SPECIAL):
        if tokenizer == "characters":
            with pytest.raises(InputError, match="documents holds token ids, so characters cannot be used"):
                prepare(corpus, tokenizer=tokenizer)
        else:
            assert prepare(corpus, tokenizer=tokenizer).tokenizer.special == SPECIAL
