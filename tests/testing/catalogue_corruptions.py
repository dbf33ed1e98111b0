"""Planted faults of objectives in what they hide and who reads it: corruption, noise, ranks, documents."""

from __future__ import annotations

import torch

from clozelab import CausalLM, FillInTheMiddle, MaskedDiffusion, MaskedLM, PrefixLM, SpanCorruption
from clozelab.data import IGNORED, shift_targets, smallest
from clozelab.objectives import Likelihood, options
from clozelab.objectives.prefix_lm import places_in_documents, prefix_batch

from .catalogue_objectives import objective

# ------------------------------------------------------------------ nothing hidden, or something lost


@objective("answers")
@options
class NothingHidden(MaskedLM):
    """The inputs are cloned before they are masked."""

    name = "nothing-hidden"

    def corrupt(self, examples):
        return super().corrupt(examples) | {"input_ids": examples.tokens.clone()}

    def check_batch(self, batch):
        """Of its author, who wrote none."""


@objective("text")
@options
class MiddleCut(FillInTheMiddle):
    """The row is cut to its old width, and with it the end of a middle."""

    name = "middle-cut"

    def corrupt(self, examples):
        return {key: value[:, : examples.tokens.shape[1]] for key, value in super().corrupt(examples).items()}


@objective("text")
@options
class EndCut(FillInTheMiddle):
    """All of the text is there, and the id that ends a middle is not: the model never learns to stop."""

    name = "end-cut"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        end = batch["input_ids"] == examples.special["fim_end"]
        for key, fill in (("input_ids", 0), ("attention_mask", 0), ("labels", IGNORED)):
            batch[key] = batch[key].masked_fill(end, fill)
        return batch


@objective("text")
@options
class LastSpanCut(SpanCorruption):
    """Targets are cut to 4 ids, as a tokenizer's `max_length` for targets does."""

    name = "last-span-cut"

    def corrupt(self, examples):
        keys = ("labels", "decoder_input_ids")
        return {key: value[:, :4] if key in keys else value for key, value in super().corrupt(examples).items()}


@objective("corruption")
@options
class CutToTheShortest(CausalLM):
    """Rows are cut to the shortest of their batch, so that there is no padding."""

    name = "cut-to-the-shortest"

    def corrupt(self, examples):
        width = int(examples.is_token.sum(1).min())
        return {key: value[:, :width] for key, value in super().corrupt(examples).items()}


@objective("special ids", noise_density=0.4, mean_noise_span_length=1.5)
@options
class OneSentinelForAll(SpanCorruption):
    """All spans stand behind the same sentinel, so where one ends and which it was is lost."""

    name = "one-sentinel-for-all"

    def corrupt(self, examples):
        sentinels = torch.tensor(examples.special.sentinels)
        batch = super().corrupt(examples)
        for key in ("input_ids", "labels", "decoder_input_ids"):
            batch[key] = batch[key].masked_fill(torch.isin(batch[key], sentinels), int(sentinels[0]))
        return batch


@objective("corruption", says="writes into")
@options
class WritesIntoTheTokens(MaskedLM):
    """The caller's tokens are masked in place."""

    name = "writes-into-the-tokens"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        examples.tokens.copy_(batch["input_ids"])
        return batch


# ------------------------------------------------------------------ noise


@objective("corruption")
@options
class NoiseOfThePlace(MaskedLM):
    """One generator for the batch: the mask depends on the row's place among its neighbours."""

    name = "noise-of-the-place"

    def choose(self, examples, maskable):
        noise = torch.rand(maskable.shape, generator=torch.Generator().manual_seed(3))
        return maskable & (noise.masked_fill(~maskable, 2).argsort(1).argsort(1) < 2)


@objective("corruption")
@options
class GlobalNoise(MaskedLM):
    """torch.rand, in the middle of a corruption."""

    name = "global-noise"

    def choose(self, examples, maskable):
        return smallest(torch.rand(maskable.shape), torch.full((len(maskable), 1), 2), maskable)


@objective("noise")
@options
class FrozenNoise(MaskedLM):
    """Noise from the tokens alone: each epoch hides what the first one hid."""

    name = "frozen-noise"

    def choose(self, examples, maskable):
        noise = (examples.tokens * 2654435761 % 1000003 + torch.arange(maskable.shape[1]) * 7919) % 104729
        return smallest(noise.double() / 104729, torch.full((len(maskable), 1), 2), maskable)


@objective("corruption")
@options
class CountOfTheWidth(MaskedLM):
    """round(rate * T) of the padded width: the longest neighbour says how much is hidden."""

    name = "count-of-the-width"

    def choose(self, examples, maskable):
        count = max(1, round(self.mask_rate * maskable.shape[1]))
        return smallest(examples.uniform(0), torch.full((len(maskable), 1), count), maskable)


