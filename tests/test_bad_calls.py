"""Calls whose arguments are of the right kind and cannot be meant, a line each in `bad_calls.txt`: each is refused.

A wrong shape, NaN, a number out of all bounds, nothing at all, what belongs to another tokenizer or model: none of them
is a bare error or a figure. Arguments of another kind are what `tests/robustness/test_fuzz.py` tries;
`tests/test_bad_input.py` tests what the sentence says, this file that there is one.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np  # noqa: F401
import pytest
import torch
from torch import nn

from clozelab import (  # noqa: F401
    course,
    data,
    display,
    evaluation,
    generation,
    languages,
    models,
    objectives,
    planning,
    testing,
    training,
)
from clozelab.data import pack, train_bpe
from clozelab.errors import InputError, NotFinite
from clozelab.languages import MarkovSource
from clozelab.objectives import fill_in_the_middle  # noqa: F401

nan, inf = math.nan, math.inf
TEXTS = [f"The number {n} comes before {n + 1}." for n in range(300)]
FREE, NOISE, IDS = torch.ones(8, dtype=torch.bool), torch.rand(8), torch.arange(5, 13)[None]
SHAPE = {"d_model": 16, "n_layers": 1, "n_heads": 2}

CALLS = [
    line for line in Path(__file__).with_name("bad_calls.txt").read_text().splitlines() if line[:1] not in ("", "#")
]


class Stranger(nn.Module):
    """A model whose forward takes another argument than ours."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        return self.inner(x)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the calls above refer to."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CLOZELAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        special = data.SpecialIds(vocab_size=40, pad=0, eos=1, mask=2, sentinels=range(39, 29, -1))
        tokenizer = train_bpe(TEXTS, vocab_size=400, sentinels=10)
        packed = pack(TEXTS, tokenizer)
        config, settings = models.ModelConfig(400, **SHAPE), training.TrainConfig(steps=1, length=16)
        causal, everything = objectives.CausalLM(), torch.ones(1, 8, dtype=torch.bool)
        roles = {"fim_prefix": 5, "fim_suffix": 6, "fim_middle": 7, "fim_end": 8}
        yield {
            **globals(),
            "special": special,
            "roles": replace(special, roles=roles),
            "examples": data.Examples(IDS, everything, everything, data.Noise.of(0, 0, [1]), special),
            "part": objectives.Target(IDS).part(objectives.Prediction(torch.zeros(1, 8, 40))),
            "tokenizer": tokenizer,
            "packed": packed,
            "heldout": pack(TEXTS[:200], tokenizer),
            "blocks": packed.blocks(16),
            "config": config,
            "settings": settings,
            "model": models.build("decoder-only", "tiny", 400, **SHAPE),
            "coin": MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]])),
            "counted": planning.parameters(causal, config),
            "row": planning.row_of(causal, 32),
            "machine": planning.Machine(),
            "planned": planning.plan(causal, config, tokens=1e6, length=32, batch_tokens=1e4),
            "opt": lambda: training.optimizer_of(models.DecoderOnly(config), settings),
            "decoder": lambda ids=40: models.build("decoder-only", "tiny", ids, **SHAPE),
            "encoder": lambda ids=40: models.build("encoder-only", "tiny", ids, **SHAPE),
            "encoder_decoder": lambda ids=40: models.build("encoder-decoder", "tiny", ids, **SHAPE),
            "batch_of": lambda objective: objective.collator(special).block(torch.arange(5, 29)[None], [0]),
        }


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_it_is_refused_in_a_sentence(call, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, NotFinite, FileNotFoundError, IsADirectoryError)) as refused:
        eval(call, names)
    assert len(str(refused.value)) > 15
    assert list(tmp_path.iterdir()) == []
