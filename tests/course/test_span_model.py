"""A span model that also fills single blanks: its batches, its two losses, and that it learns to read."""

from dataclasses import replace

import pytest
import torch

from clozelab import CausalLM, SpanCorruption
from clozelab.course import SpansAndBlanks
from clozelab.data import IGNORED
from clozelab.errors import InputError
from clozelab.evaluation import positions_read
from clozelab.languages import MarkovSource
from clozelab.models import EncoderOnly
from clozelab.objectives import MaskedLM

SOURCE = MarkovSource.random(12, entropy=0.7)
SPECIAL = SOURCE.special_ids(sentinels=16)
OBJECTIVE = SpanCorruption()
SMALL = {"d_model": 16, "n_layers": 1, "n_heads": 1, "n_decoder_layers": 1}


@pytest.fixture
def task():
    return SpansAndBlanks(OBJECTIVE, SPECIAL, seed=3)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return OBJECTIVE.build_model(SPECIAL.vocab_size, "tiny", **SMALL)


def test_its_spans_are_those_of_the_objective(task):
    text = SOURCE.sample(8, 40)
    alone = OBJECTIVE.collator(SPECIAL, seed=3).block(text, range(8), epoch=1)
    both = task.block(text, range(8), epoch=1)
    assert all(torch.equal(both[key], alone[key]) for key in alone)
    assert both.keys() - alone.keys() == {"blank_ids", "blank_labels"}


def test_a_blank_is_one_of_eight_sentinels_and_15_percent_of_the_tokens(task):
    text = SOURCE.sample(200, 40)
    batch = task.block(text, range(200))
    blank = batch["blank_labels"] != IGNORED
    assert float(blank.float().mean()) == pytest.approx(0.15, abs=0.017)  # 4 standard errors
    assert torch.equal(batch["blank_labels"][blank], text[blank])
    assert torch.equal(batch["blank_ids"][~blank], text[~blank])
    kinds, counts = batch["blank_ids"][blank].unique(return_counts=True)
    assert set(kinds.tolist()) == set(SPECIAL.sentinels[:8])
    assert counts.min() > 0.7 * counts.float().mean()


def test_its_losses_are_that_of_the_objective_and_that_of_an_encoder_alone(task, model):
    batch = task.block(SOURCE.sample(4, 40), range(4))
    loss = task(model, batch)
    spans = {key: value for key, value in batch.items() if not key.startswith("blank_")}
    assert loss["spans"].mean.item() == pytest.approx(OBJECTIVE(model, spans).item())
    encoder = EncoderOnly(replace(model.config, n_decoder_layers=None))
    encoder.embedding, encoder.blocks = model.embedding, model.encoder
    blanks = {"input_ids": batch["blank_ids"], "labels": batch["blank_labels"]}
    masks_alone = MaskedLM(mask_replace_prob=1.0, random_replace_prob=0.0)
    assert loss["blanks"].mean.item() == pytest.approx(masks_alone(encoder, blanks).item())
    assert loss.item() == pytest.approx((loss["spans"].mean + loss["blanks"].mean).item())


def test_the_second_pass_is_counted(task):
    text = SOURCE.sample(4, 40)
    alone = OBJECTIVE.collator(SPECIAL).block(text, range(4))
    assert task.positions_read(task.block(text, range(4))) == positions_read(alone) + 4 * 40


def test_what_it_refuses(task):
    with pytest.raises(InputError, match="expected the objective as SpanCorruption, got CausalLM"):
        SpansAndBlanks(CausalLM(), SPECIAL)
    with pytest.raises(InputError, match="this vocabulary has none: ask for special_ids"):
        SpansAndBlanks(OBJECTIVE, SOURCE.special_ids(sentinels=0))
    decoder = CausalLM().build_model(SPECIAL.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=1)
    with pytest.raises(InputError, match="expected the model as EncoderDecoder, got DecoderOnly"):
        task(decoder, task.block(SOURCE.sample(1, 40), [0]))
