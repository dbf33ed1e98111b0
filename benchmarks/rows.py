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
    "batches": "a batch costs us a few operations on the whole of it. In a masked batch two fifths of the time go to "
    "finding the smallest numbers of each row (`topk`), in a span batch most of it to moving tokens to their places "
    "(`nonzero`, indexing). Each goal is held against the peer as it is usually called and at its fastest.",
    "training step": "both sides multiply the same matrices, and where those take most of the time there is little to "
    "win: a peer that already reaches two thirds of the machine's best product can be beaten by 1.5x at most. The "
    "goals suit processors whose bfloat16 products are many times faster than float32, so that all else is the cost.",
    "training step, larger": "the goal is the ratio at the base shape. At a longer text attention takes a greater part "
    "of both sides, in the same kernel.",
    "loss memory": "the C library keeps the memory of chunks that are done, in holes that the next ones do not always "
    "fit; with an allocator that gives them back at once, ours is the gradient of the table, a second one that each "
    "chunk makes and adds to it, and one chunk of logits.",
    "loss time": "each chunk computes the gradient of the whole table and adds it, which full logits do once.",
    "loop": "clipping the gradients counts as outside here. Dividing them by the number of paid positions, making the "
    "batch and writing the metrics are the rest; at this size a step takes tens of milliseconds.",
    "utilisation": "at width 256 the products are small, and what lies between them (norms, rotary positions, gates, "
    "softmax, the optimiser) moves memory without multiplying. The lower the precision of the products, the greater "
    "the share of all else.",
    "start-up": "importing PyTorch is more than a second of it, and the tokenizer is trained anew by each command.",
    "tokenising": "both sides spend nearly all of the time inside `tokenizers`, on the same text, so that the rest "
    "can hardly be seen.",
    "growth": "the goals are slopes at the end of the range, where what fitted the caches no longer does.",
}
"""By `Result.row`: why a goal may be missed. Shown only where it is."""
