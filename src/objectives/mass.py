"""MASS (masked sequence to sequence): hide one long span, read the rest, write the span at its own positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.examples import IGNORED, Batch, Examples, arrange
from ..data.masking import hidden_count
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, fill_span_in_place, sample_span_in_place
from ..languages import MarkovSource, gap_costs
from .objective import FloorExercise, Objective
from .options import Share, options
from .prefix_lm import places_in_documents
from .span_corruption import check_own_labels, check_shifted

PLACE = 0  # stream of an example's noise


@options
class MASS(Objective):
    """One span, half of the text, becomes masks, and a decoder predicts it at its own positions.

        text                   the cat sat on  the mat
        input_ids              the cat [M] [M] [M] mat      read by the encoder, both sides
        decoder_input_ids      cat sat on                   read by the decoder, from the left
        decoder_position_ids    2   3   4                   of the tokens that it predicts
        labels                 sat on  the                  all in the loss

    The decoder reads the token before each hidden one, and nothing else of the text: everything else must come from the
    encoder. With one hidden token this is masked LM in two stacks; with all hidden it is causal LM. For a span at the
    start of the text, the decoder begins with the start id. The masks show how many tokens are missing, so no end of
    text is predicted. Where documents are kept apart, each has its own span. The loss is in nats per hidden token.

    The decoder uses the positions of the text, and the cross-attention of the paired model has positions. Without
    either, the decoder could not tell which mask it has to fill.

    >>> import torch
    >>> from clozelab import SpecialIds
    >>> from clozelab.objectives import MASS
    >>> special = SpecialIds(vocab_size=20, pad=0, eos=1, mask=2)
    >>> batch = MASS().collator(special).block(torch.arange(10, 16)[None], example_ids=[2])
    >>> for key in ("input_ids", "decoder_input_ids", "decoder_position_ids", "labels"):
    ...     print(f"{key:21}", *(f"{one:2}" for one in batch[key][0].tolist()))
    input_ids             10 11  2  2  2 15
    decoder_input_ids     11 12 13
    decoder_position_ids   2  3  4
    labels                12 13 14
    >>> MASS()(torch.zeros(1, 3, 20), batch)  # a uniform guess among 20: each ln 20
    Loss(logits: 2.9957 nats over 3)

    Raises `InputError` for options out of bounds and for rows with their own labels.

    Source: Song et al. 2019 (MASS), section 3.2; all hidden tokens become masks, of which the paper keeps a tenth and
    replaces a tenth.
    """

    name, canonical, architecture, colour = "mass", "MASS", "encoder-decoder", "#DDCC77"
    hides, attends_to = "one span, half of the text, in the place of masks", "both sides, then the span so far"
    predicts, completes = "the hidden span, at its positions", ("continue", "fill")
    roles = ("mask",)
    exercise = FloorExercise(learning_rate=4e-3, model={"d_model": 64, "n_layers": 2, "n_decoder_layers": 2})
    export_refusal = (
        "no encoder-decoder of transformers is told the positions of its decoder, which begin in mid-text here"
    )

    mask_rate: Share = 0.5
    """Share of the tokens that the span has: max(1, round(mask_rate n)) of n."""

    def build_model(self, vocab_size: int, size: str = "tiny", **overrides: Any) -> nn.Module:
        """An encoder-decoder with positions in its cross-attention."""
        return super().build_model(vocab_size, size, **overrides | {"cross_rotary": True})

    def corrupt(self, examples: Examples) -> Batch:
        place, length, first = places_in_documents(examples)
        size = hidden_count(length, self.mask_rate)
        start = (examples.uniform(PLACE).gather(1, first) * (length - size + 1)).long()  # each as likely as another
        return mass_batch(examples, (place >= start) & (place < start + size))

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        if "decoder_position_ids" not in batch:
            raise InputError(
                "expected decoder_position_ids in the batch, where in the text the decoder writes: was it made by the "
                "collator of another objective?"
            )
        check_shifted(batch, positions=True)

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """-ln p(span | what stands before and behind it): the chain's steps within it, against those across the gap."""
        here = batch["labels"] != IGNORED
        places = batch["decoder_position_ids"].where(here, 0)
        hidden = torch.zeros_like(batch["input_ids"]).scatter_add_(1, places, here.long()) > 0
        text = batch["input_ids"].masked_scatter(hidden, batch["labels"][here])
        return {"logits": gap_costs(source, text, hidden, batch["attention_mask"] != 0)}

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Fill the blanks of a text, side by side, one token for each `___`; continue a text without blanks."""
        return fill_span_in_place(model, tokenizer, text, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide the middle half of the tokens and write it again."""
        return sample_span_in_place(model, tokenizer, text, **sampling)


def mass_batch(examples: Examples, hidden: Tensor) -> Batch:
    """The batch of tokens (B, T) of which `hidden` (B, T) become masks, as far as they may be hidden."""
    check_own_labels(examples)
    special, columns = examples.special, torch.arange(hidden.shape[1]).expand(hidden.shape)
    hidden, documents = hidden & examples.maskable, examples.document_ids
    before = F.pad(examples.tokens, (1, 0), value=special["decoder_start"])[:, :-1]
    decoder = {"decoder_input_ids": before, "labels": examples.answers, "decoder_position_ids": columns}
    if documents is not None:
        begins = documents != F.pad(documents, (1, 0), value=-1)[:, :-1]
        decoder["decoder_input_ids"] = before.masked_fill(begins, special["decoder_start"])
        decoder["decoder_document_ids"] = documents
    return Batch(
        input_ids=examples.tokens.masked_fill(hidden, special["mask"]),
        **examples.reading_keys(),
        **arrange(decoder, columns.masked_fill(~hidden, -1), special.pad),
    )
