"""How things are measured: sides taken in turns, pairs of times, fresh processes, the machine's own peak.

Ratios are made of processor time, which does not count what other programs took; at one thread it is what the work
costs. Wall time is kept beside it.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TUNED = {"THP_MEM_ALLOC_ENABLE": "1", "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
"""Environment in which large tensors are given back to the system late and live in large pages: fewer page faults."""

DTYPES = ("float32", "bfloat16")
"""In which products are measured, where the machine has them both."""

GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
"""Environment in which every tensor of a megabyte is given back to the system as soon as it is free: no holes."""


@dataclass(frozen=True)
class Times:
    """What one side took, a call for each round, in seconds."""

    cpu: list[float]
    wall: list[float]


def alternate(
    sides: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    least: float = 0.0,
    warm: bool = True,
    settled: Callable[[], Any] = lambda: None,
) -> dict[str, Times]:
    """Every side once in each round, in the other direction each time, after one call that is not counted (`warm`).

    A side that takes less than `least` seconds is called as often as fills them, and a call's share is kept.
    `settled` returns when all that was begun is done: a GPU works on after the call has returned.
    """
    calls = {}
    for name, work in sides.items():
        begun = time.perf_counter()
        for _ in range(warm + (least > 0)):
            begun = time.perf_counter()
            work()
            settled()
        calls[name] = max(1, round(least / max(time.perf_counter() - begun, 1e-6))) if least else 1
    times = {name: Times([], []) for name in sides}
    order = list(sides)
    for _ in range(rounds):
        for name in order:
            work, n = sides[name], calls[name]
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(n):
                work()
            settled()
            times[name].cpu.append((time.process_time() - cpu) / n)
            times[name].wall.append((time.perf_counter() - wall) / n)
        order.reverse()
    return times


@dataclass(frozen=True)
class Spread:
    """The middle of several values, and the quartiles around it."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Quartiles that are values between the least and the greatest, also of two or three."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))


def ratio(above: list[float], below: list[float]) -> Spread:
    """Each round's `above` over its `below`: what slowed the machine for a moment slowed both."""
    return Spread.of([a / b for a, b in zip(above, below)])


# --------------------------------------------------------------------------- memory


def resident_peak(work: Callable[[], Any]) -> int:
    """By how many bytes the process grew at most during `work`: the highest resident size, less that before."""
    gc.collect()
    gc.freeze()  # in a quick run, which takes many peaks in one process, no library is searched for garbage twice
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free is the system's again, so that it counts when it is used
    Path("/proc/self/clear_refs").write_text("5")  # from now on VmHWM is the highest of what follows
    before = _status("VmRSS")
    work()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, key
    return 1024 * int(found[1])


# --------------------------------------------------------------------------- processes


