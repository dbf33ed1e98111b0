"""How much text a second one core makes batches of: what `clozelab plan` holds against what a run needs.

    python benchmarks/delivery.py            ten seconds on one core: what `clozelab plan --delivered` takes
    python benchmarks/delivery.py --length 2048 --rows 16

The whole way from packed text to a batch, as the loop goes it: which blocks are next, read them from a memory map,
hide. Batches of 64 rows of 512 input tokens, from 2^24 random ids. Medians of processor time, with quartiles; the
objectives in turns.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Spread, alternate

from clozelab.data import Packed, SpecialIds
from clozelab.objectives import OBJECTIVES
from clozelab.training.batches import Batches

TOKENS, TEXT = 2**24, 32_000
"""Ids in the packed text, and how many different ones."""


class Next:
    """The next batch at each call: another one each time, as in a run."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.n = batches, 0

    def __call__(self) -> Any:
        self.n += 1
        return self.batches[self.n]


def measured(rows: int, length: int, rounds: int, least: float, tokens: int = TOKENS) -> dict[str, Spread]:
    """Tokens of text a second of processor time, by the name of the objective."""
    sentinels = range(TEXT + 1000, TEXT, -1)
    names = dict.fromkeys(role for made in OBJECTIVES.values() for role in made.roles if role != "mask")
    roles = {role: TEXT + 1001 + n for n, role in enumerate(names)}
    vocab_size = TEXT + 1001 + len(roles)
    ends = torch.arange(vocab_size) % 20 == 0  # of sentences
    special = SpecialIds(vocab_size, pad=0, eos=1, mask=2, sentinels=sentinels, roles=roles, ends_sentence=ends)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ids.bin"
        np.random.default_rng(0).integers(3, TEXT, tokens, dtype=np.uint16).tofile(path)
        packed = Packed(np.memmap(path, dtype=np.uint16, mode="r"), 1, 0, "", "")
        sides, texts = {}, {}
        for name, made in OBJECTIVES.items():
            objective = made()
            texts[name] = objective.source_length(length)
            sides[name] = Next(Batches(packed.blocks(texts[name]), objective.collator(special), rows))
        times = alternate(sides, rounds, least=least)
    return {name: Spread.of([rows * texts[name] / seconds for seconds in spent.cpu]) for name, spent in times.items()}


def main(arguments: list[str] | None = None) -> dict[str, Spread]:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64, help="of a batch")
    parser.add_argument("--length", type=int, default=512, help="input tokens of a row")
    parser.add_argument("--quick", action="store_true", help="only see that it runs; no figure counts")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    spread = {"rounds": 2, "least": 0.0, "tokens": 2**16} if args.quick else {"rounds": 11, "least": 0.2}
    found = measured(args.rows, args.length, **spread)
    for name, speed in found.items():
        low, median, high = (f"{value / 1e6:.3g}" for value in (speed.low, speed.median, speed.high))
        print(f"{name:15} {median:>6} M tokens/s of one core ({low} to {high})")
    return found


if __name__ == "__main__":
    main()
