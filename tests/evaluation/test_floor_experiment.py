"""Each objective comes down to its entropy floor, and no model without a leak goes below it."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from clozelab.display import save_floors
from clozelab.errors import InputError
from clozelab.evaluation.floor_experiment import SENTINELS, BreakdownRow, FloorResult, train_to_entropy_floor
from clozelab.languages import MarkovSource
from clozelab.objectives import (
    OBJECTIVES,
    CausalLM,
    FloorExercise,
    MaskedDiffusion,
    MaskedLM,
    Prediction,
    options,
)

from ..objectives.cases import WITH_FLOOR, batch_of

each_class = pytest.mark.parametrize("cls", WITH_FLOOR.values(), ids=WITH_FLOOR)


EASY = replace(
    CausalLM.exercise, symbols=4, entropy=0.7, length=16, learning_rate=1e-2, model={"d_model": 32, "n_layers": 1}
)
"""For a model of one layer, in seconds."""


def vocab_size_of(cls, exercise=None):
    exercise = exercise or cls.exercise
    source = MarkovSource.random(exercise.symbols, entropy=exercise.entropy)
    return source.special_ids(SENTINELS, roles=cls.roles).vocab_size


class Peeking(nn.Module):
    """A causal model that reads the next token: the mask forgotten, in its simplest form."""

    def __init__(self, vocab_size):
        super().__init__()
        self.now, self.next = nn.Embedding(vocab_size, vocab_size), nn.Embedding(vocab_size, vocab_size)
        nn.init.zeros_(self.now.weight)
        nn.init.zeros_(self.next.weight)

    def forward(self, input_ids, attention_mask=None):
        following = torch.cat([input_ids[:, 1:], input_ids[:, :1]], 1)
        return self.now(input_ids) + self.next(following)


class Uniform(nn.Module):
    """All tokens are equally likely in every output, whatever is trained, and so is whether one was replaced."""

    def __init__(self, vocab_size, outputs=("logits",), detectors=()):
        super().__init__()
        self.vocab_size, self.outputs, self.detectors = vocab_size, outputs, detectors
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(
        self,
        input_ids,
        attention_mask=None,
        reading_rank=None,
        reading_group=None,
        position_ids=None,
        decoder_input_ids=None,
        decoder_position_ids=None,
        boundary_before=None,
        boundary_after=None,
        sampling_noise=None,
    ):
        ids = input_ids if decoder_input_ids is None else decoder_input_ids
        logits = Prediction(self.weight.expand(*ids.shape, self.vocab_size))
        verdicts = Prediction(self.weight.expand(*ids.shape, 2), sampled=ids)
        return {name: verdicts if name in self.detectors else logits for name in self.outputs}


def test_a_model_that_looks_ahead_is_found_below_the_floor():
    exercise = replace(EASY, learning_rate=0.1)
    model = Peeking(vocab_size_of(CausalLM, exercise))
    result = train_to_entropy_floor("causal", exercise=exercise, steps=100, rows=500, model=model)
    assert result.verdict.startswith("LEAK")


def test_a_causal_model_comes_down_to_its_floor_and_not_below():
    """On an easy exercise; those of the classes need minutes and are marked slow."""
    result = train_to_entropy_floor(CausalLM, exercise=EASY, steps=100, rows=1000)
    assert result.verdict == "reached"
    assert result.ratio > 1 - 4 * result.error / result.floor
    assert [step for step, _ in result.curve][-1] <= 100


@each_class
def test_a_uniform_model_costs_the_uniform_value_of_the_class_and_is_above_the_floor(cls):
    """Ln V per count, ln 2 where two classes are told apart; by every value of a breakdown too, since the weights are
    right for each."""
    vocab_size = vocab_size_of(cls)
    objective = cls(**cls.exercise.options)
    values = objective.uniform_values(vocab_size)
    targets = objective.targets(batch_of(objective))
    detectors = [name for name, target in targets.items() if target.detects_replaced]
    model = Uniform(vocab_size, list(values), detectors)
    result = train_to_entropy_floor(cls, steps=1, rows=100, model=model)
    assert result.nats == pytest.approx(sum(targets[name].weight * values[name] for name in values), rel=1e-5)
    assert (result.objective, result.verdict) == (cls.name, "not reached")
    for rows in result.breakdown.values():
        assert [row.nats for row in rows] == pytest.approx([math.log(vocab_size)] * len(rows), rel=1e-5)


def test_the_floor_of_diffusion_is_split_by_the_number_of_hidden_tokens():
    result = train_to_entropy_floor(MaskedDiffusion, steps=1, rows=1000, model=Uniform(vocab_size_of(MaskedDiffusion)))
    rows = result.breakdown["hidden tokens"]
    assert [row.value for row in rows] == list(range(1, 17))  # of 16 tokens; 1000 rows have every number
    assert all(isinstance(row, BreakdownRow) for row in rows)
    assert min(row.floor for row in rows) < result.floor < max(row.floor for row in rows)
    assert rows[-1].floor == pytest.approx(1.1, abs=0.15)  # no token visible: near the entropy of a lone symbol
    assert rows[0].floor < 0.75  # both neighbours visible


def test_several_parts_are_each_divided_by_their_own_count():
    """One head predicts every next token, a second one only the last, at half the weight."""

    @options
    class TwoHeads(CausalLM):
        name, exercise = "two heads", FloorExercise(length=8, steps=1)

        def targets(self, batch):
            every = super().targets(batch)["logits"]
            last = torch.full_like(every.labels, -100)
            last[:, -2] = every.labels[:, -2]
            return {"every": every, "last": replace(every, labels=last, weight=0.5)}

        def entropy_floor(self, source, batch, special):
            return {"every": torch.full((len(batch["labels"]),), 7.0), "last": torch.full((len(batch["labels"]),), 3.0)}

    vocab_size = vocab_size_of(TwoHeads)
    result = train_to_entropy_floor(TwoHeads, rows=100, model=Uniform(vocab_size, ("every", "last")))
    assert result.floor == pytest.approx(7 / 7 + 0.5 * 3 / 1)
    assert result.nats == pytest.approx(1.5 * math.log(vocab_size), rel=1e-5)


def test_the_verdict_needs_more_than_chance():
    def verdict(nats, error=0.01):
        return FloorResult("causal", 0, 1.0, nats, error, []).verdict

    assert verdict(1.01) == "reached"
    assert verdict(0.99) == "reached"  # one standard error below
    assert verdict(1.03) == "not reached"
    assert verdict(0.95).startswith("LEAK")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_to_entropy_floor("gpt"), "expected an objective among causal"),
        (lambda: train_to_entropy_floor(CausalLM()), "expected the class of an objective"),
        (lambda: train_to_entropy_floor(CausalLM, rows=130), "multiple of 50"),
        (lambda: train_to_entropy_floor(CausalLM, rows=50), "at least 100"),
        (lambda: train_to_entropy_floor(CausalLM, steps=0), "steps"),
        (lambda: train_to_entropy_floor(MaskedLM, exercise=FloorExercise()), "exact floor of masked LM"),
    ],
)
def test_a_call_without_a_floor_is_refused_before_any_training(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_an_objective_without_a_floor_is_refused_by_name_before_any_training():
    @options
    class NoFloor(MaskedLM):
        name = "no floor"  # its parent's is not inherited

    for cls in (NoFloor, *(OBJECTIVES[name] for name in OBJECTIVES.keys() - WITH_FLOOR.keys())):
        with pytest.raises(InputError, match=f"no exact floor is known for {cls.name}"):
            train_to_entropy_floor(cls)


def test_results_are_saved_with_their_breakdown_and_drawn(tmp_path):
    rows = [BreakdownRow(1, 0.5, 0.6), BreakdownRow(2, 0.7, 0.7)]
    curve, by = [(1, 1.5), (2, 1.01)], {"hidden tokens": rows}
    runs = [FloorResult("diffusion", seed, 1.0, 1.01, 0.01, curve, by) for seed in (0, 1)]
    save_floors([*runs, FloorResult("own", 0, 1.0, 1.1, 0.01, [(1, 1.1)])], tmp_path)
    saved = json.loads((tmp_path / "floors.json").read_text())
    assert saved[0]["breakdown"] == {
        "hidden tokens": [{"value": 1, "floor": 0.5, "nats": 0.6}, {"value": 2, "floor": 0.7, "nats": 0.7}]
    }
    assert [line["verdict"] for line in saved] == ["reached", "reached", "not reached"]
    assert (tmp_path / "floors.png").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@each_class
@pytest.mark.parametrize("seed", range(3))
def test_every_objective_comes_within_two_percent_of_its_floor(cls, seed):
    assert train_to_entropy_floor(cls, seed=seed).verdict == "reached"
