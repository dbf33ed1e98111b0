"""One step is one mean over everything that its micro-batches predict, however ragged they are."""

import copy
import math

import pytest
import torch

from clozelab.data import IGNORED
from clozelab.objectives import LossModule, Prediction
from clozelab.training import Optimizers, train_step

from .one_of_several import EVERY

LENGTHS = (24, 9, 31, 16, 12, 27)
CUTS = ((0, 1), (1, 4), (4, 6))
CPU = torch.device("cpu")
each_objective = pytest.mark.parametrize("objective", EVERY, ids=lambda objective: objective.name)


@pytest.fixture
def rows(tokenizer):
    generator = torch.Generator().manual_seed(0)
    text = [n for n in range(tokenizer.vocab_size) if n not in tokenizer.special.all]
    return [
        {"input_ids": [text[int(i)] for i in torch.randint(len(text), (n,), generator=generator)], "example_id": b}
        for b, n in enumerate(LENGTHS)
    ]


def model_of(objective, vocab_size, seed=0):
    torch.manual_seed(seed)
    model = objective.build_model(vocab_size, "tiny", d_model=16, n_layers=1, n_heads=2).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def sgd_step(objective, model, batches, max_grad_norm=math.inf):
    """A step of plain gradient descent at a rate of 1, which makes the gradient visible."""
    optimizer = Optimizers(torch.optim.SGD(model.parameters(), lr=1.0))
    return train_step(LossModule(objective, model), batches, optimizer, max_grad_norm=max_grad_norm, device=CPU)


@each_objective
def test_ragged_micro_batches_take_the_step_of_the_whole_batch(objective, rows, tokenizer):
    collate, model = objective.collator(tokenizer.special), model_of(objective, tokenizer.vocab_size)
    loss = objective(model, collate(rows))
    loss.mean.backward()
    expected = {name: p.detach() - p.grad for name, p in model.named_parameters()}

    cut = copy.deepcopy(model)
    cut.zero_grad()
    parts = [collate(rows[begin:end]) for begin, end in CUTS]
    for name, count in loss.items():
        assert len({int(objective.counts(part)[name]) for part in parts}) > 1, "every part has the same count"
        assert sum(int(objective.counts(part)[name]) for part in parts) == int(count.count)
    result = sgd_step(objective, cut, parts)
    for name, parameter in cut.named_parameters():
        assert (parameter - expected[name]).abs().max() < 1e-12, name
    for name, part in loss.items():
        assert int(result.loss[name].count) == int(part.count)
        assert float(result.loss[name].sum) == pytest.approx(part.sum.item(), rel=1e-12)
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))
    assert result.grad_norm == pytest.approx(norm, rel=1e-12)


def test_parts_with_different_counts_are_no_mean_of_the_micro_batches_means(rows, tokenizer):
    """What PyTorch's usual accumulation gives is another gradient: the test above could fail."""
    objective = EVERY[-1]
    collate, model = objective.collator(tokenizer.special), model_of(objective, tokenizer.vocab_size)
    whole = objective(model, collate(rows)).mean
    means = [objective(model, collate(rows[begin:end])).mean for begin, end in CUTS]
    assert len(objective.targets(collate(rows))) == 2
    assert abs(whole.item() - sum(means).item() / len(means)) > 1e-3


@each_objective
def test_a_micro_batch_without_a_target_adds_nothing(objective, rows, tokenizer):
    collate, model = objective.collator(tokenizer.special), model_of(objective, tokenizer.vocab_size)
    batch, empty = collate(rows[:3]), collate(rows[3:])
    empty["labels"] = torch.full_like(empty["labels"], IGNORED)
    if "count" in empty:
        empty["count"] = torch.zeros_like(empty["count"])
    with_it, alone = copy.deepcopy(model), copy.deepcopy(model)
    sgd_step(objective, alone, [batch])
    sgd_step(objective, with_it, [empty, batch, empty])
    assert all(torch.equal(p, q) for p, q in zip(with_it.parameters(), alone.parameters()))


def test_gradients_are_clipped_to_the_norm_and_the_norm_before_is_reported(rows, tokenizer):
    objective = EVERY[0]
    collate, model = objective.collator(tokenizer.special), model_of(objective, tokenizer.vocab_size)
    before = copy.deepcopy(model)
    result = sgd_step(objective, model, [collate(rows)], max_grad_norm=0.01)
    moved = math.sqrt(
        sum(float((p - q).detach().square().sum()) for p, q in zip(model.parameters(), before.parameters()))
    )
    assert result.grad_norm > 0.1
    assert moved == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", ["the loss", "a gradient"])
def test_a_step_that_is_not_finite_moves_no_weight(place, bad, rows, tokenizer):
    objective = EVERY[1]
    collate, model = objective.collator(tokenizer.special), model_of(objective, tokenizer.vocab_size)
    before = copy.deepcopy(model)
    if place == "a gradient":
        list(model.parameters())[-1].register_hook(lambda gradient: gradient * bad)
    else:
        model.register_forward_hook(lambda _, inputs, hidden: hidden * bad)
    result = sgd_step(objective, model, [collate(rows[:3]), collate(rows[3:])])
    assert not result.is_finite
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before.parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_outputs_of_two_heads_are_two_parts(rows, tokenizer):
    objective = EVERY[-1]
    model = model_of(objective, tokenizer.vocab_size)
    batch = objective.collator(tokenizer.special)(rows)
    assert all(isinstance(one, Prediction) for one in model(batch["input_ids"], batch["attention_mask"]).values())
    loss = objective(model, batch)
    assert loss.mean.item() == pytest.approx((loss["next"].mean + 0.3 * loss["second"].mean).item())
