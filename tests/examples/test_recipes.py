"""Every recipe takes the steps of the bare loop, and those are what they should be: one mean, fresh masks."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clozelab.data import Collator, SpecialIds
from clozelab.objectives import OBJECTIVES, CausalLM, MaskedLM

SCRIPT = Path(__file__).parents[2] / "examples" / "recipes.py"
ROLES = {"fim_prefix": 94, "fim_suffix": 93, "fim_middle": 92, "fim_end": 91}
SPECIAL = SpecialIds(vocab_size=100, pad=0, eos=1, mask=2, sentinels=range(99, 94, -1), roles=ROLES)
NEEDS = {"Accelerate": "accelerate", "Lightning Fabric": "lightning_fabric", "Trainer": "transformers"}
ROUNDING = 1e-10
"""What AdamW makes of the rounding of double precision."""


@pytest.fixture(scope="module")
def recipes():
    spec = importlib.util.spec_from_file_location("recipes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def our_model(objective):
    """The objective's own, with an unembedding that is a table of its own."""
    torch.manual_seed(0)
    return objective.build_model(100, "tiny", d_model=16, n_layers=1, n_heads=1, tied=False).double()


def trained(recipes, name, objective, model, *, micro_batch_size=2, micros=5):
    """(losses, weights) after three epochs of steps of 5, 5 and 2 micro-batches."""
    sizes = {"epochs": 3, "micro_batch_size": micro_batch_size, "micros": micros}
    losses = recipes.RECIPES[name](model, recipes.ragged_rows(), objective, objective.collator(SPECIAL), **sizes)
    return torch.tensor(losses, dtype=torch.float64), torch.nn.utils.parameters_to_vector(model.parameters()).detach()


def assert_same(one, other, losses_within=ROUNDING):
    assert one[0] == pytest.approx(other[0], abs=losses_within)
    assert float((one[1] - other[1]).abs().max()) < ROUNDING


@pytest.mark.parametrize("name", NEEDS)
def test_a_model_of_hugging_face_trains_alike_in_every_loop(recipes, name):
    pytest.importorskip("transformers")
    pytest.importorskip(NEEDS[name])
    objective = MaskedLM()
    bare = trained(recipes, "bare PyTorch", objective, recipes.small_bert(100))
    assert len(bare[0]) == 9
    assert bare[0][-3:].mean() < bare[0][:3].mean() - 0.1  # it learns
    log = 1e-4 if name == "Trainer" else ROUNDING  # its log is rounded, its weights are not
    assert_same(trained(recipes, name, objective, recipes.small_bert(100)), bare, log)


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.parametrize("objective", [make() for make in OBJECTIVES.values()], ids=OBJECTIVES)
def test_our_models_train_alike_in_every_loop(recipes, name, objective):
    pytest.importorskip(NEEDS[name])
    bare = trained(recipes, "bare PyTorch", objective, our_model(objective))
    log = 1e-4 if name == "Trainer" else ROUNDING  # its log is rounded, its weights are not
    assert_same(trained(recipes, name, objective, our_model(objective)), bare, log)


@pytest.mark.parametrize("objective", [make() for make in OBJECTIVES.values()], ids=OBJECTIVES)
def test_the_bare_loop_takes_one_mean_however_a_step_is_cut(recipes, objective):
    """Twelve rows at once are six micro-batches of two, each with another number of loss positions."""
    at_once = trained(recipes, "bare PyTorch", objective, our_model(objective), micro_batch_size=12, micros=1)
    assert_same(
        trained(recipes, "bare PyTorch", objective, our_model(objective), micro_batch_size=2, micros=6), at_once
    )


def test_the_bare_loop_has_fresh_masks_in_each_epoch(recipes, monkeypatch):
    objective = MaskedLM()
    fresh, _ = trained(recipes, "bare PyTorch", objective, our_model(objective))
    monkeypatch.setattr(Collator, "set_epoch", lambda self, epoch: None)
    frozen, _ = trained(recipes, "bare PyTorch", objective, our_model(objective))
    assert frozen[:3] == pytest.approx(fresh[:3], abs=ROUNDING)
    assert (frozen[3:] - fresh[3:]).abs().min() > 1e-4


@pytest.mark.parametrize("name", ["bare PyTorch", "Accelerate", "Lightning Fabric"])
def test_a_step_without_a_loss_position_spoils_no_weight(recipes, name, monkeypatch):
    """A text of one token has no next token."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.setattr(recipes, "ragged_rows", lambda: [{"input_ids": [5]}] * 10 + [{"input_ids": [5, 6, 7]}] * 2)
    losses, weights = trained(recipes, name, CausalLM(), our_model(CausalLM()))
    assert losses[0] == 0
    assert losses[1] > 0
    assert weights.isfinite().all()


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one():
    """The script itself, under torchrun: its bare loop is run by each process alone."""
    for package in ("transformers", "accelerate", "lightning_fabric"):
        pytest.importorskip(package)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*launcher, str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    bare, *others = done.stdout.splitlines()
    assert len(others) == 3
    for line in others:
        losses, apart = line.split("weights apart")
        assert losses.split()[-6:] == bare.split("weights")[0].split()[-6:]
        assert float(apart) < ROUNDING
