"""Span corruption (T5): hide runs of tokens behind sentinels, read the rest, predict the runs from the left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..checks import check_int
from ..data.examples import IGNORED, Batch, Examples, shift_targets
from ..data.masking import MaskScheme, scheme_mask
from ..data.span_masking import random_spans_mask, rolled_mask, solve_span_lengths
from ..data.spans import CorruptedSpans, corrupt_span_batch
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, fill_span_text, sample_span_text
from ..languages import MarkovSource, span_costs
from .objective import FloorExercise, Objective
from .options import AtLeastOne, OpenShare, options

WHICH, OFFSET = 0, 1  # streams of an example's noise


@options
class SpanCorruption(Objective):
    """T5's fill-in-the-blanks: runs of tokens are replaced by sentinels, and a decoder predicts the runs in order.

        text                 Thank you for inviting me to your party last week .
        input_ids            Thank you <X> me to your party <Y> week . </s>   read by the encoder, both sides
        decoder_input_ids    <pad> <X> for inviting <Y> last                  read by the decoder, from the left
        labels               <X> for inviting <Y> last </s>                   all in the loss

    One sentinel stands for a whole span, so inputs and targets are both shorter than the text; the model must also
    predict how long a span is. At 15% in spans of 3, a text of 568 tokens becomes 512 inputs and 114 targets. An end of
    text inside a packed block may be hidden like any token: T5 does so, and the lengths stay fixed. The loss is in nats
    per target token.

    **T5's spans never hide the first token and always hide the last.** A text with a single span (up to 29 tokens at
    the defaults) therefore has the same mask in every epoch. `scheme="rolled-spans"` rolls each mask by a random offset
    (seqio's `random_roll`), which makes all positions equally likely; a span that crosses the end becomes two.

    >>> import torch
    >>> from clozelab import SpanCorruption, SpecialIds
    >>> objective = SpanCorruption(noise_density=0.5, mean_noise_span_length=2.0)
    >>> special = SpecialIds(vocab_size=20, pad=0, eos=1, sentinels=(19, 18, 17))
    >>> batch = objective.collator(special).block(torch.arange(5, 13)[None], example_ids=[0])
    >>> for key in ("input_ids", "decoder_input_ids", "labels"):
    ...     print(f"{key:18}", *batch[key][0].tolist())
    input_ids          5 6 7 19 11 18 1
    decoder_input_ids  0 19 8 9 10 18 12
    labels             19 8 9 10 18 12 1
    >>> objective(torch.zeros(1, 7, 20), batch["labels"])  # a uniform guess among 20: each ln 20
    Loss(logits: 2.9957 nats over 7)

    Raises `InputError` for options out of bounds, for more spans than sentinels, and for rows with their own labels.

    Source: Raffel et al. 2020 (T5), section 3.1.4.
    """

    name, canonical, architecture, colour = "span", "T5", "encoder-decoder", "#009E73"
    hides, attends_to = "runs of tokens, each behind a sentinel", "both sides, then the runs so far"
    predicts, completes = "the hidden runs, in order", ("fill",)
    exercise = FloorExercise(
        options={"noise_density": 0.25, "mean_noise_span_length": 2.0},
        model={"d_model": 64, "n_layers": 2, "n_decoder_layers": 2},
    )

    noise_density: OpenShare = 0.15
    """Share of the tokens that is hidden."""
    mean_noise_span_length: AtLeastOne = 3.0
    """Mean length of a hidden run, in tokens."""
    scheme: Literal["random-spans", "rolled-spans"] | MaskScheme = "random-spans"
    """Which tokens: T5's random spans, the same rolled by a random offset, or a function; its runs become spans."""
    final_sentinel: bool = False
    """Close the targets with one more sentinel, as the paper's figure 2 does and T5's code does not."""

    def __post_init__(self) -> None:
        super().__post_init__()
        own = type(self)
        if callable(self.scheme) and (self.noise_density, self.mean_noise_span_length) != (
            own.noise_density,
            own.mean_noise_span_length,
        ):
            raise InputError(
                f"noise_density {self.noise_density} and mean_noise_span_length {self.mean_noise_span_length} would be "
                "ignored: a scheme of your own has its own"
            )

    def corrupt(self, examples: Examples) -> Batch:
        check_own_labels(examples)
        return span_batch(examples, self.choose(examples), final_sentinel=self.final_sentinel)

    def choose(self, examples: Examples) -> Tensor:
        """(B, T) bool: which tokens are hidden."""
        if callable(self.scheme):
            return scheme_mask(self.scheme, examples, examples.maskable, WHICH)
        lengths = self.noise_density, self.mean_noise_span_length
        mask = random_spans_mask(examples.maskable, examples.uniform(WHICH), *lengths)
        if self.scheme == "random-spans":
            return mask
        return rolled_mask(mask, examples.maskable, examples.uniform_row(OFFSET))

    def source_length(self, length: int) -> int:
        """How many tokens of text become `length` input tokens: 568 for 512.

        Of other schemes the most whose inputs are never longer: those of rolled spans have up to one sentinel more, and
        those of a scheme of your own are at most the text and its end.
        """
        length = check_int(length, "the length of the inputs", 2)
        if callable(self.scheme):
            return length - 1
        return solve_span_lengths(
            length - (self.scheme == "rolled-spans"),
            noise_density=self.noise_density,
            mean_noise_span_length=self.mean_noise_span_length,
            final_sentinel=self.final_sentinel,
        ).raw

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        check_shifted(batch)

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """-ln p(targets | inputs), sentinels and end of text included: a sum over all spans that fit the inputs."""
        if self.scheme != "random-spans" or self.final_sentinel:
            raise InputError("the exact floor of span corruption is known for random spans without a final sentinel")
        return {"logits": span_costs(source, batch["input_ids"], batch["labels"], special)}

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Fill the blanks of a text, each `___` with as many tokens as the model predicts."""
        return fill_span_text(model, tokenizer, text, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide three tokens of every ten behind a sentinel and fill them."""
        return sample_span_text(model, tokenizer, text, **sampling)


def span_batch(examples: Examples, hidden: Tensor, *, final_sentinel: bool = False) -> Batch:
    """The batch (B, S) and (B, L) of tokens (B, T) whose `hidden` runs (B, T) are replaced by sentinels."""
    special = examples.special
    spans = corrupted(examples, hidden, final_sentinel=final_sentinel)
    in_inputs = torch.arange(spans.inputs.shape[1]) < spans.input_lengths[:, None]
    in_targets = torch.arange(spans.targets.shape[1]) < spans.target_lengths[:, None]
    in_loss = in_targets & examples.is_token.any(1, keepdim=True)  # an empty text has nothing to predict
    in_loss = in_loss if spans.target_in_loss is None else in_loss & spans.target_in_loss
    batch = Batch(
        input_ids=spans.inputs,
        attention_mask=in_inputs.long(),
        decoder_input_ids=shift_targets(spans.targets, special["decoder_start"], spans.target_documents),
        labels=spans.targets.masked_fill(~in_loss, IGNORED),
    )
    if spans.input_documents is not None and spans.target_documents is not None:
        batch["document_ids"], batch["decoder_document_ids"] = spans.input_documents, spans.target_documents
    return batch


def corrupted(examples: Examples, hidden: Tensor, *, final_sentinel: bool = False) -> CorruptedSpans:
    """Inputs (B, S) and targets (B, L) of tokens (B, T), with all that the examples know of them."""
    return corrupt_span_batch(
        examples.tokens,
        hidden,
        examples.special.sentinels,
        eos=examples.special.eos,
        final_sentinel=final_sentinel,
        is_token=examples.is_token,
        pad=examples.special.pad,
        documents=examples.document_ids,
        in_loss=examples.in_loss,
    )


def check_own_labels(examples: Examples) -> None:
    """Raises `InputError` for rows with other labels than their tokens."""
    labels = examples.labels
    if labels is not None and bool(((labels != examples.tokens) & (labels != IGNORED)).any()):
        raise InputError(
            "span corruption predicts the hidden tokens themselves, but the rows bring other labels: give labels "
            "that equal input_ids, -100 where nothing may be hidden, or none"
        )


def check_shifted(batch: Mapping[str, Any], *, positions: bool = False) -> None:
    """Raises `InputError` for decoder inputs that are not there, or that are the labels at their place.

    Also for `decoder_position_ids` of an objective whose decoder counts from 0; `positions` says that it does not.
    """
    if "decoder_input_ids" not in batch:
        raise InputError(
            "expected decoder_input_ids in the batch, the labels one place later: was it made by the collator of "
            "another objective?"
        )
    if "decoder_position_ids" in batch and not positions:
        raise InputError(
            "the decoder counts its positions from 0, and this batch gives it decoder_position_ids: was it made "
            "by the collator of another objective?"
        )
    inputs, labels = batch["decoder_input_ids"], batch["labels"].long()
    if inputs.shape != labels.shape:
        return  # the loss says it better
    here = labels != IGNORED
    one_on = ((inputs[:, 1:] == labels[:, :-1]) | ~here[:, :-1]).all()
    if bool(((inputs == labels).sum() * 2 > here.sum()) & ~one_on):
        raise InputError(
            "most of the decoder_input_ids equal the labels at their place, so the decoder would read its answers: "
            "they must stand one place later, behind the start id (shift_targets)"
        )
