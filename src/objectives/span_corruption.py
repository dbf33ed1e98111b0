"""Span corruption: say the runs of text that vanished, having read what is left on both sides."""

from __future__ import annotations

from ..data.hiding import Hide, HideSpans
from ..data.masking import MaskScheme, RandomSpans
from ..data.sentinels import solve_span_lengths
from ..errors import InputError
from .objective import Objective


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
    input_ids          5 6 19 10 11 18 1
    decoder_input_ids  0 19 7 8 9 18 12
    labels             19 7 8 9 18 12 1
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
        super().__init__(label_smoothing=label_smoothing, z_loss=z_loss)
        self._hide = HideSpans(RandomSpans(noise_density, mean_span) if scheme is None else scheme, final_sentinel)

    @property
    def hide(self) -> Hide:
        """Runs of tokens behind sentinels: `HideSpans`."""
        return self._hide

    def raw_length(self, length: int) -> int:
        """How many tokens of text become `length` input tokens: 568 for 512. A scheme of your own must do its sums."""
        scheme = self._hide.scheme
        if not isinstance(scheme, RandomSpans):
            raise InputError(
                "the length of inputs is only known for RandomSpans; with a scheme of your own choose the length of the "
                "raw text yourself"
            )
        return solve_span_lengths(
            length, density=scheme.density, mean_span=scheme.mean_span, final_sentinel=self._hide.final_sentinel
        ).raw

    def extra_repr(self) -> str:
        """The settings, for `print(objective)`."""
        return f"{self._hide}, {super().extra_repr()}"
