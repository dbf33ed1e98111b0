"""Text to text with a model that writes the whole text again: what it puts in the place of masks."""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import repeat
from typing import Any

import torch
from torch import nn

from ..data.tokenizers.tokenizer import Tokenizer
from ..models import EncoderDecoder
from .completion import Completion, encode_blanks
from .decoding import fill_spans, truncate_at_eos
from .texts import all_but, expect_model


def rewrite_text(
    model: nn.Module, tokenizer: Tokenizer, text: str, *, max_new_tokens: int = 40, **sampling: Any
) -> Completion:
    """Write a text again, with as many tokens as the model predicts for each blank `___`, `max_new_tokens` at most.

    What the decoder writes otherwise than the text has it is marked as generated, also beside the blanks: nothing makes
    it copy.
    """
    ids = encode_blanks(tokenizer, text, repeat(tokenizer.special["mask"]))
    return _rewrite(model, tokenizer, ids, max_new_tokens=len(ids) + max_new_tokens, **sampling)


def sample_rewritten_text(model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
    """Hide three tokens of every ten behind a mask and write the text again."""
    tokens, ids = tokenizer.encode(text), []
    for start in range(0, len(tokens), 10):
        before, hidden, after = (tokens[start + a : start + b] for a, b in ((0, 4), (4, 7), (7, 10)))
        ids += [*before, *([tokenizer.special["mask"]] if hidden else []), *after]
    return _rewrite(model, tokenizer, ids, **{"max_new_tokens": 2 * len(tokens) + 8, **sampling})


def _rewrite(model: nn.Module, tokenizer: Tokenizer, ids: list[int], **sampling: Any) -> Completion:
    special = tokenizer.special
    written = fill_spans(
        expect_model(model, EncoderDecoder),
        torch.tensor([[*ids, special.eos]]),
        start_id=special["decoder_start"],
        eos=special.eos,
        suppressed=all_but(special, special.eos),
        **sampling,
    )[0].tolist()
    text = truncate_at_eos(written, special.eos)
    by_model = [True] * len(text)
    for _, at, length in SequenceMatcher(None, ids, text, autojunk=False).get_matching_blocks():
        by_model[at : at + length] = [False] * length
    return Completion.of(tokenizer, text, by_model)
