"""The one loop: it learns, it depends on nothing but its arguments, and it stops when it is asked to."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch

from clozelab.data import pack, train_characters
from clozelab.errors import InputError, NotFinite
from clozelab.objectives import OBJECTIVES, CausalLM, Loss, MaskedDiffusion, MaskedLM, SpanCorruption, options
from clozelab.training import TrainConfig, latest_checkpoint, read_metrics, seeded_model

from ..objectives.cases import LOOPED_NAMES
from .conftest import Rising
from .one_of_several import TwoHeads


@pytest.mark.parametrize("name", LOOPED_NAMES)
def test_training_lowers_the_held_out_loss(name, small_run):
    objective = OBJECTIVES[name]()
    config = TrainConfig(steps=60, length=24, batch_size=8, eval_every=60, eval_rows=32)
    _, result = small_run(objective, config)
    (_, before), (_, after) = result.curve[0], result.curve[-1]
    assert result.finished
    assert after < 0.8 * before


@pytest.mark.parametrize("objective", [MaskedLM(), MaskedDiffusion()], ids=repr)
def test_the_same_run_twice_is_the_same_whatever_the_global_random_state(objective, small_run, same_weights):
    torch.manual_seed(0)
    a, first = small_run(objective, dropout=0.2)
    torch.manual_seed(1)
    b, second = small_run(objective, dropout=0.2)
    assert same_weights(a, b)
    assert first.curve == second.curve


def test_another_seed_is_another_run(small_run, same_weights):
    a, _ = small_run(MaskedLM())
    b, _ = small_run(MaskedLM(), replace(small_run.config, seed=1))
    assert not same_weights(a, b)


def test_ctrl_c_finishes_the_step_saves_and_returns(small_run, same_weights, tmp_path):
    steps = []

    @options
    class Interrupting(MaskedLM):
        name = "masked"

        def forward(self, model, batch):
            steps.append(1)
            if model.training and len(steps) == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return super().forward(model, batch)

    before = signal.getsignal(signal.SIGINT)  # a shell has its background jobs ignore it
    _, result = small_run(Interrupting(), run=tmp_path / "run")
    assert not result.finished
    assert 0 < result.step < 12
    assert latest_checkpoint(tmp_path / "run").step == result.step
    whole, _ = small_run(MaskedLM())
    resumed, _ = small_run(Interrupting(), run=tmp_path / "run", resume=True)
    assert same_weights(whole, resumed)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loss_that_is_nan_stops_and_keeps_the_last_checkpoint(small_run, tmp_path):
    calls = []

    @options
    class Breaking(MaskedLM):
        name = "masked"

        def forward(self, model, batch):
            loss = super().forward(model, batch)
            calls.extend([1] * model.training)
            return Loss.single(loss.sum * float("nan"), loss.count) if model.training and len(calls) == 7 else loss

    with pytest.raises(NotFinite, match=r"step 7: the loss is nan.*examples \[\d+.*checkpoint of step 4 is kept"):
        small_run(Breaking(), run=tmp_path / "run")
    assert latest_checkpoint(tmp_path / "run").step == 4


def test_metrics_are_json_lines_with_every_step_once(small_run, tmp_path):
    small_run(CausalLM(), run=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in lines if "heldout" in line] == [0, 5, 10, 12]
    assert all(line["bits_per_byte"] > 0 for line in lines if "heldout" in line)
    assert all(line["count"] == 8 * 23 for line in lines)
    assert not any(key in line for line in lines for key in ("parts", "breakdown"))


def test_metrics_hold_the_parts_of_several_and_the_breakdown(small_run, tmp_path):
    objective = TwoHeads()
    model = objective.build_model(small_run.tokenizer.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=2)
    small_run(objective, model=model, run=tmp_path / "run")
    for line in read_metrics(tmp_path / "run" / "metrics.jsonl"):
        parts = line["parts"]
        assert parts["next"]["count"] > parts["second"]["count"] > 0
        total = parts["next"]["mean"] + 0.3 * parts["second"]["mean"]
        assert line.get("loss", line.get("heldout")) == pytest.approx(total, rel=1e-5)
        assert ("breakdown" in line) == ("heldout" in line)


def test_the_loss_of_diffusion_is_reported_by_the_number_of_hidden_tokens(small_run, tmp_path):
    small_run(MaskedDiffusion(), run=tmp_path / "run")
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "heldout" in line]
    hidden = [int(value) for value in lines[-1]["breakdown"]["hidden tokens"]]
    assert hidden == sorted(hidden)
    assert 1 <= min(hidden) < max(hidden) <= 24


@pytest.mark.parametrize("name", LOOPED_NAMES)
def test_samples_along_the_way_do_not_change_the_run(name, small_run, same_weights, tmp_path):
    objective = OBJECTIVES[name]()
    a, _ = small_run(objective)
    b, _ = small_run(objective, replace(small_run.config, sample_every=6), run=tmp_path / "run")
    assert same_weights(a, b)
    assert sum("sample" in line for line in read_metrics(tmp_path / "run" / "metrics.jsonl")) == 2


@pytest.mark.parametrize("name", LOOPED_NAMES)
def test_attention_may_stay_within_documents(name, small_run, same_weights):
    objective = OBJECTIVES[name]()
    a, result = small_run(objective, replace(small_run.config, within_documents=True))
    b, _ = small_run(objective)
    assert result.finished
    assert not same_weights(a, b)


def test_a_run_by_the_clock_ends_when_its_time_is_over(small_run):
    config = TrainConfig(minutes=0.02, length=24, batch_size=8, eval_every=0, eval_rows=8)
    _, result = small_run(MaskedLM(), config)
    assert result.finished
    assert 1.2 <= result.seconds < 5
    assert result.step > 1


def test_an_objective_sees_how_far_the_run_is(small_run, tmp_path):
    small_run(Rising(), run=tmp_path / "run")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    trained = [line["count"] for line in lines if "loss" in line]
    evaluated = [line["count"] for line in lines if "heldout" in line]
    assert trained[0] < trained[5] < trained[11]
    assert len(set(evaluated)) == 1
    assert evaluated[0] > trained[11]


def test_a_run_by_the_clock_refuses_an_objective_with_a_schedule(small_run):
    with pytest.raises(InputError, match="rising changes with the progress of the run"):
        small_run(Rising(), replace(small_run.config, minutes=1.0))


def test_samples_of_an_objective_that_completes_nothing_are_refused(small_run):
    @options
    class Mute(MaskedLM):
        name, completes = "mute", ()

    with pytest.raises(InputError, match="completes no text: leave sample_every out"):
        small_run(Mute(), replace(small_run.config, sample_every=3))


def test_a_model_that_cannot_read_what_the_objective_needs_is_refused(small_run):
    causal = seeded_model(CausalLM(), small_run.tokenizer.vocab_size, "tiny", 0, d_model=16, n_layers=1, n_heads=1)
    with pytest.raises(InputError, match="span needs a model that is encoder-decoder, got one that is decoder-only"):
        small_run(SpanCorruption(), model=causal)


def test_examples_with_nothing_to_predict_are_refused(small_run):
    with pytest.raises(InputError, match="leave the causal objective nothing to predict: choose a greater length"):
        small_run(CausalLM(), replace(small_run.config, length=1))


def test_a_tokenizer_that_knows_no_word_is_named_as_the_cause(small_run, tmp_path):
    """A greater length would not help: what is unknown is special, and never hidden."""
    theirs = train_characters(["xyz"])
    packed = [pack(["a cat sat there. " * 40, "xyz"], theirs, cache_dir=tmp_path)] * 2
    with pytest.raises(InputError, match="nothing to predict: 99% of the held-out tokens are unknown to the tokenizer"):
        replace(small_run, tokenizer=theirs)(MaskedLM(), packed=packed)


def test_text_of_another_tokenizer_is_refused(small_run, packed, tmp_path):
    from clozelab.data import train_bpe

    other = pack(["abc " * 200], train_bpe(["abc " * 200], vocab_size=400), cache_dir=tmp_path)
    with pytest.raises(InputError, match="held-out text was packed with another tokenizer"):
        small_run(CausalLM(), packed=(packed[0], other))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be a whole number from 1"),
        ({"batch_size": 8, "micro_batch_size": 3}, "must divide"),
        ({"learning_rate": 0}, "learning_rate must be positive"),
        ({"max_grad_norm": 0}, "max_grad_norm must be positive"),
        ({"warmup": 2}, "shares of the run"),
        ({"precision": "float16"}, "precision must be"),
        ({"optimizer": "sgd"}, "optimizer must be muon or adamw"),
        ({"minutes": -1}, "minutes must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**settings)
