"""The picture of who reads whom is that of the batch and of the model's own visibility."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from clozelab.display import draw_visibility, word_tokenizer
from clozelab.errors import InputError
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption

SENTENCE = "Thank you for inviting me to your party last week ."
SMALL = {"d_model": 16, "n_layers": 1, "n_heads": 1}


def drawn(objective, **settings):
    """(axes, which cells are not white, batch, model) of the sentence."""
    tokenizer = word_tokenizer(SENTENCE)
    collate = objective.collator(tokenizer.special, **settings)
    batch = collate.block(torch.tensor([tokenizer.encode(SENTENCE)]), [0])
    model = objective.build_model(tokenizer.vocab_size, "tiny", **SMALL)
    axes = draw_visibility(Figure().subplots(), objective, model, batch, tokenizer)
    return axes, (axes.images[0].get_array().data < 1).any(-1), batch, model


def said(axes):
    """What stands to the right of the rows: (row, word)."""
    return [(round(text.get_position()[1]), text.get_text()) for text in axes.texts]


def test_a_decoder_reads_from_the_left_and_says_the_next_word():
    axes, cells, _, _ = drawn(CausalLM())
    assert np.array_equal(cells, np.tri(11, dtype=bool))
    assert said(axes) == list(enumerate(SENTENCE.split()[1:]))
    assert [label.get_text() for label in axes.get_yticklabels()] == SENTENCE.split()


def test_an_encoder_reads_all_and_says_what_was_hidden():
    axes, cells, batch, _ = drawn(MaskedLM(mask_rate=0.3, mask_replace_prob=1.0, random_replace_prob=0.0))
    assert cells.all()
    words = SENTENCE.split()
    hidden = (batch["labels"][0] != -100).nonzero().flatten().tolist()
    assert said(axes) == [(t, words[t]) for t in hidden]
    assert [axes.get_yticklabels()[t].get_text() for t in hidden] == ["<mask>"] * 3
    colours = axes.images[0].get_array().data[:, 0]  # what pays is drawn more strongly
    assert {t for t in range(11) if colours[t].sum() == colours.sum(1).min()} == set(hidden)


def test_a_decoder_of_two_texts_reads_both_and_an_encoder_does_not_read_the_decoder():
    axes, cells, batch, model = drawn(SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0))
    encoder, decoder = batch["input_ids"].shape[1], batch["decoder_input_ids"].shape[1]
    seen = model.visibility(batch["input_ids"], batch["decoder_input_ids"])
    assert np.array_equal(cells[:encoder, :encoder], seen["encoder"][0].numpy())
    assert not cells[:encoder, encoder:].any()
    assert np.array_equal(cells[encoder:, :encoder], seen["cross"][0].numpy())
    assert np.array_equal(cells[encoder:, encoder:], np.tri(decoder, dtype=bool))
    rows, words = zip(*said(axes))
    assert rows == tuple(range(encoder, encoder + decoder))
    assert words[0] == "<0>"
    assert words[-1] == "</s>"


def test_documents_are_seen():
    tokenizer = word_tokenizer("one two three")
    ids = tokenizer.encode("one two three")
    batch = CausalLM().collator(tokenizer.special, within_documents=True)
    batch = batch.block(torch.tensor([[*ids[:2], tokenizer.special.eos, ids[2]]]), [0])
    model = CausalLM().build_model(tokenizer.vocab_size, "tiny", **SMALL)
    axes = draw_visibility(Figure().subplots(), CausalLM(), model, batch, tokenizer)
    cells = (axes.images[0].get_array().data < 1).any(-1)
    assert not cells[3, :3].any()


def test_a_model_without_a_visibility_is_refused():
    with pytest.raises(InputError, match="visibility"):
        draw_visibility(Figure().subplots(), CausalLM(), torch.nn.Linear(2, 2), {}, word_tokenizer("a b"))