@dataclass(frozen=True)
class Processes:
    """Where measurements run: each in a fresh process, or, to see only that it runs, all in this one."""

    threads: int = 1
    quick: bool = False
    slow_bfloat16: str | None = None
    """Why nothing is measured in bfloat16; None where it is."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """What is measured here."""
        return DTYPES if self.slow_bfloat16 is None else DTYPES[:1]

    def call(self, function: str, environment: Mapping[str, str] | None = None, /, **arguments: Any) -> Any:
        """What `module:function` of this folder returns for these arguments, both of which must be JSON."""
        if self.quick:
            return json.loads(json.dumps(_target(function)(**arguments)))
        request = json.dumps({"function": function, "arguments": arguments, "threads": self.threads})
        done = subprocess.run(
            [sys.executable, str(HERE / "measure.py"), request],
            env={**self.whole_environment, **(environment or {})},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{function} failed in its process:\n{done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def peak(
        self,
        function: str,
        small: Mapping[str, Any],
        /,
        environment: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> int:
        """`resident_peak` in a fresh process of the work that `module:function` returns.

        The same work with the `small` arguments is done before, which loads what libraries load once.
        """
        return self.call("measure:peak_of", environment, function=function, small=dict(small), arguments=arguments)

    @property
    def whole_environment(self) -> dict[str, str]:
        """That of this process, and what both sides share."""
        return {**os.environ, **self.environment}

    @property
    def environment(self) -> dict[str, str]:
        """The same for both sides: threads of the products, of the tokenizers, no network, no bars."""
        return {
            "OMP_NUM_THREADS": str(self.threads),
            "RAYON_NUM_THREADS": str(self.threads),
            "TOKENIZERS_PARALLELISM": "true",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }


def peak_of(function: str, small: dict[str, Any], arguments: dict[str, Any]) -> int:
    """Prepare, then measure."""
    _target(function)(**{**arguments, **small})()
    return resident_peak(_target(function)(**arguments))


def _target(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def settle(threads: int) -> None:
    """What both sides have in common: threads, no denormal numbers, one seed."""
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)


# --------------------------------------------------------------------------- the machine


def product(dtype: str, size: int, device: str = "cpu") -> tuple[Callable[[], Any], float]:
    """A matrix product and its floating-point operations."""
    import torch

    a, b = (torch.randn(size, size, dtype=getattr(torch, dtype), device=device) for _ in range(2))
    return lambda: a @ b, 2.0 * size**3


def too_slow() -> str | None:
    """Why bfloat16 is not to be measured here; None where its products are not far slower than those of float32.

    Of a tiny product: on a processor without instructions for it, one of the usual sizes takes minutes.
    """
    speeds = {}
    for dtype in DTYPES:
        work, operations = product(dtype, 128)
        [times] = alternate({"": work}, rounds=3).values()
        speeds[dtype] = operations / min(times.cpu)
    if speeds["bfloat16"] > speeds["float32"] / 4:
        return None
    return "a product of 128 x 128 runs at " + " and at ".join(
        f"{speed / 1e9:.2g} GFLOP/s in {dtype}" for dtype, speed in reversed(speeds.items())
    )


def matmul_peak(dtypes: Sequence[str], threads: int = 1, quick: bool = False) -> dict[str, float]:
    """Operations a second of the best matrix product, by dtype: several sizes, the fastest call of each.

    By processor time, so that other programs do not lower it.
    """
    best = {}
    for dtype in dtypes:
        speeds = []
        for size in (64,) if quick else (512, 1024, 2048):
            work, operations = product(dtype, size)
            [times] = alternate({"": work}, rounds=1 if quick else 5, least=0.0 if quick else 0.1).values()
            speeds.append(operations * threads / min(times.cpu))
        best[dtype] = max(speeds)
    return best


def processor_kind() -> str:
    """The instructions that decide how fast the processor multiplies: AMX, AVX512-BF16, or without bfloat16.

    Of the latter the vectors that PyTorch found, as in "AVX2 alone".
    """
    import torch

    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    if torch.cpu._is_avx512_bf16_supported():
        return "AVX512-BF16"
    return f"{torch.backends.cpu.get_cpu_capability()} alone"


def machine() -> dict[str, Any]:
    """What the figures were measured on, in general words."""
    versions = {}
    for name in ("torch", "transformers", "datasets", "tokenizers", "numpy"):
        with suppress(importlib.import_module("importlib.metadata").PackageNotFoundError):
            versions[name] = importlib.import_module("importlib.metadata").version(name)
    processor = platform.processor()
    with suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        processor = found[1] if found else processor
    return {
        "kind": processor_kind(),
        "processor": processor,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **versions,
    }


def busy() -> tuple[float, float]:
    """(processor seconds of the whole machine, those of this process and its children) so far."""
    numbers = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    mine = os.times()
    all_of_it = (sum(numbers) - numbers[3] - numbers[4]) / os.sysconf("SC_CLK_TCK")
    return all_of_it, mine.user + mine.system + mine.children_user + mine.children_system


def provenance(before: tuple[float, float] | None = None) -> dict[str, Any]:
    """What each file of figures begins with: when, on what, and, since `busy()` said `before`, beside what else."""
    found: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine()}
    if before is not None:
        all_of_it, mine = (after - earlier for after, earlier in zip(busy(), before))
        found["others"] = max(0.0, 1 - mine / max(all_of_it, 1e-9))
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    asked = json.loads(sys.argv[1])
    settle(asked["threads"])
    print("\n" + json.dumps(_target(asked["function"])(**asked["arguments"])))
