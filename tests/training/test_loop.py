"""The one loop: one mean a step, resume bit for bit, and a clear end to whatever goes wrong."""

import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch

from clozelab.data import pack
from clozelab.errors import InputError
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption
from clozelab.training import NotFinite, TrainConfig, latest_checkpoint, load_run, loop, read_metrics, train
from clozelab.training.run import seeded_model

OBJECTIVES = [CausalLM(), MaskedLM(), SpanCorruption()]
SMALL = {"d_model": 32, "n_layers": 1, "n_heads": 2}
CONFIG = TrainConfig(steps=12, length=24, batch_size=8, eval_every=5, checkpoint_every=4, eval_rows=8)


@pytest.fixture(scope="module")
def packed(tokenizer, tmp_path_factory):
    documents = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(80)]
    cache = tmp_path_factory.mktemp("cache")
    return pack(documents[:60], tokenizer, cache_dir=cache), pack(documents[60:], tokenizer, cache_dir=cache)


def run_it(objective, tokenizer, packed, config=CONFIG, dropout=0.0, **settings):
    model = seeded_model(objective, tokenizer.vocab_size, "tiny", config.seed, **SMALL, dropout=dropout)
    return model, train(objective, model, tokenizer, *packed, config, **settings)


def same_weights(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_training_lowers_the_held_out_loss(objective, tokenizer, packed):
    config = TrainConfig(steps=60, length=24, batch_size=8, eval_every=0, learning_rate=1e-2)
    _, result = run_it(objective, tokenizer, packed, config)
    (_, before), (_, after) = result.curve[0], result.curve[-1]
    assert result.finished
    assert after < 0.8 * before


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_micro_batches_make_the_same_step(objective, tokenizer, packed):
    """One optimiser step on 8 rows equals 8 accumulated steps of 1 row, but for rounding."""
    one = TrainConfig(steps=1, length=24, batch_size=8, warmup=0.0, decay=0.0)
    eight = TrainConfig(steps=1, length=24, batch_size=8, micro_batch_size=1, warmup=0.0, decay=0.0)
    torch.set_default_dtype(torch.float64)
    try:
        (a, _), (b, _) = run_it(objective, tokenizer, packed, one), run_it(objective, tokenizer, packed, eight)
    finally:
        torch.set_default_dtype(torch.float32)
    for (name, p), (_, q) in zip(a.named_parameters(), b.named_parameters()):
        assert (p - q).abs().max() < 1e-6, name


@pytest.mark.parametrize("more", [{}, {"dropout": 0.3, "config": replace(CONFIG, optimizer="muon")}], ids=["", "muon"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_a_resumed_run_ends_with_the_same_weights_bit_for_bit(objective, more, tokenizer, packed, tmp_path):
    whole, _ = run_it(objective, tokenizer, packed, run=tmp_path / "whole", **more)
    run_it(objective, tokenizer, packed, run=tmp_path / "cut", **more)
    for later in sorted((tmp_path / "cut" / "checkpoints").iterdir())[1:]:
        shutil.rmtree(later)  # as if it had been killed after the checkpoint of step 8
    assert latest_checkpoint(tmp_path / "cut").step == 8
    torch.manual_seed(7)  # which has no say
    resumed, result = run_it(objective, tokenizer, packed, run=tmp_path / "cut", resume=True, **more)
    assert result.step == 12
    assert same_weights(whole, resumed)
    a, b = (
        [
            {k: line.get(k) for k in ("step", "loss", "paid", "lr", "grad_norm", "heldout")}
            for line in read_metrics(tmp_path / name / "metrics.jsonl")
        ]
        for name in ("whole", "cut")
    )
    assert a == b


def test_parameters_that_have_had_no_gradient_have_no_moments_and_a_run_of_them_is_resumed(
    tokenizer, packed, tmp_path, monkeypatch
):
    """All of them where it was stopped before the first step, and later those that are not used."""

    def with_an_idle_one(**settings):
        model = seeded_model(MaskedLM(), tokenizer.vocab_size, "tiny", 0, **SMALL)
        model.idle = torch.nn.Parameter(torch.ones(3))
        return model, train(MaskedLM(), model, tokenizer, *packed, CONFIG, **settings)

    whole, _ = with_an_idle_one()
    real = loop.evaluate

    def stopped(*arguments, **settings):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "evaluate", stopped)
        assert with_an_idle_one(run=tmp_path / "run")[1].step == 0
    with_an_idle_one(run=tmp_path / "run", resume=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000012")
    resumed, result = with_an_idle_one(run=tmp_path / "run", resume=True)
    assert result.finished
    assert same_weights(whole, resumed)


def test_a_finished_run_resumed_does_nothing_more(tokenizer, packed, tmp_path):
    whole, _ = run_it(MaskedLM(), tokenizer, packed, run=tmp_path / "run")
    again, result = run_it(MaskedLM(), tokenizer, packed, run=tmp_path / "run", resume=True)
    assert result.finished
    assert same_weights(whole, again)


def test_the_global_random_state_has_no_say(tokenizer, packed):
    torch.manual_seed(0)
    a, _ = run_it(MaskedLM(), tokenizer, packed)
    torch.manual_seed(1)
    b, _ = run_it(MaskedLM(), tokenizer, packed)
    assert same_weights(a, b)


def test_ctrl_c_finishes_the_step_saves_and_returns(tokenizer, packed, tmp_path, monkeypatch):
    objective = MaskedLM()
    steps = []

    class Interrupting(MaskedLM):
        def forward(self, model, batch):
            steps.append(1)
            if model.training and len(steps) == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return super().forward(model, batch)

    before = signal.getsignal(signal.SIGINT)  # a shell has its background jobs ignore it
    _, result = run_it(Interrupting(), tokenizer, packed, run=tmp_path / "run")
    assert not result.finished
    assert 0 < result.step < 12
    assert latest_checkpoint(tmp_path / "run").step == result.step
    whole, _ = run_it(objective, tokenizer, packed)
    resumed, _ = run_it(objective, tokenizer, packed, run=tmp_path / "run", resume=True)
    assert same_weights(whole, resumed)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(tokenizer, packed, tmp_path):
    class Breaking(MaskedLM):
        calls = 0

        def forward(self, model, batch):
            loss = super().forward(model, batch)
            self.calls += model.training
            return loss if self.calls != 7 or not model.training else type(loss)(loss.sum * float("nan"), loss.count)

    with pytest.raises(NotFinite, match=r"step 7: the loss is nan.*examples \[\d+.*checkpoint of step 4 is kept"):
        run_it(Breaking(), tokenizer, packed, run=tmp_path / "run")
    assert latest_checkpoint(tmp_path / "run").step == 4


def test_a_folder_that_holds_a_run_is_not_overwritten(tokenizer, packed, tmp_path):
    run_it(MaskedLM(), tokenizer, packed, run=tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match="already holds a run"):
        run_it(MaskedLM(), tokenizer, packed, run=tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("objective", "config", "message"),
    [
        (CausalLM(), CONFIG, "its objective is 'masked' there, 'causal' here"),
        (MaskedLM(mask_rate=0.3), CONFIG, "rate = 0.15 there, 0.3 here"),
        (MaskedLM(), TrainConfig(**{**CONFIG.__dict__, "seed": 1}), "seed = 0 there, 1 here"),
    ],
)
def test_another_run_is_not_resumed(tokenizer, packed, tmp_path, objective, config, message):
    run_it(MaskedLM(), tokenizer, packed, run=tmp_path / "run")
    with pytest.raises(InputError, match=message):
        run_it(objective, tokenizer, packed, config, run=tmp_path / "run", resume=True)


def test_a_corpus_that_changed_is_not_resumed(tokenizer, packed, tmp_path):
    run_it(MaskedLM(), tokenizer, packed, run=tmp_path / "run")
    other = pack(["Something else altogether, " * 40], tokenizer, cache_dir=tmp_path)
    with pytest.raises(InputError, match="begun on another text"):
        run_it(MaskedLM(), tokenizer, (other, packed[1]), run=tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_checkpoint_is_found_and_the_one_before_it_named(tokenizer, packed, tmp_path, name, damage):
    run_it(MaskedLM(), tokenizer, packed, run=tmp_path / "run")
    path = latest_checkpoint(tmp_path / "run").path / name
    content = bytearray(path.read_bytes())
    if damage == "delete":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    if name == "state.json" and damage == "flip":
        path.write_text("{}")
    with pytest.raises(InputError, match=r"is damaged: .*delete it to go on from step-00000008"):
        latest_checkpoint(tmp_path / "run")
    shutil.rmtree(path.parent)
    assert latest_checkpoint(tmp_path / "run").step == 8


def test_only_the_last_two_checkpoints_are_kept(tokenizer, packed, tmp_path):
    run_it(MaskedLM(), tokenizer, packed, run=tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-00000008", "step-00000012"]


def test_a_full_disk_while_saving_leaves_the_last_checkpoint_whole(tokenizer, packed, tmp_path, monkeypatch):
    import clozelab.training.checkpoint as checkpoint

    real, calls = checkpoint.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        run_it(MaskedLM(), tokenizer, packed, run=tmp_path / "run")
    assert latest_checkpoint(tmp_path / "run").step == 4
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]


def test_a_run_can_be_loaded_and_used(tokenizer, packed, tmp_path):
    model, _ = run_it(CausalLM(), tokenizer, packed, run=tmp_path / "run")
    trained = load_run(tmp_path / "run")
    assert trained.step == 12
    assert same_weights(model, trained.model)
    text = trained.objective.complete(
        trained.model, trained.tokenizer, "Document 5 says", max_new_tokens=5, greedy=True
    )
    assert str(text).startswith("Document 5 says")
    with pytest.raises(InputError, match="holds a causal objective"):
        load_run(tmp_path / "run", expected=("masked", "span"))


def test_metrics_are_json_lines_with_every_step_once(tokenizer, packed, tmp_path):
    run_it(CausalLM(), tokenizer, packed, run=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in lines if "heldout" in line] == [0, 5, 10, 12]
    assert all(line["bits_per_byte"] > 0 for line in lines if "heldout" in line)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_samples_along_the_way_do_not_change_the_run(objective, tokenizer, packed, tmp_path):
    with_samples = TrainConfig(**{**CONFIG.__dict__, "sample_every": 3})
    a, _ = run_it(objective, tokenizer, packed)
    b, _ = run_it(objective, tokenizer, packed, with_samples, run=tmp_path / "run")
    assert same_weights(a, b)
    assert sum("sample" in line for line in read_metrics(tmp_path / "run" / "metrics.jsonl")) == 4


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_attention_may_stay_within_documents(objective, tokenizer, packed):
    within = TrainConfig(**{**CONFIG.__dict__, "within_documents": True})
    a, result = run_it(objective, tokenizer, packed, within)
    b, _ = run_it(objective, tokenizer, packed)
    assert result.finished
    assert not same_weights(a, b)


def test_a_run_by_the_clock_ends_when_its_time_is_over(tokenizer, packed):
    config = TrainConfig(minutes=0.02, length=24, batch_size=8, eval_every=0, eval_rows=8)
    _, result = run_it(MaskedLM(), tokenizer, packed, config)
    assert result.finished
    assert 1.2 <= result.seconds < 5
    assert result.step > 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be a whole number from 1"),
        ({"batch_size": 8, "micro_batch_size": 3}, "must divide"),
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"warmup": 2}, "shares of the run"),
        ({"precision": "float16"}, "precision must be"),
        ({"optimizer": "sgd"}, "optimizer must be adamw or muon"),
        ({"minutes": -1}, "minutes must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**settings)
