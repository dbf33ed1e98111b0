"""BART (denoising): hide spans of any length behind masks, permute sentences, and predict the whole text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..data.examples import Batch, Examples, arrange, shift_targets
from ..data.infilling import mask_places, poisson_spans
from ..data.sentence_order import permuted_sentences, rotated
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, rewrite_text, sample_rewritten_text
from ..languages import MarkovSource, infilling_costs
from .objective import FloorExercise, Objective
from .options import AtLeastOne, Probability, Share, options
from .span_corruption import check_own_labels, check_shifted

LENGTHS, PLACES, SENTENCES, PIVOT, DELETED = 0, 1, 2, 3, 4  # streams of an example's noise


@options
class BART(Objective):
    """Spans of Poisson lengths become one mask each, sentences are permuted, and a decoder predicts the whole text.

        text                  the cat sat .  it slept well .
        input_ids             [M] it slept well [M] sat [M] </s>      read by the encoder, both sides
        decoder_input_ids     <pad> the cat sat . it slept well .     read by the decoder, from the left
        labels                the cat sat .  it slept well . </s>     all in the loss
        hidden                 1   1   0  1  0    0    0   1  0       1: not among the inputs

    A mask stands for any number of tokens, or for none (the first one above), so the model must find out how many.
    Three of four targets are copies of what the encoder reads, so the mean over all says little: reports give the
    losses of copied and of hidden targets separately. The loss is in nats per token of the text and its end.

    Four steps corrupt the text that the encoder reads: sentence permutation (`permute_sentences`), rotation to a random
    first token (`rotate`), infilling, and deletion without a mask (`delete_rate`). BART was trained with the first and
    the third, which are the defaults. An end of text, or a token that the caller protects, is never hidden and does not
    move; nothing moves past it. The vocabulary's table `ends_sentence` says where sentences end; without one, set
    permute_sentences=False.

    The decoder must know its position in the text, so the cross-attention of the paired model has positions.

    >>> import torch
    >>> from clozelab import SpecialIds
    >>> from clozelab.objectives import BART
    >>> special = SpecialIds(vocab_size=20, pad=0, eos=1, mask=2, ends_sentence=torch.arange(20) == 13)
    >>> batch = BART(mask_rate=0.4).collator(special).block(torch.arange(10, 18)[None], example_ids=[7])
    >>> for key in ("input_ids", "decoder_input_ids", "labels", "hidden"):
    ...     print(f"{key:18}", *(f"{one:2}" for one in batch[key][0].tolist()))
    input_ids           2 14 15 16  2 12  2  1
    decoder_input_ids   0 10 11 12 13 14 15 16 17
    labels             10 11 12 13 14 15 16 17  1
    hidden              1  1  0  1  0  0  0  1  0
    >>> BART()(torch.zeros(1, 9, 20), batch)  # a uniform guess among 20: each ln 20
    Loss(logits: 2.9957 nats over 9)

    Raises `InputError` for options out of bounds, for a vocabulary without a table of sentence ends (or of words, where
    an option needs it), and for rows with their own labels.

    Source: Lewis et al. 2020 (BART), sections 2.2 and 5.1. In fairseq spans may overlap, and a deletion leaves a mask
    where its span is empty; here neither happens.
    """

    name, canonical, architecture, colour = "bart", "BART", "encoder-decoder", "#F0E442"
    hides, attends_to = (
        "spans of any length, each behind a mask; the order of sentences",
        "both sides, then the text so far",
    )
    predicts, completes = "the whole text", ("fill",)
    roles, kinds = ("mask",), {"hidden": ("copied", "hidden")}
    exercise = FloorExercise(
        length=10,
        learning_rate=4e-3,  # a rate of 1e-2 makes the loss spike
        options={"permute_sentences": False},
        model={"d_model": 64, "n_layers": 2, "n_decoder_layers": 2},
    )

    mask_rate: Share = 0.3
    """Share of the tokens that is hidden behind masks."""
    mean_noise_span_length: AtLeastOne = 3.0
    """Mean of the Poisson distribution of span lengths, in tokens (or words)."""
    whole_words: bool = False
    """Hide and count whole words instead of tokens."""
    permute_sentences: bool = True
    """Permute the sentences of each document at random."""
    rotate: bool = False
    """Rotate each document so that it begins at a random token."""
    delete_rate: Probability = 0.0
    """Share of the other tokens that is deleted without a mask."""

    def build_model(self, vocab_size: int, size: str = "tiny", **overrides: Any) -> nn.Module:
        """An encoder-decoder with positions in its cross-attention."""
        return super().build_model(vocab_size, size, **overrides | {"cross_rotary": True})

    def corrupt(self, examples: Examples) -> Batch:
        check_own_labels(examples)
        text = examples.with_end()
        order = self.order(text)
        unit = units(text, order, self.whole_words)
        noise = text.uniform(LENGTHS), text.uniform(PLACES)
        starts, lengths = poisson_spans((unit + 1).amax(1), self.mask_rate, self.mean_noise_span_length, *noise)
        deleted = (unit >= 0) & (text.uniform(DELETED) < self.delete_rate)
        return denoising_batch(text, order, unit, starts, lengths, deleted)

    def order(self, text: Examples) -> Tensor:
        """(B, T): which token of the text stands at each place, before anything is hidden."""
        fixed = ~text.maskable | text.is_eos
        order = torch.arange(fixed.shape[1]).expand(fixed.shape)
        if self.permute_sentences:
            order = permuted_sentences(fixed, text.sentence_ends(), text.uniform(SENTENCES))
        return order.gather(1, rotated(fixed, text.uniform(PIVOT))) if self.rotate else order

    def source_length(self, length: int) -> int:
        """One token less than the inputs: both texts have an end, and no input is longer than its text."""
        if length < 2:
            raise InputError(f"inputs of {length} tokens hold no text beside an end: use 2 or more")
        return length - 1

    def breakdown(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of targets that are copies, and of those that are hidden."""
        return {"hidden": batch["hidden"]}

    def copied(self, batch: Batch) -> Tensor:
        return batch["hidden"] == 0

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        check_shifted(batch, positions="document_ids" in batch)

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """-ln p(text | inputs): a sum over the lengths behind each mask, zero included. Of infilling alone."""
        if self.permute_sentences or self.rotate or self.delete_rate or self.whole_words:
            raise InputError(
                "the exact floor of BART is known for the infilling of tokens alone, permute_sentences=False"
            )
        return {
            "logits": infilling_costs(source, batch["input_ids"], batch["labels"], special, self.mean_noise_span_length)
        }

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Write a text again, each blank `___` with as many tokens as the model predicts."""
        return rewrite_text(model, tokenizer, text, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide three tokens of every ten behind a mask and write the text again."""
        return sample_rewritten_text(model, tokenizer, text, **sampling)


