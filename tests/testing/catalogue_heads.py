"""Planted faults of objectives with several heads: what a head predicts, reads and is counted by."""

from __future__ import annotations

from dataclasses import replace

import torch

from clozelab.models import MultiTokenDecoder, model_config
from clozelab.objectives import MultiTokenPrediction, Target, next_token_labels, options

from .catalogue_objectives import objective


@objective("answers", depth=1)
@options
class HeadPredictsWhatItIsTold(MultiTokenPrediction):
    """The further head gets the labels of the first one: the sequential design is told that very token."""

    name = "head-predicts-what-it-is-told"

    def reads(self, batch):
        return MultiTokenPrediction.reads(self, batch)

    def targets(self, batch):
        right = super().targets(batch)
        return right | {"ahead_1": Target(right["logits"].labels, weight=0.3)}


class ToldTooMuch(MultiTokenDecoder):
    """Head k is told token t + k + 1, which it must predict."""

    def _told(self, embedded, k, *flags):
        return super()._told(embedded, k + 1, *flags)


@objective("reads", "answers", depth=1)
@options
class HeadIsToldItsAnswer(MultiTokenPrediction):
    """The embedding that joins the state is shifted once too often."""

    name = "head-is-told-its-answer"

    def reads(self, batch):
        return MultiTokenPrediction.reads(self, batch)

    def build_model(self, vocab_size, size="tiny", **overrides):
        return ToldTooMuch(model_config("decoder-only", size, vocab_size, **overrides), self.depth)


class ReadsOn(MultiTokenDecoder):
    """Tells the head the first token of the next document at the end of a document."""

    def _told(self, embedded, k, attention_mask=None, document_ids=None):
        return super()._told(embedded, k, attention_mask)


@objective("documents", depth=1)
@options
class HeadIsToldTheNextDocument(MultiTokenPrediction):
    """Shifted embeddings forget the documents, though the labels do not."""

    name = "head-is-told-the-next-document"

    def reads(self, batch):
        return MultiTokenPrediction.reads(self, batch)

    def build_model(self, vocab_size, size="tiny", **overrides):
        return ReadsOn(model_config("decoder-only", size, vocab_size, **overrides), self.depth)


@objective("uniform", depth=2)
@options
class OneCountForAllHeads(MultiTokenPrediction):
    """Every head is divided by the count of the first: a mean that is too small, the more the shorter the texts."""

    name = "one-count-for-all-heads"

    def targets(self, batch):
        right = super().targets(batch)
        first = right["logits"].row_counts
        return {name: Target(one.labels, count=first, weight=one.weight) for name, one in right.items()}


@objective("documents", depth=1)
@options
class HeadsLabelsCrossDocuments(MultiTokenPrediction):
    """The labels of the further head are rolled without a look at the documents."""

    name = "heads-labels-cross-documents"

    def targets(self, batch):
        right = super().targets(batch)
        rolled = next_token_labels({"labels": next_token_labels({"labels": batch["labels"]})})
        padding = batch.get("attention_mask", torch.ones_like(rolled))
        return right | {"ahead_1": Target(rolled.masked_fill(padding == 0, -100), weight=0.3)}


@objective("returns", depth=1)
@options
class HeadWithoutUniformValue(MultiTokenPrediction):
    """The class says what a uniform predictor costs the first head, and forgets the other."""

    name = "head-without-uniform-value"

    def uniform_values(self, vocab_size):
        return {"logits": super().uniform_values(vocab_size)["logits"]}


@objective("returns", says="ahead_1 has a weight of -0.3", depth=1)
@options
class HeadIsUnlearned(MultiTokenPrediction):
    """The further head is subtracted: the model is taught not to know the token after the next."""

    name = "head-is-unlearned"
    reads = MultiTokenPrediction.reads

    def targets(self, batch):
        first, *further = super().targets(batch).items()
        return dict([first, *((name, replace(target, weight=-target.weight)) for name, target in further)])
