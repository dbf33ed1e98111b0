"""Optimisers without the compiler: the same steps and states as PyTorch's own, and no import of `torch._dynamo`."""

import subprocess
import sys
from inspect import unwrap

import pytest
import torch
from torch.optim import Optimizer

from clozelab.training.eager_optimizers import AdamW, EagerOptimizer


def trained(kind, state=None):
    """The weights after five steps of an optimiser, or of one with the state of another, and its state."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4), (5,))]
    groups = [{"params": [weights[0]], "weight_decay": 0.1}, {"params": [weights[1]], "weight_decay": 0.0}]
    optimizer = kind(groups, lr=0.01, betas=(0.9, 0.95), fused=True)
    if state is not None:
        optimizer.load_state_dict(state)
    for _ in range(5):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert all(weight.grad is None for weight in weights)
    return weights, optimizer.state_dict()


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_steps_and_states_are_those_of_pytorch():
    (ours, our_state), (theirs, their_state) = trained(AdamW), trained(torch.optim.AdamW)
    assert same(ours, theirs)
    assert our_state["param_groups"] == their_state["param_groups"]
    for name, values in their_state["state"].items():
        assert same(our_state["state"][name].values(), values.values())
    (ours, _), (theirs, _) = trained(AdamW, their_state), trained(torch.optim.AdamW, our_state)
    assert same(ours, theirs)


def test_a_step_needs_no_gradient_of_its_own():
    weights, state = trained(AdamW)
    assert all(weight.requires_grad and weight.grad_fn is None for weight in weights)
    assert not any(value.requires_grad for values in state["state"].values() for value in values.values())


@pytest.mark.parametrize("name", ["add_param_group", "zero_grad", "state_dict", "load_state_dict"])
def test_what_pytorch_guards_is_called_without_the_guard(name):
    """Where PyTorch no longer wraps one of them, there is nothing left to do, and the line can go."""
    assert getattr(Optimizer, name) is not unwrap(getattr(Optimizer, name))
    assert getattr(EagerOptimizer, name) is unwrap(getattr(Optimizer, name))


STEPS = """
import sys, torch
from clozelab.training import TrainConfig, optimizer_of
for name in ("adamw", "muon"):
    model = torch.nn.Sequential(torch.nn.Embedding(4, 2), torch.nn.Linear(2, 4))
    optimizer = optimizer_of(model, TrainConfig(optimizer=name))
    model(torch.tensor([1])).sum().backward()
    optimizer.set_lr_scale(0.5)
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
    print(name, [one for one in ("torch._dynamo", "sympy") if one in sys.modules])
"""


def test_steps_do_not_import_the_compiler():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["adamw []", "muon []"]
