"""Planted faults of block diffusion, of mixtures of denoisers, and of rows of two kinds."""

from __future__ import annotations

from dataclasses import replace

import torch

from clozelab.data import IGNORED
from clozelab.objectives import (
    UL2,
    UL2R,
    BlockDiffusion,
    MaskedNextToken,
    Objective,
    Target,
    next_token_labels,
    options,
)

from .catalogue_objectives import objective

# ------------------------------------------------------------------ block diffusion


@objective("reads", says="LEAK|leak|moves")
@options
class ReadsItsOwnCleanBlock(BlockDiffusion):
    """A noisy block reads the clean blocks up to its own: every answer stands there."""

    name = "own-clean-block"
    reads = BlockDiffusion.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        clean = batch["reading_group"] == 0
        return batch | {"reading_rank": batch["reading_rank"] - clean.long()}


@objective("reads")
@options
class NoisyBlocksReadNoisyBlocks(BlockDiffusion):
    """The mask between the noisy blocks is a plain block-causal one: they read what was hidden, and never the text."""

    name = "noisy-reads-noisy"
    reads = BlockDiffusion.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"reading_group": (batch["reading_group"] > 0).long()}


@objective("returns", says="group 0")
@options
class CleanHalfInTheLoss(BlockDiffusion):
    """Both halves have labels, and the clean one copies what it reads."""

    name = "clean-half-in-the-loss"
    reads = BlockDiffusion.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        clean = (batch["reading_group"] == 0) & (batch["attention_mask"] != 0)
        return batch | {"labels": torch.where(clean, (batch["input_ids"] + 1) % 40, batch["labels"])}


@objective("likelihood", says="a bound needs")
@options
class NeverAllHidden(BlockDiffusion):
    """A block that is hidden altogether is left out, and so is the first thing that generation asks for."""

    name = "never-all-hidden"
    reads = BlockDiffusion.reads
    likelihood = BlockDiffusion.likelihood

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        alone = (batch["weights"] == 1) & (batch["labels"] != IGNORED) & (batch["position_ids"] % self.block_size > 0)
        weights = batch["weights"].masked_fill(batch["weights"] == 1, 4 / 3)
        return batch | {"labels": batch["labels"].masked_fill(alone, IGNORED), "weights": weights}


@objective("uniform")
@options
class BlockWeightsDropped(BlockDiffusion):
    """Each hidden token counts once, whatever share of its block is hidden."""

    name = "block-weights-dropped"
    reads = BlockDiffusion.reads

    def targets(self, batch):
        return {"logits": Target(batch["labels"], (batch["weights"] > 0).float(), batch["count"])}


@objective("alignment")
@options
class PositionsOfTheRow(BlockDiffusion):
    """Positions count through the doubled row from the clean half on, so no token stands where its text has it."""

    name = "positions-of-the-row"
    reads = BlockDiffusion.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"position_ids": batch["position_ids"].flip(1)}


# ------------------------------------------------------------------ mixtures of denoisers


@objective("text", says="mode_s, mode_x never occur")
@options
class OneModeForAll(UL2):
    """All denoisers are told by one token, so that nothing can be asked of the model afterwards."""

    name = "one-mode"

    def choose(self, examples):
        hidden, mode = super().choose(examples)
        return hidden, 0 * mode


@objective("text", says="neither read nor predicted")
@options
class ModesCutToTheShortest(UL2):
    """Rows of other lengths are cut to those of the shortest mode."""

    name = "modes-cut-to-the-shortest"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {key: batch[key][:, :6] for key in ("input_ids", "attention_mask")}


@objective("corruption")
@options
class ModeByThePlace(UL2):
    """The denoisers take turns within the batch: the same text has another mode beside another one."""

    name = "mode-by-the-place"

    def choose(self, examples):
        hidden, mode = super().choose(examples)
        return hidden, torch.arange(len(mode)) % 3


@objective("special ids", says="no end of text")
@options
class NoEndOfTargets(UL2):
    """Targets close with their last token, and nothing says where to stop."""

    name = "no-end-of-targets"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == examples.special.eos, IGNORED)}


