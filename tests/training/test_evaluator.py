"""Several processes divide the held-out batches, and come to the loss of one process bit for bit."""

from dataclasses import dataclass, field

import pytest
import torch

from clozelab.evaluation import evaluate
from clozelab.languages import MarkovSource
from clozelab.objectives import UL2, LossModule
from clozelab.progress import Bar
from clozelab.training.evaluator import Evaluator
from clozelab.training.processes import Processes
from clozelab.training.report import Report


@dataclass(frozen=True)
class Alone(Processes):
    """One of several processes, whose others are asked by the test."""

    sent: dict = field(default_factory=dict)

    def all_max(self, *numbers):
        return list(numbers)

    def broadcast(self, make):
        return make()

    def all_gather_dict(self, items):
        self.sent.update(items)
        return self.sent


@pytest.fixture(scope="module")
def case():
    source = MarkovSource.random(6, entropy=0.7, seed=0)
    objective = UL2()
    special = source.special_ids(sentinels=12, roles=objective.roles)
    torch.manual_seed(0)
    model = objective.build_model(special.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=1)
    collate, text = objective.collator(special), source.sample(10, 24, seed=1)
    batches = [collate.block(text[n : n + 2], [n, n + 1], progress=1.0) for n in range(0, 10, 2)]
    return objective, model, batches


def evaluator(case, processes):
    """An evaluator, and the number of forward passes that it made so far."""
    objective, model, batches = case
    passes = []
    model._forward_pre_hooks.clear()
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    return Evaluator(LossModule(objective, model), batches, 100, Report("ul2", None, Bar()), [], processes), passes


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize("sharded", [False, True])
def test_the_processes_divide_the_batches(case, world_size, sharded):
    objective, model, batches = case
    sent, counts = {}, []
    for rank in reversed(range(world_size)):  # the last one to be asked, rank 0, has them all
        mine, passes = evaluator(case, Alone(rank, world_size, sharded, sent=sent))
        scores = mine._scores(objective, model)
        assert sorted(scores) == list(range(rank, len(batches), world_size))
        counts.append(len(passes))
        if rank:
            sent.update(scores)
    rounds = -(-len(batches) // world_size)
    assert max(counts) == rounds
    if sharded:
        assert set(counts) == {rounds}  # each forward pass exchanges weights
    else:
        assert sum(counts) == len(batches)
    mine, _ = evaluator(case, Alone(0, world_size, sharded, sent=sent))
    assert mine.at(0)
    assert mine.last == evaluate(objective, model, batches, scored_bytes=100)
