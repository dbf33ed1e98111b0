"""Where a function's loss looks at a model: the outputs of its last layer, and which id each is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...models import LanguageModel

LOGITS = ("logits", "prediction_logits")
"""The names that Hugging Face's models give to them."""
Replace = Callable[[Tensor], Tensor]


@contextmanager
def hooked(module: nn.Module, replace: Replace) -> Iterator[None]:
    """Inside the block, the tensor that a module returns, its `.logits`, or the first of a tuple, is replaced."""

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return replace(output)
        for name in LOGITS:
            if isinstance(getattr(output, name, None), Tensor):
                setattr(output, name, replace(getattr(output, name)))
                return output
        if isinstance(output, tuple) and output and isinstance(output[0], Tensor) and output[0].dim() > 1:
            return (replace(output[0]), *output[1:])
        return output

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def last_layer(model: nn.Module, run: Callable[[], Any], shape: torch.Size) -> tuple[nn.Module, Tensor | None] | None:
    """(module whose output (B, T, V or D) the loss is computed from, its table (V, D) or None for logits), if known.

    It is the output embedding that a Hugging Face model names, the model itself where it returns a tensor, or else the
    linear layer that ran last. `run` computes the loss once; `shape` (B, T) is that of the labels.
    """
    named = getattr(model, "get_output_embeddings", lambda: None)()
    candidates = [] if not isinstance(named, nn.Module) else [named]
    ran: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda module, *_: ran.append(module))
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    for module in [*candidates, model, *reversed(ran[-1:])]:
        leaves: list[Tensor] = []

        def leaf(output: Tensor, leaves: list[Tensor] = leaves) -> Tensor:
            leaves.append(output.detach().requires_grad_())
            return leaves[-1]

        with hooked(module, leaf):
            loss = run()
        if len(leaves) != 1 or not loss.requires_grad:
            continue
        [grad] = torch.autograd.grad(loss, leaves, allow_unused=True)
        if grad is not None and bool(grad.any()) and grad.numel() == shape.numel() * grad.shape[-1]:
            table = model.unembedding.detach() if module is model and isinstance(model, LanguageModel) else None
            return module, table
    return None


@dataclass(frozen=True)
class Demand:
    """What a loss asks of each output, from its gradient at logits that are all zero."""

    labels: Tensor
    """(B, T): the id that output t is trained on, -100 where it has no gradient."""
    weights: Tensor
    """(B, T): the factor of its cross-entropy in the loss."""
    value: float
    """The loss there."""
    width: int
    """V"""


def demand(module: nn.Module, table: Tensor | None, loss: Callable[[], Tensor], shape: torch.Size) -> Demand:
    """The cross-entropy of a uniform guess has the gradient w (1 / V - onehot), from which label and weight follow."""
    leaves: list[Tensor] = []

    def zero(output: Tensor) -> Tensor:
        leaves.append(torch.zeros_like(output).requires_grad_())
        return leaves[-1]

    with hooked(module, zero):
        mean = loss()
        mean.backward()
    grad = leaves[0].grad
    grad = (torch.zeros_like(leaves[0]) if grad is None else grad).reshape(*shape, -1)  # (B, T, V) or (B, T, D)
    used = grad.abs().sum(-1) > 0
    if table is None:
        width, factor = grad.shape[-1], -grad.amin(-1) * grad.shape[-1] / (grad.shape[-1] - 1)
        labels = grad.argmin(-1)
    else:
        width, directions = len(table), table.mean(0) - table  # (V, D)
        norms = directions.norm(dim=-1)
        labels = (grad @ (directions / norms[:, None]).T).argmax(-1)
        factor = grad.norm(dim=-1) / norms[labels]
    return Demand(labels.masked_fill(~used, -100), factor * used, float(mean.detach()), width)


def captured(module: nn.Module, run: Callable[[], Any], shape: torch.Size) -> Tensor:
    """(B, T, ...) outputs of a module during one run."""
    seen: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        seen.append(output.detach().clone())
        return output

    with hooked(module, keep), torch.no_grad():
        run()
    return seen[-1].reshape(*shape, -1)


def repeated(batch: Mapping[str, Tensor], row: int, times: int) -> dict[str, Tensor]:
    """Copies of one row of a batch."""
    return {key: value[row : row + 1].repeat(times, *[1] * (value.dim() - 1)) for key, value in batch.items()}
