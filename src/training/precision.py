"""The numbers of a step: bfloat16 where the hardware multiplies in it, and no denormals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether a step is computed in bfloat16, for `TrainConfig.precision`.

    "auto" means bfloat16 on hardware with instructions for it; a processor without them is many times slower in it. Of
    MPS nobody has measured it, and "auto" means float32 there.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type in ("cuda", "xpu"):
        return torch.get_device_module(device).is_bf16_supported(including_emulation=False)
    supported = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in supported)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Inside, numbers too small for a float's full precision become zero: AdamW is many times slower on them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
