"""What the tests of generation share: models with random weights, prompts, texts with blanks."""

import torch

from clozelab.models import build

VOCAB, MASK = 40, 2
PROMPTS = torch.tensor([[5, 6, 7], [8, 9, 10]])
TEXTS = torch.tensor([[5, 6, 39, 8, 9, 38, 1], [7, 39, 7, 7, 7, 7, 1]])
BLANKS = torch.tensor([[5, MASK, 7, MASK, MASK, 10], [MASK, 6, 7, 8, 9, 10]])


def random_weights(architecture: str, seed: int = 0) -> torch.nn.Module:
    """A fresh model repeats its input, as its blocks start as the identity: draw its weights."""
    model = build(architecture, "tiny", VOCAB, d_model=32, n_layers=2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=weight.shape[-1] ** -0.5, generator=generator)
    return model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
