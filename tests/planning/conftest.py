"""Small models with a batch each, so that the arithmetic can be compared with what PyTorch does."""

from typing import Any

import pytest
import torch

from clozelab.data import SpecialIds
from clozelab.models import ModelConfig
from clozelab.objectives import OBJECTIVES, Objective
from clozelab.planning.rows import row_of_batch

from ..objectives.cases import ROLES, SAMPLED_NAMES

SHAPES = {
    "even": {"rows": 2, "length": 32, "d_model": 32, "n_layers": 2, "n_heads": 2},
    "odd, untied": {"rows": 3, "length": 21, "d_model": 48, "n_layers": 1, "n_heads": 3, "d_ff": 40, "tied": False},
}


class Small:
    """An objective, its model, a batch of it, and the row that planning sees in it."""

    def __init__(self, name: str, rows: int, length: int, vocab_size: int = 200, **shape: Any) -> None:
        self.objective: Objective = OBJECTIVES[name]()
        if self.objective.architecture == "encoder-decoder":
            shape["n_decoder_layers"] = shape["n_layers"] + 1
        self.config = ModelConfig(vocab_size, **shape)
        self.model = self.objective.build_model(vocab_size, **shape)
        roles = {role: 3 + n for n, role in enumerate(ROLES)}
        sentinels = range(vocab_size - 1, vocab_size - 61, -1)
        special = SpecialIds(vocab_size, pad=0, eos=1, mask=2, sentinels=sentinels, roles=roles)
        text = torch.randint(3 + len(ROLES), vocab_size - 60, (rows, self.objective.source_length(length)))
        self.batch = self.objective.collator(special).block(text, example_ids=range(rows))
        self.rows, self.row = rows, row_of_batch(self.objective, self.batch, text.shape[1], special)

    def loss(self, precision: str) -> torch.Tensor:
        """The forward pass, as the loop makes it."""
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return self.objective(self.model, self.batch).mean


@pytest.fixture(params=SAMPLED_NAMES)
def name(request) -> str:
    """Of an objective."""
    return request.param


@pytest.fixture(params=["float32", "bfloat16"])
def precision(request) -> str:
    """Of the products."""
    return request.param


@pytest.fixture
def make():
    """`Small` itself."""
    return Small


@pytest.fixture(params=list(SHAPES))
def small(request, name) -> Small:
    """Each objective in each shape."""
    return Small(name, **SHAPES[request.param])
