"""Masked language modelling: say the covered tokens, having read both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from ..data.hiding import Hide, HideTokens
from ..data.masking import ExactCount, MaskScheme, scheme_name
from ..data.pairs import Ids, pairs_to_unmask
from ..data.special import SpecialIds
from ..data.tokenizer import Tokenizer
from ..errors import InputError
from ..models import EncoderOnly, fill_masks
from .objective import Completion, Objective, encode_blanks, lengths_of, paired

ROUNDS = 50
"""Most times that a text is read to fill its blanks one after the other; more blanks share a round."""


class MaskedLM(Objective):
    """The cloze test: 15% of the tokens are hidden, the rest stays readable on both sides, the hidden ones pay.

        text         the  cat  sat  on   the  mat
        input_ids    the  [M]  sat  on   [M]  mat
        labels        .   cat   .    .   the   .       -100 at the dots: not paid
        output at t       cat            the           place by place, nothing shifted

    Of the hidden tokens 80% become [MASK], 10% a random token, 10% stay as they are, all of them paid: fine-tuned
    on text without [MASK], a model must have learned to doubt, and to represent, the tokens that it sees.

    `rate` is the share of hidden tokens, an exact count in each row as in Google's BERT; `scheme` replaces the
    choice by any function `(tokens, maskable, generator) -> bool[T]`, ours or yours.

    >>> objective = MaskedLM(rate=0.5)
    >>> special = SpecialIds(vocab_size=10, pad=0, eos=1, mask=2)
    >>> batch = objective.collator(special).block(torch.tensor([[5, 6, 7, 8, 5, 9]]), identities=[0])
    >>> int((batch["labels"] != -100).sum())
    3
    >>> loss = objective(torch.zeros(1, 6, 10), batch["labels"])  # a uniform guess among 10
    >>> int(loss.count), round(float(loss.mean), 4)  # 3 pay, each ln 10
    (3, 2.3026)

    Raises `InputError` for a rate outside (0, 1) and shares that are none.

    Source: Devlin et al. 2018 (BERT), section 3.1, without the next-sentence task.
    """

    name = "masked"
    hides = "some tokens, at random"
    reads = "both sides"
    predicts = "the hidden tokens"
    canonical = "BERT"
    architecture = "encoder-only"

    def __init__(
        self,
        rate: float = 0.15,
        *,
        mask_share: float = 0.8,
        random_share: float = 0.1,
        scheme: MaskScheme | None = None,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
    ) -> None:
        super().__init__(
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            rate=rate,
            mask_share=mask_share,
            random_share=random_share,
            scheme=scheme_name(scheme),
        )
        self._hide = HideTokens(ExactCount(rate) if scheme is None else scheme, mask_share, random_share)

    @property
    def hide(self) -> Hide:
        """Some tokens covered: `HideTokens`."""
        return self._hide

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        """Raises `InputError` for a batch in which every token is paid and none is hidden."""
        super().check_batch(batch)
        inputs, labels = batch["input_ids"], batch["labels"]
        if inputs.shape == labels.shape and inputs.numel() and bool((inputs == labels).float().mean() > 0.9):
            raise InputError(
                "nothing is hidden in this batch, and everything is paid: was it made by the collator of CausalLM? "
                "An encoder would copy what it reads"
            )

    def complete(
        self, model: nn.Module, tokenizer: Tokenizer, text: str, *, order: str = "confidence", **sampling: Any
    ) -> Completion:
        """Fill the blanks of a text, one token for each `___`, in one of the orders of `fill_masks`."""
        mask = _mask_of(tokenizer.special)
        ids = encode_blanks(tokenizer, text, repeat(mask))
        return self._fill(model, tokenizer, ids, order=order, rounds=None if order == "all" else ROUNDS, **sampling)

    def demonstrate(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide every fifth token and fill it again, the most certain one first."""
        mask = _mask_of(tokenizer.special)
        ids = [mask if t % 5 == 4 else id for t, id in enumerate(tokenizer.encode(text))]
        return self._fill(model, tokenizer, ids, order="confidence", rounds=ROUNDS, **sampling)

    def _fill(self, model: nn.Module, tokenizer: Tokenizer, ids: list[int], **settings: Any) -> Completion:
        mask = _mask_of(tokenizer.special)
        encoder, never = paired(model, EncoderOnly), tokenizer.special.all
        filled = fill_masks(encoder, torch.tensor([ids]), mask, forbidden=never, **settings)[0]
        return Completion.of(tokenizer, filled.tolist(), [id == mask for id in ids])

    def pairs(self, prompts: Ids, answers: Ids, special: SpecialIds) -> dict[str, Tensor]:
        """Prompt, a mask for each token of the answer, end of text; the masks are paid: `pairs_to_unmask`."""
        return pairs_to_unmask(prompts, answers, special)

    def answer(
        self, model: nn.Module, prompts: Ids, special: SpecialIds, *, tokens: int | Sequence[int], **sampling: Any
    ) -> list[list[int]]:
        """Fill as many masks as `tokens` says, so that the length of an answer is given away.

        All at once, as `pairs` taught it; order="confidence" or "left_to_right" puts a model before answers of which a
        part is filled, and those it has only met if it was pretrained.
        """
        lengths = lengths_of(prompts, tokens)
        batch = pairs_to_unmask(prompts, [[special.eos] * n for n in lengths], special)  # only the places count
        ids = batch["input_ids"]
        encoder, mask = paired(model, EncoderOnly), _mask_of(special)
        filled = fill_masks(
            encoder, ids, mask, attention_mask=batch["attention_mask"], forbidden=special.all, **sampling
        )
        return [
            filled[b, len(prompt) : len(prompt) + n].tolist() for b, (prompt, n) in enumerate(zip(prompts, lengths))
        ]


def _mask_of(special: SpecialIds) -> int:
    if special.mask is None:
        raise InputError("masked LM fills mask tokens, but this tokenizer has none: load_tokenizer adds one")
    return special.mask
