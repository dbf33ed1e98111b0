"""The rows of the table. Why a goal may be missed stands in `notes.md`, by `Result.row`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import batches
import growth
import loop
import loss
import steps
from measure import Processes
from results import Result

ROWS: dict[str, Callable[[Processes, str], Iterator[Result]]] = {
    "batches": batches.collators,
    "steps": steps.training,
    "compiled": steps.compiled,
    "step memory": steps.memory,
    "loss": loss.memory,
    "loop": loop.loop,
    "muon": loop.muon,
    "utilisation": steps.machine_share,
    "start-up": loop.start_up,
    "tokenising": batches.tokenising,
    "growth": growth.growth,
}
"""What `--only` chooses from: each takes the processes to measure in and the path of a tokenizer."""
