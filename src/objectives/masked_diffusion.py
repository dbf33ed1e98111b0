"""Masked diffusion (MDLM, LLaDA): hide any share of the tokens, read both sides, predict the hidden ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..data.examples import IGNORED, Batch, Examples, smallest
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, complete_masked_text, sample_masked_text
from ..languages import MarkovSource, masked_costs
from .loss import Target
from .objective import FloorExercise, Likelihood, Objective
from .options import options

LEVEL, WHICH = 0, 1  # streams of an example's noise
EPS = 1e-3
"""The least share of tokens that the Bernoulli form hides, as in LLaDA: the weight 1 / p has to end somewhere."""


@options
class MaskedDiffusion(Objective):
    """Hide any share of the tokens, read the rest on both sides, predict the hidden ones.

        text         the  cat  sat  on   the  mat
        input_ids    the  [M]  [M]  on   [M]  mat       k = 3 of n = 6 hidden, k uniform in 1 .. 6
        labels        .   cat  sat   .   the   .
        weights       2    2    2    2    2    2        n / k, 0 at padding; the sum is divided by n, not by k

    The mean over k is a mean over all orders in which a text can be filled in. So the loss, summed over a text, is an
    upper bound of -ln p(text), its first token included. With the exact posterior it *equals* -ln p(text), for every
    text. An end of text may be hidden like any token; other special ids are not.

    By default a row hides an exact count; the loss of a uniform guess then has no variance. `exact_count=False` is the
    form of the papers: each token is hidden with probability p = (1 - eps) t + eps, t uniform, and has the weight 1 /
    p. The loss is in nats per token of the text, hidden or not.

    >>> import torch
    >>> from clozelab import MaskedDiffusion, SpecialIds
    >>> objective, special = MaskedDiffusion(), SpecialIds(vocab_size=20, pad=0, eos=1, mask=2)
    >>> batch = objective.collator(special).block(torch.arange(10, 16)[None], example_ids=[3])
    >>> for key in ("input_ids", "labels", "weights"):
    ...     print(f"{key:9}", *(f"{x:5g}" for x in batch[key][0].tolist()))
    input_ids    10    11     2    13     2    15
    labels     -100  -100    12  -100    14  -100
    weights       3     3     3     3     3     3
    >>> objective(torch.zeros(1, 6, 20), batch)  # a uniform guess among 20: ln 20, whatever is hidden
    Loss(logits: 2.9957 nats over 6)

    Raises `InputError` for a batch without weights or count, and for one in which a loss position is visible.

    Source: Sahoo et al. 2024 (MDLM), section 3; Nie et al. 2025 (LLaDA), section 2.1, and its likelihood with an
    exact count of masks.
    """

    name, canonical, architecture, colour = "diffusion", "LLaDA", "encoder-only", "#56B4E9"
    hides, attends_to, predicts = "any share of the tokens", "both sides", "the hidden tokens, weighted by n / k"
    likelihood, roles, completes = Likelihood.BOUND, ("mask",), ("continue", "fill")
    exercise = FloorExercise(steps=4000)

    exact_count: bool = True
    """Hide exactly k of n tokens, k uniform in 1 .. n, instead of each token with a uniformly drawn probability."""

    def corrupt(self, examples: Examples) -> Batch:
        text = examples.maskable & (~examples.special.is_special(examples.tokens) | examples.is_eos)
        n = text.sum(1, keepdim=True)  # (B, 1)
        level, noise = examples.uniform_row(LEVEL), examples.uniform(WHICH)
        if self.exact_count:
            k = 1 + (level * n).long()
            hidden, weight = smallest(noise, k, text), n.double() / k
        else:
            p = (1 - EPS) * level + EPS
            hidden, weight = (noise < p) & text, 1 / p
        return Batch(
            input_ids=examples.tokens.masked_fill(hidden, examples.special["mask"]),
            labels=examples.answers.masked_fill(~hidden, IGNORED),
            weights=(weight * text).float(),
            count=n[:, 0],
            **examples.reading_keys(),
        )

    def targets(self, batch: Batch) -> dict[str, Target]:
        return {"logits": Target(batch["labels"], batch["weights"], batch["count"])}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        inputs, labels = batch["input_ids"], batch["labels"].long()
        if inputs.shape == labels.shape and bool((inputs == labels).any()):
            raise InputError(
                f"{int((inputs == labels).sum())} tokens of this batch are in the loss and not hidden: was it made by "
                "the collator of another objective?"
            )

    def breakdown(self, batch: Batch) -> dict[str, Tensor]:
        """The loss by the number of hidden tokens, of which a single average tells nothing."""
        return {"hidden tokens": (batch["labels"] != IGNORED).sum(1)}

    def scored_ids(self, batch: Batch) -> Tensor:
        """All tokens that may be hidden, hidden or not: the sum bounds their likelihood, given the others."""
        ids = torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
        return ids[batch["weights"] != 0]

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """The weighted costs of the hidden tokens under the exact posterior; their expectation is -ln p(text)."""
        k, same = source.symbols, torch.eye(source.symbols).double()
        visible = torch.cat([same, torch.ones(k, 1).double()], 1)  # (K, K + 1): a mask says nothing
        seen = torch.where(batch["input_ids"] == special["mask"], k, batch["input_ids"])
        return {"logits": (masked_costs(source, seen, batch["labels"], visible, visible) * batch["weights"]).sum(1)}

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Fill the blanks of a text, one token for each `___`, or continue one without blanks by so many masks."""
        return complete_masked_text(model, tokenizer, text, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide every other token and fill it again, the most certain one first."""
        return sample_masked_text(model, tokenizer, text, every=2, **sampling)
