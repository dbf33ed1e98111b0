"""The metrics of a run as a table, and for TensorBoard."""

import csv
from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clozelab.errors import InputError
from clozelab.objectives import CausalLM
from clozelab.training import read_metrics, tensorboard


def table(run):
    with open(run / "losses.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_holds_what_the_lines_hold(small_run, tmp_path):
    small_run(CausalLM(), run=tmp_path)
    lines, rows = read_metrics(tmp_path / "metrics.jsonl"), table(tmp_path)
    assert [int(row["step"]) for row in rows] == [*range(13)]
    for name in ("loss", "heldout", "bits_per_byte", "lr", "grad_norm"):
        found = {int(row["step"]): float(row[name]) for row in rows if row[name]}
        assert found == {line["step"]: line[name] for line in lines if name in line}


def test_a_resumed_run_has_one_table_of_all_steps(small_run, tmp_path, monkeypatch):
    small_run(CausalLM(), replace(small_run.config, steps=6), run=tmp_path)
    small_run(CausalLM(), replace(small_run.config, steps=6).extend(6), run=tmp_path, resume=True)
    assert [int(row["step"]) for row in table(tmp_path)] == [*range(13)]


def test_tensorboard_is_given_the_same_numbers(small_run, tmp_path):
    small_run(CausalLM(), replace(small_run.config, sample_every=6), run=tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    for name in ("loss", "heldout", "lr"):
        found = {event.step: event.value for event in events.Scalars(name)}
        assert found == pytest.approx({line["step"]: line[name] for line in lines if name in line}, rel=1e-6)
    assert "sample/text_summary" in events.Tags()["tensors"]


def test_tensorboard_is_refused_where_nothing_could_be_written(small_run, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="TensorBoard's files lie in the run folder: give one by run"):
        small_run(CausalLM(), tensorboard=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").symlink_to(tmp_path)
    with pytest.raises(InputError, match="tensorboard is a link"):
        small_run(CausalLM(), run=tmp_path / "run", tensorboard=True)
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"TensorBoard is not installed: pip install 'clozelab\[tensorboard\]'"):
        small_run(CausalLM(), run=tmp_path / "other", tensorboard=True)
    assert not (tmp_path / "other").exists()
