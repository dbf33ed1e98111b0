"""Causal language modelling (GPT): read from the left, predict every next token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..data.examples import IGNORED, Batch, Examples
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, continue_text
from ..languages import MarkovSource, chain_costs
from .loss import Target, next_token_labels
from .objective import FloorExercise, Likelihood, Objective
from .options import options


@options
class CausalLM(Objective):
    """Next-token prediction. **Labels are not shifted**: they equal `input_ids`, and the shift happens here.

        input_ids      the  cat  sat  on   the  mat
        labels         the  cat  sat  on   the  mat
        output at t    cat  sat  on   the  mat   .      what each output predicts

    By the chain rule -log p(x) is the sum over t of -log p(x[t+1] | x[0..t]), so the loss is the negative
    log-likelihood of the text, every token but the first, and the model can be sampled from left to right. The causal
    mask hides the future; the inputs are not changed. A model that can look ahead has a low loss that means nothing.

    The loss is in nats per next token. Where documents are kept apart, no output predicts the first token of a
    document.

    >>> import torch
    >>> from clozelab import CausalLM
    >>> objective = CausalLM()
    >>> logits, labels = torch.zeros(1, 6, 10), torch.tensor([[5, 6, 7, 8, 5, 9]])  # a uniform guess among 10
    >>> objective(logits, labels)  # 5 next tokens, each ln 10
    Loss(logits: 2.3026 nats over 5)

    Labels that are already shifted, as in nanoGPT, have another name, as in Hugging Face: `objective(logits,
    {"shift_labels": y})`.

    Raises `InputError` for `labels` that are already shifted, since the model would then learn the token after the next
    one; for `shift_labels` that are not shifted; and for a batch from another objective's collator.

    Source: Radford et al. 2018 (GPT), section 3.1. Labels as in Hugging Face; T5 and nanoGPT shift beforehand.
    """

    name, canonical, architecture, colour = "causal", "GPT", "decoder-only", "#0072B2"
    hides, attends_to, predicts = "the next token", "what comes before it", "every next token"
    likelihood, completes = Likelihood.EXACT, ("continue",)
    exercise = FloorExercise(symbols=12, entropy=1.2, length=32, steps=400, batch_size=64, learning_rate=5e-3)

    def corrupt(self, examples: Examples) -> Batch:
        return Batch(input_ids=examples.tokens.clone(), labels=examples.answers, **examples.reading_keys())

    def targets(self, batch: Batch) -> dict[str, Target]:
        return {"logits": Target(next_token_labels(batch))}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        check_next_tokens(batch)

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """-ln p(x[t+1] | x[t]) at each loss position; its expectation is the entropy rate of the source."""
        return {"logits": next_token_floor(source, batch)}

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Continue a text; an empty one begins after an end of text, as a new document does."""
        return continue_text(model, tokenizer, text, **sampling)


def next_token_floor(source: MarkovSource, batch: Batch) -> Tensor:
    """(B,) nats: what a Markov source's tokens cost, given the one before, at the next-token loss positions."""
    here = next_token_labels(batch)[:, :-1] != IGNORED
    return (chain_costs(source, batch["input_ids"], here)[:, 1:] * here).sum(1)


def upcoming_labels(batch: Mapping[str, Tensor], n: int) -> list[Tensor]:
    """n tensors (B, T): for output t the labels of a batch at t + 1, ..., t + n; -100 behind the end of its document.

    >>> import torch
    >>> from clozelab.objectives.causal_lm import upcoming_labels
    >>> upcoming_labels({"labels": torch.tensor([[5, 6, 7]])}, 2)
    [tensor([[   6,    7, -100]]), tensor([[   7, -100, -100]])]
    """
    flags = {key: batch[key] for key in ("attention_mask", "document_ids") if key in batch}
    upcoming: list[Tensor] = []
    for _ in range(n):
        upcoming.append(next_token_labels({**flags, "labels": upcoming[-1]} if upcoming else batch))
    return upcoming


def check_next_tokens(batch: Mapping[str, Any]) -> None:
    """Raises `InputError` for labels that were shifted too often or never, or are not the inputs at all."""
    inputs, shifted = batch["input_ids"], "shift_labels" in batch
    labels = batch["shift_labels" if shifted else "labels"].long()
    if inputs.shape != labels.shape:
        return  # the loss says it better, where the outputs are known
    here = labels != IGNORED
    in_place = ((inputs == labels) | ~here).all() & here.any()
    one_on = ((inputs[:, 1:] == labels[:, :-1]) | ~here[:, :-1]).all() & here[:, :-1].any()
    if shifted and bool(in_place & ~one_on):
        raise InputError(
            "these shift_labels are not shifted: each output would predict the token that it reads. Call them labels"
        )
    if not shifted and bool(one_on & ~in_place):
        raise InputError(
            "these labels are already shifted by one, and this objective shifts them again, so the model would learn "
            "the token after the next: give labels that equal input_ids, or call these shift_labels"
        )
    if not shifted and bool(((inputs != labels) & here).sum() * 2 > here.sum()):
        raise InputError(
            "most of these labels are not the inputs: was the batch made by the collator of another objective?"
        )
