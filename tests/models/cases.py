"""What the tests of models share: two rows of ids, and models with random weights."""

import torch

from clozelab.models import ModelConfig

V = 60
CONFIG = ModelConfig(vocab_size=V, d_model=32, n_layers=2, n_heads=4)
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12], [20, 21, 22, 23, 24, 25, 26, 27]])  # (2, 8)
TARGETS = torch.tensor([[0, 31, 32, 33, 34], [0, 41, 42, 43, 44]])  # (2, 5)


def random_weights(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Projections into the residual stream start at zero, and a model that adds nothing shows no leak: draw them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=weight.shape[-1] ** -0.5, generator=generator)
    return model.eval()


def changed(model, ids, other, **flags) -> torch.Tensor:
    """bool (T,): which places of the output differ, in any bit, between two inputs."""
    return (model(ids, **flags) != model(other, **flags)).any(-1).any(0)
