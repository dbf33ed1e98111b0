"""Span corruption: say the runs of text that vanished, having read what is left on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.hiding import Hide, HideSpans
from ..data.masking import MaskScheme, RandomSpans, scheme_name
from ..data.pairs import Ids, pairs_to_fill
from ..data.sentinels import solve_span_lengths, split_spans
from ..data.special import SpecialIds
from ..data.tokenizer import Tokenizer
from ..errors import InputError
from ..models import EncoderDecoder, fill_spans
from .objective import Completion, Objective, before_end, encode_blanks, lengths_of, paired


class SpanCorruption(Objective):
    """T5's fill-in-the-blanks: runs of tokens vanish behind sentinels, and a decoder spells them out in order.

        text                 Thank you for inviting me to your party last week .
        input_ids            Thank you <X> me to your party <Y> week .      read by the encoder, both sides
        decoder_input_ids    <pad> <X> for inviting <Y> last                read by the decoder, from the left
        labels               <X> for inviting <Y> last </s>                 every one paid

    One sentinel stands for a whole span, so inputs and targets are both shorter than the text; the model must also
    find out how long a span is. At the usual 15% in spans of 3, a text of 568 tokens makes 512 and 114.

    `noise_density` is the share of hidden tokens, `mean_span` their mean run; `scheme` replaces the choice by any
    function `(tokens, maskable, generator) -> bool[T]`; `final_sentinel=True` closes the targets with one more
    sentinel, as in the paper's figure.

    >>> objective = SpanCorruption(noise_density=0.5, mean_span=2.0)
    >>> special = SpecialIds(vocab_size=20, pad=0, eos=1, sentinels=(19, 18, 17))
    >>> batch = objective.collator(special).block(torch.arange(5, 13)[None], identities=[0])
    >>> for key in ("input_ids", "decoder_input_ids", "labels"):
    ...     print(f"{key:18}", *batch[key][0].tolist())
    input_ids          5 6 7 19 11 18 1
    decoder_input_ids  0 19 8 9 10 18 12
    labels             19 8 9 10 18 12 1
    >>> loss = objective(torch.zeros(1, 7, 20), batch["labels"])  # a uniform guess among 20
    >>> int(loss.count), round(float(loss.mean), 4)  # 7 pay, each ln 20
    (7, 2.9957)

    Raises `InputError` for a density outside (0, 1) and a mean span below 1.

    Source: Raffel et al. 2020 (T5), section 3.1.4.
    """

    name = "span"
    hides = "runs of tokens, each behind a sentinel"
    reads = "both sides, then its own words so far"
    predicts = "the hidden runs, in order"
    canonical = "T5"
    architecture = "encoder-decoder"

    def __init__(
        self,
        noise_density: float = 0.15,
        mean_span: float = 3.0,
        *,
        scheme: MaskScheme | None = None,
        final_sentinel: bool = False,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
    ) -> None:
        super().__init__(
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            noise_density=noise_density,
            mean_span=mean_span,
            scheme=scheme_name(scheme),
            final_sentinel=final_sentinel,
        )
        self._hide = HideSpans(RandomSpans(noise_density, mean_span) if scheme is None else scheme, final_sentinel)

    @property
    def hide(self) -> Hide:
        """Runs of tokens behind sentinels: `HideSpans`."""
        return self._hide

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        """Raises `InputError` for a batch without decoder inputs."""
        if "decoder_input_ids" not in batch:
            raise InputError(
                "expected decoder_input_ids in the batch, the labels one place later: was it made by the collator of "
                "another objective?"
            )

    def raw_length(self, length: int) -> int:
        """How many tokens of text become `length` input tokens: 568 for 512. A scheme of your own must do its sums."""
        scheme = self._hide.scheme
        if not isinstance(scheme, RandomSpans):
            raise InputError(
                "the length of the inputs is only known for RandomSpans; with a scheme of your own choose the length "
                "of the raw text yourself"
            )
        return solve_span_lengths(
            length,
            density=scheme.density,
            mean_span=scheme.mean_span,
            final_sentinel=self._hide.final_sentinel,
        ).raw

    def complete(
        self, model: nn.Module, tokenizer: Tokenizer, text: str, *, max_new_tokens: int = 40, **sampling: Any
    ) -> Completion:
        """Fill the blanks of a text, each `___` with as many tokens as the model thinks were there."""
        return self._fill(
            model,
            tokenizer,
            encode_blanks(tokenizer, text, tokenizer.special.sentinels),
            max_new_tokens=max_new_tokens,
            **sampling,
        )

    def demonstrate(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide three tokens of every ten behind a sentinel and say what stood there."""
        ids: list[int] = []
        tokens, stand_ins = tokenizer.encode(text), iter(tokenizer.special.sentinels)
        for start in range(0, len(tokens), 10):
            before, hidden, after = (
                tokens[start : start + 4],
                tokens[start + 4 : start + 7],
                tokens[start + 7 : start + 10],
            )
            sentinel = next(stand_ins, None) if hidden else None
            ids += [*before, *(hidden if sentinel is None else [sentinel]), *after]  # no sentinel left: nothing hidden
        return self._fill(model, tokenizer, ids, max_new_tokens=2 * len(tokens) + 8, **sampling)

    def _fill(self, model: nn.Module, tokenizer: Tokenizer, ids: list[int], **settings: Any) -> Completion:
        special = tokenizer.special
        unsaid = [id for id in special.all if id != special.eos and id not in special.sentinels]
        said = fill_spans(
            paired(model, EncoderDecoder),
            torch.tensor([[*ids, special.eos]]),
            start_id=special.pad,
            eos=special.eos,
            sentinels=special.sentinels,
            forbidden=unsaid,
            **settings,
        )[0].tolist()
        said = before_end(said, special.eos)
        answers: dict[int, list[int]] = {}
        for k, span in split_spans(said, special.sentinels):
            answers.setdefault(special.sentinels[k], span)  # the first answer counts
        text = [(token, by_model) for id in ids for token, by_model in _spell(id, answers, special.sentinels)]
        return Completion.of(tokenizer, [token for token, _ in text], [by_model for _, by_model in text])

    def pairs(self, prompts: Ids, answers: Ids, special: SpecialIds) -> dict[str, Tensor]:
        """Prompt and a sentinel, behind which the decoder says the answer: `pairs_to_fill`."""
        return pairs_to_fill(prompts, answers, special)

    def answer(
        self, model: nn.Module, prompts: Ids, special: SpecialIds, *, tokens: int | Sequence[int], **sampling: Any
    ) -> list[list[int]]:
        """What the decoder says behind the sentinel that stands at the end of each prompt."""
        lengths = lengths_of(prompts, tokens)
        batch = pairs_to_fill(prompts, [[]] * len(prompts), special)  # only the inputs count
        first = special.sentinels[:1]
        said = fill_spans(
            paired(model, EncoderDecoder),
            batch["input_ids"],
            start_id=special.pad,
            eos=special.eos,
            sentinels=first,
            max_new_tokens=max(lengths) + 2,
            attention_mask=batch["attention_mask"],
            forbidden=[id for id in special.all if id != special.eos and id not in first],
            **sampling,
        )
        rows = ([id for id in before_end(row, special.eos) if id not in first] for row in said.tolist())
        return [row[:n] for row, n in zip(rows, lengths)]


def _spell(id: int, answers: dict[int, list[int]], sentinels: Sequence[int]) -> list[tuple[int, bool]]:
    """A token as itself, a sentinel as what the model said for it (nothing, where it said nothing)."""
    return [(token, True) for token in answers.get(id, [])] if id in sentinels else [(id, False)]