def units(text: Examples, order: Tensor, whole_words: bool = False) -> Tensor:
    """(B, T): the number of the token, or word, at each place of an order (B, T); -1 for what is never hidden."""
    free = text.text_maskable.gather(1, order)
    begins = free.clone()
    if whole_words:
        word = text.words().gather(1, order)
        begins[:, 1:] &= ~free[:, :-1] | (word[:, 1:] != word[:, :-1])
    return (begins.cumsum(1) - 1).masked_fill(~free, -1)


def denoising_batch(
    text: Examples, order: Tensor, unit: Tensor, starts: Tensor, lengths: Tensor, deleted: Tensor
) -> Batch:
    """The batch of texts with their ends that are read in an order (B, T), with masks for spans (B, M) of its units.

    `unit` (B, T) numbers what may be hidden, and `deleted` (B, T) is missing without a mask, both at the places of the
    order.
    """
    special, t = text.special, order.shape[1]
    hidden, opening, inserted = mask_places(unit, starts, lengths)
    documents = torch.zeros_like(order) if text.document_ids is None else text.document_ids
    before = documents.gather(1, inserted.clamp(min=0))  # the document of the token that an inserted mask stands before
    visible, columns = text.is_token & ~hidden & ~deleted, 3 * torch.arange(t)
    places = [(columns + 1).where(opening, -1), (columns + 2).where(visible, -1), (3 * inserted).clamp(min=-1)]
    masks = (torch.full_like(one, special["mask"]) for one in (order, inserted))
    read = {
        "input_ids": torch.cat([next(masks), text.tokens.gather(1, order), next(masks)], 1),
        "document_ids": torch.cat([documents, documents, before], 1),
        "attention_mask": torch.ones(len(order), 2 * t + inserted.shape[1], dtype=torch.int64),
    }
    batch = arrange(read, torch.cat(places, 1), special.pad)
    batch["decoder_input_ids"] = shift_targets(text.tokens, special["decoder_start"], text.document_ids)
    batch["labels"] = text.answers
    batch["hidden"] = torch.zeros_like(order).scatter(1, order, (hidden | deleted).long())
    if text.document_ids is None:
        del batch["document_ids"]
        return batch
    batch["decoder_document_ids"] = documents
    batch["decoder_position_ids"] = _aligned(
        documents, text.is_token, batch["document_ids"], batch["attention_mask"] != 0
    )
    return batch


def _aligned(documents: Tensor, is_token: Tensor, read_documents: Tensor, is_read: Tensor) -> Tensor:
    """(B, T): positions of the decoder, so that each document begins where the encoder has it, as if it were alone."""

    def first(documents: Tensor, here: Tensor) -> Tensor:
        sizes = torch.zeros(len(documents), documents.shape[1] + is_token.shape[1] + 1, dtype=torch.int64)
        sizes.scatter_add_(1, documents, here.long())
        return (sizes.cumsum(1) - sizes)[:, : is_token.shape[1] + 1]  # (B, T + 1) by document

    by_document = first(read_documents, is_read) - first(documents, is_token)
    return torch.arange(is_token.shape[1]) + by_document.gather(1, documents)
