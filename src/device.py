"""The device that a model runs on, and what kinds of devices cannot do.

PyTorch calls the device that computes an accelerator: CUDA (ROCm too), MPS of Apple, XPU of Intel. A machine has one
kind of it, or none and the processor. Not every kind has float64 or complex numbers; MPS has neither.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from .errors import InputError
from .escape import shown

CPU = torch.device("cpu")


def find_device(name: str | None = None, process: int | None = None) -> torch.device:
    """The device of a name ("cpu", "cuda", "mps", "xpu:1"); without a name the accelerator, or else the processor.

    `process` is the number of this process among those of its machine, where there are several: each takes the
    accelerator of its number.

    >>> from clozelab.device import find_device
    >>> find_device("cpu")
    device(type='cpu')

    Raises `InputError` for a device that this machine does not have, and for more processes than accelerators.
    """
    kind, count = _accelerator()
    if name is None:
        name = "cpu" if kind is None else kind
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise _not_here(name) from None
    if device.type == "cpu" and not device.index:
        return CPU
    if device.type != kind or (device.index or 0) >= count:
        raise _not_here(name)
    if process is None:
        index = torch.accelerator.current_device_index() if device.index is None else device.index
        return torch.device(device.type, index)
    if device.index is not None:
        raise InputError(f"several processes take a device each, and {name} is one: leave its number out")
    if process >= count:
        raise InputError(
            f"process {process + 1} of this machine has no device: the machine shows {count} of the kind {kind}. Start "
            'that many processes, or compute on the processor: device="cpu"'
        )
    return torch.device(device.type, process)


def devices() -> list[str]:
    """The names of the devices of this machine, the processor first."""
    kind, count = _accelerator()
    return ["cpu", *(f"{kind}:{index}" for index in range(count))]


def _accelerator() -> tuple[str | None, int]:
    """The kind of accelerator that this machine has, None where it has none, and how many."""
    kind = torch.accelerator.current_accelerator(check_available=True)
    return (None, 0) if kind is None else (kind.type, torch.accelerator.device_count())


def _not_here(name: str) -> InputError:
    cause = "" if len(devices()) > 1 else f" (PyTorch {torch.__version__} finds no accelerator)"
    return InputError(f"this machine has no device {shown(name, 40)}, it has {', '.join(devices())}{cause}")


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64: processors and CUDA do, MPS does not, of XPU some do."""
    if device.type == "xpu":
        return bool(torch.xpu.get_device_capability(device).get("has_fp64"))
    return device.type in ("cpu", "cuda")


def has_complex(device: torch.device) -> bool:
    """Whether a device surely multiplies complex numbers: processors and CUDA do."""
    return device.type in ("cpu", "cuda")


def to_float64(tensor: Tensor) -> Tensor:
    """The numbers in float64: on their device where it has them, else on the processor.

    >>> import torch
    >>> from clozelab.device import to_float64
    >>> to_float64(torch.tensor([1, 2]))
    tensor([1., 2.], dtype=torch.float64)
    """
    return tensor.double() if has_float64(tensor.device) else tensor.cpu().double()


def autocast(device: torch.device, *, bfloat16: bool) -> AbstractContextManager[object]:
    """Inside, products are in bfloat16, or in the type of their factors, whatever surrounds them.

    Nothing surrounds them on a device that has no autocast.
    """
    if not bfloat16 and not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
