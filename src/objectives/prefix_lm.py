"""Prefix language modelling: read a prefix on both sides, predict what follows it from the left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..data.examples import IGNORED, Batch, Examples
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, continue_text
from ..languages import MarkovSource
from .causal_lm import check_next_tokens, next_token_floor
from .loss import Target, next_token_labels
from .objective import FloorExercise, Likelihood, Objective, reads_of_one_stack
from .options import options

PIVOT = 0  # stream of an example's noise


@options
class PrefixLM(Objective):
    """Read a prefix on both sides, predict what follows it from the left.

        input_ids      the  cat  sat  on   the  mat     a prefix of 3
        reading_rank    0    0    0    1    2    3      token t attends to s where rank[s] <= rank[t]
        labels          .    .    .   on   the  mat     not shifted, as in causal LM
        output at t     .    .   on   the  mat   .      the last token of the prefix predicts the first after it

    The prefix has 1 to n - 1 of the n tokens, each length equally likely. So on average half of the tokens are in the
    loss, late ones more often than early ones. The prefix itself must not be in the loss: its tokens attend to one
    another, so an output would read its own target. Where documents are kept apart, each has its own prefix. The loss
    is in nats per token after the prefix; summed over a text it is -ln p(rest | prefix).

    >>> import torch
    >>> from clozelab import PrefixLM, SpecialIds
    >>> objective, special = PrefixLM(), SpecialIds(vocab_size=20, pad=0, eos=1)
    >>> batch = objective.collator(special, seed=1).block(torch.arange(10, 18)[None], example_ids=[0])
    >>> for key in ("input_ids", "reading_rank", "labels"):
    ...     print(f"{key:13}", *(f"{x:5}" for x in batch[key][0].tolist()))
    input_ids        10    11    12    13    14    15    16    17
    reading_rank      0     0     1     2     3     4     5     6
    labels         -100  -100    12    13    14    15    16    17
    >>> objective(torch.zeros(1, 8, 20), batch)  # a uniform guess among 20: each ln 20
    Loss(logits: 2.9957 nats over 6)

    Raises `InputError` for a batch without `reading_rank`, with labels in the prefix, or with labels that are already
    shifted.

    Source: Raffel et al. 2020 (T5), section 3.2.1; Dong et al. 2019 (UniLM), section 2.3, for a single stack.
    """

    name, canonical, architecture, colour = "prefix", "UniLM", "decoder-only", "#CC79A7"
    hides, attends_to = "what follows a prefix", "the prefix on both sides, then what comes before it"
    predicts, completes = "every token after the prefix", ("continue",)
    likelihood = Likelihood.EXACT
    exercise = FloorExercise(symbols=12, entropy=1.2, length=32, steps=400, batch_size=64, learning_rate=5e-3)
    export_refusal = (
        "its model reads a prompt on both sides, and no decoder of transformers does: what it exports would read the "
        "prompt from the left alone"
    )

    def corrupt(self, examples: Examples) -> Batch:
        place, length, first = places_in_documents(examples)
        pivot = examples.uniform(PIVOT).gather(1, first)  # (B, T) one number a document
        return prefix_batch(examples, place, 1 + (pivot * (length - 1)).long())  # a prefix of 1 .. n - 1

    def reads(self, batch: Batch) -> dict[tuple[str, str], Tensor]:
        """By the labels, so that a batch or a model with another rank is found out."""
        return prefix_reads(batch)

    def targets(self, batch: Batch) -> dict[str, Target]:
        return {"logits": Target(next_token_labels(batch))}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        check_prefix(batch)

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """Causal LM's, of the tokens after the prefix: what a token costs depends on the one before it alone."""
        return {"logits": next_token_floor(source, batch)}

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Continue a text, which is read on both sides as the prefix."""
        return continue_text(model, tokenizer, text, bidirectional_prompt=True, **sampling)


def prefix_batch(examples: Examples, place: Tensor, prefix_length: Tensor) -> Batch:
    """The batch of tokens (B, T) at a place (B, T) in documents whose prefix has a length (B, T) or (B, 1)."""
    return Batch(
        input_ids=examples.tokens.clone(),
        reading_rank=(place - prefix_length + 1).clamp(min=0),
        labels=examples.answers.masked_fill(place < prefix_length, IGNORED),
        **examples.reading_keys(),
    )


def prefix_reads(batch: Batch) -> dict[tuple[str, str], Tensor]:
    """Who reads whom by the labels: what stands before the first label of a document is its prefix."""
    labelled, documents = batch["labels"] != IGNORED, batch.get("document_ids")
    so_far = labelled.cumsum(1)
    if documents is not None:  # of its own document alone
        begins = documents != torch.nn.functional.pad(documents, (1, 0), value=-1)[:, :-1]
        so_far = so_far - (so_far - labelled.long()).masked_fill(~begins, 0).cummax(1).values
    rank = (so_far > 0).cumsum(1)
    return {("logits", "input_ids"): reads_of_one_stack(batch, reading_rank=rank)}


def check_prefix(batch: Mapping[str, Any]) -> None:
    """Raises `InputError` for labels of a prefix, whose tokens read one another, and for labels that are shifted."""
    check_next_tokens(batch)
    rank, labels = batch["reading_rank"], next_token_labels(batch)
    if rank.shape != labels.shape:
        return  # the model says it better
    read = (rank[:, 1:] <= rank[:, :-1]) & (labels[:, :-1] != IGNORED)
    if bool(read.any()):
        raise InputError(
            f"{int(read.sum())} labels of this batch belong to tokens that the outputs before them read: the "
            "prefix must not be in the loss, and reading_rank grows behind it"
        )


def places_in_documents(examples: Examples) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T) each: the place of a token in its document, the document's length, and the column of its first token.

    Where documents are not kept apart, a row is one document.
    """
    b, t = examples.tokens.shape
    documents = torch.zeros(b, t, dtype=torch.int64) if examples.document_ids is None else examples.document_ids
    documents = documents.masked_fill(~examples.is_token, t)  # padding belongs to none
    lengths = torch.zeros(b, t + 1, dtype=torch.int64).scatter_add_(1, documents, torch.ones_like(documents))
    firsts = lengths.cumsum(1) - lengths  # (B, T + 1): documents follow one another
    first = firsts.gather(1, documents)
    return torch.arange(t) - first, lengths.gather(1, documents), first.clamp(max=max(t - 1, 0))
