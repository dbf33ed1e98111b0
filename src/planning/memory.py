"""What a step holds in memory: weights, gradients, the optimiser, and what the blocks keep for their backward.

Derived line by line from `models/layers.py` and `objectives/cross_entropy.py`; the tests count the bytes of the
tensors that autograd really saves. Not counted: dropout (0 by default), masks of padding and of documents.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import check_type
from ..errors import InputError
from ..models import ModelConfig
from ..objectives.cross_entropy import CHUNK
from .rows import Row
from .shape import Parameters, parameters, size, stacks

OPTIMIZERS = ("adamw", "muon")
PRECISIONS = ("float32", "bfloat16")
KINDS = ("cpu", "cuda")
PLAIN_BELOW = 512
"""Keys below which bfloat16 attention on a processor is made of plain products (`clozelab.models.layers.attend`)."""


@dataclass(frozen=True)
class State:
    """Bytes that stay from step to step; weights and gradients are float32, also under bfloat16's autocast.

    >>> from clozelab.planning import parameters
    >>> state(parameters(ModelConfig(vocab_size=4096), "decoder-only"), "adamw")
    State(weights=5259264, gradients=5259264, optimizer=10518644)
    """

    weights: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All three: 16 bytes a parameter with AdamW (Rajbhandari et al. 2020, ZeRO, section 3.1)."""
        return self.weights + self.gradients + self.optimizer


def state(count: Parameters, optimizer: str = "adamw", devices: int = 1) -> State:
    """Of a whole model, or fully sharded that of the device that has most.

    AdamW remembers two numbers for each parameter, and a counter for each tensor; Muon one for each number of the
    matrices in the blocks, the tables staying with AdamW (`clozelab.training.optimizers`).

    Raises `InputError` for an optimiser that does not exist.
    """
    check_type(count, Parameters, "the parameters", "parameters(config, architecture) counts them")
    whole("devices", devices)
    known("optimizer", optimizer, OPTIMIZERS)
    by_adamw = count.ends if optimizer == "muon" else count.ends + count.matrices
    by_muon = count.matrices if optimizer == "muon" else ()
    remembered = 8 * size(by_adamw, devices) + 4 * len(by_adamw) + 4 * size(by_muon, devices)
    numbers = size(count.ends + count.matrices, devices)
    return State(4 * numbers, 4 * numbers, remembered)


