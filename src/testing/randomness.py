"""The global random state: set aside while something is tried, and compared before and after."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

# The global state, which our own code never draws from, is what this file is about.
# ruff: noqa: NPY002


@contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Seed the global generators inside the block; afterwards the caller's state is as it was.

    >>> import torch
    >>> from clozelab.testing.randomness import own_random_state
    >>> torch.manual_seed(1) is None
    False
    >>> with own_random_state(0):
    ...     inside = torch.rand(1)
    >>> float(torch.rand(1)) == float(torch.rand(1, generator=torch.Generator().manual_seed(1)))
    True
    """
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])


def random_states() -> dict[str, Any]:
    """The state of each global generator, to be compared with `==`.

    >>> import random
    >>> from clozelab.testing.randomness import random_states
    >>> before = random_states()
    >>> _ = random.random()
    >>> [name for name, state in random_states().items() if state != before[name]]
    ['random']
    """
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": repr(np.random.get_state()),
        "random": random.getstate(),
    }
