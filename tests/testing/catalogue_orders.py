"""Planted faults of token order prediction: whose order is predicted, from where, and up to where."""

from __future__ import annotations

import dataclasses

import torch

from clozelab.data import IGNORED
from clozelab.models import TokenOrderDecoder, model_config
from clozelab.objectives import Prediction, TokenOrderPrediction, options
from clozelab.objectives.causal_lm import upcoming_labels
from clozelab.objectives.cross_entropy import SoftLabels
from clozelab.objectives.token_order import token_order

from .catalogue_objectives import objective


def with_order(self, batch, **changes):
    """The right targets with another second part."""
    right = TokenOrderPrediction.targets(self, batch)
    return right | {"order": dataclasses.replace(right["order"], **changes)}


@objective("documents", window=4)
@options
class OrderCrossesDocuments(TokenOrderPrediction):
    """The window goes on into the next document, which separate rows would not show."""

    name = "order-crosses-documents"

    def reads(self, batch):
        return TokenOrderPrediction.reads(self, batch)

    def targets(self, batch):
        alone = {key: value for key, value in batch.items() if key != "document_ids"}
        upcoming = torch.stack(upcoming_labels(alone, self.window + 1), -1)
        first = super().targets(batch)["order"].labels
        upcoming[..., 0] = torch.where(first == IGNORED, IGNORED, upcoming[..., 0])
        return with_order(self, batch, soft_labels=token_order(upcoming))


@objective("answers", says="stand in the input where their output reads them")
@options
class OrderFromHere(TokenOrderPrediction):
    """The window begins one place early, at the token that is read: the likeliest id is a copy."""

    name = "order-from-here"

    def reads(self, batch):
        return TokenOrderPrediction.reads(self, batch)

    def targets(self, batch):
        labels = batch["labels"]
        upcoming = torch.stack([labels, *upcoming_labels(batch, self.window)], -1)
        return with_order(self, batch, labels=labels, soft_labels=token_order(upcoming))


@objective("value", says="not the likeliest ids")
@options
class OrderReversed(TokenOrderPrediction):
    """Scores are distances: what comes up last is the likeliest, though the labels say the next token."""

    name = "order-reversed"

    def reads(self, batch):
        return TokenOrderPrediction.reads(self, batch)

    def targets(self, batch):
        ids, probabilities = super().targets(batch)["order"].soft_labels
        far = torch.arange(ids.shape[-1]).float().expand(ids.shape).masked_fill(probabilities == 0, -torch.inf)
        return with_order(self, batch, soft_labels=SoftLabels(ids, far.softmax(-1).nan_to_num(0)))


@objective("value", says="not the likeliest ids")
@options
class LastOccurrenceCounts(TokenOrderPrediction):
    """Of an id that comes up twice the farther one counts."""

    name = "last-occurrence-counts"

    def reads(self, batch):
        return TokenOrderPrediction.reads(self, batch)

    def targets(self, batch):
        upcoming = torch.stack(upcoming_labels(batch, self.window + 1), -1)
        again = torch.stack([(upcoming[..., d + 1 :] == upcoming[..., d, None]).any(-1) for d in range(17)], -1)
        return with_order(self, batch, soft_labels=token_order(upcoming.masked_fill(again, IGNORED)))


@objective("returns", says="sum to 1")
@options
class ScoresForProbabilities(TokenOrderPrediction):
    """The scores are the target as they are, without a softmax."""

    name = "scores-for-probabilities"

    def reads(self, batch):
        return TokenOrderPrediction.reads(self, batch)

    def targets(self, batch):
        ids, probabilities = super().targets(batch)["order"].soft_labels
        scores = self.window - torch.arange(ids.shape[-1]).float()
        return with_order(self, batch, soft_labels=SoftLabels(ids, scores * (probabilities > 0)))


@objective("uniform", order_weight=1.0)
@options
class OrderDividedByTheWindow(TokenOrderPrediction):
    """The second sum is divided by the places of all windows, as though each had a loss of its own."""

    name = "order-divided-by-the-window"

    def reads(self, batch):
        return TokenOrderPrediction.reads(self, batch)

    def targets(self, batch):
        count = super().targets(batch)["order"].row_counts * (self.window + 1)
        return with_order(self, batch, count=count)


class ReadsTheNextState(TokenOrderDecoder):
    """Compares the second table with the state of the next token, which has read the answer."""

    def forward(self, input_ids, attention_mask=None, document_ids=None):
        outputs = super().forward(input_ids, attention_mask, document_ids)
        return outputs | {"order": Prediction(outputs["order"].states.roll(-1, 1), outputs["order"].table)}


@objective("reads", "answers")
@options
class OrderReadsItsAnswer(TokenOrderPrediction):
    """States are shifted as the labels are, so that both stand one place on."""

    name = "order-reads-its-answer"

    def reads(self, batch):
        return TokenOrderPrediction.reads(self, batch)

    def build_model(self, vocab_size, size="tiny", **overrides):
        return ReadsTheNextState(model_config("decoder-only", size, vocab_size, **overrides))
