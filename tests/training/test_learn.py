"""The bare loop: the same steps as by hand, and nothing that hangs on anything but its arguments."""

import math
from collections import UserDict

import pytest
import torch
from torch import nn

from clozelab.errors import NotFinite
from clozelab.languages.markov import MarkovSource
from clozelab.objectives import CausalLM, Loss, MaskedLM, SpanCorruption
from clozelab.training import TrainConfig, optimizer_of, step_with_mean
from clozelab.training import fit as learn

SOURCE = MarkovSource.random(5, entropy=0.7)
SPECIAL = SOURCE.special_ids(sentinels=10)
OBJECTIVES = [CausalLM(), MaskedLM(), SpanCorruption()]
CONFIG = TrainConfig(steps=8, learning_rate=1e-2, precision="float32")


def fresh(objective, seed=0, **more):
    torch.manual_seed(seed)
    return objective.build_model(SPECIAL.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=2, **more)


def batches(objective):
    collate = objective.collator(SPECIAL)
    return lambda step: collate.block(SOURCE.sample(4, 16, seed=step), range(4), epoch=step)


def same_weights(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
def test_it_is_the_loop_that_one_would_write_by_hand(objective, optimizer):
    config = TrainConfig(steps=8, learning_rate=1e-2, optimizer=optimizer, precision="float32")
    learned, by_hand = fresh(objective), fresh(objective)
    curve = learn(objective, learned, batches(objective), config)

    expected, steps = [], optimizer_of(by_hand, config)
    for step in range(8):
        steps.set_lr_scale(config.schedule((step + 0.5) / 8))
        loss = objective(by_hand, batches(objective)(step))
        loss.sum.backward()
        step_with_mean(by_hand, steps, loss, config.clip)
        expected.append(float(loss.mean.detach()))
    assert curve == expected
    assert same_weights(learned, by_hand)


def test_it_learns_what_there_is_to_learn():
    """An alternation of two symbols: nothing is left to be said but the first one, which is not paid."""
    objective, text = CausalLM(), torch.tensor([[0, 1] * 6, [1, 0] * 6])
    curve = learn(
        objective,
        fresh(objective),
        lambda step: {"input_ids": text, "labels": text},
        TrainConfig(steps=60, learning_rate=1e-2),
    )
    assert curve[0] > 2
    assert curve[-1] < 0.05


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
def test_dropout_is_drawn_from_the_seed_alone(objective):
    """Not from the global random state, which stays as it was."""

    def curve(global_seed, seed=0):
        model = fresh(objective, dropout=0.3)
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        losses = learn(objective, model, batches(objective), TrainConfig(steps=4, seed=seed, precision="float32"))
        assert torch.equal(torch.get_rng_state(), state)
        return losses

    assert curve(1) == curve(2)
    assert curve(1) != curve(1, seed=5)


def test_whoever_watches_is_told_of_each_step():
    told = []
    curve = learn(
        OBJECTIVES[0], fresh(OBJECTIVES[0]), batches(OBJECTIVES[0]), CONFIG, watch=lambda *what: told.append(what)
    )
    assert told == list(enumerate(curve, start=1))


def test_to_watch_changes_nothing():
    """Not even by looking at the model, or drawing from the global random state."""
    objective = OBJECTIVES[1]
    watched, alone = fresh(objective, dropout=0.2), fresh(objective, dropout=0.2)

    def watch(step, nats):
        torch.rand(3)
        with torch.no_grad():
            objective(watched, batches(objective)(99))

    assert learn(objective, watched, batches(objective), CONFIG, watch=watch) == learn(
        objective, alone, batches(objective), CONFIG
    )
    assert same_weights(watched, alone)


def test_batches_are_asked_for_in_order_and_once():
    objective, asked = OBJECTIVES[0], []
    make = batches(objective)
    learn(objective, fresh(objective), lambda step: asked.append(step) or make(step), CONFIG)
    assert asked == list(range(8))


def test_a_batch_is_whatever_the_loss_takes():
    """A tuple, a list of micro-batches, a mapping that is no dict: it comes to the loss as it is."""
    objective = OBJECTIVES[1]
    make = batches(objective)

    def pay_all(model, parts):
        assert isinstance(parts, list)
        return sum(objective(model, part) for part in parts)

    def pay_tuple(model, pair):
        logits = model.unembed(model(pair[0]))
        return objective(logits, pair[1])

    models = [fresh(objective) for _ in range(4)]
    whole = learn(objective, models[0], make, CONFIG)
    halves = learn(
        pay_all,
        models[1],
        lambda step: [{key: value[rows] for key, value in make(step).items()} for rows in (slice(2), slice(2, 4))],
        CONFIG,
    )
    pairs = learn(pay_tuple, models[2], lambda step: (make(step)["input_ids"], make(step)["labels"]), CONFIG)
    other = learn(objective, models[3], lambda step: UserDict(make(step)), CONFIG)
    assert halves == pytest.approx(whole, rel=1e-4)
    assert pairs == pytest.approx(whole, rel=1e-4)
    assert other == whole


def test_gradients_that_a_model_brings_are_forgotten():
    """Of a check that was made before, say; and those of frozen weights have no part in the clipping."""
    objective = OBJECTIVES[0]
    clean, used = fresh(objective), fresh(objective)
    objective(used, batches(objective)(5)).sum.backward()
    assert learn(objective, used, batches(objective), CONFIG) == learn(objective, clean, batches(objective), CONFIG)
    assert same_weights(used, clean)


def test_frozen_weights_stay():
    objective, model = OBJECTIVES[0], fresh(OBJECTIVES[0])
    model.embedding.requires_grad_(False)
    before, block = model.embedding.weight.clone(), next(model.blocks.parameters()).clone()
    learn(objective, model, batches(objective), CONFIG)
    assert torch.equal(model.embedding.weight, before)
    assert not torch.equal(next(model.blocks.parameters()), block)


def test_a_batch_without_a_target_changes_nothing_and_costs_nothing():
    objective, model = OBJECTIVES[1], fresh(OBJECTIVES[1])
    batch = batches(objective)(0)
    batch["labels"].fill_(-100)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    config = TrainConfig(steps=3, weight_decay=0.0, precision="float32")
    assert learn(objective, model, lambda step: batch, config) == [0.0, 0.0, 0.0]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_loss_that_is_no_number_ends_it_by_name():
    """Before: every later step was skipped in silence, and the model came back as if it had been trained."""
    objective, model = OBJECTIVES[0], fresh(OBJECTIVES[0])

    def pay(model: nn.Module, batch) -> Loss:
        loss = objective(model, batch["batch"])
        return Loss(loss.sum * math.nan, loss.count) if batch["step"] == 3 else loss

    seen = []
    with pytest.raises(NotFinite, match="step 4: the loss is nan"):
        learn(
            pay,
            model,
            lambda step: {"step": step, "batch": batches(objective)(step)},
            CONFIG,
            watch=lambda step, nats: seen.append(step),
        )
    assert seen == [1, 2, 3]
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_the_model_is_left_in_training_mode():
    model = fresh(OBJECTIVES[0]).eval()
    learn(OBJECTIVES[0], model, batches(OBJECTIVES[0]), TrainConfig(steps=1))
    assert model.training
