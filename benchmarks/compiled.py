"""`--compile`: what the first step costs, cold and warm, and what each later step gains, against eager steps.

    OMP_NUM_THREADS=1 python benchmarks/compiled.py [--rounds 9] [--only causal:128 ...]

Processor time of a process and its children (the compilers), one thread. Eager and compiled steps alternate in one
process; the ratio is the median of the pairs. "Cold" begins with an empty folder of torch.compile, "warm" with what the
cold process left there. Each row is printed as it is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

ROWS, LENGTH, VOCABULARY = 16, 128, 4096
CASES = [f"{objective}:{width}" for width in (128, 256) for objective in ("causal", "masked", "span")]


def seconds() -> float:
    """Processor time of this process and its children that have ended."""
    whose = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(one.ru_utime + one.ru_stime for one in whose)


def measure(objective: str, width: int, rounds: int) -> dict[str, object]:
    """Processor time of the first step and of later ones, both ways."""
    import torch
    from steps import _batch

    from clozelab.objectives import OBJECTIVES
    from clozelab.training import TrainConfig, optimizer_of, seeded_model
    from clozelab.training.compiled import compiled_blocks
    from clozelab.training.precision import flushed_denormals

    torch.set_num_threads(1)
    kind = OBJECTIVES[objective]()
    batch, _ = _batch(objective, VOCABULARY, ROWS, LENGTH)

    def side(is_compiled: bool):
        model = seeded_model(kind, VOCABULARY, "tiny", 0, d_model=width, n_heads=width // 32).train()
        optimizer = optimizer_of(model, TrainConfig(optimizer="adamw", precision="float32"))

        if is_compiled:
            stack.enter_context(compiled_blocks(model))

        def step() -> float:
            begun = seconds()
            kind(model, batch).mean.backward()
            optimizer.step()
            optimizer.zero_grad()
            return seconds() - begun

        return step

    with flushed_denormals(), ExitStack() as stack:
        eager, fast = side(False), side(True)
        eager()
        first = fast()
        fast()  # a second step, which finds all compiled
        pairs = [(eager(), fast()) for _ in range(rounds)]
    return {"first": first, "pairs": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="pairs of steps")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, metavar="OBJECTIVE:WIDTH")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        objective, width = args.one.split(":")
        print(json.dumps(measure(objective, int(width), args.rounds)))
        return
    print(
        f"tiny, {ROWS} x {LENGTH}, V = {VOCABULARY}, float32, one thread, processor time; steps are medians", flush=True
    )
    for case in args.only:
        with tempfile.TemporaryDirectory() as folder:
            env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": folder}
            # The children of a process are in its time once they have ended: one compiles at a time, in the process.
            env["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
            found = []
            for rounds in (0, args.rounds):
                words = [sys.executable, Path(__file__), "--one", case, "--rounds", str(rounds)]
                done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
                found.append(json.loads(done.stdout.splitlines()[-1]))
        cold, warm = found
        eager, fast = (statistics.median(pair[n] for pair in warm["pairs"]) for n in (0, 1))
        ratio = statistics.median(one / other for one, other in warm["pairs"])
        gained = eager - fast
        pays = f"{warm['first'] / gained:.0f} warm, {cold['first'] / gained:.0f} cold" if gained > 0 else "never"
        print(
            f"{case}: eager {1e3 * eager:.0f} ms, compiled {1e3 * fast:.0f} ms, {ratio:.2f}x; first step "
            f"{cold['first']:.1f} s cold, {warm['first']:.1f} s warm; steps until it pays: {pays}",
            flush=True,
        )


if __name__ == "__main__":
    main()
