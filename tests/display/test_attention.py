"""The picture of who attends to whom is that of the batch and of the model's own attention matrix."""

import numpy as np
import pytest
import tokenizers
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from tokenizers import models

from clozelab.data import load_tokenizer
from clozelab.display import draw_attention, word_tokenizer
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES, CausalLM, MaskedLM, PrefixLM, SpanCorruption

SENTENCE = "Thank you for inviting me to your party last week ."
SMALL = {"d_model": 16, "n_layers": 1, "n_heads": 1}


def drawn(objective, *, with_model=True, **settings):
    """(axes, which cells are not white, batch, model) of the sentence."""
    tokenizer = word_tokenizer(SENTENCE, roles=objective.roles)
    collate = objective.collator(tokenizer.special, **settings)
    batch = collate.block(torch.tensor([tokenizer.encode(SENTENCE)]), [0])
    model = objective.build_model(tokenizer.vocab_size, "tiny", **SMALL) if with_model else None
    axes = draw_attention(Figure().subplots(), objective, model, batch, tokenizer)
    return axes, (axes.images[0].get_array().data < 1).any(-1), batch, model


def predicted(axes):
    """The words to the right of the rows: (row, word)."""
    return [(round(text.get_position()[1]), text.get_text()) for text in axes.texts]


def test_a_decoder_reads_from_the_left_and_predicts_the_next_word():
    axes, cells, _, _ = drawn(CausalLM())
    assert np.array_equal(cells, np.tri(11, dtype=bool))
    assert predicted(axes) == list(enumerate(SENTENCE.split()[1:]))
    assert [label.get_text() for label in axes.get_yticklabels()] == SENTENCE.split()


def test_an_encoder_reads_all_and_predicts_what_was_hidden():
    axes, cells, batch, _ = drawn(MaskedLM(mask_rate=0.3, mask_replace_prob=1.0, random_replace_prob=0.0))
    assert cells.all()
    words = SENTENCE.split()
    hidden = (batch["labels"][0] != -100).nonzero().flatten().tolist()
    assert predicted(axes) == [(t, words[t]) for t in hidden]
    assert [axes.get_yticklabels()[t].get_text() for t in hidden] == ["[M]"] * 3
    colours = axes.images[0].get_array().data[:, 0]  # outputs in the loss are drawn more strongly
    assert {t for t in range(11) if colours[t].sum() == colours.sum(1).min()} == set(hidden)


def test_a_decoder_of_two_texts_reads_both_and_an_encoder_does_not_read_the_decoder():
    axes, cells, batch, model = drawn(SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0))
    encoder, decoder = batch["input_ids"].shape[1], batch["decoder_input_ids"].shape[1]
    seen = model.attention_matrix(batch["input_ids"], batch["decoder_input_ids"])
    assert np.array_equal(cells[:encoder, :encoder], seen["encoder"][0].numpy())
    assert not cells[:encoder, encoder:].any()
    assert np.array_equal(cells[encoder:, :encoder], seen["cross"][0].numpy())
    assert np.array_equal(cells[encoder:, encoder:], np.tri(decoder, dtype=bool))
    rows, words = zip(*predicted(axes))
    assert rows == tuple(range(encoder, encoder + decoder))
    assert words[0] == "<0>"
    assert words[-1] == "</s>"


def test_a_prefix_is_read_on_both_sides():
    _, cells, batch, _ = drawn(PrefixLM())
    length = int((batch["labels"][0] == -100).sum())
    assert 1 < length < 11
    assert cells[:length, :length].all()
    assert np.array_equal(cells[length:], np.tri(11, dtype=bool)[length:])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_model_attends_as_the_objective_declares_and_in_its_colour(name):
    axes, cells, batch, _ = drawn(OBJECTIVES[name]())
    declared = drawn(OBJECTIVES[name](), with_model=False)[1]
    outputs = next(iter(OBJECTIVES[name]().targets(batch).values())).labels.shape[1]
    assert np.array_equal(cells[-outputs:], declared[-outputs:])
    paint = axes.images[0].get_array().data.reshape(-1, 3)
    assert np.allclose(paint[paint.sum(1).argmin()], to_rgb(OBJECTIVES[name].colour), atol=1e-6)


def test_tokens_are_no_formulas(tmp_path):
    """Between two dollar signs matplotlib reads TeX, and refuses what is none."""
    words = {"$\\frac$": 0, "[UNK]": 1}
    tokenizer = load_tokenizer(tokenizers.Tokenizer(models.WordLevel(words, unk_token="[UNK]")), sentinels=0)
    batch = CausalLM().collator(tokenizer.special).block(torch.tensor([tokenizer.encode("$\\frac$") * 2]), [0])
    figure = Figure()
    draw_attention(figure.subplots(), CausalLM(), None, batch, tokenizer)
    figure.savefig(tmp_path / "picture.png")


def test_documents_are_seen():
    tokenizer = word_tokenizer("one two three")
    ids = tokenizer.encode("one two three")
    batch = CausalLM().collator(tokenizer.special, within_documents=True)
    batch = batch.block(torch.tensor([[*ids[:2], tokenizer.special.eos, ids[2]]]), [0])
    model = CausalLM().build_model(tokenizer.vocab_size, "tiny", **SMALL)
    axes = draw_attention(Figure().subplots(), CausalLM(), model, batch, tokenizer)
    cells = (axes.images[0].get_array().data < 1).any(-1)
    assert not cells[3, :3].any()


def test_a_model_without_an_attention_matrix_is_refused():
    tokenizer = word_tokenizer("a b")
    batch = CausalLM().collator(tokenizer.special).block(torch.tensor([tokenizer.encode("a b")]), [0])
    with pytest.raises(InputError, match="Linear has no attention_matrix"):
        draw_attention(Figure().subplots(), CausalLM(), torch.nn.Linear(2, 2), batch, tokenizer)
