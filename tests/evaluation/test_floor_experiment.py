"""Each objective comes down to the least loss that is possible, and no honest model goes below it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from clozelab.evaluation.floor_experiment import EXERCISES, Exercise, FloorResult, train_to_entropy_floor
from clozelab.languages.markov import MarkovSource


class Peeking(nn.Module):
    """A causal model that was given the next token: the mask forgotten, in its purest form."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.now, self.next = nn.Embedding(vocab_size, vocab_size), nn.Embedding(vocab_size, vocab_size)
        nn.init.zeros_(self.now.weight)
        nn.init.zeros_(self.next.weight)

    def forward(self, input_ids, attention_mask=None):
        following = torch.cat([input_ids[:, 1:], input_ids[:, :1]], 1)
        return self.now(input_ids) + self.next(following)


def test_a_model_that_looks_ahead_is_found_below_the_floor():
    exercise = replace(EXERCISES["causal"], learning_rate=0.1)
    vocab_size = MarkovSource.random(exercise.symbols, entropy=exercise.entropy).special_ids(20).vocab_size
    result = train_to_entropy_floor(exercise, steps=150, rows=500, model=Peeking(vocab_size))
    assert result.verdict.startswith("LEAK")


def test_an_honest_bigram_comes_down_to_the_causal_floor():
    """The quick one of the three; the others need minutes and are marked slow."""
    result = train_to_entropy_floor(EXERCISES["causal"], steps=150, rows=1000)
    assert result.verdict == "reached"
    assert result.ratio > 1 - 4 * result.error / result.floor
    assert [step for step, _ in result.curve][-1] <= 150


def test_the_verdict_needs_more_than_luck():
    def verdict(nats, error=0.01):
        return FloorResult("causal", 0, 1.0, nats, error, []).verdict

    assert verdict(1.01) == "reached"
    assert verdict(0.99) == "reached"  # one standard error below
    assert verdict(1.03) == "not reached"
    assert verdict(0.95).startswith("LEAK")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("seed", range(3))
def test_every_objective_comes_within_two_percent_of_its_floor(name, seed):
    exercise: Exercise = EXERCISES[name]
    assert train_to_entropy_floor(exercise, seed=seed).verdict == "reached"
