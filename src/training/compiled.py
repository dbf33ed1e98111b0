"""torch.compile for the block that a model repeats: compiled once, and used for all of its layers.

Only the steps of training are compiled. Evaluation and generation, whose lengths are many, run as they did. The weights
keep their names, so that a run can be resumed with or without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..models import AttentionMask
from ..models.language_model import device_of
from ..models.layers import Block
from ..objectives.cross_entropy import compiled_loss


@contextmanager
def compiled_blocks(model: nn.Module) -> Iterator[None]:
    """Inside, the blocks of a model in training mode are computed by one kernel after another of torch.compile.

    Of a second length, or number of rows, one kernel for all of them is compiled. PyTorch keeps what it compiles, so
    that the next run begins within seconds. On a GPU the loss is compiled too (`compiled_loss`); on a processor it is
    faster without.

    >>> from clozelab import CausalLM
    >>> from clozelab.training.compiled import compiled_blocks
    >>> with compiled_blocks(CausalLM().build_model(50, "tiny")):
    ...     pass  # steps of training

    Raises `InputError` for a model without a block of `clozelab.models`, and where torch.compile finds no compiler.
    """
    blocks = compilable_blocks(model)
    # One model's lengths shall not count against the next one's limit. PyTorch before 2.13 cannot tell them apart.
    known = signature(torch.compile).parameters
    apart: dict[str, Any] = {"isolate_recompiles": True} if "isolate_recompiles" in known else {}
    fast = torch.compile(Block.forward, fullgraph=True, **apart)
    for block in blocks:
        block.forward = partial(_forward, fast, block)
    try:
        with compiled_loss() if device_of(model).type != "cpu" else nullcontext():
            yield
    finally:
        for block in blocks:
            del block.forward


def compilable_blocks(model: nn.Module) -> list[Block]:
    """The blocks that `compiled_blocks` compiles; raises what it raises."""
    blocks = [part for part in model.modules() if isinstance(part, Block)]
    if not blocks:
        raise InputError(
            f"expected a model of clozelab.models to compile, got {type(model).__name__} without a block of theirs: "
            "train with compiled=False, and call torch.compile yourself"
        )
    _check_compiler(device_of(model))
    return blocks


def _forward(
    fast: Callable[..., Tensor], block: Block, x: Tensor, mask: AttentionMask, *args: Any, **more: Any
) -> Tensor:
    """The forward of a block: the compiled one in training mode."""
    if not block.training:
        return Block.forward(block, x, mask, *args, **more)
    for one in (mask, *args, *more.values()):
        if isinstance(one, AttentionMask):
            one.matrix  # noqa: B018  (made here, so that it is there for the first block as for the others)
    return fast(block, x, mask, *args, **more)


def _check_compiler(device: torch.device) -> None:
    """Raises `InputError` where torch.compile would find no compiler at the first step."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    try:
        found = get_cpp_compiler()
    except InvalidCxxCompiler:
        raise InputError(
            "torch.compile needs a C++ compiler, and finds none here: install g++ or clang++, name another one by the "
            "variable CXX, or train with compiled=False"
        ) from None
    if device.type in ("cuda", "xpu") and not has_triton():
        raise InputError(
            f"torch.compile needs Triton beside {found} to compile for {device.type}, and finds none: install triton, "
            "or train with compiled=False"
        )
