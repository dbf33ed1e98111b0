"""Decoding from the left: a decoder continues prompts, an encoder-decoder fills the spans behind sentinels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from ..checks import check_int
from ..errors import InputError
from ..models import Cache, DecoderOnly, EncoderDecoder, EncoderOnly, eval_mode
from ..models.language_model import call, device_of
from .sampling import Sampling, sample_token

MAX_NEW_TOKENS = 2**20
"""Tokens that are generated at a time."""


def generate(
    model: DecoderOnly,
    prompt_ids: Tensor,
    *,
    max_new_tokens: int,
    eos: int | None = None,
    suppressed: Sequence[int] = (),
    bidirectional_prompt: bool = False,
    **sampling: Unpack[Sampling],
) -> Tensor:
    """Continue prompts (B, T) of equal length: ids (B, T + max_new_tokens), prompts first.

    A row that has generated `eos` is filled up with it; an eos in the prompt ends nothing. `suppressed` ids are never
    generated. With `bidirectional_prompt` the tokens of the prompt attend to one another, as a prefix LM was trained
    to. `sampling` are the keywords of `sample_token`. The model keeps the mode, train or eval, that it was in, and may
    lie on another device than the ids: the result lies where they do.

    >>> import torch
    >>> from clozelab.generation import generate
    >>> from clozelab.models import build
    >>> model = build("decoder-only", "tiny", vocab_size=50)
    >>> generate(model, torch.tensor([[7, 8, 9]]), max_new_tokens=4, eos=1, greedy=True).shape
    torch.Size([1, 7])

    Raises `InputError` for an empty prompt, ids outside the vocabulary, and what `sample_token` refuses.
    """
    require(model, "decoder-only", "unembed")
    _check_prompt(prompt_ids, "prompt_ids", max_new_tokens)
    ids = prompt_ids.to(device_of(model))
    suppress = suppression(model, suppressed)
    suppression(model, () if eos is None else (eos,))  # is it an id at all?
    cache = Cache()

    def logits_of(ids: Tensor) -> Tensor:
        prefix = {"reading_rank": torch.zeros_like(ids)} if bidirectional_prompt and not cache.length else {}
        return model.unembed(call(model, ids, cache=cache, **prefix)[:, -1]).masked_fill(suppress, -torch.inf)

    with eval_mode(model):
        return torch.cat((ids, _decode(logits_of, ids, max_new_tokens, eos, sampling)), 1).to(prompt_ids.device)


def fill_spans(
    model: EncoderDecoder,
    input_ids: Tensor,
    *,
    start_id: int,
    eos: int | None,
    sentinels: Sequence[int] = (),
    max_new_tokens: int,
    attention_mask: Tensor | None = None,
    suppressed: Sequence[int] = (),
    first_position: int = 0,
    **sampling: Unpack[Sampling],
) -> Tensor:
    """Fill the spans behind the sentinels of corrupted texts (B, S): targets (B, max_new_tokens), as in training.

    The decoder begins with `start_id`, which is not part of the result. Of the `sentinels`, in order, a row may
    generate those up to the last that stands in it, and the next, which closes some targets. A row that has generated
    `eos` is filled up with it. The decoder's positions count from `first_position`, for a model that learned to write
    in the middle of a text. `sampling` are the keywords of `sample_token`. The result lies where the texts do.

    >>> import torch
    >>> from clozelab.generation import fill_spans
    >>> from clozelab.models import build
    >>> model = build("encoder-decoder", "tiny", vocab_size=50)
    >>> text = torch.tensor([[7, 49, 9, 1]])
    >>> fill_spans(model, text, start_id=0, eos=1, sentinels=(49, 48, 47), max_new_tokens=6).shape
    torch.Size([1, 6])

    Raises `InputError` for an empty text, ids outside the vocabulary, and what `sample_token` refuses.
    """
    require(model, "encoder-decoder", "unembed", "encode", "decode")
    _check_prompt(input_ids, "input_ids", max_new_tokens)
    device = device_of(model)
    ids, mask = input_ids.to(device), None if attention_mask is None else attention_mask.to(device)
    suppress = suppression(model, suppressed).repeat(len(ids), 1)  # (B, V)
    if isinstance(sentinels, str) or not isinstance(sentinels, Iterable):
        raise InputError(f"expected sentinels as a list of ids, got {type(sentinels).__name__}")
    suppression(model, (start_id, *([] if eos is None else [eos]), *sentinels))  # are they ids at all?
    first = check_int(first_position, "first_position", 0, MAX_NEW_TOKENS)
    if len(list(sentinels)):
        order = torch.tensor(list(sentinels), device=device)  # (N,)
        stands = (ids[:, :, None] == order).any(1)  # (B, N)
        places = torch.arange(len(order), device=device)
        last = torch.where(stands, places, -1).amax(1, keepdim=True)  # (B, 1)
        suppress[:, order] |= places > last + 1
    start = torch.full((len(ids), 1), start_id, device=device)
    cache = Cache()

    def logits_of(ids: Tensor) -> Tensor:
        places = first + cache.length + torch.arange(ids.shape[1], device=device).expand(ids.shape)
        positions = {"decoder_position_ids": places} if first else {}
        hidden = model.decode(ids, encoded, attention_mask=mask, cache=cache, **positions)
        return model.unembed(hidden[:, -1]).masked_fill(suppress, -torch.inf)

    with eval_mode(model):
        encoded = model.encode(ids, mask)
        return _decode(logits_of, start, max_new_tokens, eos, sampling).to(input_ids.device)


def _decode(
    logits_of: Callable[[Tensor], Tensor], ids: Tensor, count: int, eos: int | None, sampling: Sampling
) -> Tensor:
    """Generate (B, count) ids one by one: `logits_of` takes the new ids (B, t) and returns the next logits (B, V)."""
    if sampling.get("generator") is None:
        sampling["generator"] = torch.Generator().manual_seed(0)
    generated = torch.full((len(ids), count), 0 if eos is None else eos, device=ids.device)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for n in range(count):
        token = sample_token(logits_of(ids), **sampling)  # (B,)
        if eos is not None:
            token = token.masked_fill(ended, eos)
            ended |= token == eos
        generated[:, n] = token
        if ended.all():
            break
        ids = token[:, None]
    return generated


def truncate_at_eos(ids: Sequence[int], eos: int) -> list[int]:
    """What was generated before the end of text.

    >>> from clozelab.generation import truncate_at_eos
    >>> truncate_at_eos([5, 6, 1, 1], eos=1)
    [5, 6]
    """
    generated = ids.tolist() if isinstance(ids, Tensor) else list(ids)
    return generated[: generated.index(eos)] if eos in generated else generated


def require(model: nn.Module, architecture: str, *attributes: str) -> None:
    """Raises `InputError` for a model of another architecture, and for one that lacks what a function needs.

    A wrapper hands on what it wraps, and a model of somebody else's may have no `architecture`.
    """
    lacks = [name for name in ("config", *attributes) if not hasattr(model, name)]
    if lacks or getattr(model, "architecture", architecture) != architecture:
        why = f"has no {', '.join(lacks)}" if lacks else f"is no {architecture} model"
        raise InputError(
            f"this {type(model).__name__} {why}: generate takes a DecoderOnly, fill_masks an EncoderOnly, fill_spans "
            "an EncoderDecoder"
        )


def suppression(model: DecoderOnly | EncoderOnly | EncoderDecoder, ids: Sequence[int]) -> Tensor:
    """Bool (V,), on the device of the model: True for ids that must not be generated."""
    vocab_size = model.config.vocab_size
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InputError(f"expected suppressed ids as a list, got {type(ids).__name__}")
    ids = [check_int(one, "each special id") for one in ids]
    if not all(0 <= one < vocab_size for one in ids):
        raise InputError(f"special ids must lie in 0 .. {vocab_size - 1}, got {min(ids)} .. {max(ids)}")
    suppress = torch.zeros(vocab_size, dtype=torch.bool, device=device_of(model))
    suppress[ids] = True
    if suppress.all():
        raise InputError(f"all {vocab_size} ids are suppressed, so nothing can be generated")
    return suppress


def _check_prompt(ids: Tensor, name: str, max_new_tokens: int) -> None:
    if not isinstance(ids, Tensor):
        raise InputError(f"expected {name} as a tensor (B, T), got {type(ids).__name__}")
    if ids.dim() != 2 or ids.numel() == 0:
        raise InputError(
            f"expected {name} (B, T) with at least one token, got shape {tuple(ids.shape)}: to begin from nothing, "
            "begin with the end-of-text token"
        )
    check_int(max_new_tokens, "max_new_tokens", 1, MAX_NEW_TOKENS)
