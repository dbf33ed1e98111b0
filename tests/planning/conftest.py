"""Small models with a batch each, so that the arithmetic can be compared with what PyTorch does."""

from typing import Any

import pytest
import torch

from clozelab.data import SpecialIds
from clozelab.models import ARCHITECTURES, ModelConfig
from clozelab.objectives import OBJECTIVES, Objective
from clozelab.planning import row_of

SHAPES = {
    "even": {"rows": 2, "length": 32, "d_model": 32, "n_layers": 2, "n_heads": 2},
    "odd, untied": {
        "rows": 3,
        "length": 21,
        "d_model": 48,
        "n_layers": 1,
        "n_heads": 3,
        "feed_forward": 40,
        "tied": False,
    },
    "one head, one row": {"rows": 1, "length": 16, "d_model": 32, "n_layers": 2, "n_heads": 1},
    "fused in bfloat16 too": {"rows": 1, "length": 512, "d_model": 16, "n_layers": 1, "n_heads": 2},
}
"""What each is there for, and what it is."""


class Small:
    """An objective, its model, a batch of it, and the row that planning thinks it is made of."""

    def __init__(self, name: str, rows: int, length: int, vocabulary: int = 200, **shape: Any) -> None:
        self.objective: Objective = OBJECTIVES[name]()
        self.architecture = self.objective.architecture
        decoder = {"n_decoder_layers": shape["layers"] + 1} if self.architecture == "encoder-decoder" else {}
        self.config = ModelConfig(vocabulary, **shape, **decoder)
        self.model = ARCHITECTURES[self.architecture](self.config)
        sentinels = range(vocabulary - 1, vocabulary - 61, -1)
        special = SpecialIds(vocab_size=vocabulary, pad=0, eos=1, mask=2, sentinels=sentinels)
        text = torch.randint(3, vocabulary - 60, (rows, self.objective.source_length(length)))
        self.batch = self.objective.collator(special).block(text, example_ids=list(range(rows)))
        self.rows, self.row = rows, row_of(self.objective, length)

    def loss(self, precision: str) -> torch.Tensor:
        """The forward pass, as the loop makes it."""
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return self.objective(self.model, self.batch).sum


@pytest.fixture(params=list(OBJECTIVES))
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
