"""Planted faults of encoder-decoders that write a text again, or a span of it at its place."""

from __future__ import annotations

import torch

from clozelab.data import IGNORED
from clozelab.objectives import BART, MASS, options

from .catalogue_objectives import objective

# ------------------------------------------------------------------ the whole text


@objective("special ids", says="no end of text")
@options
class CopiesDropped(BART):
    """Only hidden targets are in the loss, and the end of text, which is a copy, is dropped with the others."""

    name = "copies-dropped"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"labels": batch["labels"].masked_fill(batch["hidden"] == 0, IGNORED)}


@objective("returns", says="would read its answers")
@options
class DecoderNotShifted(BART):
    """The decoder reads the text at its own place: each output copies its input."""

    name = "decoder-not-shifted"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"decoder_input_ids": batch["labels"].masked_fill(batch["labels"] == IGNORED, 0)}


@objective("answers", says="moves with its own answer")
@options
class EncoderReadsTheText(BART):
    """The encoder reads the whole text, and what is called hidden is copied as well."""

    name = "encoder-reads-the-text"

    def corrupt(self, examples):
        batch, text = super().corrupt(examples), examples.with_end()
        return batch | {"input_ids": text.tokens, "attention_mask": text.is_token.long()}


@objective("answers", says="does not stand in the inputs")
@options
class HiddenCalledCopies(BART):
    """All targets are said to be copies, which may read their answers."""

    name = "hidden-called-copies"

    def copied(self, batch):
        return torch.ones_like(batch["hidden"], dtype=torch.bool)


@objective("returns", says="breakdown")
@options
class CopiesByInput(BART):
    """The breakdown has a value for each token that the encoder reads, where targets are to be told apart."""

    name = "copies-by-input"

    def breakdown(self, batch):
        return {"hidden": (batch["input_ids"] == 2).long() * batch["hidden"].amax()}


@objective("corruption")
@options
class DeletionsOfTheProcess(BART):
    """Deletions are drawn from the random state of the process, as in fairseq, and change with whatever drew before."""

    name = "deletions-of-the-process"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        lost = (torch.rand(batch["input_ids"].shape) < 0.3) & (batch["attention_mask"] != 0)
        return batch | {"input_ids": batch["input_ids"].masked_fill(lost, examples.special["mask"])}


# ------------------------------------------------------------------ a span at its place


@objective("special ids", says="at position 0")
@options
class PositionsFromZero(MASS):
    """The decoder counts its positions from 0, wherever its span stands."""

    name = "positions-from-zero"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        places = torch.arange(batch["labels"].shape[1]).expand_as(batch["labels"])
        return batch | {"decoder_position_ids": places.where(batch["labels"] != IGNORED, 0)}


@objective("answers", says="moves with its own answer")
@options
class EncoderSeesTheSpan(MASS):
    """The encoder reads the hidden span too, and the decoder copies it."""

    name = "encoder-sees-the-span"

    def corrupt(self, examples):
        return super().corrupt(examples) | {"input_ids": examples.tokens}


@objective("returns", says="would read its answers")
@options
class DecoderReadsItsAnswer(MASS):
    """The decoder gets each hidden token itself, and not the one before it."""

    name = "decoder-reads-its-answer"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"decoder_input_ids": batch["labels"].masked_fill(batch["labels"] == IGNORED, 0)}


@objective("documents", says="in another document")
@options
class DocumentsOfTheDecoderForgotten(MASS):
    """The spans of all documents of a row are written as if they were of the first."""

    name = "documents-of-the-decoder-forgotten"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {key: 0 * batch[key] for key in ("decoder_document_ids",) if key in batch}
