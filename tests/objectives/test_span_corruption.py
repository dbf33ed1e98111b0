"""Span corruption: sentinels, the decoder's inputs, documents, and the role of the decoder's start."""

import pytest
import torch

from clozelab import InputError, SpanCorruption, SpecialIds
from clozelab.data import Examples, Noise, restore_spans
from clozelab.objectives.span_corruption import span_batch

from .cases import SPECIAL


def examples_of(rows, special, document_ids=None):
    tokens = torch.tensor(rows)
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    noise = Noise.of(0, 0, range(len(tokens)))
    return Examples(tokens, everywhere, everywhere, noise, special, document_ids=document_ids)


def test_the_golden_batch_of_two_spans():
    special = SpecialIds(200, pad=0, eos=1, sentinels=(100, 101, 102))
    hidden = torch.zeros(1, 8, dtype=torch.bool)
    hidden[0, [2, 3, 6]] = True
    batch = span_batch(examples_of([list(range(10, 18))], special), hidden)
    assert batch["input_ids"].tolist() == [[10, 11, 100, 14, 15, 101, 17, 1]]
    assert batch["labels"].tolist() == [[100, 12, 13, 101, 16, 1]]
    assert batch["decoder_input_ids"].tolist() == [[0, 100, 12, 13, 101, 16]]


def test_every_mask_of_a_short_text_can_be_undone():
    special, text = SpecialIds(60, pad=0, eos=1, sentinels=range(59, 49, -1)), [10, 11, 12, 13, 14, 15, 16]
    for bits in range(1, 2**7):
        hidden = torch.tensor([[bool(bits >> t & 1) for t in range(7)]])
        batch = span_batch(examples_of([text], special), hidden)
        restored = restore_spans(batch["input_ids"][0], batch["labels"][0], special.sentinels, eos=1)
        assert restored.tolist() == text


def test_the_start_of_the_decoder_is_a_role():
    special = SpecialIds(60, pad=0, eos=1, sentinels=range(59, 49, -1), roles={"decoder_start": 1})
    batch = SpanCorruption().collator(special)([list(range(10, 30))])
    assert batch["decoder_input_ids"][0, 0] == 1  # BART starts with the end of text


def test_each_document_starts_the_decoder_again():
    """Otherwise its first input would be the previous document's last target."""
    special = SpecialIds(vocab_size=100, pad=0, eos=1, mask=2, sentinels=range(99, 79, -1))
    text = torch.tensor([[10, 11, 12, 13, 1, 20, 21, 22, 23, 24, 25, 1]])
    objective = SpanCorruption(noise_density=0.4, mean_noise_span_length=2.0)
    batch = objective.collator(special, within_documents=True).block(text, [3])
    documents, inputs = batch["decoder_document_ids"][0].tolist(), batch["decoder_input_ids"][0].tolist()
    starts = [t for t, d in enumerate(documents) if t == 0 or d != documents[t - 1]]
    assert len(starts) == 2
    assert [inputs[t] for t in starts] == [0, 0]


def test_packed_documents_cost_what_they_cost_apart():
    """The same spans, in one row and in two: every target token costs the same to the last digits."""
    documents = [[10, 11, 12, 13, 14, 1], [20, 21, 22, 23, 1]]
    hidden = [[False, True, True, False, False, False], [False, True, False, True, False]]
    special = SpecialIds(100, pad=0, eos=1, sentinels=range(99, 79, -1))
    objective = SpanCorruption()
    rows, masks = [documents[0] + documents[1]], [hidden[0] + hidden[1]]
    ids = torch.tensor([[0] * 6 + [1] * 5])
    packed = span_batch(examples_of(rows, special, ids), torch.tensor(masks))
    model = objective.build_model(100, d_model=16, n_layers=1, n_heads=2, n_decoder_layers=1).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    costs = objective(model, packed)["logits"]
    # Apart, the second document has the sentinels of the packed row, and only the last one an end of text.
    second = SpecialIds(100, pad=0, eos=1, sentinels=tuple(special.sentinels)[1:])
    first = span_batch(examples_of([documents[0]], special), torch.tensor([hidden[0]]))
    later = span_batch(examples_of([documents[1]], second), torch.tensor([hidden[1]]))
    first = {key: value[:, :-1] for key, value in first.items()}
    separate = objective(model, first)["logits"] + objective(model, later)["logits"]
    assert separate.count == costs.count
    assert separate.sum.item() == pytest.approx(costs.sum.item(), rel=1e-12)


def test_labels_of_your_own_that_are_not_the_tokens_are_refused():
    with pytest.raises(InputError, match="predicts the hidden tokens themselves"):
        SpanCorruption().collator(SPECIAL)([{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 9]}])


def test_lengths_solve_so_that_nothing_is_padded():
    assert SpanCorruption().source_length(512) == 568
    text = torch.randint(0, 40, (3, SpanCorruption().source_length(64)))
    assert SpanCorruption().collator(SPECIAL).block(text, range(3))["input_ids"].shape == (3, 64)
