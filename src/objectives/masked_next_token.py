"""Masked next-token prediction (GPT-BERT): one model for causal and masked rows, predicting one position earlier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..data.examples import IGNORED, Batch, Examples
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import BLANK, Completion, continue_text, fill_masked_text, sample_masked_text
from ..languages import MarkovSource, chain_costs
from .loss import Target, next_token_labels
from .masked_lm import MaskedLM
from .objective import FloorExercise, Objective, reads_of_one_stack
from .options import Probability, options

KIND = 2  # stream of an example's noise, behind those of masked LM


@options
class MaskedNextToken(MaskedLM):
    """One model, two kinds of rows: most are masked and read on both sides, the others are read from the left.

        masked row      the  cat  [M]  on   the  [M]     read on both sides
        labels           .    .   sat   .    .   mat     not shifted, as in causal LM
        output at t      .   sat   .    .   mat   .      the token before a hidden one predicts it

        causal row      the  cat  sat  on   the  mat     read from the left
        labels          the  cat  sat  on   the  mat
        output at t     cat  sat  on   the  mat   .

    A masked row is corrupted as in `MaskedLM`, with one difference: each token is predicted one position earlier. So
    both kinds of rows share the shift, the head and all weights, and one model fills blanks and continues texts.
    Nothing precedes the first token of a row, or of a document, so it is never hidden. A visible token must not be in
    the loss, since the output before it reads it.

    The loss of a row is its mean over the tokens that it predicts, times the n - 1 tokens that it could predict.
    Otherwise a causal row, with about 1 / mask_rate times the loss positions of a masked row, would outweigh it. So
    `causal_share` is a share of the loss too, as in GPT-BERT, which averages the means of its devices. AntLM alternates
    the two kinds: train with `causal_share=1`, then with 0 from those weights (`clozelab train --init-from RUN`). The
    loss is in nats per token, the first token excluded.

    >>> import torch
    >>> from clozelab import SpecialIds
    >>> from clozelab.objectives import MaskedNextToken
    >>> objective, special = MaskedNextToken(mask_rate=0.4), SpecialIds(vocab_size=20, pad=0, eos=1, mask=2)
    >>> batch = objective.collator(special).block(torch.arange(10, 16)[None], example_ids=[0])
    >>> for key in ("input_ids", "reading_rank", "labels", "weights"):
    ...     print(f"{key:13}", *(f"{x:5g}" for x in batch[key][0].tolist()))
    input_ids        10    11     2    13    14    13
    reading_rank      0     0     0     0     0     0
    labels         -100  -100    12  -100  -100    15
    weights         2.5   2.5   2.5   2.5   2.5     0
    >>> objective(torch.zeros(1, 6, 20), batch)  # a uniform guess among 20: each ln 20
    Loss(logits: 2.9957 nats over 5)

    Raises `InputError` for options out of bounds, and for a batch that was made for another objective.

    Source: Charpentier and Samuel 2024 (GPT-BERT), sections 2 and 3. It hides spans of 1 to 3 tokens, 30% at first and
    15% at the end: `scheme="uniform-spans"`, `mask_rate=0.3`, `final_mask_rate=0.15`. (Its code prefers tokens that
    were hidden less often so far, which no function of seed, epoch and example can do.)
    """

    name, canonical, architecture, colour = "mntp", "GPT-BERT", "decoder-only", "#882255"
    hides, attends_to = "some tokens, at random; in causal rows the next token", "both sides; in causal rows the left"
    predicts, completes = "the hidden tokens, one place earlier; every next token", ("continue", "fill")
    kinds: ClassVar[dict[str, tuple[str, ...]]] = {"causal": ("masked rows", "causal rows")}
    exercise = FloorExercise(options={"causal_share": 0.5, "mask_replace_prob": 1.0, "random_replace_prob": 0.0})
    export_refusal = (
        "its model reads masked rows on both sides, and no decoder of transformers does: what it exports would read "
        "them from the left alone"
    )

    causal_share: Probability = 1 / 16
    """Share of the rows that is causal; the others are masked."""

    def corrupt(self, examples: Examples) -> Batch:
        causal = examples.uniform_row(KIND) < self.causal_share  # (B, 1)
        predictable = next_token_labels(Batch(labels=examples.answers, **examples.reading_keys())) != IGNORED
        behind = torch.zeros_like(predictable)
        behind[:, 1:] = predictable[:, :-1]  # (B, T): tokens that some output predicts
        masked = super().corrupt(replace(examples, maskable=examples.maskable & behind))
        labels = torch.where(causal, examples.answers, masked["labels"])
        k, n = (labels != IGNORED).logical_and(behind).sum(1, keepdim=True), behind.sum(1, keepdim=True)  # (B, 1)
        return masked | Batch(
            input_ids=torch.where(causal, examples.tokens, masked["input_ids"]),
            labels=labels,
            weights=(n.double() / k.clamp(min=1) * predictable).float(),  # of the outputs
            count=(n * (k > 0))[:, 0],
            causal=causal[:, 0].long(),
            reading_rank=torch.arange(labels.shape[1]) * causal,
        )

    def reads(self, batch: Batch) -> dict[tuple[str, str], Tensor]:
        """Both sides in a masked row and the left in a causal one, whatever rank the batch brings."""
        rank = torch.arange(batch["input_ids"].shape[1], device=batch["causal"].device) * batch["causal"][:, None]
        return {("logits", "input_ids"): reads_of_one_stack(batch, reading_rank=rank)}

    def targets(self, batch: Batch) -> dict[str, Target]:
        return {"logits": Target(next_token_labels(batch), batch["weights"], batch["count"])}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        Objective.check_batch(self, batch)
        inputs, labels, masked = batch["input_ids"], batch["labels"].long(), batch["causal"] == 0
        if inputs.shape != labels.shape:
            return  # the loss says it better, where the outputs are known
        of_masked = {key: batch[key][masked] for key in ("input_ids", "labels", "attention_mask") if key in batch}
        super().check_batch(of_masked)
        here = labels[~masked] != IGNORED
        if bool(((inputs[~masked] != labels[~masked]) & here).sum() * 2 > here.sum()):
            raise InputError("most labels of the causal rows are not the inputs: labels are not shifted here")

    def breakdown(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of masked rows, and of causal ones."""
        return {"causal": batch["causal"]}

    def scored_ids(self, batch: Batch) -> Tensor:
        """All tokens that a row could predict."""
        ids = torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
        return ids[:, 1:][(batch["weights"][:, :-1] != 0) & (batch["count"][:, None] > 0)]

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """Masked LM's in masked rows, from one place earlier but by the same row, and causal LM's in causal ones.

        Exact where every hidden token becomes the mask: then the row shows its weight.
        """
        if self.mask_replace_prob < 1:
            raise InputError(
                "the exact floor of masked next-token prediction needs hidden tokens that are all masks: "
                "mask_replace_prob=1, random_replace_prob=0"
            )
        hidden = self.posterior_costs(source, batch, special)[:, 1:]
        here = next_token_labels(batch)[:, :-1] != IGNORED  # by outputs
        following = chain_costs(source, batch["input_ids"], here & (batch["causal"][:, None] != 0))[:, 1:]
        costs = torch.where(batch["causal"][:, None] != 0, following, hidden) * here
        return {"logits": (costs * batch["weights"][:, :-1]).sum(1)}

    def complete(
        self, model: nn.Module, tokenizer: Tokenizer, text: str, *, max_new_tokens: int = 40, **sampling: Any
    ) -> Completion:
        """Fill the blanks of a text, one token for each `___`, or continue a text without blanks."""
        if BLANK in text:
            return fill_masked_text(model, tokenizer, text, predicts_next=True, **sampling)
        return continue_text(model, tokenizer, text, max_new_tokens=max_new_tokens, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide every fifth token and fill it again, the most certain one first."""
        return sample_masked_text(model, tokenizer, text, predicts_next=True, **sampling)