@objective("corruption")
@options
class OneLevelForAll(MaskedDiffusion):
    """The noise level is drawn once for a batch: rows depend on the first, and the loss is noisier than it need be."""

    name = "one-level-for-all"

    def corrupt(self, examples):
        level = examples.uniform_row(0)[:1]
        n = examples.maskable.sum(1, keepdim=True)
        k = 1 + (level * n).long()
        hidden = smallest(examples.uniform(1), k, examples.maskable)
        batch = super().corrupt(examples)
        return batch | {
            "input_ids": examples.tokens.masked_fill(hidden, examples.special["mask"]),
            "labels": examples.answers.masked_fill(~hidden, IGNORED),
            "weights": (n.double() / k * examples.maskable).float(),
        }


@objective("uniform")
@options
class LevelOffByOne(MaskedDiffusion):
    """k of 0 .. n - 1, with a minimum of one hidden token: the weight n / max(k, 1) is of another mean."""

    name = "level-off-by-one"

    def corrupt(self, examples):
        n = examples.maskable.sum(1, keepdim=True)
        k = (examples.uniform_row(0) * n).long()
        hidden = smallest(examples.uniform(1), k, examples.maskable)
        batch = super().corrupt(examples)
        return batch | {
            "input_ids": examples.tokens.masked_fill(hidden, examples.special["mask"]),
            "labels": examples.answers.masked_fill(~hidden, IGNORED),
            "weights": (n.double() / k.clamp(min=1) * examples.maskable).float(),
        }


@objective("corruption")
@options
class OnePrefixForAll(PrefixLM):
    """The prefix of the first row serves for all."""

    name, likelihood, reads = "one-prefix-for-all", Likelihood.EXACT, PrefixLM.reads

    def corrupt(self, examples):
        place, length, _ = places_in_documents(examples)
        pivot = examples.uniform_row(0)[:1]
        return prefix_batch(examples, place, 1 + (pivot * (length - 1)).long())


# ------------------------------------------------------------------ who reads what


@objective("reads")
@options
class PrefixWithoutRank(PrefixLM):
    """The prefix is read from the left alone: the corruption forgets the rank."""

    name, likelihood, reads = "no-rank", Likelihood.EXACT, PrefixLM.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        del batch["reading_rank"]
        return batch

    def check_batch(self, batch):
        """Of its author, who wrote none."""


@objective("reads")
@options
class PrefixRankOneOff(PrefixLM):
    """The rank's prefix is one token longer than the labels': the token after it is read by what predicts it."""

    name, likelihood, reads = "rank-one-off", Likelihood.EXACT, PrefixLM.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"reading_rank": (batch["reading_rank"] - 1).clamp(min=0)}

    def check_batch(self, batch):
        """Of its author, who wrote none."""


@objective("reads", "documents", "answers")
@options
class SomeRowsReadAhead(CausalLM):
    """One row in ten has a rank that lets it be read on both sides."""

    name = "some-rows-read-ahead"

    def corrupt(self, examples):
        place = torch.arange(examples.tokens.shape[1]).expand(examples.tokens.shape)
        return super().corrupt(examples) | {"reading_rank": place.masked_fill(examples.uniform_row(0) < 0.1, 0)}

    def check_batch(self, batch):
        """Of its author, who wrote none."""


@objective("documents")
@options
class SomeDocumentsJoined(CausalLM):
    """One packed row in ten is read as one document."""

    name = "some-documents-joined"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        if "document_ids" in batch:
            batch["document_ids"] = batch["document_ids"].masked_fill(examples.uniform_row(0) < 0.1, 0)
        return batch

    def reads(self, batch):
        ends = batch["input_ids"] == 1
        return super().reads(batch | {"document_ids": ends.cumsum(1) - ends.long()})


@objective("documents")
@options
class DecoderReadsTheLastDocument(SpanCorruption):
    """The decoder's input of a new document is the last target of the one before, where the start id belongs."""

    name = "decoder-reads-the-last-document"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        targets = batch["labels"].masked_fill(batch["labels"] == IGNORED, examples.special.pad)
        return batch | {"decoder_input_ids": shift_targets(targets, examples.special["decoder_start"])}


@objective("special ids")
@options
class DecoderStartsWithTheEnd(SpanCorruption):
    """The decoder starts with the end of text, as BART's does, in a vocabulary whose decoder starts with another id."""

    name = "decoder-starts-with-the-end"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        start = batch["decoder_input_ids"].clone()
        start[:, 0] = examples.special.eos
        return batch | {"decoder_input_ids": start}
