"""Noise that belongs to an example: the same whoever computes it, and whenever.

The noise of an example depends on (seed, epoch, id of the example) and on nothing else. So there is no stream of
random numbers to keep in step. Every number is a hash of what it is for: (seed, epoch, example id) gives a key, (key,
stream, place in the example) gives the number. Any worker, any process, any batch order and any resumed run computes
the same one, and the next epoch another.

The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), a counter in, 64 well-mixed bits out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..checks import WHOLE, check_int, check_tensor
from ..errors import InputError

MOST = 2**63 - 1
"""The largest seed and epoch: numbers that are alike in their last 64 bits would share their noise."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, in place on uint64 of any shape (products wrap around, as they should)."""
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _as_uint64(values: Iterable[int]) -> np.ndarray:
    return np.array([value & 0xFFFFFFFFFFFFFFFF for value in values], dtype=np.uint64)


def hash_tokens(tokens: Sequence[int] | Tensor) -> int:
    """The id of an example that brings none: a hash of its token ids (without padding).

    Two examples of the same tokens share their id, and so their noise within an epoch.
    """
    content = np.asarray(tokens, dtype="<i8").tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Noise:
    """The noise of B examples: as many numbers as one likes, in separate streams.

    >>> import torch
    >>> from clozelab.data import Noise
    >>> noise = Noise.of(seed=0, epoch=0, example_ids=[7, 8])
    >>> same = Noise.of(seed=0, epoch=0, example_ids=[8])  # alone, elsewhere, later
    >>> torch.equal(noise.uniform(0, 5)[1], same.uniform(0, 5)[0])
    True
    """

    keys: np.ndarray
    """(B,) uint64, one for each example."""

    @classmethod
    def of(cls, seed: int, epoch: int | Sequence[int], example_ids: Sequence[int | str] | Tensor) -> Noise:
        """Keys for examples by (seed, epoch, example id); an id is an integer or a string.

        `epoch` is one for all or one for each; -1 is that of the held-out text, before all others. Raises `InputError`
        for anything else: 1.5 would be 1 unseen, and a seed below 0 or an epoch below -1 would be a large one.
        """
        if isinstance(example_ids, Tensor):
            check_tensor(example_ids, "the ids of the examples", "(B)")
        if isinstance(example_ids, str) or not isinstance(example_ids, Iterable):
            raise InputError(f"expected an id for each example, got {type(example_ids).__name__}")
        named = example_ids.tolist() if isinstance(example_ids, Tensor) else example_ids
        ids = _as_uint64(_integer(one) for one in named)
        each = epoch.tolist() if isinstance(epoch, Tensor) else epoch
        each = each if isinstance(each, Iterable) and not isinstance(each, str) else [each]
        epochs = _as_uint64(check_int(one, "an epoch", -1, MOST) for one in each)
        if len(epochs) not in (1, len(ids)):
            raise InputError(f"expected one epoch, or one for each of {len(ids)} rows, got {len(epochs)}")
        with np.errstate(over="ignore"):
            keys = _mix(_as_uint64([check_int(seed, "the seed", 0, MOST)]) + _GOLDEN)
            keys = _mix(keys + epochs * _GOLDEN + _GOLDEN)
            keys = _mix(keys + ids * _GOLDEN + _GOLDEN)
        return cls(keys)

    def uniform(self, stream: int, n: int) -> Tensor:
        """(B, n) float64 in [0, 1): number i of an example's stream, whatever n is.

        53 bits, so that equal numbers, which a choice of the k smallest would have to break by position,
        never happen in practice.
        """
        n = check_int(n, "how many numbers", 0)
        with np.errstate(over="ignore"):
            counters = np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN  # (n,)
            bits = _mix(self._of_stream(stream)[:, None] + counters)  # (B, n)
        bits >>= np.uint64(11)
        return torch.from_numpy(bits.astype(np.float64)).mul_(2.0**-53)

    def generators(self, stream: int) -> list[torch.Generator]:
        """One `torch.Generator` for each example, for code that wants to draw on its own."""
        return [torch.Generator().manual_seed(int(key)) for key in self._of_stream(stream)]

    def row(self, b: int) -> Noise:
        """The noise of example b alone."""
        if not 0 <= check_int(b, "the row") < len(self.keys):
            raise InputError(f"expected a row from 0 to {len(self.keys) - 1}, got {b}")
        return Noise(self.keys[b : b + 1])

    def rows(self, index: Tensor) -> Noise:
        """The noise of some of the examples, by their numbers (N,); `IndexError` for one that no example has."""
        check_tensor(index, "the numbers of examples", "(N)", WHOLE)
        return Noise(self.keys[index.numpy()])

    def _of_stream(self, stream: int) -> np.ndarray:
        stream = check_int(stream, "the stream", 0)
        with np.errstate(over="ignore"):
            return _mix(self.keys + np.uint64(stream + 1) * _GOLDEN)


def _integer(example_id: int | str) -> int:
    """A string, a negative number and one of more than 64 bits by its hash, so that no two ids share their noise."""
    number = None if isinstance(example_id, str) else check_int(example_id, "an example id")
    if number is not None and 0 <= number < 2**64:
        return number
    name = str(example_id).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
