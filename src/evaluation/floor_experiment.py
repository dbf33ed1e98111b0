"""How near a trained model comes to the least loss that is possible: each objective against its exact floor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..data.masking import Bernoulli
from ..languages.markov import MarkovSource
from ..objectives import CausalLM, Loss, MaskedLM, Objective, SpanCorruption
from ..training.config import TrainConfig
from ..training.fit import learn
from ..training.run import seeded_model
from .floors import Floor, floor

ROWS = 4000
"""Fresh texts that the trained model is measured on, in groups of 50 (which say how sure the result is)."""
GROUP = 50
NEAR = 1.02
"""A ratio of reached to floor that counts as having reached it."""
SURE = 4.0
"""Standard errors below the floor that count as a leak: 1 honest run in 30,000."""


@dataclass(frozen=True)
class FloorResult:
    """One model of one objective, trained on a source, measured on fresh text."""

    objective: str
    seed: int
    floor: float
    """Nats per paid position that the best possible model pays on the same texts."""
    nats: float
    """Nats per paid position that this model pays."""
    error: float
    """Standard error of the difference between the two, over the groups of texts."""
    curve: list[tuple[int, float]]
    """(step, loss over floor, both on the same 500 of the fresh texts) along the way."""

    @property
    def ratio(self) -> float:
        """FloorResult over floor: 1 is perfect."""
        return self.nats / self.floor

    @property
    def verdict(self) -> str:
        """ "reached", "not reached", or "LEAK" where the model is better than any honest one can be."""
        if self.nats < self.floor - SURE * self.error:
            return "LEAK: below the floor, so it reads what it should not"
        return "reached" if self.ratio <= NEAR else "not reached"


@dataclass(frozen=True)
class Exercise:
    """An objective, the language that it is tried on, and how long it is trained."""

    objective: Objective
    symbols: int
    entropy: float
    """Nats a symbol."""
    length: int
    """Input tokens of an example."""
    steps: int
    batch_size: int
    learning_rate: float
    model: dict[str, Any]
    """Fields of `ModelConfig` other than those of the preset "tiny"."""


def train_to_entropy_floor(
    exercise: Exercise, *, seed: int = 0, steps: int | None = None, rows: int = ROWS, model: nn.Module | None = None
) -> FloorResult:
    """Train the paired model on fresh text of a `MarkovSource`, never the same twice, and hold it against the floor.

    `seed` draws the language, the weights, the text and the masks. `model` replaces the paired one, for those who want
    to see a leak found.
    """
    objective, steps = exercise.objective, steps or exercise.steps
    source = MarkovSource.random(exercise.symbols, entropy=exercise.entropy, seed=seed)
    special = source.special_ids(sentinels=20)
    collate = objective.collator(special, seed=seed)
    length = objective.source_length(exercise.length)
    if model is None:
        model = seeded_model(objective, special.vocab_size, "tiny", seed, **exercise.model)
    config = TrainConfig(
        steps=steps, learning_rate=exercise.learning_rate, weight_decay=0.0, decay=0.6, precision="float32", seed=seed
    )
    fresh = [
        collate.block(source.sample(GROUP, length, seed=-1 - group), range(-GROUP * (group + 1), -GROUP * group))
        for group in range(rows // GROUP)
    ]
    floors = [floor(objective, source, special, batch) for batch in fresh]
    few = 500 // GROUP
    curve: list[tuple[int, float]] = []

    def batch_at(step: int) -> dict[str, Tensor]:
        text = source.sample(exercise.batch_size, length, seed=seed * 10**6 + step)
        return collate.block(text, range(step * exercise.batch_size, (step + 1) * exercise.batch_size))

    def watch(step: int, nats: float) -> None:
        if step % max(1, steps // 20) == 0:
            curve.append((step, _total(_losses(objective, model, fresh[:few])) / _total_floor(floors[:few])))

    learn(objective, model, batch_at, config, watch=watch)
    losses = _losses(objective, model, fresh)
    return FloorResult(objective.name, seed, _total_floor(floors), _total(losses), _error(losses, floors), curve)


@torch.no_grad()
def _losses(objective: Objective, model: nn.Module, batches: Sequence[dict]) -> list[Loss]:
    model.eval()
    losses = [objective(model, batch) for batch in batches]
    model.train()
    return losses


def _total(losses: Sequence[Loss]) -> float:
    return sum(float(loss.sum) for loss in losses) / sum(int(loss.count) for loss in losses)


def _total_floor(floors: Sequence[Floor]) -> float:
    return sum(float(part.nats.sum()) for part in floors) / sum(int(part.counts.sum()) for part in floors)


def _error(losses: Sequence[Loss], floors: Sequence[Floor]) -> float:
    """Standard error of the mean difference, groups being independent."""
    differences = torch.tensor([float(a.sum) - float(b.nats.sum()) for a, b in zip(losses, floors)]).double()
    paid = sum(int(loss.count) for loss in losses)
    return float(differences.std()) * math.sqrt(len(losses)) / paid


SMALL: dict[str, Any] = {"d_model": 64, "n_layers": 2}
EXERCISES: dict[str, Exercise] = {
    "causal": Exercise(CausalLM(), 12, 1.2, 32, 400, 64, 5e-3, SMALL),
    "masked": Exercise(MaskedLM(scheme=Bernoulli()), 4, 0.7, 16, 3000, 128, 1e-2, SMALL),
    "span": Exercise(
        SpanCorruption(noise_density=0.25, mean_noise_span_length=2.0),
        4,
        0.7,
        16,
        3000,
        128,
        1e-2,
        {**SMALL, "n_decoder_layers": 2},
    ),
}
"""What `clozelab floors` runs: small enough for two cores, and each still an honest exercise."""
