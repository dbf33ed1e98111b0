"""One vector for a text: which tokens go into it."""

import pytest
import torch

from clozelab.errors import InputError
from clozelab.evaluation import embed
from clozelab.models import build


@pytest.mark.parametrize("architecture", ["decoder-only", "encoder-only", "encoder-decoder"])
@pytest.mark.parametrize("pool", ["mean", "last"])
def test_padding_does_not_count(architecture, pool):
    model = build(architecture, "tiny", vocab_size=20, width=16, heads=2)
    text = torch.tensor([[3, 4, 5, 6]])
    padded, mask = torch.tensor([[3, 4, 5, 6, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0, 0]])
    assert torch.allclose(embed(model, padded, mask, pool=pool), embed(model, text, pool=pool), atol=1e-5)


def test_the_last_token_alone_where_it_is_asked_for():
    model = build("decoder-only", "tiny", vocab_size=20, width=16, heads=2)
    text, mask = torch.tensor([[3, 4, 5], [3, 4, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    hidden = model(text).detach()
    assert torch.allclose(embed(model, text, mask, pool="last"), torch.stack([hidden[0, 2], hidden[1, 1]]), atol=1e-5)


def test_another_way_to_pool_is_refused():
    with pytest.raises(InputError, match="pool"):
        embed(build("encoder-only", "tiny", vocab_size=20), torch.tensor([[3]]), pool="first")
