"""What the leak probes share: which ids replace a token, and which outputs moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError


def replacements(tokens: Tensor, candidates: Tensor, alternatives: int) -> tuple[Tensor, Tensor]:
    """Places (N,) in tokens (T,), and the ids (N,) that are put there: up to `alternatives` for each token.

    The ids are spread over the candidates (M,). Raises `InputError` for an empty row, and for a token that no other
    candidate can replace.
    """
    places, changed = [], []
    for place, token in enumerate(tokens.tolist()):
        others = candidates[candidates != token]
        count = min(alternatives, len(others))
        if not count:
            raise InputError(f"no other id can replace token {token}: give more ids")
        spread = torch.arange(count) * len(others) // count + place
        places += [place] * count
        changed.append(others[spread % len(others)])
    if not changed:
        raise InputError("the row is empty: there is no token to replace")
    return torch.tensor(places, device=tokens.device), torch.cat(changed).to(tokens)


def candidate_ids(model: nn.Module, ids: Sequence[int] | Tensor | None) -> Tensor:
    """The ids (M,) that may replace a token: those given, or the vocabulary of the model without its padding id.

    Raises `InputError` where the vocabulary of the model is unknown.
    """
    if ids is not None:
        return torch.as_tensor(ids).flatten().cpu().unique()
    config = getattr(model, "config", None)
    size = getattr(config, "vocab_size", None)
    if not isinstance(size, int):
        tables = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
        if len(tables) != 1:
            raise InputError(
                f"the vocabulary of {type(model).__name__} is unknown, it has tables of {tables} entries: give ids "
                "that may replace a token"
            )
        [size] = tables
    candidates, pad = torch.arange(size), getattr(config, "pad_token_id", None)
    return candidates[candidates != pad] if isinstance(pad, int) else candidates  # some count positions by the pads


def check_steady(outputs: Tensor, again: Tensor, tolerance: float) -> None:
    """Raises `InputError` where outputs (B, T, ...) of a model are NaN, or differ from those of a second run."""
    if bool(outputs.isnan().any()):
        raise InputError("some outputs are NaN, and NaN equals nothing: leave padding out, or correct the model")
    if bool(differ(outputs, again, tolerance).any()):
        raise InputError(
            "the same input gives a different output the second time, by more than the tolerance: does the model draw "
            "random numbers, or keep a state? For sums that an accelerator adds in another order, give a tolerance"
        )


def differ(before: Tensor, after: Tensor, tolerance: float) -> Tensor:
    """(B, T, ...) twice -> (B, T) bool: where any number changed by more than `tolerance`, or became NaN."""
    near = before == after
    if tolerance:
        near |= (before - after).abs() <= tolerance
    return ~(near.flatten(2) if near.dim() > 2 else near[..., None]).all(-1)


def repeat(value: Any, rows: int) -> Any:
    """A tensor (1, ...) as (rows, ...); anything else as it is."""
    return value.repeat(rows, *[1] * (value.dim() - 1)) if isinstance(value, Tensor) else value


def never_reach(
    sampled_by: Callable[[Mapping[str, Any]], Tensor | None],
    inputs: Mapping[str, Any],
    perturbed: str,
    places: Tensor,
    changed: Tensor,
) -> Tensor | None:
    """(S,) bool: places (N,) of `inputs`, one row, that may hold any of the ids changed (N,) and alter no sampled id.

    An output that reads sampled ids must not move with them. None for a model that samples none.
    """
    before, ids = sampled_by(inputs), inputs[perturbed]
    if before is None:
        return None
    alter = torch.zeros(ids.shape[1], dtype=torch.bool)
    for at, put in zip(places.split(64), changed.split(64)):
        copies = {key: repeat(value, len(at)) for key, value in inputs.items()}
        copies[perturbed][torch.arange(len(at)), at] = put.to(ids)
        sampled = sampled_by(copies)
        assert sampled is not None
        alter[at[(sampled != before).any(1)].cpu()] = True
    return ~alter