@objective("returns", says="the prefix must not be in the loss")
@options
class CorruptedTextInTheLoss(UL2R):
    """The whole row is in the loss, the text that is read on both sides too."""

    name = "corrupted-text-in-the-loss"
    reads = UL2R.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)}


@objective("reads", says="never move")
@options
class ReadFromTheLeft(UL2R):
    """The rank counts from the first token on: the corrupted text is read from the left alone."""

    name = "read-from-the-left"
    reads = UL2R.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"reading_rank": torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])}


@objective("special ids", says="the last token of a row is never in the loss")
@options
class CutAtTheEnd(UL2R):
    """The end of the targets is in the row and not in the loss."""

    name = "cut-at-the-end"
    reads = UL2R.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == examples.special.eos, IGNORED)}


@objective("alignment")
@options
class EachSpanBeforeItsSentinel(UL2R):
    """Labels of the row are shifted already, and once more in the loss."""

    name = "shifted-in-the-row"
    reads = UL2R.reads

    def targets(self, batch):
        return {"logits": Target(next_token_labels(batch | {"labels": next_token_labels(batch)}))}


# ------------------------------------------------------------------ rows of two kinds


@objective("answers", says="where their output reads them")
@options
class VisibleTokensInTheLoss(MaskedNextToken):
    """A masked row predicts every next token, and its outputs read most of them."""

    name = "visible-tokens-in-the-loss"
    reads = MaskedNextToken.reads
    check_batch = Objective.check_batch  # that of masked LM refuses it: here the kit alone has to find it

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        weights = (next_token_labels({**batch, "labels": examples.answers}) != IGNORED).float()
        return batch | {"labels": examples.answers, "weights": weights, "count": weights.sum(1).long()}


@objective("reads")
@options
class CausalRowsReadOn(MaskedNextToken):
    """Both kinds of rows are read on both sides, and a causal one reads its answers."""

    name = "causal-rows-read-on"
    reads = MaskedNextToken.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"reading_rank": torch.zeros_like(batch["reading_rank"])}


@objective("reads", says="never move")
@options
class MaskedRowsFromTheLeft(MaskedNextToken):
    """Both kinds of rows are read from the left: the decoder's own mask was never changed."""

    name = "masked-rows-from-the-left"
    reads = MaskedNextToken.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"reading_rank": torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])}


@objective("alignment")
@options
class AnswersInPlace(MaskedNextToken):
    """Masked rows answer in place, as an encoder does, and the two kinds share no head."""

    name = "answers-in-place"
    reads = MaskedNextToken.reads

    def targets(self, batch):
        in_place = torch.where(batch["causal"][:, None] != 0, next_token_labels(batch), batch["labels"])
        return {"logits": Target(in_place, (batch["count"][:, None] > 0).float() * batch["weights"], batch["count"])}


@objective("uniform")
@options
class MeanOfMeans(MaskedNextToken):
    """Each kind is divided by its own count, and the two means are added: a share of the rows, and half of the loss."""

    name = "mean-of-means"
    reads = MaskedNextToken.reads

    def targets(self, batch):
        causal = batch["causal"][:, None] != 0
        own = torch.where(causal, causal.float().mean().clamp(min=0.1), (~causal).float().mean())
        return {"logits": Target(next_token_labels(batch), batch["weights"] / own, batch["count"])}


@objective("accumulation", says="weights of logits change with the rows beside")
@options
class HalfForEachKind(MaskedNextToken):
    """The means of causal and of masked rows are averaged: at a uniform guess it costs what it should."""

    name = "half-for-each-kind"
    reads = MaskedNextToken.reads

    def targets(self, batch):
        [(name, target)] = super().targets(batch).items()
        causal = batch["causal"][:, None].float()
        share = torch.where(causal == 1, causal.mean(), 1 - causal.mean())
        return {name: replace(target, weights=target.weights / (2 * share))}
