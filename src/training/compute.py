"""What a training step costs, so that models of different shapes can be given the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode

from ..checks import check_type
from ..objectives import Loss
from .fit import LossFn


def training_flops(loss_fn: LossFn, model: nn.Module, batches: Iterable[Any]) -> float:
    """Floating-point operations of a step, forward and backward: the mean over some batches that `fit` could take.

    Counted as PyTorch dispatches them. Nothing but matrix products counts (no norms, no softmax, no optimiser), and
    attention counts all T x T pairs, also where half of them are hidden. The model is left without gradients.

    >>> import torch
    >>> from clozelab import CausalLM
    >>> from clozelab.training import training_flops
    >>> objective, text = CausalLM(), torch.arange(8).repeat(4, 2)
    >>> model = objective.build_model(8, "tiny", d_model=16, n_layers=1, n_heads=1)
    >>> one, two = (training_flops(objective, model, [{"input_ids": t, "labels": t}]) for t in (text[:2], text))
    >>> two / one  # twice the rows
    2.0
    """
    count = 0
    with ProductCounter() as products:
        for batch in batches:
            check_type(loss_fn(model, batch), Loss, "what the loss function returns").mean.backward()
            count += 1
    model.zero_grad()
    return products.total / max(count, 1)


class ProductCounter(TorchDispatchMode):
    """Counts the floating-point operations of all matrix products inside, by PyTorch's own formulas.

    `FlopCounterMode` counts the same, but imports the compiler (4 s), and finds out where in the model each product is.

    >>> import torch
    >>> from clozelab.training.compute import ProductCounter
    >>> with ProductCounter() as products:
    ...     x = torch.ones(2, 3) @ torch.ones(3, 5)
    >>> products.total
    60
    """

    def __init__(self) -> None:
        super().__init__()
        self.by_kind: Counter[Any] = Counter()

    @property
    def total(self) -> int:
        """Of all kinds of product together."""
        return sum(self.by_kind.values())

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or else PyTorch imports its compiler, to tell it that there is nothing to compile here

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run it, and add what it costs."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        kind = getattr(func, "_overloadpacket", None)
        if kind in _FORMULAS:
            self.by_kind[kind] += _FORMULAS[kind](*args, **kwargs, out_val=out)
        return out


def _forward(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return flop_counter.sdpa_flop_count(q, k, v)


def _backward(d_out: Any, q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return flop_counter.sdpa_backward_flop_count(d_out, q, k, v)


FUSED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
"""Of the fused attention of processors, which PyTorch's counter does not know."""
_FORMULAS = flop_counter.flop_registry | {kind: flop_counter.shape_wrapper(cost) for kind, cost in FUSED.items()}
