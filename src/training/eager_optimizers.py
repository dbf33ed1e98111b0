"""PyTorch's optimisers without `torch.compile`: what guards them against it takes seconds to import, in each process.

`torch.optim` wraps the methods of its optimisers so that a compiled step leaves them out, and the first call of any of
them imports the whole compiler (`torch._dynamo`, sympy). A step of ours is never compiled with its optimiser, so it
calls the methods that are wrapped.
"""

from __future__ import annotations

from inspect import unwrap

import torch
from torch.optim import Optimizer


class EagerOptimizer(Optimizer):
    """An optimiser that does not import the compiler.

    >>> import torch
    >>> from clozelab.training.eager_optimizers import EagerOptimizer
    >>> [group["lr"] for group in EagerOptimizer([torch.nn.Parameter(torch.zeros(2))], {"lr": 0.1}).param_groups]
    [0.1]
    """

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)


class AdamW(EagerOptimizer, torch.optim.AdamW):
    """`torch.optim.AdamW` that does not import the compiler; its steps are the same, bit for bit.

    >>> import torch
    >>> from clozelab.training.eager_optimizers import AdamW
    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = AdamW([weight], lr=0.5, weight_decay=0.0, fused=True)
    >>> weight.grad = torch.ones(1)
    >>> optimizer.step()
    >>> round(weight.item(), 4)
    0.5
    """

    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
