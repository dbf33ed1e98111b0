"""A small run of any objective."""

from dataclasses import dataclass

import pytest
import torch

from clozelab.data import pack
from clozelab.objectives import MaskedLM, options
from clozelab.training import TrainConfig, seeded_model, train

CONFIG = TrainConfig(
    steps=12, length=24, batch_size=8, eval_every=5, checkpoint_every=4, eval_rows=8, precision="float32"
)
SMALL = {"d_model": 32, "n_layers": 1, "n_heads": 2}


@pytest.fixture(scope="session")
def packed(tokenizer, tmp_path_factory):
    """(text, held-out text)"""
    documents = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(80)]
    cache = tmp_path_factory.mktemp("cache")
    return pack(documents[:60], tokenizer, cache_dir=cache), pack(documents[60:], tokenizer, cache_dir=cache)


@options
class Rising(MaskedLM):
    """Hides the first token of a row at first, and the whole row at the end."""

    name, schedule = "rising", "from the first token to the whole row"

    def choose(self, examples, maskable):
        share = torch.arange(maskable.shape[1]) / maskable.shape[1]
        return maskable & (share <= examples.progress)


@dataclass
class SmallRun:
    """`small_run(objective, run=folder)` trains for 12 steps and returns (model, result)."""

    tokenizer: object
    packed: tuple
    config: TrainConfig = CONFIG

    def __call__(self, objective, config=None, *, model=None, dropout=0.0, packed=None, **settings):
        config = config or self.config
        if model is None:
            model = seeded_model(objective, self.tokenizer.vocab_size, "tiny", config.seed, **SMALL, dropout=dropout)
        return model, train(objective, model, self.tokenizer, *(packed or self.packed), config, **settings)


@pytest.fixture
def small_run(tokenizer, packed):
    return SmallRun(tokenizer, packed)


@pytest.fixture(scope="session")
def same_weights():
    """Whether two models are equal, bit for bit."""

    def same(a, b):
        a, b = a.state_dict(), b.state_dict()
        return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

    return same
