"""Runs that go on: a finished one for more steps, and a new one from another's weights."""

import shutil
from dataclasses import replace

import pytest

from clozelab.data import pack, train_bpe
from clozelab.errors import InputError
from clozelab.objectives import CausalLM, MaskedLM, SpanBoundary, SpanCorruption
from clozelab.training import TrainConfig, latest_checkpoint, load_run, read_metrics, read_run, seeded_model

from .conftest import SMALL, Rising


def metrics(run):
    """The lines of a run's metrics, without their times."""
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read_metrics(run)]


# ------------------------------------------------------------------ extended


def test_an_extension_is_one_more_rise_and_fall_of_the_learning_rate(small_run, tmp_path):
    config = replace(small_run.config, warmup=0.25, decay=0.5)
    small_run(MaskedLM(), config, run=tmp_path / "run")
    _, result = small_run(MaskedLM(), config.extend(8), run=tmp_path / "run", resume=True)
    assert result.step == 20
    assert [step for step, _ in result.curve] == [0, 5, 10, 12, 15, 20]
    rates = [line["lr"] / config.learning_rate for line in read_metrics(tmp_path / "run/metrics.jsonl") if "lr" in line]
    assert rates[:12] == pytest.approx([1 / 6, 1 / 2, 5 / 6, 1, 1, 1, 11 / 12, 9 / 12, 7 / 12, 5 / 12, 3 / 12, 1 / 12])
    assert rates[12:] == pytest.approx([1 / 4, 3 / 4, 1, 1, 7 / 8, 5 / 8, 3 / 8, 1 / 8])


def test_an_extension_that_is_stopped_is_resumed_bit_for_bit(small_run, same_weights, tmp_path):
    for name in ("whole", "cut"):
        small_run(MaskedLM(), dropout=0.2, run=tmp_path / name)
        longer = small_run.config.extend(10)
        extended, _ = small_run(MaskedLM(), longer, dropout=0.2, run=tmp_path / name, resume=True)
    shutil.rmtree(tmp_path / "cut/checkpoints/step-00000022")
    assert latest_checkpoint(tmp_path / "cut").step == 20
    resumed, result = small_run(MaskedLM(), longer, dropout=0.2, run=tmp_path / "cut", resume=True)
    assert result.finished
    assert same_weights(extended, resumed)
    assert metrics(tmp_path / "whole/metrics.jsonl") == metrics(tmp_path / "cut/metrics.jsonl")


def test_a_run_may_be_extended_again(small_run, tmp_path):
    config = small_run.config
    small_run(MaskedLM(), run=tmp_path / "run")
    for steps in (2, 3):
        config = config.extend(steps)
        small_run(MaskedLM(), config, run=tmp_path / "run", resume=True)
    assert read_run(tmp_path / "run")["train"]["extended"] == [12, 14]
    assert latest_checkpoint(tmp_path / "run").step == 17
    with pytest.raises(InputError, match="by its training settings: steps = 17 there, 12 here"):
        small_run(MaskedLM(), run=tmp_path / "run", resume=True)


def test_a_run_is_extended_with_its_own_settings_and_once_it_is_finished(small_run, tmp_path):
    small_run(MaskedLM(), run=tmp_path / "run")
    with pytest.raises(InputError, match=r"learning_rate = 0\.03 there, 0\.1 here"):
        small_run(MaskedLM(), replace(small_run.config, learning_rate=0.1).extend(3), run=tmp_path / "run", resume=True)
    shutil.rmtree(tmp_path / "run/checkpoints/step-00000012")
    with pytest.raises(InputError, match="is not finished, it is at step 8 of 12: resume it first"):
        small_run(MaskedLM(), small_run.config.extend(3), run=tmp_path / "run", resume=True)
    shutil.rmtree(tmp_path / "run/checkpoints")
    with pytest.raises(InputError, match="is not finished, it has no checkpoint yet: resume it first"):
        small_run(MaskedLM(), small_run.config.extend(3), run=tmp_path / "run", resume=True)
    assert read_run(tmp_path / "run")["train"]["steps"] == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 5, "extended": (5,)}, "must rise, and stay below steps 5"),
        ({"steps": 5, "extended": (3, 2)}, "must rise"),
        ({"steps": 5, "extended": "ab"}, "each of extended must be a whole number"),
        ({"steps": 5, "extended": (0,)}, "at least 1"),
        ({"minutes": 1.0, "extended": (5,)}, "a run by the clock cannot be extended"),
    ],
)
def test_extensions_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(**settings)


def test_an_objective_that_changes_with_progress_stays_as_it_was_at_the_end(small_run, tmp_path):
    small_run(Rising(), run=tmp_path / "run")
    small_run(Rising(), small_run.config.extend(4), run=tmp_path / "run", resume=True)
    counts = [line["count"] for line in read_metrics(tmp_path / "run/metrics.jsonl") if "loss" in line]
    assert counts[0] < counts[6] < counts[11] < min(counts[12:])


