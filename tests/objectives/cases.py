"""What every test of an objective needs: a vocabulary with all roles, ragged texts, and a model that reads."""

import pytest
import torch
from torch import nn

from clozelab.data import SpecialIds
from clozelab.objectives import OBJECTIVES, Prediction

WORDS = 40  # ids 0 .. 39 are text
ROLES = sorted({role for objective in OBJECTIVES.values() for role in objective.roles} - {"mask"})
VOCAB = WORDS + 3 + len(ROLES) + 30
SPECIAL = SpecialIds(
    VOCAB,
    pad=WORDS,
    eos=WORDS + 1,
    mask=WORDS + 2,
    sentinels=range(VOCAB - 1, VOCAB - 31, -1),
    roles={role: WORDS + 3 + n for n, role in enumerate(ROLES)},
    starts_word=torch.arange(VOCAB) % 2 == 0,
    ends_sentence=torch.arange(VOCAB) % 7 == 0,
)

VARIANTS = {
    "masked": [
        {"mask_rate": 0.5, "final_mask_rate": 0.3, "scheme": "n-grams"},
        {"scheme": "bernoulli"},
        {"mask_replace_prob": 1.0, "random_replace_prob": 0.0},
    ],
    "span": [{"noise_density": 0.4, "mean_noise_span_length": 2.0}, {"final_sentinel": True}],
    "bart": [{"permute_sentences": False, "rotate": True, "delete_rate": 0.2}, {"whole_words": True}],
    "diffusion": [{"exact_count": False}],
    "fim": [{"form": "psm", "fim_rate": 1.0}, {"form": "spm", "fim_rate": 1.0}],
    "cm3": [{"mean_spans": 3.0, "predict_sentinels": True}],
}
"""Options with which an objective is tested beside its defaults."""


def all_objectives():
    """Every objective with its defaults, and with the options above."""
    return [cls(**options) for name, cls in OBJECTIVES.items() for options in ({}, *VARIANTS.get(name, ()))]


_FIRST = {cls.architecture: name for name, cls in reversed(OBJECTIVES.items())}.values()
_OF_PARTS = next(name for name, cls in OBJECTIVES.items() if len(cls().uniform_values(VOCAB)) > 1)


def sampled(names):
    """Every objective, of which all but those of these names are tried by `pytest -m slow` alone."""
    return [pytest.param(name, id=name, marks=[] if name in names else pytest.mark.slow) for name in OBJECTIVES]


SAMPLED_NAMES = sampled([*_FIRST])
"""For tests that cost seconds each: by default the first of each architecture alone is tried."""
LOOPED_NAMES = sampled([*_FIRST, _OF_PARTS])
"""For tests of what goes through a loop with an objective and knows nothing of it: also the first of several parts."""


def from_the_left():
    """Every objective of a decoder with one output, as far as its rows are written from the left."""
    decoders = [
        one for one in all_objectives() if one.architecture == "decoder-only" and len(one.uniform_values(VOCAB)) == 1
    ]
    return [type(one)(causal_share=1.0) if hasattr(one, "causal_share") else one for one in decoders]


def logits_of(objective, batch, make):
    """{output: `Prediction`} of logits (B, T, V) as `make` makes them for each output that the objective reads; of ids
    that a model drew, the text itself."""
    made = {}
    for name, one in objective.targets(batch).items():
        classes, sampled = (2, one.labels) if one.detects_replaced else (VOCAB, None)
        made[name] = Prediction(make(*one.labels.shape, classes), sampled=sampled)
    return made


NEXT_TOKENS = {"causal", "fim", "cm3", "mtp", "top"}
"""Objectives whose batches have the form of causal LM's; fill-in-the-middle and CM3 move the text, and further heads
predict from the same batch."""
DRAW_NOTHING = {"causal", "mtp", "top"}
"""Objectives whose batches are the text itself."""

each_objective = pytest.mark.parametrize("objective", all_objectives(), ids=repr)
each_of_one_output = pytest.mark.parametrize(
    "objective", [one for one in all_objectives() if len(one.uniform_values(VOCAB)) == 1], ids=repr
)
"""Those that take bare logits, as anybody's model returns them."""


WITH_FLOOR = {name: cls for name, cls in OBJECTIVES.items() if cls.declares("entropy_floor")}
"""Classes of which an exact floor is known; the others refuse to be asked for one."""


def texts(lengths, seed=0):
    """Examples of random words, of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {"input_ids": torch.randint(0, WORDS, (n,), generator=generator).tolist(), "example_id": b}
        for b, n in enumerate(lengths)
    ]


def batch_of(objective, lengths=(24, 9, 31, 16, 12, 27), seed=0, **settings):
    """A ragged batch as the objective's collator makes it."""
    return objective.collator(SPECIAL, **settings)(texts(lengths, seed))


def reading_model(objective, seed=0, dtype=torch.float64, std=0.3):
    """The paired model with random weights everywhere: fresh blocks are the identity, and read nothing yet."""
    model = objective.build_model(VOCAB, "tiny", d_model=16, n_layers=2, n_heads=2).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=std, generator=generator)
    return model.eval()
