"""UL2 (mixture of denoisers): short spans, long or many spans, and the end of a text, each marked by a mode token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.examples import Batch, Examples, arrange
from ..data.span_masking import planned_spans_mask, span_counts
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import BLANK, Completion, continue_span_text, fill_span_text, sample_span_text
from ..languages import MarkovSource, span_costs
from .objective import FloorExercise, Objective
from .options import options
from .prefix_lm import places_in_documents
from .span_corruption import check_own_labels, check_shifted, span_batch

WHICH, PIVOT, DENOISER = 0, 1, 2  # streams of an example's noise; the first is span corruption's
MODES = ("mode_r", "mode_s", "mode_x")


@dataclass(frozen=True)
class Denoiser:
    """One task of a mixture: which tokens are hidden, and which mode token says so."""

    mode: str
    """mode_r, mode_s or mode_x: a role of the vocabulary."""
    share: float
    """Of the rows, relative to those of the others."""
    mean_noise_span_length: float = 0.0
    """Mean length of a hidden run, in tokens; 0: one run, the last 1 .. n / 2 tokens of each document."""
    noise_density: float = 0.0
    """Share of the tokens that is hidden; of the last run it is 1/4 in the mean."""

    def plan(self, n: int) -> tuple[int, int]:
        """(hidden tokens, spans) of a text of n tokens; (0, 0) where its end is hidden."""
        return (
            span_counts(n, self.noise_density, self.mean_noise_span_length) if self.mean_noise_span_length else (0, 0)
        )

    def spans(self, n: int) -> int:
        """How many runs of a text of n tokens are hidden."""
        return self.plan(n)[1] if self.mean_noise_span_length else 1


@options
class UL2(Objective):
    """Seven denoisers, one of them drawn for each row, and a mode token in front that names its kind.

        text     the  cat  sat  on   the  mat  and  slept

        R   [R]  the  <X>  sat  on   the  mat  and  <Y>  </s>     few tokens, in short spans: as T5
            <X>  cat  <Y>  slept  </s>
        X   [X]  the  <X>  the  mat  <Y>  </s>                    half of the tokens, or spans of 64
            <X>  cat  sat  on   <Y>  and  slept  </s>
        S   [S]  the  cat  sat  on   the  mat  <X>  </s>          the end of the text: a prefix LM
            <X>  and  slept  </s>

    All of them are span corruption with other settings. R: 15% in spans of 3 or 8; X: 50% in spans of 3 or 8, and 15%
    or 50% in spans of 64; S: one span, on average the last quarter. The mode token is never hidden and never in the
    loss. In use, it selects what the model learned in that mode. The modes' inputs differ in length, so a batch is
    padded. Where documents are kept apart, each begins with the row's mode token. The loss is in nats per target token.
    A mean over the mixture says little, so reports give the loss of each mode.

    >>> import torch
    >>> from clozelab import SpecialIds
    >>> from clozelab.objectives import UL2
    >>> roles = {"mode_r": 2, "mode_s": 3, "mode_x": 4}
    >>> special = SpecialIds(vocab_size=40, pad=0, eos=1, sentinels=range(39, 29, -1), roles=roles)
    >>> batch = UL2().collator(special).block(torch.arange(10, 18)[None], example_ids=[9])  # S
    >>> for key in ("input_ids", "decoder_input_ids", "labels"):
    ...     print(f"{key:18}", *batch[key][0].tolist())
    input_ids          3 10 11 12 13 39 1
    decoder_input_ids  0 39 14 15 16 17
    labels             39 14 15 16 17 1
    >>> UL2()(torch.zeros(*batch["labels"].shape, 40), batch)  # a uniform guess among 40: each ln 40
    Loss(logits: 3.6889 nats over 6)

    For another mixture, write a subclass with other `denoisers`. Raises `InputError` for a vocabulary without the three
    modes, for more spans than sentinels (X needs one sentinel for every six tokens), and for rows with their own
    labels.

    Source: Tay et al. 2022 (UL2), section 3.1 and table 1; the split of S, uniform in n/2 .. n - 1, has its mean.
    """

    name, canonical, architecture, colour = "ul2", "UL2", "encoder-decoder", "#117733"
    hides, attends_to = "short spans, long or many spans, or the end", "both sides, then the hidden tokens so far"
    predicts, completes = "the hidden runs, in order", ("continue", "fill")
    roles, kinds = MODES, {"mode": ("R", "S", "X")}
    exercise = FloorExercise(length=22, learning_rate=4e-3, model={"d_model": 64, "n_layers": 2, "n_decoder_layers": 2})

    denoisers: ClassVar[tuple[Denoiser, ...]] = (
        Denoiser("mode_r", 1, 3, 0.15),
        Denoiser("mode_r", 1, 8, 0.15),
        Denoiser("mode_s", 1),
        Denoiser("mode_x", 1, 3, 0.5),
        Denoiser("mode_x", 1, 8, 0.5),
        Denoiser("mode_x", 1, 64, 0.15),
        Denoiser("mode_x", 1, 64, 0.5),
    )
    """The mixture."""

    def corrupt(self, examples: Examples) -> Batch:
        hidden, mode = self.choose(examples)
        return span_batch(*with_modes(examples, hidden, mode)) | Batch(mode=mode)

    def choose(self, examples: Examples) -> tuple[Tensor, Tensor]:
        """(B, T) bool, which tokens are hidden, and (B,), which of `MODES` the row has."""
        check_own_labels(examples)
        shares = torch.tensor([one.share for one in self.denoisers], dtype=torch.float64).cumsum(0)
        drawn = torch.searchsorted(shares / shares[-1], examples.uniform_row(DENOISER)[:, 0], right=True)  # (B,)
        denoisers, counts = [self.denoisers[n] for n in drawn.tolist()], examples.maskable.sum(1).tolist()
        plans = [one.plan(n) for one, n in zip(denoisers, counts)]
        hidden = planned_spans_mask(examples.maskable, examples.uniform(WHICH), plans)
        hides_end = torch.tensor([not one.mean_noise_span_length for one in denoisers])[:, None]
        if bool(hides_end.any()):
            hidden = torch.where(hides_end, ends_mask(examples), hidden)
        return hidden, torch.tensor([MODES.index(one.mode) for one in self.denoisers])[drawn]

    def source_length(self, length: int) -> int:
        """Room for a mode, a sentinel and an end of text: S hides one token at least."""
        if length < 4:
            raise InputError(
                f"inputs of {length} tokens hold no text beside a mode, a sentinel and an end: use 4 or more"
            )
        return length - 2

    def breakdown(self, batch: Batch) -> dict[str, Tensor]:
        """The loss by mode."""
        return {"mode": batch["mode"]}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        check_shifted(batch)

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """-ln p(targets | inputs) as of span corruption.

        All denoisers of a mode that could have left these inputs hide as many tokens in as many spans, and each choice
        of them is equally likely.
        """
        return {"logits": span_costs(source, batch["input_ids"][:, 1:], batch["labels"], special)}

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Fill the blanks of a text, each `___`, in mode R, or continue a text without blanks in mode S."""
        if BLANK in text:
            return fill_span_text(model, tokenizer, text, before=[tokenizer.special["mode_r"]], **sampling)
        return continue_span_text(model, tokenizer, text, before=[tokenizer.special["mode_s"]], **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide three tokens of every ten behind a sentinel and fill them, in mode R."""
        return sample_span_text(model, tokenizer, text, before=[tokenizer.special["mode_r"]], **sampling)


def ends_mask(examples: Examples) -> Tensor:
    """(B, T) bool: the last 1 .. n / 2 tokens of each document."""
    place, length, first = places_in_documents(examples)
    pivot = length // 2 + (examples.uniform(PIVOT).gather(1, first) * (length - length // 2)).long()
    return examples.maskable & (place >= pivot)


def with_modes(examples: Examples, hidden: Tensor, mode: Tensor) -> tuple[Examples, Tensor]:
    """Examples and hidden tokens (B, T + documents) with the token of a mode (B,) before each document, or each row."""
    special, is_token = examples.special, examples.is_token
    documents = torch.zeros_like(examples.tokens) if examples.document_ids is None else examples.document_ids
    last = F.pad(documents.masked_fill(~is_token, -1), (1, 0), value=-1).amax(1, keepdim=True)  # (B, 1), -1 of no token
    front = torch.arange(int(last.max()) + 1 if len(last) else 0).expand(len(last), -1)  # (B, documents)
    ids = torch.tensor([special[role] for role in MODES])[mode][:, None]  # (B, 1)
    in_loss = is_token if examples.in_loss is None else examples.in_loss
    columns = {
        "input_ids": torch.cat([ids.expand_as(front), examples.tokens], 1),
        "document_ids": torch.cat([front, documents], 1),
        "is_token": F.pad(is_token, (front.shape[1], 0), value=True),
        "hidden": F.pad(hidden, (front.shape[1], 0)),
        "in_loss": F.pad(in_loss, (front.shape[1], 0)),
    }
    places = torch.cat([(2 * front).masked_fill(front > last, -1), (2 * documents + 1).masked_fill(~is_token, -1)], 1)
    found = arrange(columns, places, special.pad)
    moded = replace(
        examples,
        tokens=found["input_ids"],
        is_token=found["is_token"],
        maskable=found["is_token"],
        document_ids=None if examples.document_ids is None else found["document_ids"],
        in_loss=found["in_loss"],
        labels=None,
        word_ids=None,
    )
    return moded, found["hidden"]
