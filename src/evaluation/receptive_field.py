"""Which inputs may move which outputs, through all layers of a model: from what one layer attends to."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import FLAGS, check_int, check_tensor
from ..errors import InputError


def receptive_field(attention_matrix: Tensor, n_layers: int | None = None) -> Tensor:
    """(T, T) bool: which inputs may move an output through `n_layers` layers with this attention matrix (T, T) bool.

    The residual stream carries each token along, and a token passes on what it attended to. Causal, full and document
    masks reach no further by that, but a window does:

    >>> import torch
    >>> from clozelab.evaluation import receptive_field
    >>> window = torch.ones(4, 4).tril().triu(-1).bool()  # each token and the one before it
    >>> receptive_field(window, n_layers=2).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 1, 1, 0],
            [0, 1, 1, 1]], dtype=torch.int32)

    `n_layers=None`: as many layers as still add something. Raises `InputError` for a matrix that is not square.
    """
    check_tensor(attention_matrix, "the attention matrix", "(T, T)", FLAGS)
    size = len(attention_matrix)
    if attention_matrix.shape[1] != size:
        raise InputError(f"expected the attention matrix (T, T), got {tuple(attention_matrix.shape)}")
    itself = torch.eye(size, dtype=torch.bool, device=attention_matrix.device)
    layer, field = attention_matrix | itself, itself
    for _ in range(size if n_layers is None else check_int(n_layers, "n_layers", 0)):
        wider = through(field, layer)
        if bool((wider == field).all()):
            break
        field = wider
    return field


def declared_reads(model: nn.Module, row: Mapping[str, Any], perturb: str, *, of_encoder: bool = False) -> Tensor:
    """(T, S) bool, by the model's own `attention_matrix`: which tokens of `perturb` may move which outputs.

    `row` holds the inputs of the model, one row. The outputs of an encoder-decoder are those of its decoder, or of its
    encoder where `of_encoder`. Raises `InputError` for a model without an `attention_matrix`.
    """
    matrix = getattr(model, "attention_matrix", None)
    if matrix is None:
        raise InputError(
            f"{type(model).__name__} has no attention_matrix: give declared=, a bool matrix (outputs, inputs)"
        )
    named = inspect.signature(matrix).parameters
    found: Tensor | dict[str, Tensor] = matrix(**{key: value for key, value in row.items() if key in named})
    if isinstance(found, Tensor):
        return receptive_field(found[0])
    if of_encoder:
        return receptive_field(found["encoder"][0])
    decoder = receptive_field(found["decoder"][0])
    if perturb == "decoder_input_ids":
        return decoder
    return through(through(decoder, found["cross"][0]), receptive_field(found["encoder"][0]))


def through(first: Tensor, second: Tensor) -> Tensor:
    """(T, U) and (U, S) bool -> (T, S): what is reached in two steps."""
    return (first.float() @ second.float()) > 0
