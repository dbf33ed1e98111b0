"""A run folder: resumed bit for bit, never mixed up with another run, and whole whatever happens to the disk."""

import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch

from clozelab.data import pack
from clozelab.errors import InputError
from clozelab.objectives import CausalLM, MaskedDiffusion, MaskedLM
from clozelab.training import evaluator, latest_checkpoint, read_checkpoint, read_metrics, read_run, seeded_model


@pytest.mark.parametrize(("dropout", "optimizer"), [(0.0, "adamw"), (0.3, "muon")])
@pytest.mark.parametrize("objective", [MaskedLM(), MaskedDiffusion()], ids=repr)
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(
    objective, dropout, optimizer, small_run, same_weights, tmp_path
):
    config = replace(small_run.config, optimizer=optimizer)
    whole, _ = small_run(objective, config, dropout=dropout, run=tmp_path / "whole")
    small_run(objective, config, dropout=dropout, run=tmp_path / "cut")
    for later in sorted((tmp_path / "cut" / "checkpoints").iterdir())[1:]:
        shutil.rmtree(later)  # as if it had been killed after the checkpoint of step 8
    assert latest_checkpoint(tmp_path / "cut").step == 8
    torch.manual_seed(7)
    resumed, result = small_run(objective, config, dropout=dropout, run=tmp_path / "cut", resume=True)
    assert result.step == 12
    assert same_weights(whole, resumed)
    a, b = (
        [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(tmp_path / name / "metrics.jsonl")]
        for name in ("whole", "cut")
    )
    assert a == b


def test_parameters_without_a_gradient_have_no_moments_and_their_run_is_resumed(
    small_run, same_weights, tmp_path, monkeypatch
):
    """All of them where the run stopped before its first step, and later those that are not used."""

    def with_an_idle_one(**settings):
        model = seeded_model(MaskedLM(), small_run.tokenizer.vocab_size, "tiny", 0, d_model=32, n_layers=1, n_heads=2)
        model.idle = torch.nn.Parameter(torch.ones(3))
        return small_run(MaskedLM(), model=model, **settings)

    whole, _ = with_an_idle_one()
    real = evaluator.Evaluator._scores

    def stopped(*arguments, **settings):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(evaluator.Evaluator, "_scores", stopped)
        assert with_an_idle_one(run=tmp_path / "run")[1].step == 0
    with_an_idle_one(run=tmp_path / "run", resume=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000012")
    resumed, result = with_an_idle_one(run=tmp_path / "run", resume=True)
    assert result.finished
    assert same_weights(whole, resumed)


def test_a_finished_run_resumed_does_nothing_more(small_run, same_weights, tmp_path):
    whole, _ = small_run(MaskedLM(), run=tmp_path / "run")
    again, result = small_run(MaskedLM(), run=tmp_path / "run", resume=True)
    assert result.finished
    assert same_weights(whole, again)


def test_a_folder_that_holds_a_run_is_not_overwritten(small_run, tmp_path):
    small_run(MaskedLM(), run=tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match="already holds a run"):
        small_run(MaskedLM(), run=tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def first_half(tokens, maskable, generator):
    return maskable & (torch.arange(len(tokens)) < len(tokens) // 2)


@pytest.mark.parametrize(
    ("objective", "seed", "message"),
    [
        (CausalLM(), 0, "is another run by its objective: 'masked' there, 'causal' here"),
        (MaskedLM(mask_rate=0.3), 0, "by its options: mask_rate = 0.15 there, 0.3 here"),
        (MaskedLM(scheme=first_half), 0, "by its options: scheme = 'exact-count' there, None here"),
        (MaskedLM(), 1, "seed = 0 there, 1 here"),
    ],
    ids=["objective", "option", "function", "seed"],
)
def test_another_run_is_not_resumed(small_run, tmp_path, objective, seed, message):
    small_run(MaskedLM(), run=tmp_path / "run")
    with pytest.raises(InputError, match=message):
        small_run(objective, replace(small_run.config, seed=seed), run=tmp_path / "run", resume=True)


def test_a_corpus_that_changed_is_not_resumed(small_run, packed, tmp_path):
    small_run(MaskedLM(), run=tmp_path / "run")
    other = pack(["Something else altogether, " * 40], small_run.tokenizer, cache_dir=tmp_path)
    with pytest.raises(InputError, match="begun on another text"):
        small_run(MaskedLM(), packed=(other, packed[1]), run=tmp_path / "run", resume=True)


# ------------------------------------------------------------------ clozelab 0.1


@pytest.fixture
def written_by_0_1(small_run, tmp_path):
    """A run folder in the format of clozelab 0.1."""
    small_run(MaskedLM(), run=tmp_path / "run")
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    shape = {"vocab_size": 500, "width": 32, "layers": 1, "heads": 2, "inner_width": None, "decoder_layers": None}
    old = {
        "format": 1,
        "objective": "masked",
        "objective_settings": {"rate": 0.15, "mask_share": 0.8, "random_share": 0.1},
        "model": shape,
        **{key: described[key] for key in ("corpus", "train", "tokenizer_sha256", "versions", "description")},
    }
    (tmp_path / "run" / "run.json").write_text(json.dumps(old))
    for path in (tmp_path / "run" / "checkpoints").glob("step-*/state.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    return tmp_path / "run"


def test_a_run_of_clozelab_0_1_is_refused_by_name(written_by_0_1, small_run):
    message = r"was written by clozelab 0\.1 and cannot be read[^\n]*$"
    with pytest.raises(InputError, match=message):
        read_run(written_by_0_1)
    with pytest.raises(InputError, match=message):
        small_run(MaskedLM(), run=written_by_0_1, resume=True)
    with pytest.raises(InputError, match=message):
        read_checkpoint(written_by_0_1 / "checkpoints" / "step-00000012")


@pytest.mark.parametrize("version", [3, "2", None])
def test_a_run_of_an_unknown_format_is_refused(version, small_run, write_run, tmp_path):
    small_run(MaskedLM(), run=tmp_path / "run")
    write_run(tmp_path / "run", {**read_run(tmp_path / "run"), "format": version})
    with pytest.raises(InputError, match="of a format that this version does not read"):
        read_run(tmp_path / "run")


# ------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_checkpoint_is_found_and_the_one_before_it_named(small_run, tmp_path, name, damage):
    small_run(MaskedLM(), run=tmp_path / "run")
    path = latest_checkpoint(tmp_path / "run").path / name
    content = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    if name == "state.json" and damage == "flip":
        path.write_text("{}")
    with pytest.raises(InputError, match=r"is damaged: .*delete it to continue from step-00000008"):
        latest_checkpoint(tmp_path / "run")
    shutil.rmtree(path.parent)
    assert latest_checkpoint(tmp_path / "run").step == 8


def test_only_the_last_two_checkpoints_are_kept(small_run, tmp_path):
    small_run(MaskedLM(), run=tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-00000008", "step-00000012"]


def test_a_full_disk_while_saving_leaves_the_last_checkpoint_whole(small_run, tmp_path, monkeypatch):
    import clozelab.training.checkpoint as checkpoint

    real, calls = checkpoint.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        small_run(MaskedLM(), run=tmp_path / "run")
    assert latest_checkpoint(tmp_path / "run").step == 4
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]
