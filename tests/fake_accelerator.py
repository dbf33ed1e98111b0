"""An accelerator for a machine that has none: it computes on the processor, and has what MPS has and no more.

It has neither float64 nor complex numbers, and refuses tensors of the processor among its own. `install()` makes it the
accelerator of this process, for good: run it in a process of its own. It is PyTorch's "PrivateUse1" written in Python;
a tensor on it is a shell, and the numbers are those of a tensor on the processor that is found by its storage.
"""

from functools import partial
from types import SimpleNamespace

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "fake"
MISSING = (torch.float64, torch.complex32, torch.complex64, torch.complex128)
ALLOWED = ("aten::copy_", "aten::_copy_from", "aten::_to_copy")
_numbers = {}  # by the storage of the shell


def install(count=1):
    """Make it the accelerator of this process, so many devices of it."""
    current = [0]
    backend = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: count,
        current_device=lambda: current[0],
        set_device=lambda index: current.__setitem__(0, index),
        _is_in_bad_fork=lambda: False,
        manual_seed=lambda seed: None,
        manual_seed_all=lambda seed: None,
        get_rng_state=lambda device=None: torch.get_rng_state(),
        set_rng_state=lambda state, device=None: torch.set_rng_state(state),
        get_amp_supported_dtype=lambda: [torch.bfloat16],
    )
    _setup_privateuseone_for_python_backend(NAME, backend_module=backend)
    library = torch.library.Library("aten", "IMPL")
    for name in torch._C._dispatch_get_all_op_names():
        has = partial(torch._C._dispatch_has_kernel_for_dispatch_key, name)
        if (
            not name.startswith("aten::")
            or not has("CPU")
            or (has("CompositeImplicitAutograd") and "arange" not in name)
        ):
            continue
        base, _, overload = name.removeprefix("aten::").partition(".")
        operator = getattr(getattr(torch.ops.aten, base), overload or "default")
        library.impl(operator, partial(_call, operator), "PrivateUse1")
    for name in ("_copy_from", "_copy_from_and_resize"):
        library.impl(name, _copy_from, "PrivateUse1")
    return library  # what it registers lasts as long as it does


def _here(value):
    return isinstance(value, torch.Tensor) and value.device.type == NAME


def _shell(numbers):
    if numbers.dtype in MISSING:
        raise TypeError(f"the device {NAME} has no {numbers.dtype}")
    numbers = numbers.contiguous() if 0 in numbers.stride() else numbers
    made = torch._C._acc.create_empty_tensor(tuple(numbers.shape), numbers.dtype)
    _numbers[made.untyped_storage()._cdata] = numbers
    return made


def _of(shell):
    numbers = _numbers[shell.untyped_storage()._cdata]
    return numbers if numbers.shape == shell.shape else numbers.reshape(shell.shape)


def _copy_from(source, target, non_blocking=False):
    numbers = [_of(one) if _here(one) else one for one in (source, target)]
    numbers[1].copy_(numbers[0])
    return target


def _on_processor(value):
    if _here(value):
        return _of(value)
    return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value


def _call(operator, *args, **kwargs):
    given = tree_leaves((args, kwargs))
    shells = [one for one in given if _here(one)]
    strangers = [one for one in given if isinstance(one, torch.Tensor) and not _here(one) and one.dim()]
    if shells and strangers and not operator.name().startswith(ALLOWED):
        raise RuntimeError(f"{operator}: a tensor of {strangers[0].device} among those of {NAME}")
    asked = kwargs.get("device")
    elsewhere = asked is not None and torch.device(asked).type != NAME
    numbers = [_of(one) for one in shells]
    shapes = [one.shape for one in numbers]
    if operator is torch.ops.aten.view.default:  # the shell of a transposed tensor looks contiguous
        operator = torch.ops.aten.reshape.default
    args, kwargs = tree_map(_on_processor, (args, kwargs))
    if operator.name().startswith(("aten::_fused", "aten::as_strided")):  # they go by the layout that shells claim
        args = tree_map(lambda one: one.contiguous() if isinstance(one, torch.Tensor) else one, args)
    result = operator(*args, **kwargs)
    for shell, one, shape in zip(shells, numbers, shapes):
        if one.shape != shape:  # an out= argument that was made larger
            shell.data = _shell(one)
    if elsewhere:
        return result
    changed = {id(one): shell for one, shell in zip(numbers, shells)} if operator._schema.is_mutable else {}

    def wrapped(value):
        if id(value) in changed:
            return changed[id(value)]
        return _shell(value) if isinstance(value, torch.Tensor) else value

    return tree_map(wrapped, result)
