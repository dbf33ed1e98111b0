"""Let a model speak: go on with a text, fill its masks, fill its spans. One function for each architecture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypedDict, Unpack

import torch
from torch import Tensor

from ..checks import REAL, number, of_kind, tensor, whole_number
from ..errors import InputError, NotFinite
from .decoder_only import DecoderOnly
from .encoder_decoder import EncoderDecoder
from .encoder_only import EncoderOnly
from .language_model import call, measuring
from .layers import Cache

ORDERS = ("all", "left_to_right", "confidence", "random")
"""In which order `fill_masks` fills: all at once, from the left, what the model is most certain of first, or any."""


class Sampling(TypedDict, total=False):
    """How a token is chosen: the keywords of `sample_token`."""

    temperature: float
    top_k: int | None
    top_p: float | None
    greedy: bool
    generator: torch.Generator | None


def sample_token(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One id (B,) for each row of logits (B, V).

    - `temperature` divides the logits: below 1 the likely grows likelier;
    - `top_k` keeps the k likeliest;
    - `top_p` keeps the fewest likeliest that together hold at least this much probability, and at least one
      (Holtzman et al. 2020, section 3.1); with `top_k` as well, of what that left;
    - `greedy` takes the likeliest, and draws nothing;
    - `generator` is where chance comes from, on any device; without one, a fresh one of seed 0: the same each time.

    >>> sample_token(torch.tensor([[0.1, 3.0, 0.2]]), greedy=True)
    tensor([1])

    Raises `InputError` for a temperature that is not above 0, top_k below 1 and top_p outside (0, 1]; `NotFinite` for
    logits that are not numbers.
    """
    tensor(logits, "logits", "(B, V)", REAL)
    if generator is not None:
        of_kind(generator, torch.Generator, "the generator")
    if greedy:
        _check_sampling(logits, temperature, top_k, top_p)
        return logits.argmax(-1)
    chances = token_chances(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    return chances.to(source.device).multinomial(1, generator=source)[:, 0].to(logits.device)


def token_chances(
    logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """With what chance `sample_token` says each id: float64 of the shape of the logits (..., V), its keywords.

    A truncated distribution sums to one as it stands, so that what is said has an exact probability:

    >>> token_chances(torch.tensor([0.5, 0.3, 0.2]).log(), top_p=0.7)
    tensor([0.6250, 0.3750, 0.0000], dtype=torch.float64)

    Raises what `sample_token` raises.
    """
    _check_sampling(logits, temperature, top_k, top_p)
    logits = logits.double()
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature  # the likeliest stays 0, however cold it is
    if top_k is not None and top_k < logits.shape[-1]:
        likeliest = logits.topk(top_k).indices  # ties are broken, so k are kept and no more
        logits = torch.full_like(logits, -torch.inf).scatter(-1, likeliest, logits.gather(-1, likeliest))
    chances = logits.softmax(-1)
    if top_p is not None:
        down, ids = chances.sort(descending=True, stable=True)
        down = down.masked_fill(down.cumsum(-1) - down >= top_p, 0)  # the likelier ones hold enough without it
        chances = torch.zeros_like(chances).scatter(-1, ids, down / down.sum(-1, keepdim=True))
    return chances


def _check_sampling(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not tensor(logits, "logits", "(..., V)", REAL).shape[-1]:
        raise InputError("expected logits of at least one id, got none")
    if not 0 < number(temperature, "temperature") < math.inf:
        raise InputError(
            f"temperature must be above 0 and finite, got {temperature!r}: for the likeliest token say greedy=True"
        )
    if top_k is not None and whole_number(top_k, "top_k") < 1:
        raise InputError(f"top_k must be at least 1, got {top_k!r}: None keeps all")
    if top_p is not None and not 0 < number(top_p, "top_p") <= 1:
        raise InputError(f"top_p must lie in (0, 1], got {top_p!r}: None or 1.0 keeps all")
    if not bool(logits.amax(-1).isfinite().all()):  # NaN, infinity, or all of a row forbidden
        raise NotFinite("some logits are NaN or infinite, so there is no likeliest token: are the weights finite?")


def generate(
    model: DecoderOnly,
    prompt_ids: Tensor,
    *,
    max_new_tokens: int,
    eos: int | None = None,
    forbidden: Sequence[int] = (),
    **sampling: Unpack[Sampling],
) -> Tensor:
    """Go on with prompts (B, T) of equal length: ids (B, T + max_new_tokens), prompts first.

    A row that has said `eos` is filled up with it; an eos in the prompt ends nothing. `forbidden` ids are never said.
    `sampling` are the keywords of `sample_token`. The model keeps the mode, train or eval, that it was in.

    >>> from clozelab.models import build
    >>> model = build("decoder-only", "tiny", vocab_size=50)
    >>> generate(model, torch.tensor([[7, 8, 9]]), max_new_tokens=4, eos=1, greedy=True).shape
    torch.Size([1, 7])

    Raises `InputError` for an empty prompt, ids outside the vocabulary, and what `sample_token` refuses.
    """
    _can(model, "unembed")
    _check_prompt(prompt_ids, "prompt_ids", max_new_tokens)
    never = _forbidden(model, forbidden, prompt_ids.device)
    _forbidden(model, () if eos is None else (eos,), prompt_ids.device)  # is it an id at all?
    cache = Cache()

    def read(ids: Tensor) -> Tensor:
        return model.unembed(call(model, ids, cache=cache)[:, -1]).masked_fill(never, -torch.inf)

    with measuring(model):
        return torch.cat((prompt_ids, _say(read, prompt_ids, max_new_tokens, eos, sampling)), 1)


def fill_spans(
    model: EncoderDecoder,
    input_ids: Tensor,
    *,
    start_id: int,
    eos: int,
    sentinels: Sequence[int] = (),
    max_new_tokens: int,
    attention_mask: Tensor | None = None,
    forbidden: Sequence[int] = (),
    **sampling: Unpack[Sampling],
) -> Tensor:
    """Say what stood behind the sentinels of corrupted texts (B, S): targets (B, max_new_tokens), as in training.

    The decoder begins with `start_id`, which is not part of the result. Of the `sentinels`, in order, a row may say
    those up to the last that stands in it, and the next, which closes some targets. A row that has said `eos` is filled
    up with it. `sampling` are the keywords of `sample_token`.

    >>> from clozelab.models import build
    >>> model = build("encoder-decoder", "tiny", vocab_size=50)
    >>> text = torch.tensor([[7, 49, 9, 1]])
    >>> fill_spans(model, text, start_id=0, eos=1, sentinels=(49, 48, 47), max_new_tokens=6).shape
    torch.Size([1, 6])

    Raises `InputError` for an empty text, ids outside the vocabulary, and what `sample_token` refuses.
    """
    _can(model, "unembed", "encode", "decode")
    _check_prompt(input_ids, "input_ids", max_new_tokens)
    device = input_ids.device
    never = _forbidden(model, forbidden, device).repeat(len(input_ids), 1)  # (B, V)
    if isinstance(sentinels, str) or not isinstance(sentinels, Iterable):
        raise InputError(f"expected sentinels as a list of ids, got {type(sentinels).__name__}")
    _forbidden(model, (start_id, eos, *sentinels), device)  # are they ids at all?
    if len(list(sentinels)):
        order = torch.tensor(list(sentinels), device=device)  # (N,)
        stands = (input_ids[:, :, None] == order).any(1)  # (B, N)
        places = torch.arange(len(order), device=device)
        last = torch.where(stands, places, -1).amax(1, keepdim=True)  # (B, 1)
        never[:, order] |= places > last + 1
    start = torch.full((len(input_ids), 1), start_id, device=device)
    cache = Cache()

    def read(ids: Tensor) -> Tensor:
        hidden = model.decode(ids, memory, attention_mask=attention_mask, cache=cache)
        return model.unembed(hidden[:, -1]).masked_fill(never, -torch.inf)

    with measuring(model):
        memory = model.encode(input_ids, attention_mask)
        return _say(read, start, max_new_tokens, eos, sampling)


def fill_masks(
    model: EncoderOnly,
    input_ids: Tensor,
    mask_id: int,
    *,
    order: str = "all",
    rounds: int | None = None,
    attention_mask: Tensor | None = None,
    forbidden: Sequence[int] = (),
    **sampling: Unpack[Sampling],
) -> Tensor:
    """Put a token in the place of every `mask_id` of texts (B, T): ids (B, T), the rest as it was.

    - "all": at once, each without knowing what the others became;
    - "left_to_right": one after the other, each having read those before it;
    - "confidence": the most certain first (Ghazvininejad et al. 2019, section 3);
    - "random": each row in an order of its own, drawn from the generator (Uria et al. 2014, section 3).

    With an order, the model reads the text once in each of `rounds`, which share the blanks of a row evenly; None: one
    blank in a round. `mask_id` and `forbidden` ids are never put in. `sampling` are the keywords of `sample_token`.

    >>> from clozelab.models import build
    >>> model = build("encoder-only", "tiny", vocab_size=50)
    >>> fill_masks(model, torch.tensor([[7, 2, 9]]), 2, greedy=True)[0, [0, 2]]
    tensor([7, 9])

    Raises `InputError` for an unknown order, ids outside the vocabulary, and what `sample_token` refuses.
    """
    _can(model, "unembed")
    if order not in ORDERS:
        raise InputError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    if rounds is not None and (whole_number(rounds, "rounds") < 1 or order == "all"):
        raise InputError(f"rounds must be at least 1, and order 'all' has one; got {rounds!r} with order {order!r}")
    if not isinstance(input_ids, Tensor) or input_ids.dim() != 2:
        raise InputError(f"expected input_ids as a tensor (B, T), got {type(input_ids).__name__}")
    never = _forbidden(model, (mask_id, *forbidden), input_ids.device)
    generator = sampling["generator"] = sampling.get("generator") or torch.Generator().manual_seed(0)
    filled = input_ids.clone()
    most = int((filled == mask_id).sum(1).max()) if filled.numel() else 0
    rounds = min(most, 1 if order == "all" else most if rounds is None else rounds)
    with measuring(model):
        for left in range(rounds, 0, -1):
            blank = filled == mask_id  # (B, T)
            logits = model.unembed(call(model, filled, attention_mask)[blank]).masked_fill(never, -torch.inf)  # (N, V)
            tokens = sample_token(logits, **sampling)  # (N,)
            urgency = torch.full(filled.shape, -torch.inf, device=filled.device)
            if order == "confidence":
                urgency[blank] = logits.float().log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
            elif order == "random":
                draws = torch.rand(filled.shape, generator=generator, device=generator.device).to(filled.device)
                urgency[blank] = draws[blank]
            else:
                urgency[blank] = -blank.nonzero()[:, 1].float()
            rank = urgency.sort(dim=1, descending=True, stable=True).indices.argsort(1)  # (B, T): 0 is filled first
            now = blank & (rank < (blank.sum(1, keepdim=True) / left).ceil())
            filled[now] = tokens[now[blank]].to(filled.dtype)
    return filled


def _say(read: Callable[[Tensor], Tensor], ids: Tensor, count: int, eos: int | None, sampling: Sampling) -> Tensor:
    """Say (B, count) ids, one by one: `read` takes the new ids (B, t) and gives the logits (B, V) of the next."""
    sampling["generator"] = sampling.get("generator") or torch.Generator().manual_seed(0)
    said = torch.full((len(ids), count), 0 if eos is None else eos, device=ids.device)
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for n in range(count):
        token = sample_token(read(ids), **sampling)  # (B,)
        if eos is not None:
            token = token.masked_fill(ended, eos)
            ended |= token == eos
        said[:, n] = token
        if ended.all():
            break
        ids = token[:, None]
    return said


def _can(model: object, *needed: str) -> None:
    """Raises `InputError` for a model that lacks what a way of speaking needs; a wrapper hands on what it wraps."""
    lacks = [name for name in ("config", *needed) if not hasattr(model, name)]
    if lacks:
        raise InputError(
            f"this {type(model).__name__} has no {', '.join(lacks)}: generate takes a DecoderOnly, fill_masks an "
            "EncoderOnly, fill_spans an EncoderDecoder"
        )


def _forbidden(model: DecoderOnly | EncoderOnly | EncoderDecoder, ids: Sequence[int], device: torch.device) -> Tensor:
    """bool (V,): True for what must not be said."""
    vocab_size = model.config.vocab_size
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InputError(f"expected forbidden ids as a list, got {type(ids).__name__}")
    ids = [whole_number(id, "each special id") for id in ids]
    if not all(0 <= id < vocab_size for id in ids):
        raise InputError(f"special ids must lie in 0 .. {vocab_size - 1}, got {min(ids)} .. {max(ids)}")
    never = torch.zeros(vocab_size, dtype=torch.bool, device=device)
    never[ids] = True
    if never.all():
        raise InputError(f"all {vocab_size} ids are forbidden, so there is nothing to say")
    return never


def _check_prompt(ids: Tensor, name: str, max_new_tokens: int) -> None:
    if not isinstance(ids, Tensor):
        raise InputError(f"expected {name} as a tensor (B, T), got {type(ids).__name__}")
    if ids.dim() != 2 or ids.numel() == 0:
        raise InputError(
            f"expected {name} (B, T) with at least one token, got shape {tuple(ids.shape)}: to begin from nothing, "
            "begin with the end-of-text token"
        )
    if whole_number(max_new_tokens, "max_new_tokens") < 1:
        raise InputError(f"max_new_tokens must be at least 1, got {max_new_tokens!r}")
