"""UL2R (U-PaLM): the mixture of denoisers for a decoder, which reads the corrupted text as a prefix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_int
from ..data.examples import IGNORED, Batch, Examples, arrange
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion
from ..languages import MarkovSource, span_costs
from .loss import Target, next_token_labels
from .objective import FloorExercise, Objective
from .options import options
from .prefix_lm import check_prefix, prefix_reads
from .span_corruption import corrupted
from .ul2 import UL2, Denoiser, with_modes


@options
class UL2R(UL2):
    """UL2 in one stack: the row is a mode token, the text with its blanks, and then the hidden spans.

        text           the  cat  sat  on   the  mat
        input_ids      [R]  the  <X>  on   the  <Y>  <X>  cat  sat  <Y>  mat  </s>
        reading_rank    0    0    0    0    0    0    1    2    3    4    5    6     t reads s where rank[s] <= rank[t]
        labels          .    .    .    .    .    .   <X>  cat  sat  <Y>  mat  </s>   not shifted, as in causal LM

    Inputs and targets are those of `UL2`, the inputs without their end of text. The inputs are read on both sides, as
    the prefix of a prefix LM, and the last of them predicts the first sentinel. Half of the rows are S, a prefix LM; a
    quarter are R, 15% in spans of 3; an eighth are X with 15% in spans of 32, and an eighth X with 50% in spans of 3.
    UL2R was designed to continue the training of a causal model for a short time. The loss is in nats per target token;
    reports give the loss of each mode.

    >>> import torch
    >>> from clozelab import SpecialIds
    >>> from clozelab.objectives import UL2R
    >>> roles = {"mode_r": 2, "mode_s": 3, "mode_x": 4}
    >>> special = SpecialIds(vocab_size=40, pad=0, eos=1, sentinels=range(39, 29, -1), roles=roles)
    >>> batch = UL2R().collator(special).block(torch.arange(10, 16)[None], example_ids=[2])  # X
    >>> for key in ("input_ids", "reading_rank", "labels"):
    ...     print(f"{key:13}", *(f"{x:4}" for x in batch[key][0].tolist()))
    input_ids        4   10   11   12   39   39   13   14   15    1
    reading_rank     0    0    0    0    0    1    2    3    4    5
    labels        -100 -100 -100 -100 -100   39   13   14   15    1
    >>> UL2R()(torch.zeros(*batch["labels"].shape, 40), batch)  # a uniform guess among 40: each ln 40
    Loss(logits: 3.6889 nats over 5)

    Raises `InputError` as `UL2` does, and for labels in the prefix.

    Source: Tay et al. 2022 (U-PaLM, "Transcending scaling laws with 0.1% extra compute"), section
    "Loss objectives", with its shares.
    """

    name, canonical, architecture, colour = "ul2r", "U-PaLM", "decoder-only", "#44AA99"
    attends_to = "the corrupted text on both sides, then the hidden tokens so far"
    exercise = FloorExercise(length=30)
    export_refusal = (
        "its model reads a prompt on both sides, and no decoder of transformers does: what it exports would read the "
        "prompt from the left alone"
    )

    denoisers = (
        Denoiser("mode_r", 0.25, 3, 0.15),
        Denoiser("mode_s", 0.5),
        Denoiser("mode_x", 0.125, 32, 0.15),
        Denoiser("mode_x", 0.125, 3, 0.5),
    )

    def corrupt(self, examples: Examples) -> Batch:
        hidden, mode = self.choose(examples)
        moded, hidden = with_modes(examples, hidden, mode)
        return prefix_and_spans(moded, hidden) | Batch(mode=mode)

    def source_length(self, length: int) -> int:
        """The longest text whose rows fit: a mode, the text, two sentinels a span and an end of text."""
        length = check_int(length, "the length of the inputs", 1, 2**20)
        longest = (
            n for n in range(length - 4, 0, -1) if n + 2 * max(one.spans(n) for one in self.denoisers) <= length - 2
        )
        found = next(longest, 0)
        if not found:
            raise InputError(
                f"a row of {length} tokens holds no text beside a mode, two sentinels and an end: use 5 or more"
            )
        return found

    def reads(self, batch: Batch) -> dict[tuple[str, str], Tensor]:
        """By the labels, so that a batch or a model with another rank is found out."""
        return prefix_reads(batch)

    def targets(self, batch: Batch) -> dict[str, Target]:
        return {"logits": Target(next_token_labels(batch))}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        Objective.check_batch(self, batch)
        check_prefix(batch)

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """That of `UL2`: -ln p(targets | inputs)."""
        inputs = batch["input_ids"].masked_fill(batch["reading_rank"] > 0, special.pad)
        return {"logits": span_costs(source, inputs[:, 1:], batch["labels"], special)}

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Fill the blanks of a text, each `___`, in mode R, or continue a text without blanks in mode S."""
        return super().complete(model, tokenizer, text, decoder_only=True, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide three tokens of every ten behind a sentinel and fill them, in mode R."""
        return super().sample(model, tokenizer, text, decoder_only=True, **sampling)


def prefix_and_spans(examples: Examples, hidden: Tensor) -> Batch:
    """The batch of tokens (B, T) whose `hidden` runs (B, T) are spelled out behind the rest, document by document."""
    apart = examples.document_ids is not None
    documents = examples.document_ids if apart else torch.zeros_like(examples.tokens)
    spans = corrupted(replace(examples, document_ids=documents), hidden)
    assert spans.input_documents is not None
    assert spans.target_documents is not None
    in_inputs = torch.arange(spans.inputs.shape[1]) < spans.input_lengths[:, None] - 1  # without the end of text
    in_targets = torch.arange(spans.targets.shape[1]) < spans.target_lengths[:, None]
    in_loss = in_targets & examples.is_token.any(1, keepdim=True)  # an empty text has nothing to predict
    in_loss = in_loss if spans.target_in_loss is None else in_loss & spans.target_in_loss
    columns = Batch(
        input_ids=torch.cat([spans.inputs, spans.targets], 1),
        labels=torch.cat([torch.full_like(spans.inputs, IGNORED), spans.targets.masked_fill(~in_loss, IGNORED)], 1),
        attention_mask=torch.cat([in_inputs, in_targets], 1).long(),
        document_ids=torch.cat([spans.input_documents, spans.target_documents], 1),
        reading_rank=torch.cat([torch.zeros_like(spans.inputs), torch.ones_like(spans.targets)], 1),
    )
    place = 2 * columns["document_ids"] + columns["reading_rank"]
    batch = arrange(columns, place.masked_fill(columns["attention_mask"] == 0, -1), examples.special.pad)
    batch["reading_rank"] = batch["reading_rank"].cumsum(1) * batch["reading_rank"]
    if not apart:
        del batch["document_ids"]
    return batch
