"""Filling masks in any order: all at once, from the left, the most certain first, at random, or ancestrally."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from ..checks import check_int, check_type
from ..errors import InputError
from ..models import DecoderOnly, EncoderOnly, eval_mode
from ..models.language_model import call, device_of
from .decoding import require, suppression
from .sampling import Sampling, sample_token

ORDERS = ("all", "left_to_right", "confidence", "random", "ancestral")
"""In which order `fill_masks` fills."""


def fill_masks(
    model: EncoderOnly | DecoderOnly,
    input_ids: Tensor,
    mask_id: int,
    *,
    order: str = "all",
    rounds: int | None = None,
    attention_mask: Tensor | None = None,
    reading_rank: Tensor | None = None,
    predicts_next: bool = False,
    suppressed: Sequence[int] = (),
    **sampling: Unpack[Sampling],
) -> Tensor:
    """Fill every `mask_id` of texts (B, T): ids (B, T), the rest as it was.

    - "all": at once, each without knowing what the others became;
    - "left_to_right": one after the other, each given those before it;
    - "confidence": the most certain first (Ghazvininejad et al. 2019, section 3; LLaDA's low-confidence remasking);
    - "random": each row in an order of its own, drawn from the generator (Uria et al. 2014, section 3);
    - "ancestral": in each round every blank is filled with probability 1 / rounds left, the reverse process of masked
      diffusion on an even grid of times (Sahoo et al. 2024, section 4.1).

    With an order, the model reads the text once in each of `rounds`; but for "ancestral" they share the blanks of a row
    evenly, the earlier ones one more. None: as many rounds as blanks. `mask_id` and `suppressed` ids are never filled
    in. `attention_mask` and `reading_rank` (B, T) go to the model. With `predicts_next` it is a decoder that reads both
    sides and whose output t predicts token t + 1, as masked next-token prediction trains it; then a blank cannot be the
    first token. `sampling` are the keywords of `sample_token`. The result lies where the texts do.

    >>> import torch
    >>> from clozelab.generation import fill_masks
    >>> from clozelab.models import build
    >>> model = build("encoder-only", "tiny", vocab_size=50)
    >>> fill_masks(model, torch.tensor([[7, 2, 9]]), 2, greedy=True)[0, [0, 2]]
    tensor([7, 9])

    Raises `InputError` for an unknown order, ids outside the vocabulary, and what `sample_token` refuses.
    """
    require(model, "decoder-only" if predicts_next else "encoder-only", "unembed")
    if order not in ORDERS:
        raise InputError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    if rounds is not None and (check_int(rounds, "rounds") < 1 or order == "all"):
        raise InputError(f"rounds must be at least 1, and order 'all' has one; got {rounds!r} with order {order!r}")
    if not isinstance(input_ids, Tensor) or input_ids.dim() != 2:
        raise InputError(f"expected input_ids as a tensor (B, T), got {type(input_ids).__name__}")
    if predicts_next and bool((input_ids[:, :1] == mask_id).any()):
        raise InputError("the first token is a blank, and no output stands before it: begin with the end-of-text token")
    if predicts_next and reading_rank is None:
        reading_rank = torch.zeros_like(input_ids)
    device = device_of(model)
    suppress = suppression(model, (mask_id, *suppressed))
    generator = sampling.get("generator")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    sampling["generator"] = check_type(generator, torch.Generator, "the generator")
    filled, attention_mask = (
        input_ids.to(device, copy=True),
        None if attention_mask is None else attention_mask.to(device),
    )
    most = int((filled == mask_id).sum(1).max()) if filled.numel() else 0
    rounds = 1 if order == "all" else most if rounds is None else rounds
    rounds = rounds if order == "ancestral" else min(most, rounds)  # more rounds than blanks: more of them one by one
    flags = {} if reading_rank is None else {"reading_rank": reading_rank.to(device)}
    with eval_mode(model):
        for left in range(rounds, 0, -1):
            blank = filled == mask_id  # (B, T)
            if not bool(blank.any()):
                break
            states = call(model, filled, attention_mask, **flags)  # (B, T, D)
            states = states.roll(1, 1) if predicts_next else states
            logits = model.unembed(states[blank]).masked_fill(suppress, -torch.inf)
            tokens = sample_token(logits, **sampling)  # (N,) of logits (N, V)
            now = _chosen(order, blank, left, logits, tokens, generator)
            filled[now] = tokens[now[blank]].to(filled.dtype)
    return filled.to(input_ids.device)


def _chosen(order: str, blank: Tensor, left: int, logits: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Which blanks (B, T) are filled in the round that has `left` rounds left, itself included."""
    if order in ("random", "ancestral"):
        draws = torch.rand(blank.shape, generator=generator, device=generator.device).to(blank.device)
        if order == "ancestral":
            return blank & (draws < 1 / left)
    priority = torch.full(blank.shape, -torch.inf, device=blank.device)
    if order == "confidence":
        priority[blank] = logits.float().log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
    elif order == "random":
        priority[blank] = draws[blank]  # pyright: ignore[reportPossiblyUnboundVariable]
    else:
        priority[blank] = -blank.nonzero()[:, 1].float()
    rank = priority.sort(dim=1, descending=True, stable=True).indices.argsort(1)  # (B, T): 0 is filled first
    return blank & (rank < (blank.sum(1, keepdim=True) / left).ceil())