# ------------------------------------------------------------------ from another's weights


def test_a_causal_model_goes_on_as_a_masked_one_with_an_optimiser_of_its_own(small_run, same_weights, tmp_path):
    causal, _ = small_run(CausalLM(), run=tmp_path / "causal")
    begun, _ = small_run(MaskedLM(), init_from=tmp_path / "causal", run=tmp_path / "masked")
    given = seeded_model(MaskedLM(), small_run.tokenizer.vocab_size, "tiny", 5, **SMALL)
    given.load_state_dict(causal.state_dict())
    by_hand, _ = small_run(MaskedLM(), model=given)
    assert same_weights(begun, by_hand)
    assert begun.architecture == "encoder-only"
    record = read_run(tmp_path / "masked")["init_from"]
    assert (record["run"], record["objective"], record["step"]) == (str(tmp_path / "causal"), "causal", 12)
    assert record["sha256"] == latest_checkpoint(tmp_path / "causal").state["sha256"]["model.safetensors"]
    assert load_run(tmp_path / "masked").objective.name == "masked"


def test_a_run_from_anothers_weights_is_resumed_without_that_run(small_run, same_weights, tmp_path):
    config = replace(small_run.config, checkpoint_every=0)
    small_run(CausalLM(), run=tmp_path / "causal")
    whole, _ = small_run(MaskedLM(), config, init_from=tmp_path / "causal", run=tmp_path / "masked")
    shutil.rmtree(tmp_path / "causal")
    shutil.rmtree(tmp_path / "masked/checkpoints/step-00000012")  # that of step 0 is left
    resumed, _ = small_run(MaskedLM(), config, run=tmp_path / "masked", resume=True)
    assert same_weights(whole, resumed)
    shutil.rmtree(tmp_path / "masked/checkpoints")
    with pytest.raises(InputError, match="was stopped before its first weights were saved"):
        small_run(MaskedLM(), config, run=tmp_path / "masked", resume=True)


def test_weights_that_do_not_fit_are_refused_by_name(small_run, packed, tmp_path):
    small_run(CausalLM(), run=tmp_path / "causal")
    with pytest.raises(InputError, match=r"\(decoder-only\) do not fit this model \(encoder-decoder\)"):
        small_run(SpanCorruption(), init_from=tmp_path / "causal")
    wide = seeded_model(MaskedLM(), small_run.tokenizer.vocab_size, "tiny", 0, d_model=16, n_layers=1, n_heads=2)
    with pytest.raises(InputError, match=r"have another shape: \S+ is \[.*32\], expected \[.*16\]"):
        small_run(MaskedLM(), model=wide, init_from=tmp_path / "causal")
    deep = seeded_model(MaskedLM(), small_run.tokenizer.vocab_size, "tiny", 0, d_model=32, n_layers=2, n_heads=2)
    with pytest.raises(InputError, match=r"\d+ are missing there \(such as blocks\.1\.\S+\)$"):
        small_run(MaskedLM(), model=deep, init_from=tmp_path / "causal")
    small_run(SpanBoundary(), run=tmp_path / "sbo")
    halves = r"\(sbo, encoder-only\) do not fit this model \(masked, encoder-only\): \d+ are missing there \(such as "
    with pytest.raises(InputError, match=halves + r"\S+\) and \d+ have no place here \(such as \S+\)$"):
        small_run(MaskedLM(), init_from=tmp_path / "sbo")
    with pytest.raises(InputError, match="leave init_from out"):
        small_run(MaskedLM(), init_from=tmp_path / "causal", run=tmp_path / "causal", resume=True)
    with pytest.raises(InputError, match="nowhere holds no run"):
        small_run(MaskedLM(), init_from=tmp_path / "nowhere", run=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_weights_of_another_tokenizer_are_refused(small_run, tmp_path):
    texts = [f"{n} other words, {n * n} of them" for n in range(200)]
    other = train_bpe(texts, vocab_size=small_run.tokenizer.vocab_size)
    packed = [pack(texts, other, cache_dir=tmp_path)] * 2
    replace(small_run, tokenizer=other)(CausalLM(), packed=packed, run=tmp_path / "causal")
    with pytest.raises(InputError, match=r"has another tokenizer than this run: use .*tokenizer\.json"):
        small_run(MaskedLM(), init_from=tmp_path / "causal")


def test_damaged_weights_are_not_begun_with(small_run, tmp_path):
    small_run(CausalLM(), run=tmp_path / "causal")
    path = latest_checkpoint(tmp_path / "causal").path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged: model\.safetensors is not what was written"):
        small_run(MaskedLM(), init_from=tmp_path / "causal")
