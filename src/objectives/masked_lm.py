"""Masked language modelling (BERT): hide some tokens, read both sides, predict the hidden ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..data.drawn_spans import WEIGHTS, drawn_span_lengths, drawn_spans_mask
from ..data.examples import IGNORED, Batch, Examples
from ..data.masking import MaskScheme, bernoulli_mask, exact_count_mask, scheme_mask, whole_word_mask
from ..data.replacement import check_shares, replace_tokens
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, fill_masked_text, sample_masked_text
from ..languages import HiddenMarkovSource, MarkovSource, label_costs, masked_posteriors
from .objective import FloorExercise, Objective
from .options import Bounds, Probability, Share, options

WHICH, WHAT = 0, 1  # streams of an example's noise: which tokens are hidden, what stands in their place,
LENGTHS = 3  # and how long the spans are

Scheme = Literal["exact-count", "bernoulli", "whole-words", "n-grams", "geometric-spans", "uniform-spans"] | MaskScheme
"""Which tokens are hidden."""


@options
class MaskedLM(Objective):
    """The cloze test: 15% of the tokens are hidden, the rest stay visible on both sides.

        text         the  cat  sat  on   the  mat
        input_ids    the  [M]  sat  on   [M]  mat
        labels        .   cat   .    .   the   .       -100 at the dots: not in the loss
        output at t       cat            the           in place, nothing shifted

    Of the hidden tokens 80% become [MASK], 10% a random token, and 10% stay unchanged; all are in the loss. So the
    model cannot trust the visible tokens, and must represent all of them. Special ids are never hidden. The loss is in
    nats per hidden token.

    >>> import torch
    >>> from clozelab import MaskedLM, SpecialIds
    >>> objective = MaskedLM(mask_rate=0.5)
    >>> special = SpecialIds(vocab_size=10, pad=0, eos=1, mask=2)
    >>> batch = objective.collator(special)([[5, 6, 7, 8, 5, 9]])
    >>> int((batch["labels"] != -100).sum())
    3
    >>> objective(torch.zeros(1, 6, 10), batch["labels"])  # a uniform guess among 10: each ln 10
    Loss(logits: 2.3026 nats over 3)

    With `final_mask_rate` the rate moves linearly from `mask_rate` to it over the run. Batches that are given no
    progress, such as held-out ones, use the final rate, so that losses can be compared.

    Raises `InputError` for options out of bounds, and for an option that would be ignored: a rate with a custom scheme,
    which has its own rate, or span options with a scheme without spans.

    Source: Devlin et al. 2018 (BERT), section 3.1 and appendix A.1, without next-sentence prediction. A falling rate:
    Ankner et al. 2023 (Dynamic masking rate schedules for MLM pretraining), section 2, from 0.3 to 0.15.
    """

    name, canonical, architecture, colour = "masked", "BERT", "encoder-only", "#D55E00"
    hides, attends_to, predicts = "some tokens, at random", "both sides", "the hidden tokens"
    roles, completes = ("mask",), ("fill",)
    exercise = FloorExercise(options={"scheme": "bernoulli"})
    recipe: ClassVar[Mapping[str, Any]] = {"mask_rate": 0.4, "final_mask_rate": 0.15}

    mask_rate: Share = 0.15
    """Share of the tokens that is hidden,"""
    final_mask_rate: Share | None = None
    """share at the end of the run; none: the same throughout."""
    mask_replace_prob: Probability = 0.8
    """Share of the hidden tokens that becomes the mask token,"""
    random_replace_prob: Probability = 0.1
    """share that becomes a random token; the rest stays as it is."""
    scheme: Scheme = "exact-count"
    """Which tokens: an exact count of a row, each by itself, whole words, spans of drawn lengths, or a function."""
    span_unit: Literal["tokens", "words"] = "tokens"
    """What the lengths of spans are counted in; words are hidden whole."""
    max_span_length: Annotated[int, Bounds(1, 2**20)] | None = None
    """The longest span; none: 5 of n-grams, 10 of geometric, 3 of uniform spans."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(self.mask_replace_prob, self.random_replace_prob)
        if callable(self.scheme) and (self.mask_rate, self.final_mask_rate) != (type(self).mask_rate, None):
            raise InputError(f"mask_rate {self.mask_rate} would be ignored: a scheme of your own has its own rate")
        idle = {"span_unit": self.span_unit != "tokens", "max_span_length": self.max_span_length is not None}
        if self.scheme not in WEIGHTS and any(idle.values()):
            name = next(name for name, given in idle.items() if given)
            raise InputError(f"{name} {getattr(self, name)} would be ignored: only {', '.join(WEIGHTS)} draw spans")

    def corrupt(self, examples: Examples) -> Batch:
        hidden = self.choose(examples, examples.text_maskable)
        return Batch(
            input_ids=self.hide(examples, hidden),
            labels=examples.answers.masked_fill(~hidden, IGNORED),
            **examples.reading_keys(),
        )

    def choose(self, examples: Examples, maskable: Tensor) -> Tensor:
        """(B, T) bool: which tokens are hidden."""
        if callable(self.scheme):
            return scheme_mask(self.scheme, examples, maskable, WHICH)
        noise, rate = examples.uniform(WHICH), self.rate_at(examples.progress)
        if self.scheme == "exact-count":
            return exact_count_mask(maskable, noise, rate)
        if self.scheme == "bernoulli":
            return bernoulli_mask(maskable, noise, rate)
        if self.scheme == "whole-words":
            return whole_word_mask(maskable, noise, rate, examples.words())
        probabilities = drawn_span_lengths(self.scheme, self.max_span_length)
        words = examples.words() if self.span_unit == "words" else None
        return drawn_spans_mask(maskable, examples.uniform(LENGTHS), noise, rate, probabilities, words)

    def rate_at(self, progress: float) -> float:
        """The share of the tokens that is hidden when so much of the run is done, in [0, 1]."""
        final = self.mask_rate if self.final_mask_rate is None else self.final_mask_rate
        return self.mask_rate + (final - self.mask_rate) * progress

    @property
    def schedule(self) -> str:
        if self.final_mask_rate in (None, self.mask_rate):
            return ""
        return f"mask_rate {self.mask_rate:g} to {self.final_mask_rate:g}, evaluated at {self.final_mask_rate:g}"

    def hide(self, examples: Examples, hidden: Tensor) -> Tensor:
        """(B, T): the tokens, and what stands in the place of those that are hidden (B, T)."""
        return replace_tokens(
            examples.tokens,
            hidden,
            examples.uniform(WHAT),
            mask_id=examples.special["mask"],
            replacements=examples.special.replacements,
            mask_replace_prob=self.mask_replace_prob,
            random_replace_prob=self.random_replace_prob,
        )

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        inputs, labels = batch["input_ids"], batch["labels"].long()
        if inputs.shape != labels.shape:
            return  # the loss says it better, where the outputs are known
        here = labels != IGNORED
        n, tokens = int(here.sum()), int((batch.get("attention_mask", torch.ones_like(inputs)) != 0).sum())
        if not n:
            return
        kept = int((inputs == labels)[here].sum())
        expected = 1.0 - self.mask_replace_prob - 0.9 * self.random_replace_prob  # its share, at most
        # An accident of less than 1e-9 (Hoeffding 1963, theorem 1), or nothing is hidden of a whole text.
        if (kept == n and (n > 0.9 * tokens or expected**n < 1e-9)) or kept > expected * n + math.sqrt(10.4 * n):
            raise InputError(
                f"{kept} of the {n} tokens in the loss are not hidden, of {tokens} in this batch: was it made by the "
                "collator of another objective? An encoder would copy what it reads"
            )

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """-ln p(hidden token | the whole corrupted row), by forward and backward messages of a hidden Markov model.

        Exact where tokens are hidden independently, and where every hidden token becomes a mask: which ones are hidden
        then says nothing of what they are. That the independent scheme always hides one is left out: at most 4.5e-4
        nats a row of 3 tokens at a rate of 0.15, and less in longer ones.
        """
        return {"logits": self.posterior_costs(source, batch, special).sum(1)}

    def posterior_costs(self, source: MarkovSource | HiddenMarkovSource, batch: Batch, special: SpecialIds) -> Tensor:
        """(B, T) nats: -ln p(hidden token | the whole corrupted row), 0 where there is no label."""
        return label_costs(self.hidden_posteriors(source, batch, special), batch["labels"])

    def hidden_posteriors(self, source: MarkovSource | HiddenMarkovSource, batch: Batch, special: SpecialIds) -> Tensor:
        """(B, T, K): p(symbol | the whole corrupted row, this token was hidden)."""
        all_masks = self.mask_replace_prob == 1 and not callable(self.scheme) and self.span_unit == "tokens"
        one_rate = self.scheme == "bernoulli" and not self.schedule
        if self.scheme == "whole-words" or not (all_masks or one_rate):
            raise InputError(
                "the exact floor of masked LM needs hidden tokens that are all masks, mask_replace_prob=1 and "
                "random_replace_prob=0, or tokens hidden independently at one rate, scheme='bernoulli': an exact count "
                "tells a little about each token by all others, and so does a word"
            )
        k, same = source.symbols, torch.eye(source.symbols).double()
        keep = 1.0 - self.mask_replace_prob - self.random_replace_prob
        # (K, K + 1): how probably a hidden symbol is seen as each symbol, and in the last column as the mask.
        masks = torch.full((k, 1), self.mask_replace_prob).double()
        hidden = torch.cat([keep * same + self.random_replace_prob / k, masks], 1)
        visible = torch.cat([same, torch.zeros(k, 1).double()], 1)
        rate = 0.5 if all_masks else self.mask_rate  # of masks alone, the rate is a factor that cancels
        seen = torch.where(batch["input_ids"] == special["mask"], k, batch["input_ids"])
        return masked_posteriors(source, seen, (1 - rate) * visible + rate * hidden, hidden)

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Fill the blanks of a text, one token for each `___`."""
        return fill_masked_text(model, tokenizer, text, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide every fifth token and fill it again, the most certain one first."""
        return sample_masked_text(model, tokenizer, text, **sampling)
