"""Under torchrun: how far each recipe ends from the bare loop, for each objective, as one line of JSON.

Each process runs the bare loop alone, with twice the micro-batches a step. The Trainer takes models of Hugging Face
here: it wraps a model in DDP without its objective, which ours are not made for.
"""

import importlib.util
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "integrations"))
import conftest as theirs
import transformers

from clozelab.objectives import OBJECTIVES

spec = importlib.util.spec_from_file_location("recipes", Path(__file__).parents[2] / "examples" / "recipes.py")
recipes = sys.modules["recipes"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipes)


def model_of(objective, name):
    torch.manual_seed(0)
    if name == "Trainer":
        return theirs.BY_ARCHITECTURE[objective.architecture](transformers, theirs.VOCABULARY).double()
    return objective.build_model(theirs.VOCABULARY, "tiny", d_model=16, n_layers=1, n_heads=1, tied=False).double()


def trained(recipe, objective, name, micros):
    model, special = model_of(objective, name), theirs.special_ids()
    run = recipes.Run(model, objective, special, recipes.ragged_rows(16), recipes.ragged_rows(3), 2, 2, micros)
    with redirect_stdout(None):
        recipe(run)
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach(), run


found = {}
for objective_name, make in OBJECTIVES.items():
    for name, recipe in recipes.RECIPES.items():
        if recipe is recipes.bare_loop:
            continue
        if name == "Trainer" and make.export_refusal is not None:
            continue
        bare, alone = trained(recipes.bare_loop, make(), name, micros=6)
        ended, run = trained(recipe, make(), name, micros=3)
        found[f"{objective_name} in {name}"] = [
            name,
            float((ended - bare).abs().max()),
            max(abs(a - b) for a, b in zip(run.losses, alone.losses, strict=True)),
            max(abs(a - b) for a, b in zip(run.heldout_losses, alone.heldout_losses, strict=True)),
        ]
if os.environ["RANK"] == "0":
    print(json.dumps(found))
