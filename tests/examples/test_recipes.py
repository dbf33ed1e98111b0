"""Every recipe takes the steps of the bare loop, and those are what they should be: one mean, fresh masks."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clozelab.data import Collator, SpecialIds
from clozelab.objectives import OBJECTIVES, CausalLM, MaskedLM

from ..objectives.cases import LOOPED_NAMES

SCRIPT = Path(__file__).parents[2] / "examples" / "recipes.py"
TWO = Path(__file__).parent / "recipes_on_two_processes.py"
NAMES = dict.fromkeys(role for objective in OBJECTIVES.values() for role in objective.roles if role != "mask")
ROLES = {role: 79 - n for n, role in enumerate(NAMES)}
ENDS = torch.arange(100) % 7 == 0  # of sentences
SPECIAL = SpecialIds(100, pad=0, eos=1, mask=2, sentinels=range(99, 79, -1), roles=ROLES, ends_sentence=ENDS)
NEEDS = {
    "Accelerate": "accelerate",
    "Fabric": "lightning.fabric",
    "Lightning": "lightning.pytorch",
    "Trainer": "transformers",
}
ROUNDING = 1e-10
"""What AdamW makes of the rounding of double precision."""


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """The Trainer makes its folder where it is."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def recipes():
    spec = importlib.util.spec_from_file_location("recipes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["recipes"] = module  # dataclasses look their annotations up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["recipes"]


@pytest.fixture(scope="module")
def bare(recipes):
    """bare(name): the run of the bare loop, made once for each objective."""
    made = {}

    def bare(name):
        if name not in made:
            objective = OBJECTIVES[name]()
            made[name] = trained(recipes, "bare PyTorch", objective, our_model(objective))
        return made[name]

    return bare


def our_model(objective):
    """The objective's own, with an unembedding that is a table of its own."""
    torch.manual_seed(0)
    return objective.build_model(100, "tiny", d_model=16, n_layers=1, n_heads=1, tied=False).double()


def trained(recipes, name, objective, model, **settings):
    """A run of two epochs of two steps, of 4 and 2 micro-batches."""
    rows = recipes.ragged_rows(12)
    settings = {"epochs": 2, "micros": 4, **settings}
    run = recipes.Run(model, objective, SPECIAL, rows, recipes.ragged_rows(3), **settings)
    recipes.RECIPES[name](run)
    return run


def weights(run):
    return torch.nn.utils.parameters_to_vector(run.model.parameters()).detach()


def assert_same(run, other, losses_within=ROUNDING):
    assert run.losses == pytest.approx(other.losses, abs=losses_within)
    assert run.heldout_losses == pytest.approx(other.heldout_losses, abs=ROUNDING)
    assert float((weights(run) - weights(other)).abs().max()) < ROUNDING


def log_of(name):
    """Its log is rounded, its weights are not."""
    return 1e-4 if name == "Trainer" else ROUNDING


@pytest.mark.parametrize("name", NEEDS)
def test_a_model_of_hugging_face_trains_alike_in_every_loop(recipes, name):
    pytest.importorskip("transformers")
    pytest.importorskip(NEEDS[name])
    bare = trained(recipes, "bare PyTorch", MaskedLM(), recipes.small_bert(100))
    assert len(bare.losses) == 4
    assert bare.losses[-1] < bare.losses[0] - 0.05  # it learns
    assert_same(trained(recipes, name, MaskedLM(), recipes.small_bert(100)), bare, log_of(name))


@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.parametrize("objective", LOOPED_NAMES)
def test_our_models_train_alike_in_every_loop(recipes, bare, name, objective):
    pytest.importorskip(NEEDS[name])
    made = OBJECTIVES[objective]()
    assert_same(trained(recipes, name, made, our_model(made)), bare(objective), log_of(name))


@pytest.mark.parametrize("name", ["bare PyTorch", *NEEDS])
def test_a_run_with_workers_that_was_stopped_and_continued_is_the_same_run(recipes, bare, name, tmp_path):
    """The second epoch has masks of its own: no worker may have made its batches before it began."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    first = trained(recipes, name, MaskedLM(), our_model(MaskedLM()), folder=tmp_path, workers=2, epochs=1)
    again = trained(recipes, name, MaskedLM(), our_model(MaskedLM()), folder=tmp_path, workers=2)
    whole = bare("masked")
    assert first.losses == pytest.approx(whole.losses[:2], abs=log_of(name))
    assert again.losses[-2:] == pytest.approx(whole.losses[2:], abs=log_of(name))
    assert again.heldout_losses[-1] == pytest.approx(whole.heldout_losses[-1], abs=ROUNDING)
    assert float((weights(again) - weights(whole)).abs().max()) < ROUNDING


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_bare_loop_takes_one_mean_however_a_step_is_cut(recipes, objective):
    """Twelve rows at once are six micro-batches of two, each with another number of loss positions."""
    made = OBJECTIVES[objective]()
    at_once = trained(recipes, "bare PyTorch", made, our_model(made), micro_batch_size=12, micros=1)
    cut = trained(recipes, "bare PyTorch", made, our_model(made), micro_batch_size=2, micros=6)
    assert_same(cut, at_once)


def test_the_bare_loop_has_fresh_masks_in_each_epoch(recipes, bare, monkeypatch):
    monkeypatch.setattr(Collator, "set_epoch", lambda self, epoch: None)
    frozen = trained(recipes, "bare PyTorch", MaskedLM(), our_model(MaskedLM()))
    apart = torch.tensor(frozen.losses) - torch.tensor(bare("masked").losses)
    assert apart[:2].abs().max() < ROUNDING
    assert apart[2:].abs().min() > 1e-4


@pytest.mark.parametrize("name", ["bare PyTorch", "Accelerate", "Fabric", "Lightning"])
def test_a_step_without_a_loss_position_spoils_no_weight(recipes, name, monkeypatch):
    """A text of one token has no next token."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.setattr(recipes, "ragged_rows", lambda n: [{"input_ids": [5]}] * 8 + [{"input_ids": [5, 6, 7]}] * 4)
    run = trained(recipes, name, CausalLM(), our_model(CausalLM()))
    assert run.losses[0] == 0
    assert run.losses[1] > 0
    assert weights(run).isfinite().all()


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_in_every_loop_for_every_objective():
    """Under torchrun; the bare loop is run by each process alone."""
    for package in NEEDS.values():
        pytest.importorskip(package)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*launcher, str(TWO)], env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    refused = [name for name, objective in OBJECTIVES.items() if objective.export_refusal is not None]
    assert len(found) == len(NEEDS) * len(OBJECTIVES) - len(refused)  # the Trainer needs a model of theirs
    for case, (name, apart, of_losses, of_heldout) in found.items():
        assert apart < ROUNDING, case
        assert of_losses < log_of(name), case
        assert of_heldout < ROUNDING, case
