"""What a training step costs, so that models of different shapes can be given the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils import flop_counter

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
    counter = flop_counter.FlopCounterMode(display=False, custom_mapping=_FUSED)
    count = 0
    with counter:
        for batch in batches:
            check_type(loss_fn(model, batch), Loss, "what the loss function returns").mean.backward()
            count += 1
    model.zero_grad()
    return counter.get_total_flops() / max(count, 1)


def _forward(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return flop_counter.sdpa_flop_count(q, k, v)


def _backward(d_out: Any, q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return flop_counter.sdpa_backward_flop_count(d_out, q, k, v)


_FUSED = {  # the fused attention of processors, which PyTorch's counter does not know
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
