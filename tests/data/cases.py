"""What the tests of the collator share: objectives, a vocabulary with all roles, ragged rows."""

from unittest import mock

import pytest
import torch

from clozelab import MaskedDiffusion, MaskedLM, SpanCorruption
from clozelab.data import Noise, SpecialIds
from clozelab.objectives import OBJECTIVES

OTHERS = {
    "masked, bernoulli": MaskedLM(scheme="bernoulli", mask_rate=0.3),
    "span, short": SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0),
    "diffusion, bernoulli": MaskedDiffusion(exact_count=False),
}
ALL = {**{name: objective() for name, objective in OBJECTIVES.items()}, **OTHERS}
IN_PLACE = {name: objective for name, objective in ALL.items() if objective.source_length(20) == 20}
each = pytest.mark.parametrize("objective", ALL.values(), ids=ALL)

_NAMES = dict.fromkeys(role for objective in OBJECTIVES.values() for role in objective.roles if role != "mask")
ROLES = {role: 3 + n for n, role in enumerate(_NAMES)}
assert max(ROLES.values()) < 15, "the texts of these tests begin at id 15: let ROLES end before it"
SPECIAL = SpecialIds(
    vocab_size=100,
    pad=0,
    eos=1,
    mask=2,
    sentinels=range(99, 79, -1),
    roles=ROLES,
    ends_sentence=torch.arange(100) % 7 == 0,
)
"""Ids 15 .. 79 are text."""


def rows(n=12, seed=0, shortest=4, longest=40):
    lengths = torch.randint(shortest, longest, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    return [
        {"input_ids": [20 + (7 * b + t) % 60 for t in range(length)], "example_id": b}
        for b, length in enumerate(lengths)
    ]


def draws_noise(objective):
    """Whether the corruption of an objective draws any number of its examples' noise."""
    with mock.patch.object(Noise, "_of_stream", autospec=True, side_effect=Noise._of_stream) as drawn:
        objective.collator(SPECIAL)(rows())
    return drawn.called


NOISY = {name: objective for name, objective in ALL.items() if draws_noise(objective)}
each_noisy = pytest.mark.parametrize("objective", NOISY.values(), ids=NOISY)


def unpadded(batch, b):
    """What belongs to row b of a batch, without its padding."""
    length = int(batch["attention_mask"][b].sum())
    targets = int((batch["labels"][b] != -100).sum()) if "decoder_input_ids" in batch else length
    of_decoder = ("labels", "hidden", "decoder_") if "decoder_input_ids" in batch else ()
    lengths = {key: targets if key.startswith(of_decoder) else length for key in batch}
    return {key: value[b, : lengths[key]].tolist() if value.dim() > 1 else value[b] for key, value in batch.items()}


def same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].dtype == other[key].dtype, key
        assert torch.equal(one[key], other[key]), key