@dataclass(frozen=True)
class Saved:
    """Bytes that the forward pass keeps for the backward, weights not counted again.

    >>> from clozelab.objectives import CausalLM
    >>> from clozelab.planning import row_of
    >>> kept = saved(ModelConfig(vocab_size=4096), "decoder-only", row_of(CausalLM(), 128), rows=16)
    >>> kept.blocks, kept.total
    (91684864, 95913968)
    """

    blocks: int
    """What the blocks keep: grows with rows, tokens and layers."""
    ends: int
    """Token ids, rotary turns, the last norms, and what an encoder hands over."""
    loss: int
    """The loss's gradients, for paid hidden states and for the table: worked out in the forward pass already."""
    casts: int
    """bfloat16 alone: the copies of the matrices that autocast makes are kept, two bytes for each number."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.blocks + self.ends + self.loss + self.casts


def saved(
    config: ModelConfig,
    architecture: str,
    row: Row,
    rows: int = 1,
    *,
    precision: str = "float32",
    kind: str = "cpu",
) -> Saved:
    """What `objective(model, batch)` keeps for `rows` rows, until `backward` has used it.

    In float32 a block keeps, for each token, eleven times D numbers around its attention (the stream, its norm; queries
    and keys before and after their norm and turn; values; what was read, twice, for the heads are moved) and four times
    F in its feed-forward, which is 44 D + 16 F bytes, and a few numbers for each head. bfloat16 keeps less of each, but
    the norm of the stream once for each product that reads it.

    `kind` "cpu" is exact, measured to the byte. For "cuda" it is what the same lines keep with a fused attention, not
    measured: PyTorch's fused norm may keep queries and keys in bfloat16 where the processor keeps float32.

    Raises `InputError` for names that do not exist, for no rows, and for a model with dropout.
    """
    known("precision", precision, PRECISIONS)
    known("kind", kind, KINDS)
    whole("rows", rows)
    if config.dropout:
        raise InputError(f"what dropout keeps is not counted: plan with dropout=0, got {config.dropout}")
    alone, reading = stacks(config, architecture)
    low, number = precision == "bfloat16", 2 if precision == "bfloat16" else 4
    width, heads = config.d_model, config.n_heads
    read, said = rows * row.read, rows * row.said
    decoder = architecture == "decoder-only"

    def attends(queries: int, keys: int, causal: bool, memory: bool) -> int:
        """Bytes of one attention, its norm with it: of all rows."""
        q, k = rows * queries, rows * keys
        stream = q * (4 * width + 4)  # x, and one over its root mean square
        normed = 4 * q * width  # read by query, key and value
        if low:  # each of the products that read it casts it anew
            normed = 2 * width * (q + 2 * k)
        elif memory:
            normed = 4 * q * width  # the memory itself is kept once for all blocks: in `ends`
        before = (q + k) * (4 * width + 4 * heads)  # queries and keys as their norm has them, in float32
        core = number * width * (q + 2 * k)  # queries, keys, values
        moved = number * q * width  # what was read, by tokens instead of heads: the last product's input
        if low and kind == "cpu" and keys < PLAIN_BELOW:
            core += number * q * heads * keys + (queries if causal else 0)  # all weights, and who may read nobody
        else:
            core += q * (4 * heads + (number * width if heads > 1 else 0))  # log-sum-exp, and what was read, by heads
        return stream + normed + before + core + moved

    def thinks(tokens: int) -> int:
        """Bytes of the feed-forward with its norm: gate, SiLU of it, input, their product."""
        normed = 2 * 2 * width if low else 4 * width
        return tokens * (4 * width + 4 + normed + 4 * number * config.feed_forward_size)

    blocks = alone * (attends(row.read, row.read, decoder, False) + thinks(read))
    own = attends(row.said, row.said, True, False) + attends(row.said, row.read, False, True) + thinks(said)
    blocks += reading * own
    ends = read * (8 + 4 * width + 4) + 4 * row.read * config.d_head  # ids, last norm, turns
    if reading:
        ends += said * (8 + 4 * width + 4) + 4 * row.said * config.d_head
        ends += 0 if low else 4 * read * width  # the memory
    ends += rows * row.offered  # which outputs are paid
    loss = 4 * width * (rows * row.paid + config.vocab_size)
    casts = 2 * parameters(config, architecture).inner if low else 0
    return Saved(blocks, ends, loss, casts)


def loss_work(config: ModelConfig, row: Row, rows: int = 1, *, precision: str = "float32", kind: str = "cpu") -> int:
    """Bytes that the loss needs while it is worked out, beside the gradients that it keeps.

    A place for a chunk of logits (`CHUNK` of them at most, however many positions are paid), and the paid hidden
    states. Under bfloat16 also a place for the chunk as the product gives it, copies of both factors, the gradient of
    one before it becomes float32, and the product for the other, which a processor copies once more to add it.

    >>> from clozelab.objectives import CausalLM
    >>> from clozelab.planning import row_of
    >>> few, many = (loss_work(ModelConfig(vocab_size=32_768), row_of(CausalLM(), 512), rows) for rows in (8, 16))
    >>> many - few == 8 * 511 * 128 * 4  # hidden states alone: the logits of 8 rows more take no room of their own
    True

    Raises `InputError` for names that do not exist, and for no rows.
    """
    known("precision", precision, PRECISIONS)
    known("kind", kind, KINDS)
    whole("rows", rows)
    positions, ids, width = rows * row.paid, config.vocab_size, config.d_model
    chunk = max(1, min(positions, CHUNK[kind] // ids))
    if precision == "float32":
        return 4 * positions * width + 4 * chunk * ids
    copied = 4 if kind == "cpu" else 0
    return 8 * positions * width + 6 * chunk * ids + (4 + copied) * ids * width


def backward_work(config: ModelConfig, row: Row, rows: int = 1, *, precision: str = "float32") -> int:
    """Bytes that the backward needs where it needs most, beside what was saved and the gradients of the weights.

    Either at its beginning, where the loss's gradients are scaled and spread over all positions, or in a feed-forward:
    the gradients of two of its inner layers, of the stream twice, and of one matrix. An estimate of the sizes that
    matter, good to a few percent of a whole step (`tests/planning/test_memory.py`).

    >>> from clozelab.objectives import CausalLM
    >>> from clozelab.planning import row_of
    >>> config, row = ModelConfig(vocab_size=4096), row_of(CausalLM(), 128)
    >>> backward_work(config, row, 16), loss_work(config, row, 16)
    (7909376, 17817600)

    Raises `InputError` for names that do not exist, and for no rows.
    """
    known("precision", precision, PRECISIONS)
    whole("rows", rows)
    number = 2 if precision == "bfloat16" else 4
    width, inner = config.d_model, config.feed_forward_size
    paying, most = rows * (row.said or row.read), rows * max(row.said, row.read)
    begin = 4 * width * (config.vocab_size + rows * row.paid + paying)
    matrix = (4 + (2 if precision == "bfloat16" else 0)) * width * inner
    return max(begin, most * (8 * width + 2 * number * inner) + matrix)


def known(name: str, value: str, values: tuple[str, ...]) -> None:
    """Raises `InputError` for a value that is not among them."""
    if value not in values:
        raise InputError(f"{name} must be one of {', '.join(values)}, got {value!r}")


def whole(name: str, value: int) -> None:
    """Raises `InputError` for what is no whole number of at least 1."""
    if not (isinstance(value, int) and value >= 1):
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
