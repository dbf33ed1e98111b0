"""Documents in one row cost what they cost apart, for every objective, token by token."""

import pytest
import torch

from clozelab.data import IGNORED, SpecialIds
from clozelab.models import build
from clozelab.objectives import SpanCorruption

from .cases import SPECIAL, WORDS, each_objective, reading_model


def packed_rows(rows=6, length=40, seed=0):
    """Texts of several documents, each closed by an end of text but the last."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, WORDS, (rows, length), generator=generator)
    tokens[torch.rand(rows, length, generator=generator) < 0.12] = SPECIAL.eos
    return tokens


def apart(batch, keys):
    """Each document of a packed batch as a batch of its own, with the keys that the objective gives to one text."""
    for b in range(len(batch["labels"])):
        decoder = "decoder_document_ids" in batch
        for number in batch["document_ids"][b].unique().tolist():
            of_inputs = (batch["document_ids"][b] == number) & (batch["attention_mask"][b] == 1)
            of_outputs = batch["decoder_document_ids"][b] == number if decoder else of_inputs
            row = {}
            for key in batch.keys() - {"document_ids", "decoder_document_ids"}:
                on_outputs = decoder and (key in ("labels", "hidden") or key.startswith("decoder_"))
                value = batch[key][b]
                row[key] = (value if value.dim() == 0 else value[of_outputs if on_outputs else of_inputs])[None]
            if "decoder_position_ids" in row:  # counted in the encoder's row
                row["decoder_position_ids"] = row["decoder_position_ids"] - int(of_inputs.nonzero()[0])
                if "decoder_position_ids" not in keys:  # BART: the decoder of one text counts its tokens
                    assert row.pop("decoder_position_ids")[0].tolist() == [*range(int(of_outputs.sum()))]
            if of_inputs.any() and of_outputs.any():
                yield b, row


@each_objective
def test_packed_documents_cost_what_they_cost_apart(objective):
    batch = objective.collator(SPECIAL, within_documents=True).block(packed_rows(), range(6))
    model = reading_model(objective)
    packed = objective(model, batch)
    keys = objective.collator(SPECIAL).block(packed_rows(), range(6)).keys()
    alone = [(b, row, objective(model, row)) for b, row in apart(batch, keys)]
    for name, target in objective.targets(batch).items():
        sums, labels = torch.zeros(6, dtype=torch.float64), 0
        for b, row, loss in alone:
            sums[b] += loss[name].row_sums[0]
            labels += int((objective.targets(row)[name].labels != IGNORED).sum())
        assert labels == int((target.labels != IGNORED).sum()) > 20
        torch.testing.assert_close(packed[name].row_sums, sums, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------ spans at the edges of documents

VOCABULARY = SpecialIds(100, pad=0, eos=1, mask=2, sentinels=range(99, 79, -1))


def hide(first, last):
    def scheme(tokens, maskable, generator):
        places = torch.arange(len(tokens))
        return maskable & (places >= first) & (places <= last)

    return scheme


def test_a_run_that_crosses_into_the_next_document_is_two_spans():
    """As one span, the second document's decoder began to predict what nothing in its inputs asks for."""
    text = [10, 11, 12, 1, 20, 21, 22, 1]
    objective = SpanCorruption(scheme=hide(2, 5))
    batch = objective.collator(VOCABULARY, within_documents=True)([text])
    assert batch["input_ids"].tolist() == [[10, 11, 99, 98, 22, 1, 1]]
    assert batch["labels"].tolist() == [[99, 12, 1, 98, 20, 21, 1]]
    assert batch["document_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1]]
    assert batch["decoder_document_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1]]
    assert batch["decoder_input_ids"].tolist() == [[0, 99, 12, 0, 98, 20, 21]]
    together = objective.collator(VOCABULARY)([text])
    assert together["labels"].tolist() == [[99, 12, 1, 20, 21, 1]]  # one text: one span


def test_the_second_documents_costs_do_not_move_with_the_first():
    """The start id opens each document of the decoder: a token of the one before it was read there once."""
    objective = SpanCorruption(noise_density=0.4, mean_noise_span_length=2.0)
    text = torch.tensor([[10, 11, 12, 13, 1, 20, 21, 22, 23, 24, 25, 1]])
    model = build("encoder-decoder", "tiny", 100, d_model=16, n_layers=1, n_heads=2).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.3, generator=generator)
    collate = objective.collator(VOCABULARY, within_documents=True)
    batch = collate.block(text, [3])
    later = batch["decoder_document_ids"] == 1
    assert batch["decoder_input_ids"][0, later[0].nonzero()[0, 0]] == 0
    changed = {**batch, "labels": batch["labels"].masked_fill(~later, IGNORED)}
    before = objective(model, changed).sum
    for key, documents in (("input_ids", "document_ids"), ("decoder_input_ids", "decoder_document_ids")):
        other = torch.where((batch[documents] == 0) & (batch[key] > 2), batch[key] - 1, batch[key])
        assert not torch.equal(other, batch[key])
        assert objective(model, {**changed, key: other}).sum.item() == pytest.approx(before.item(), rel=1e-13)
