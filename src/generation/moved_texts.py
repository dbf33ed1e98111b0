"""From text to text, for decoders that fill blanks behind the text: a moved middle, or several moved spans."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..data.corpora.documents import checked_text
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..models import DecoderOnly
from .completion import BLANK, Completion, encode_before_blank, encode_blanks
from .decoding import generate, truncate_at_eos
from .texts import all_but, continue_text, expect_model, hide_runs, spell_blank

# --------------------------------------------------------------------------- a middle


def complete_middle_text(
    model: nn.Module,
    tokenizer: Tokenizer,
    text: str,
    *,
    max_new_tokens: int = 40,
    suffix_first: bool = False,
    **sampling: Any,
) -> Completion:
    """Fill the one blank `___` of a text with a decoder that learned fill-in-the-middle; continue a text without one.

    `suffix_first` prompts in the form suffix, prefix, middle, for a model that learned that form alone.

    Raises `InputError` for several blanks: a moved text has one middle.
    """
    if BLANK not in checked_text(text):
        return continue_text(model, tokenizer, text, max_new_tokens=max_new_tokens, **sampling)
    if text.count(BLANK) > 1:
        raise InputError(
            f"expected one blank {BLANK}, got {text.count(BLANK)}: this model writes one "
            "middle; put words in the place of the others"
        )
    before, after = text.split(BLANK)
    parts = encode_before_blank(tokenizer, before), tokenizer.encode(after)
    settings = {"max_new_tokens": max_new_tokens, "suffix_first": suffix_first, **sampling}
    return _fill_middle(model, tokenizer, *parts, **settings)


def sample_middle_text(model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
    """Take the middle third of the tokens out of a text and fill it."""
    ids = tokenizer.encode(text)
    third = len(ids) // 3
    before, after = ids[:third], ids[len(ids) - third :]
    most = 2 * (len(ids) - 2 * third) + 8
    return _fill_middle(model, tokenizer, before, after, max_new_tokens=most, **sampling)


def _fill_middle(
    model: nn.Module,
    tokenizer: Tokenizer,
    before: list[int],
    after: list[int],
    *,
    suffix_first: bool = False,
    **sampling: Any,
) -> Completion:
    special = tokenizer.special
    prefix, suffix, middle_id, end = (special[f"fim_{part}"] for part in ("prefix", "suffix", "middle", "end"))
    if suffix_first:
        prompt = [prefix, suffix, *after, middle_id, *before]
    else:
        prompt = [prefix, *before, suffix, *after, middle_id]
    ids = generate(
        expect_model(model, DecoderOnly),
        torch.tensor([prompt]),
        eos=end,
        suppressed=all_but(special, end),
        **sampling,
    )[0, len(prompt) :].tolist()
    middle = truncate_at_eos(ids, end)
    by_model = [False] * len(before) + [True] * len(middle) + [False] * len(after)
    return Completion.of(tokenizer, [*before, *middle, *after], by_model)


# --------------------------------------------------------------------------- several spans


def complete_moved_spans_text(
    model: nn.Module, tokenizer: Tokenizer, text: str, *, max_spans: int, max_new_tokens: int = 40, **sampling: Any
) -> Completion:
    """Fill the blanks of a text, from the left, with a decoder that spells out spans behind it, and ends each of them.

    Each blank gets at most `max_new_tokens`. A text without a blank is continued.

    Raises `InputError` for more blanks than the `max_spans` that the model has seen in a text.
    """
    if BLANK not in checked_text(text):
        return continue_text(model, tokenizer, text, max_new_tokens=max_new_tokens, **sampling)
    if text.count(BLANK) > max_spans:
        raise InputError(
            f"expected at most {max_spans} blanks {BLANK}, as the model was trained on, got {text.count(BLANK)}: put "
            "words in the place of some of them, or train with a higher max_spans"
        )
    ids = encode_blanks(tokenizer, text, tokenizer.special.sentinels)
    return _fill_moved_spans(model, tokenizer, ids, max_new_tokens=max_new_tokens, **sampling)


def sample_moved_spans_text(
    model: nn.Module, tokenizer: Tokenizer, text: str, *, max_spans: int, **sampling: Any
) -> Completion:
    """Hide three tokens of every ten, as long as there may be more spans, and fill them."""
    ids = hide_runs(tokenizer.encode(text), tokenizer.special.sentinels[:max_spans])
    return _fill_moved_spans(model, tokenizer, ids, max_new_tokens=24, **sampling)


def _fill_moved_spans(model: nn.Module, tokenizer: Tokenizer, ids: list[int], **settings: Any) -> Completion:
    special = tokenizer.special
    end, row, answers = special["span_end"], list(ids), {}
    for sentinel in [token for token in ids if token in special.sentinels]:
        row.append(sentinel)
        generated = generate(
            expect_model(model, DecoderOnly),
            torch.tensor([row]),
            eos=end,
            suppressed=all_but(special, end),
            **settings,
        )[0, len(row) :].tolist()
        answers[sentinel] = truncate_at_eos(generated, end)
        row += [*answers[sentinel], end]
    text = [pair for token in ids for pair in spell_blank(token, answers, special.sentinels)]
    return Completion.of(tokenizer, [token for token, _ in text], [by_model for _, by_model in text])
