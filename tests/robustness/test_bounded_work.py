"""Work and memory do not grow with a number that somebody gives, or the number is refused."""

import time

import pytest
import torch

from clozelab.cli import main
from clozelab.data import SpecialIds, solve_span_lengths, train_bpe
from clozelab.errors import InputError
from clozelab.evaluation import linear_probe
from clozelab.generation import decoding, generate, sample_middle_text, sample_span_text
from clozelab.languages import MarkovSource, World
from clozelab.models import build
from clozelab.testing import check_mask_scheme

SHAPE = {"d_model": 16, "n_layers": 1, "n_heads": 2}
SECONDS = 10.0
"""Processor time that each may take, imports included."""


@pytest.fixture(autouse=True)
def at_once():
    begun = time.process_time()
    yield
    assert time.process_time() - begun < SECONDS


def test_a_plan_for_texts_of_absurd_length_is_refused(capsys):
    words = ["plan", "--objective", "span", "--noise-density", "0.9999999", "--mean-noise-span-length", "1e9"]
    assert main(words) == 2
    assert "would be those of a text of more than 4,194,304 tokens" in capsys.readouterr().err


def test_a_probe_knows_the_labels_that_there_are():
    """Whatever their numbers: as many classes as labels, and one that is only tested on is never right."""
    points = torch.tensor([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.1]])
    labels = torch.tensor([5, 5, 2**31 - 1, 2**31 - 1])
    assert linear_probe(points, labels, points, labels) == 1.0
    assert linear_probe(points, labels, points, torch.tensor([5, 5, 7, 7])) == 0.5


@pytest.mark.parametrize(
    "call",
    [
        lambda: SpecialIds(2**31, pad=0, eos=1).replacements,
        lambda: solve_span_lengths(2**20, noise_density=0.99999),
        lambda: World().block(0, rows=10**30, length=8),
        lambda: World().prose(0, length=2**40),
        lambda: World().exercises("copying", 2**31),
        lambda: MarkovSource.random(10**6, entropy=0.5),
        lambda: check_mask_scheme(lambda tokens, maskable, generator: maskable, count=10**11),
        lambda: generate(build("decoder-only", **SHAPE), torch.tensor([[5]]), max_new_tokens=2**40),
    ],
    ids=["ids", "lengths", "rows", "prose", "exercises", "symbols", "samples", "tokens"],
)
def test_numbers_beyond_all_bounds_are_refused(call):
    with pytest.raises(InputError):
        call()


@pytest.mark.parametrize(
    ("sample", "architecture", "most"),
    # 10 spans of 3 tokens, behind their sentinels, twice; a third of 301 tokens, twice
    [(sample_span_text, "encoder-decoder", 88), (sample_middle_text, "decoder-only", 210)],
)
def test_a_sample_is_about_as_long_as_what_was_hidden(sample, architecture, most, monkeypatch):
    """Where the model never ends: a long text took more than 20 seconds."""
    steps = []
    monkeypatch.setattr(
        decoding, "_decode", lambda logits_of, ids, count, *_: torch.full((1, steps.append(count) or 1), 5)
    )
    roles = ["fim_prefix", "fim_suffix", "fim_middle", "fim_end"]
    tokenizer = train_bpe(["the cat sat"], vocab_size=400, sentinels=10, roles=roles)
    sample(build(architecture, **SHAPE, vocab_size=400), tokenizer, "x" * 301)
    assert steps == [most]
