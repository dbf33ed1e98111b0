"""From text to text: how each kind of model continues a text or fills its blanks. Objectives call these."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any, TypeVar

import torch
from torch import nn

from ..checks import check_int, check_type
from ..data.corpora.documents import checked_text
from ..data.spans import split_spans
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..models import DecoderOnly, EncoderDecoder, EncoderOnly
from .completion import BLANK, Completion, encode_blanks
from .decoding import MAX_NEW_TOKENS, fill_spans, generate, truncate_at_eos
from .masks import fill_masks

ROUNDS = 50
"""The most times that a model reads a text to fill its masks one after the other; more masks share a round."""

Model = TypeVar("Model", bound=nn.Module)


def expect_model(model: nn.Module, kind: type[Model]) -> Model:
    """The model, once it is known to be of the kind that a function generates with.

    Raises `InputError` for another: a causal model cannot fill masks, an encoder cannot continue.
    """
    if not isinstance(getattr(model, "_orig_mod", model), kind):  # inside torch.compile's wrapper
        raise InputError(f"expected a {kind.__name__}, got {type(model).__name__}: was it trained by this objective?")
    return model  # pyright: ignore[reportReturnType]


def all_but(special: SpecialIds, *kept: int) -> list[int]:
    """All special ids but a few: what a model must not generate."""
    return [one for one in special.all if one not in kept]


# --------------------------------------------------------------------------- a decoder


def continue_text(
    model: nn.Module,
    tokenizer: Tokenizer,
    text: str,
    *,
    max_new_tokens: int = 40,
    bidirectional_prompt: bool = False,
    **sampling: Any,
) -> Completion:
    """Continue a text until an end of text; an empty one begins after an end of text, as a new document does."""
    special = tokenizer.special
    prompt = tokenizer.encode(text)
    ids = generate(
        expect_model(model, DecoderOnly),
        torch.tensor([prompt or [special.eos]]),
        max_new_tokens=max_new_tokens,
        eos=special.eos,
        suppressed=all_but(special, special.eos),
        bidirectional_prompt=bidirectional_prompt,
        **sampling,
    )[0, max(len(prompt), 1) :].tolist()
    generated = truncate_at_eos(ids, special.eos)
    return Completion.of(tokenizer, prompt + generated, [False] * len(prompt) + [True] * len(generated))


# --------------------------------------------------------------------------- an encoder


def fill_masked_text(
    model: nn.Module, tokenizer: Tokenizer, text: str, *, order: str = "confidence", **sampling: Any
) -> Completion:
    """Fill the blanks of a text, one token for each `___`, in one of the orders of `fill_masks`.

    `sampling` may hold `predicts_next=True`, for a decoder that learned masked next-token prediction.
    """
    ids = encode_blanks(tokenizer, text, repeat(tokenizer.special["mask"]))
    return _fill_masks(model, tokenizer, ids, order=order, **sampling)


def complete_masked_text(
    model: nn.Module,
    tokenizer: Tokenizer,
    text: str,
    *,
    max_new_tokens: int = 40,
    order: str = "confidence",
    **sampling: Any,
) -> Completion:
    """Fill the blanks of a text; continue a text without blanks by `max_new_tokens` masks, up to an end of text."""
    special = tokenizer.special
    if BLANK in checked_text(text):
        return fill_masked_text(model, tokenizer, text, order=order, **sampling)
    masks = check_int(max_new_tokens, "max_new_tokens", 1, MAX_NEW_TOKENS)
    ids = tokenizer.encode(text) + [special["mask"]] * masks
    return _fill_masks(model, tokenizer, ids, order=order, may_end=True, **sampling)


def sample_masked_text(
    model: nn.Module, tokenizer: Tokenizer, text: str, *, every: int = 5, **sampling: Any
) -> Completion:
    """Mask every fifth token, or every so many, and fill the masks, the most certain first."""
    mask = tokenizer.special["mask"]
    ids = [mask if t % every == every - 1 else token for t, token in enumerate(tokenizer.encode(text))]
    return _fill_masks(model, tokenizer, ids, order="confidence", **sampling)


def _fill_masks(
    model: nn.Module,
    tokenizer: Tokenizer,
    ids: list[int],
    *,
    order: str,
    may_end: bool = False,
    predicts_next: bool = False,
    **settings: Any,
) -> Completion:
    special = tokenizer.special
    if order != "all":
        settings = {"rounds": min(ROUNDS, max(1, ids.count(special["mask"]))), **settings}
    before = [special.eos] if predicts_next else []  # as a new document follows another one
    filled = fill_masks(
        expect_model(model, DecoderOnly if predicts_next else EncoderOnly),
        torch.tensor([before + ids]),
        special["mask"],
        order=order,
        predicts_next=predicts_next,
        suppressed=all_but(special, special.eos) if may_end else special.all,
        **settings,
    )[0, len(before) :].tolist()
    by_model = [token == special["mask"] for token in ids]
    if may_end:
        end = next((t for t, token in enumerate(filled) if by_model[t] and token == special.eos), len(filled))
        filled, by_model = filled[:end], by_model[:end]
    return Completion.of(tokenizer, filled, by_model)


def continue_by_blocks(
    model: nn.Module,
    tokenizer: Tokenizer,
    text: str,
    *,
    block_size: int,
    max_new_tokens: int = 40,
    order: str = "confidence",
    **sampling: Any,
) -> Completion:
    """Continue a text by blocks of masks, each filled before the next one, until an end of text.

    Blocks are counted from the beginning of the text, as in training, so that the first one may begin with its end.
    """
    special = tokenizer.special
    prompt = tokenizer.encode(text)
    end = len(prompt) + check_int(max_new_tokens, "max_new_tokens", 1, MAX_NEW_TOKENS)
    row, block_size = torch.tensor([prompt]).long(), check_int(block_size, "block_size", 1)
    settings = {"suppressed": all_but(special, special.eos), "generator": torch.Generator().manual_seed(0), **sampling}
    while row.shape[1] < end and not bool((row[:, len(prompt) :] == special.eos).any()):
        masks = min(block_size - row.shape[1] % block_size, end - row.shape[1])
        row = torch.cat([row, torch.full((1, masks), special["mask"])], 1)
        rank = torch.arange(row.shape[1])[None] // block_size
        row = fill_masks(
            expect_model(model, EncoderOnly), row, special["mask"], order=order, reading_rank=rank, **settings
        )
    generated = truncate_at_eos(row[0, len(prompt) :].tolist(), special.eos)
    return Completion.of(tokenizer, prompt + generated, [False] * len(prompt) + [True] * len(generated))


# --------------------------------------------------------------------------- an encoder-decoder


def fill_span_text(
    model: nn.Module,
    tokenizer: Tokenizer,
    text: str,
    *,
    max_new_tokens: int = 40,
    before: Sequence[int] = (),
    decoder_only: bool = False,
    **sampling: Any,
) -> Completion:
    """Fill the blanks of a text, each `___` with as many tokens as the model predicts.

    `before` are ids that the model reads in front of the text, as the mode of a mixture. `decoder_only` is for a
    decoder that reads the text with its blanks as a prefix, and then spells out the spans as an encoder-decoder does.
    """
    ids = encode_blanks(tokenizer, text, tokenizer.special.sentinels)
    settings = {"max_new_tokens": max_new_tokens, "before": before, "decoder_only": decoder_only, **sampling}
    return _fill_sentinels(model, tokenizer, ids, **settings)


def sample_span_text(model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
    """Hide three tokens of every ten behind a sentinel, as long as there are any, and fill them.

    The model spells at most about twice as many tokens as were hidden, and as many for any text that is longer than its
    sentinels reach.
    """
    tokens = tokenizer.encode(text)
    ids = hide_runs(tokens, tokenizer.special.sentinels)
    sentinels = sum(token in tokenizer.special.sentinels for token in ids)
    spelled = len(tokens) - len(ids) + 2 * sentinels  # what was hidden, behind its sentinels
    return _fill_sentinels(model, tokenizer, ids, max_new_tokens=2 * spelled + 8, **sampling)


def continue_span_text(
    model: nn.Module, tokenizer: Tokenizer, text: str, *, max_new_tokens: int = 40, **sampling: Any
) -> Completion:
    """Continue a text until an end of text, by a blank at its end."""
    prompt, blank = tokenizer.encode(text), tokenizer.special.sentinels[0]
    spelled = _spell_spans(model, tokenizer, [*prompt, blank], max_new_tokens=max_new_tokens + 1, **sampling)
    generated = [token for token in spelled if token not in tokenizer.special.sentinels][:max_new_tokens]
    return Completion.of(tokenizer, prompt + generated, [False] * len(prompt) + [True] * len(generated))


def _fill_sentinels(model: nn.Module, tokenizer: Tokenizer, ids: list[int], **settings: Any) -> Completion:
    sentinels = tokenizer.special.sentinels
    answers: dict[int, list[int]] = {}
    for k, span in split_spans(_spell_spans(model, tokenizer, ids, **settings), sentinels):
        answers.setdefault(sentinels[k], span)  # the first answer counts
    text = [pair for token in ids for pair in spell_blank(token, answers, sentinels)]
    return Completion.of(tokenizer, [token for token, _ in text], [by_model for _, by_model in text])


def _spell_spans(
    model: nn.Module,
    tokenizer: Tokenizer,
    ids: list[int],
    *,
    before: Sequence[int] = (),
    decoder_only: bool = False,
    **settings: Any,
) -> list[int]:
    """The targets that a model generates for a text with sentinels, up to an end of text."""
    special = tokenizer.special
    if isinstance(before, str) or not isinstance(before, Sequence):
        raise InputError(f"expected the ids before the text as a list, got {type(before).__name__}")
    before = [check_int(one, "each id before the text") for one in before]
    if check_type(decoder_only, bool, "decoder_only"):
        prompt = torch.tensor([[*before, *ids]])
        asked = sum(token in special.sentinels for token in ids)
        suppressed = all_but(special, special.eos, *special.sentinels[:asked])
        settings = {"eos": special.eos, "suppressed": suppressed, "bidirectional_prompt": True, **settings}
        targets = generate(expect_model(model, DecoderOnly), prompt, **settings)[0, prompt.shape[1] :].tolist()
    else:
        targets = fill_spans(
            expect_model(model, EncoderDecoder),
            torch.tensor([[*before, *ids, special.eos]]),
            start_id=special["decoder_start"],
            eos=special.eos,
            sentinels=special.sentinels,
            suppressed=all_but(special, special.eos, *special.sentinels),
            **settings,
        )[0].tolist()
    return truncate_at_eos(targets, special.eos)


def hide_runs(tokens: list[int], sentinels: Sequence[int]) -> list[int]:
    """A text in which the fifth to seventh of every ten tokens stand behind a sentinel, as long as there are any."""
    ids: list[int] = []
    left = iter(sentinels)
    for start in range(0, len(tokens), 10):
        before, hidden, after = (tokens[start + a : start + b] for a, b in ((0, 4), (4, 7), (7, 10)))
        sentinel = next(left, None) if hidden else None
        ids += [*before, *(hidden if sentinel is None else [sentinel]), *after]
    return ids


def spell_blank(token: int, answers: dict[int, list[int]], sentinels: Sequence[int]) -> list[tuple[int, bool]]:
    """A token as itself, a sentinel as what the model generated for it (nothing, where it generated nothing)."""
    return [(one, True) for one in answers.get(token, [])] if token in sentinels else [(token, False)]
