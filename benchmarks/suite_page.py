"""How figures in tables are shown: those of the suite, and those of a GPU."""

from __future__ import annotations

from typing import Any

from results import Result, notes, table
from section_outcome import Outcome, explanations, goals_of, measured_on

SUITE_METHOD = """\
- Both sides in one fresh process, in turns (A B, B A, ...), with the same threads, dtype, shapes, data, fused AdamW,
  allocator and denormal numbers flushed; one call before that is not counted.
- A figure is the median over the rounds of the ratio of the two neighbours' processor times, with its quartiles, and
  the same ratio of wall times beside it. Other units are given.
- Peak memory: by how much a fresh process grew at most in one call (two steps for training), ours / theirs.
- A training step is forward, loss, backward, optimiser, cleared gradients, without dropout, both sides under an
  allocator that is set for large tensors. Each side runs in float32, and in bfloat16 autocast where the processor
  multiplies in it, theirs also with both of its attention kernels; the figure compares each one's fastest. The models
  have the same width, layers, heads and feed-forward size, and get the same batch, made by our collator. "Each at its
  best" also tries `torch.compile`: on both models whole, and on ours block by block. What the first step took, which
  compiles, is told apart. (In rows of 2026-11-24 batches at T 256 have 16 rows and at T 1024 four, nothing is compiled,
  and the allocator is that of the system.)
- Share of a step: processor time of the real loop, with its run folder, outside of forward, backward and optimiser;
  the model `tiny`, 16 x 128, V 8192, with AdamW, whose steps are shorter than Muon's.
  Clipping the gradients belongs to the optimiser: every recipe has it, and it is arithmetic on all gradients. (In rows
  of 2026-11-24 it is outside, and time is that of the clock.)
- Muon's share is that of `Muon.step` in a step with forward, backward, clipping and both optimisers.
- Start-up is processor time, of `train` until its first step is in its metrics. (On 2026-11-24 it was by the clock.)
- Model FLOPs are those of all matrix products in forward and backward as PyTorch dispatches them, attention over all
  T x T pairs; the time is of the whole step, optimiser included.
- Growth: processor time and peak memory of a float32 step of the model `tiny`, at T 128, V 4096, B 16 but for what
  grows. The figure is the slope at the end in a picture of logarithms, the steepest of the three objectives."""


def results_of(record: dict[str, Any]) -> list[Result]:
    """All figures of the suite on one kind of machine."""
    return [Result.of_json(result) for row in record["rows"].values() for result in row["results"]]


def suite(record: dict[str, Any]) -> Outcome:
    """All figures of `suite.py` on one kind of machine in one table, and when each row was measured."""
    found = results_of(record)
    when: dict[str, list[str]] = {}
    for name, row in record["rows"].items():
        kind = " This was a quick one, that only shows that it runs: no figure counts." if row["quick"] else ""
        peaks = ", ".join(f"{speed / 1e9:.0f} GFLOP/s {dtype}" for dtype, speed in row["peak"].items())
        when.setdefault(f"{measured_on(row)} Best matrix products: {peaks}.{kind}", []).append(name)
    lines = "\n".join(f"- {', '.join(names)}: {line[0].lower()}{line[1:]}" for line, names in when.items())
    return Outcome(
        *goals_of(found), f"{lines}\n\n{table(found)}\n\n#### What else was seen\n\n{notes(found, explanations())}"
    )


def gpu(record: dict[str, Any]) -> Outcome:
    """All figures of `gpu.py` in one table."""
    found = [Result.of_json(result) for result in record["results"]]
    return Outcome(*goals_of(found), f"{table(found)}\n\n{notes(found, explanations())}".rstrip())
