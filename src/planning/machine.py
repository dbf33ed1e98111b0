"""The devices that a run is planned for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..checks import check_number
from ..errors import InputError
from .memory import KINDS, known

MOST_DEVICES = 10**6


@dataclass(frozen=True)
class Machine:
    """The devices of a run, all alike. The defaults are an H100's data sheet, rounded (989 TFLOP/s in bfloat16 without
    sparsity, 80 GB), and a network of 400 Gbit/s for each.

    >>> from clozelab.planning import Machine
    >>> Machine(devices=8, network=450e9).flops  # the links within a node
    1000000000000000.0

    Raises `InputError` for invalid numbers.
    """

    devices: int = 1
    flops: float = 1e15
    """Operations a second that a device can do at most, in the precision of the products."""
    memory: float = 80e9
    """Bytes of a device."""
    network: float = 50e9
    """Bytes a second that a device can send while it receives as many."""
    utilisation: float = 0.4
    """Share of `flops` that the model's own products get ("MFU": Chowdhery et al. 2022, appendix B)."""
    kind: str = "cuda"
    """cuda or cpu: they keep other things for the backward."""

    def __post_init__(self) -> None:
        if not (isinstance(self.devices, int) and 1 <= self.devices <= MOST_DEVICES):
            raise InputError(f"devices must be a whole number from 1 to {MOST_DEVICES:,}, got {self.devices!r}")
        for name in ("flops", "memory", "network"):
            if not 0 < check_number(getattr(self, name), name) < math.inf:
                raise InputError(f"{name} of a device must be positive and finite, got {getattr(self, name)!r}")
        if not 0 < check_number(self.utilisation, "utilisation") <= 1:
            raise InputError(f"utilisation is a share, in (0, 1], got {self.utilisation!r}")
        known("kind", self.kind, KINDS)
