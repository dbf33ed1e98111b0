"""Causal language modelling: say the next token, having read those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.hiding import IGNORED, Hide, HideNext
from ..data.pairs import Ids, pairs_to_go_on
from ..data.special import SpecialIds
from ..data.tokenizer import Tokenizer
from ..errors import InputError
from ..models import DecoderOnly, generate
from .objective import Completion, Objective, before_end, lengths_of, paired


class CausalLM(Objective):
    """Next-token prediction. **Labels are not shifted**: give `labels == input_ids`; the shift happens here.

    By the chain rule -log p(x) is the sum over t of -log p(x[t+1] | x[0..t]), so this loss is the likelihood of
    the text itself, every position but the first one paid, and a model of it can be sampled from left to right:

        input_ids      the  cat  sat  on   the  mat
        labels         the  cat  sat  on   the  mat
        output at t    cat  sat  on   the  mat   .      what each position is paid for saying

    Hidden is what comes later, by the model's causal attention: nothing in the inputs is changed, and a model
    that can look ahead has a low loss that means nothing.

    >>> objective = CausalLM()
    >>> logits, labels = torch.zeros(1, 6, 10), torch.tensor([[5, 6, 7, 8, 5, 9]])  # a uniform guess among 10
    >>> loss = objective(logits, labels)
    >>> int(loss.count), round(float(loss.mean), 4)  # 5 pay, each ln 10
    (5, 2.3026)

    Raises `InputError` for a batch whose labels were shifted already, so that the model would learn the token after the
    next one, and for a batch that another objective's collator made.

    Source: Radford et al. 2018 (GPT), section 3.1. Labels as in Hugging Face; T5 and nanoGPT shift beforehand.
    """

    name = "causal"
    hides = "the next token"
    reads = "what comes before it"
    predicts = "every next token"
    canonical = "GPT"
    architecture = "decoder-only"
    is_likelihood = True

    @property
    def hide(self) -> Hide:
        """Nothing is covered: `HideNext`."""
        return HideNext()

    def align(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The output at t answers the label at t + 1: (B, T-1, ...) and (B, T-1)."""
        if labels.dim() != 2:
            raise InputError(f"expected labels (B, T), got {tuple(labels.shape)}: the shift needs whole rows")
        return outputs[:, :-1], labels[:, 1:]

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        """Raises `InputError` for labels that equal the inputs one place on instead of in place, or neither."""
        super().check_batch(batch)
        inputs, labels = batch["input_ids"], batch["labels"]
        if inputs.shape != labels.shape:
            return  # said better where the outputs are known
        paid = labels != IGNORED
        in_place = ((inputs == labels) | ~paid).all()
        one_on = ((inputs[:, 1:] == labels[:, :-1]) | ~paid[:, :-1]).all()
        if bool(one_on & ~in_place & paid[:, :-1].any()):
            raise InputError(
                "these labels are the inputs shifted by one already, and CausalLM shifts them again, so the model "
                "would learn the token after the next: give labels that equal input_ids"
            )
        if bool(((inputs != labels) & paid).sum() * 2 > paid.sum()):
            raise InputError(
                "most of these labels are not the inputs: was the batch made by the collator of another objective?"
            )

    def complete(
        self, model: nn.Module, tokenizer: Tokenizer, text: str, *, max_new_tokens: int = 40, **sampling: Any
    ) -> Completion:
        """Go on with a text; an empty one begins after an end of text, as a new document does."""
        special = tokenizer.special
        prompt = tokenizer.encode(text)
        ids = generate(
            paired(model, DecoderOnly),
            torch.tensor([prompt or [special.eos]]),
            max_new_tokens=max_new_tokens,
            eos=special.eos,
            forbidden=[id for id in special.all if id != special.eos],
            **sampling,
        )[0, max(len(prompt), 1) :].tolist()
        said = before_end(ids, special.eos)
        return Completion.of(tokenizer, prompt + said, [False] * len(prompt) + [True] * len(said))

    def demonstrate(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Go on with the text."""
        return self.complete(model, tokenizer, text, max_new_tokens=24, **sampling)

    def pairs(self, prompts: Ids, answers: Ids, special: SpecialIds) -> dict[str, Tensor]:
        """Prompt, answer, end of text, the latter two paid: `pairs_to_go_on`."""
        return pairs_to_go_on(prompts, answers, special)

    def answer(
        self, model: nn.Module, prompts: Ids, special: SpecialIds, *, tokens: int | Sequence[int], **sampling: Any
    ) -> list[list[int]]:
        """Go on with each prompt until the end of text; prompts of one length are read together."""
        lengths, decoder = lengths_of(prompts, tokens), paired(model, DecoderOnly)
        never = [id for id in special.all if id != special.eos]
        said: dict[int, list[int]] = {}
        for length in sorted({len(prompt) for prompt in prompts}):
            rows = [b for b, prompt in enumerate(prompts) if len(prompt) == length]
            ids = generate(
                decoder,
                torch.tensor([list(prompts[b]) for b in rows]),
                max_new_tokens=max(lengths[b] for b in rows),
                eos=special.eos,
                forbidden=never,
                **sampling,
            )[:, length:]
            said |= {b: before_end(row, special.eos)[: lengths[b]] for b, row in zip(rows, ids.tolist())}
        return [said[b] for b in range(len(prompts))]
