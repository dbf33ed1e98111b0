"""A model's shapes without its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


@contextmanager
def sketched() -> Iterator[None]:
    """Inside, models are built on PyTorch's meta device: they have shapes and types, and take no memory.

    >>> from clozelab import CausalLM
    >>> from clozelab.models.sketch import sketched
    >>> with sketched():
    ...     model = CausalLM().build_model(50_000, "base")
    >>> model.embedding.weight.shape, model.embedding.weight.device
    (torch.Size([50000, 768]), device(type='meta'))
    """
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """New weights get no random numbers, which they could not keep: on the meta device PyTorch would import its
    compiler to draw them, which takes 2 s."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.normal_, torch.Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
