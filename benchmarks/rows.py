"""The rows of the table, and what is to be said where a goal is missed."""

from __future__ import annotations

from collections.abc import Callable

import batches
import growth
import loop
import loss
import steps
from measure import Processes
from results import Result

ROWS: dict[str, Callable[[Processes, str], list[Result]]] = {
    "batches": batches.collators,
    "steps": steps.training,
    "loss": loss.memory,
    "loop": loop.loop,
    "utilisation": steps.machine_share,
    "start-up": loop.start_up,
    "tokenising": batches.tokenising,
    "growth": growth.growth,
}
"""What `--only` chooses from: each takes the processes to measure in and the path of a tokenizer."""

NOTES: dict[str, str] = {
    "batches": "a batch costs us a few operations on the whole of it, of which drawing the noise and finding the "
    "hidden places are the most. Our noise belongs to the example (seed, epoch, identity), which no peer offers and "
    "which is paid for by a hash of each token's place; a list of dicts has to be looked through example by example.",
    "training step": "both sides multiply the same matrices, so the ratio is bounded by the share of time that is not "
    "spent in products: see the utilisation rows.",
    "training step, larger": "the goal is the ratio at the base shape. At a longer text attention takes a greater part "
    "of both sides, in the same kernel.",
    "loss memory": "what remains is the table's gradient and a second one that each chunk adds to it.",
    "loss time": "each chunk computes the gradient of the whole table and adds it, which full logits do once.",
    "loop": "clipping the gradients counts as outside here. Dividing them by the number of paid positions, making the "
    "batch and writing the metrics are the rest; at this size a step takes tens of milliseconds.",
    "utilisation": "at width 256 the products are small, and what lies between them (norms, rotary positions, gates, "
    "softmax, the optimiser) moves memory without multiplying. The lower the precision of the products, the greater "
    "the share of all else.",
    "start-up": "importing PyTorch is more than a second of it, and the tokenizer is trained anew by each command.",
    "tokenising": "both sides call the same `tokenizers` for most of the time; only what is around it can differ.",
    "growth": "the goals are slopes at the end of the range, where work that fits the caches has begun not to fit them.",
}
"""By `Result.row`: why a goal may be missed. Shown only where it is."""
