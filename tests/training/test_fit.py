"""The bare loop: the same steps as by hand, depending on nothing but its arguments."""

import math
from collections import UserDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from clozelab.errors import NotFinite
from clozelab.languages import MarkovSource
from clozelab.objectives import OBJECTIVES, CausalLM, Loss, MaskedLM
from clozelab.training import TrainConfig, clip_and_step, fit, optimizer_of

from ..objectives.cases import LOOPED_NAMES

SOURCE = MarkovSource.random(5, entropy=0.7)
SPECIAL = SOURCE.special_ids(10, [role for objective in OBJECTIVES.values() for role in objective.roles])
SPECIAL = replace(SPECIAL, ends_sentence=torch.arange(SPECIAL.vocab_size) == 0)
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
@pytest.mark.parametrize("name", LOOPED_NAMES)
def test_it_is_the_loop_that_one_would_write_by_hand(name, optimizer):
    objective = OBJECTIVES[name]()
    config = TrainConfig(steps=8, learning_rate=1e-2, optimizer=optimizer, precision="float32")
    learned, by_hand = fresh(objective), fresh(objective)
    curve = fit(objective, learned, batches(objective), config)

    expected, steps = [], optimizer_of(by_hand, config)
    for step in range(8):
        steps.set_lr_scale(config.schedule((step + 0.5) / 8))
        loss = objective(by_hand, batches(objective)(step))
        loss.mean.backward()
        clip_and_step(steps, loss, config.max_grad_norm)
        expected.append(float(loss.mean.detach()))
    assert curve == expected
    assert same_weights(learned, by_hand)


def test_it_learns_what_there_is_to_fit():
    """An alternation of two symbols: every one but the first, which is not in the loss, follows from the one before."""
    objective, text = CausalLM(), torch.tensor([[0, 1] * 6, [1, 0] * 6])
    curve = fit(
        objective,
        fresh(objective),
        lambda step: {"input_ids": text, "labels": text},
        TrainConfig(steps=60, optimizer="adamw", learning_rate=1e-2),
    )
    assert curve[0] > 2
    assert curve[-1] < 0.05


@pytest.mark.parametrize("name", LOOPED_NAMES)
def test_dropout_is_drawn_from_the_seed_alone(name):
    """Not from the global random state, which stays as it was."""
    objective = OBJECTIVES[name]()

    def curve(global_seed, seed=0):
        model = fresh(objective, dropout=0.3)
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        losses = fit(objective, model, batches(objective), TrainConfig(steps=4, seed=seed, precision="float32"))
        assert torch.equal(torch.get_rng_state(), state)
        return losses

    assert curve(1) == curve(2)
    assert curve(1) != curve(1, seed=5)


def test_the_callback_is_called_after_each_step():
    calls = []
    curve = fit(CausalLM(), fresh(CausalLM()), batches(CausalLM()), CONFIG, callback=lambda *call: calls.append(call))
    assert calls == list(enumerate(curve, start=1))


def test_a_callback_changes_nothing():
    """Even where it calls the model, or draws from the global random state."""
    objective = MaskedLM()
    watched, alone = fresh(objective, dropout=0.2), fresh(objective, dropout=0.2)

    def callback(step, nats):
        torch.rand(3)
        with torch.no_grad():
            objective(watched, batches(objective)(99))

    assert fit(objective, watched, batches(objective), CONFIG, callback=callback) == fit(
        objective, alone, batches(objective), CONFIG
    )
    assert same_weights(watched, alone)


def test_batches_are_asked_for_in_order_and_once():
    objective, asked = CausalLM(), []
    make = batches(objective)
    fit(objective, fresh(objective), lambda step: asked.append(step) or make(step), CONFIG)
    assert asked == list(range(8))


def test_a_batch_is_whatever_the_loss_takes():
    """A tuple, a list of micro-batches, a mapping that is no dict."""
    objective = MaskedLM()
    make = batches(objective)

    def loss_of_all(model, parts):
        assert isinstance(parts, list)
        return sum(objective(model, part) for part in parts)

    def loss_of_pair(model, pair):
        logits = model.unembed(model(pair[0]))
        return objective(logits, pair[1])

    models = [fresh(objective) for _ in range(4)]
    whole = fit(objective, models[0], make, CONFIG)
    halves = fit(
        loss_of_all,
        models[1],
        lambda step: [{key: value[rows] for key, value in make(step).items()} for rows in (slice(2), slice(2, 4))],
        CONFIG,
    )
    pairs = fit(loss_of_pair, models[2], lambda step: (make(step)["input_ids"], make(step)["labels"]), CONFIG)
    other = fit(objective, models[3], lambda step: UserDict(make(step)), CONFIG)
    assert halves == pytest.approx(whole, rel=1e-4)
    assert pairs == pytest.approx(whole, rel=1e-4)
    assert other == whole


def test_gradients_that_a_model_has_are_cleared_first():
    objective = CausalLM()
    clean, used = fresh(objective), fresh(objective)
    objective(used, batches(objective)(5)).mean.backward()
    assert fit(objective, used, batches(objective), CONFIG) == fit(objective, clean, batches(objective), CONFIG)
    assert same_weights(used, clean)


def test_frozen_weights_stay():
    objective, model = CausalLM(), fresh(CausalLM())
    model.embedding.requires_grad_(False)
    before, block = model.embedding.weight.clone(), next(model.blocks.parameters()).clone()
    fit(objective, model, batches(objective), CONFIG)
    assert torch.equal(model.embedding.weight, before)
    assert not torch.equal(next(model.blocks.parameters()), block)


def test_a_batch_without_a_target_changes_nothing_and_costs_nothing():
    objective, model = MaskedLM(), fresh(MaskedLM())
    batch = batches(objective)(0)
    batch["labels"].fill_(-100)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    config = TrainConfig(steps=3, weight_decay=0.0, precision="float32")
    assert fit(objective, model, lambda step: batch, config) == [0.0, 0.0, 0.0]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_loss_that_is_nan_ends_it_by_name():
    objective, model = CausalLM(), fresh(CausalLM())

    def loss_fn(model: nn.Module, batch) -> Loss:
        loss = objective(model, batch["batch"])
        return Loss.single(loss.sum * math.nan, loss.count) if batch["step"] == 3 else loss

    seen = []
    with pytest.raises(NotFinite, match="step 4: the loss is nan"):
        fit(
            loss_fn,
            model,
            lambda step: {"step": step, "batch": batches(objective)(step)},
            CONFIG,
            callback=lambda step, nats: seen.append(step),
        )
    assert seen == [1, 2, 3]
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_the_model_is_left_in_training_mode():
    model = fresh(CausalLM()).eval()
    fit(CausalLM(), model, batches(CausalLM()), TrainConfig(steps=1))
    assert model.training
