"""Masked language modelling (BERT): hide some tokens, read both sides, predict the hidden ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..data.examples import IGNORED, Batch, Examples
from ..data.masking import MaskScheme, bernoulli_mask, exact_count_mask, scheme_mask, whole_word_mask
from ..data.replacement import check_shares, replace_tokens
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, fill_masked_text, sample_masked_text
from ..languages import MarkovSource, masked_costs
from .objective import FloorExercise, Objective
from .options import Probability, Share, options

WHICH, WHAT = 0, 1  # streams of an example's noise: which tokens are hidden, what stands in their place


@options
class MaskedLM(Objective):
    """The cloze test: 15% of the tokens are hidden, the rest stays visible on both sides.

        text         the  cat  sat  on   the  mat
        input_ids    the  [M]  sat  on   [M]  mat
        labels        .   cat   .    .   the   .       -100 at the dots: not in the loss
        output at t       cat            the           in place, nothing shifted

    Of the hidden tokens 80% become [MASK], 10% a random token, 10% stay as they are, all of them in the loss: the model
    cannot trust the visible tokens, so it must represent all of them. Special ids are never hidden. Nats over hidden
    tokens.

    >>> import torch
    >>> from clozelab import MaskedLM, SpecialIds
    >>> objective = MaskedLM(mask_rate=0.5)
    >>> special = SpecialIds(vocab_size=10, pad=0, eos=1, mask=2)
    >>> batch = objective.collator(special)([[5, 6, 7, 8, 5, 9]])
    >>> int((batch["labels"] != -100).sum())
    3
    >>> objective(torch.zeros(1, 6, 10), batch["labels"])  # a uniform guess among 10: each ln 10
    Loss(logits: 2.3026 nats over 3)

    Raises `InputError` for options out of bounds, and for `mask_rate` beside a scheme of your own, which ignores it.

    Source: Devlin et al. 2018 (BERT), section 3.1 and appendix A.1, without next-sentence prediction.
    """

    name, canonical, architecture, colour = "masked", "BERT", "encoder-only", "#D55E00"
    hides, attends_to, predicts = "some tokens, at random", "both sides", "the hidden tokens"
    roles, completes = ("mask",), ("fill",)
    exercise = FloorExercise(options={"scheme": "bernoulli"})

    mask_rate: Share = 0.15
    """Share of the tokens that is hidden."""
    mask_replace_prob: Probability = 0.8
    """Share of the hidden tokens that becomes the mask token,"""
    random_replace_prob: Probability = 0.1
    """share that becomes a random token; the rest stays as it is."""
    scheme: Literal["exact-count", "bernoulli", "whole-words"] | MaskScheme = "exact-count"
    """Which tokens: an exact count of a row, each by itself, whole words, or a function."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(self.mask_replace_prob, self.random_replace_prob)
        if callable(self.scheme) and self.mask_rate != type(self).mask_rate:
            raise InputError(f"mask_rate {self.mask_rate} would be ignored: a scheme of your own has its own rate")

    def corrupt(self, examples: Examples) -> Batch:
        hidden = self.choose(examples, examples.text_maskable)
        return Batch(
            input_ids=replace_tokens(
                examples.tokens,
                hidden,
                examples.uniform(WHAT),
                mask_id=examples.special["mask"],
                replacements=examples.special.replacements,
                mask_replace_prob=self.mask_replace_prob,
                random_replace_prob=self.random_replace_prob,
            ),
            labels=examples.answers.masked_fill(~hidden, IGNORED),
            **examples.reading_keys(),
        )

    def choose(self, examples: Examples, maskable: Tensor) -> Tensor:
        """(B, T) bool: which tokens are hidden."""
        if callable(self.scheme):
            return scheme_mask(self.scheme, examples, maskable, WHICH)
        noise = examples.uniform(WHICH)
        if self.scheme == "whole-words":
            return whole_word_mask(maskable, noise, self.mask_rate, examples.words())
        draw = exact_count_mask if self.scheme == "exact-count" else bernoulli_mask
        return draw(maskable, noise, self.mask_rate)

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        inputs, labels = batch["input_ids"], batch["labels"].long()
        if inputs.shape != labels.shape:
            return  # the loss says it better, where the outputs are known
        here = labels != IGNORED
        n, tokens = int(here.sum()), int(batch.get("attention_mask", torch.ones_like(inputs)).sum())
        # By accident all of them stay as they are, or are replaced by themselves, with a probability below this:
        accident = (1.0 - self.mask_replace_prob - 0.9 * self.random_replace_prob) ** n
        if n and (n > 0.9 * tokens or accident < 1e-9) and bool((inputs == labels)[here].all()):
            raise InputError(
                f"nothing is hidden in this batch, and {n} of {tokens} tokens are in the loss: was it made by the "
                "collator of another objective? An encoder would copy what it reads"
            )

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """-ln p(hidden token | the whole corrupted row), by forward and backward messages of a hidden Markov model.

        Exact where tokens are hidden independently. That our scheme always hides one is left out: at most 4.5e-4 nats
        a row of 3 tokens at a rate of 0.15, and less in longer ones.
        """
        if self.scheme != "bernoulli":
            raise InputError(
                "the exact floor of masked LM needs tokens hidden independently, MaskedLM(scheme='bernoulli'): an "
                "exact count tells a little about each token by all others"
            )
        k, same = source.symbols, torch.eye(source.symbols).double()
        keep = 1.0 - self.mask_replace_prob - self.random_replace_prob
        # (K, K + 1): how probably a hidden symbol is seen as each symbol, and in the last column as the mask.
        masks = torch.full((k, 1), self.mask_replace_prob).double()
        hidden = torch.cat([keep * same + self.random_replace_prob / k, masks], 1)
        visible = torch.cat([same, torch.zeros(k, 1).double()], 1)
        channel = (1 - self.mask_rate) * visible + self.mask_rate * hidden
        seen = torch.where(batch["input_ids"] == special["mask"], k, batch["input_ids"])
        return {"logits": masked_costs(source, seen, batch["labels"], channel, hidden).sum(1)}

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Fill the blanks of a text, one token for each `___`."""
        return fill_masked_text(model, tokenizer, text, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide every fifth token and fill it again, the most certain one first."""
        return sample_masked_text(model, tokenizer, text, **sampling)
