"""Text to text with an encoder-decoder that reads masks: it writes the whole text again, or the masked span alone."""

from __future__ import annotations

from itertools import pairwise, repeat
from typing import Any

import torch
from torch import nn

from ..checks import check_int
from ..data.corpora.documents import checked_text
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..escape import shown
from ..models import Cache, EncoderDecoder, eval_mode
from .completion import BLANK, Completion, encode_blanks
from .decoding import MAX_NEW_TOKENS, device_of, fill_spans, suppression, truncate_at_eos
from .sampling import sample_token
from .texts import all_but, expect_model


def rewrite_text(
    model: nn.Module, tokenizer: Tokenizer, text: str, *, max_new_tokens: int = 40, **sampling: Any
) -> Completion:
    """Write a text again, with as many tokens as the model predicts for its blanks `___`, `max_new_tokens` at most.

    The decoder is given what the text has, and writes where it has a blank; a blank ends where the model writes the
    token behind it.
    """
    ids = encode_blanks(tokenizer, text, repeat(tokenizer.special["mask"]))
    return _rewrite(model, tokenizer, ids, max_new_tokens=max_new_tokens, **sampling)


def sample_rewritten_text(model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
    """Hide three tokens of every ten behind a mask and write the text again."""
    tokens, ids = tokenizer.encode(text), []
    for start in range(0, len(tokens), 10):
        before, hidden, after = (tokens[start + a : start + b] for a, b in ((0, 4), (4, 7), (7, 10)))
        ids += [*before, *([tokenizer.special["mask"]] if hidden else []), *after]
    return _rewrite(model, tokenizer, ids, **{"max_new_tokens": len(tokens) + 8, **sampling})


def _rewrite(
    model: nn.Module, tokenizer: Tokenizer, ids: list[int], *, max_new_tokens: int, **sampling: Any
) -> Completion:
    special, model = tokenizer.special, expect_model(model, EncoderDecoder)
    left = check_int(max_new_tokens, "max_new_tokens", 1, MAX_NEW_TOKENS)
    settings = {"generator": torch.Generator().manual_seed(0), **sampling}
    text_alone, or_end = (suppression(model, all_but(special, *kept)) for kept in ((), (special.eos,)))  # (V,) each
    written: list[tuple[int, bool]] = []
    unread, cache = [special["decoder_start"]], Cache()  # what the decoder has not been given yet
    with eval_mode(model):
        encoded = model.encode(torch.tensor([[*ids, special.eos]], device=device_of(model)))
        for token, behind in pairwise([*ids, special.eos]):
            if token != special["mask"]:
                written.append((token, False))
                unread.append(token)
                continue
            while left and behind != special["mask"]:  # of neighbours one is enough
                hidden = model.decode(torch.tensor([unread], device=encoded.device), encoded, cache=cache)
                suppress = or_end if behind == special.eos else text_alone
                logits = model.unembed(hidden[:, -1]).masked_fill(suppress, -torch.inf)
                one = int(sample_token(logits, **settings))
                if one == behind:
                    unread = []
                    break
                written.append((one, True))
                unread, left = [one], left - 1
    return Completion.of(tokenizer, *zip(*written)) if written else Completion(())


# --------------------------------------------------------------------------- the masked span alone


def fill_span_in_place(
    model: nn.Module, tokenizer: Tokenizer, text: str, *, max_new_tokens: int = 40, **sampling: Any
) -> Completion:
    """Fill the blanks of a text, which stand side by side, one token for each `___`.

    A text without blanks is continued by `max_new_tokens` masks, up to an end of text.

    Raises `InputError` for blanks that are apart: such a model writes one span.
    """
    special = tokenizer.special
    if BLANK in checked_text(text):
        return _fill_places(model, tokenizer, encode_blanks(tokenizer, text, repeat(special["mask"])), **sampling)
    masks = check_int(max_new_tokens, "max_new_tokens", 1, MAX_NEW_TOKENS)
    ids = tokenizer.encode(text) + [special["mask"]] * masks
    return _fill_places(model, tokenizer, ids, may_end=True, **sampling)


def sample_span_in_place(model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
    """Hide the middle half of the tokens and write it again."""
    ids = tokenizer.encode(text)
    n = len(ids)
    ids[n // 4 : n // 4 + (n + 1) // 2] = [tokenizer.special["mask"]] * ((n + 1) // 2)
    return _fill_places(model, tokenizer, ids, **sampling)


def _fill_places(
    model: nn.Module, tokenizer: Tokenizer, ids: list[int], *, may_end: bool = False, **sampling: Any
) -> Completion:
    special = tokenizer.special
    places = [t for t, one in enumerate(ids) if one == special["mask"]]
    first, last = places[0], places[-1]
    if between := [one for one in ids[first:last] if one != special["mask"]]:
        raise InputError(
            f"expected blanks {BLANK} side by side, got some with {shown(tokenizer.decode(between))} between them: "
            "this model writes one span of consecutive tokens; put words in the place of all blanks but one, or make "
            "blanks of what stands between them, one for each token"
        )
    written = fill_spans(
        expect_model(model, EncoderDecoder),
        torch.tensor([ids]),
        start_id=ids[first - 1] if first else special["decoder_start"],
        eos=special.eos if may_end else None,
        max_new_tokens=len(places),
        suppressed=all_but(special, special.eos) if may_end else special.all,
        first_position=first,
        **sampling,
    )[0].tolist()
    written = truncate_at_eos(written, special.eos) if may_end else written
    by_model = [False] * first + [True] * len(written) + [False] * (len(ids) - last - 1)
    return Completion.of(tokenizer, [*ids[:first], *written, *ids[last + 1 :]], by_model)
