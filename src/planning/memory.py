"""What a step holds in memory: weights, gradients, the optimiser, and what the model keeps for its backward.

What the model keeps is read from PyTorch (`abstract.py`), the loss's part follows `objectives/cross_entropy.py`, and
what the backward needs for a while is an estimate; the tests measure all three on real steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..checks import check_type
from ..errors import InputError
from ..models import ModelConfig
from ..objectives import Objective
from ..objectives.cross_entropy import CHUNK
from .abstract import bytes_kept, bytes_of_numbers
from .rows import Row
from .shape import Parameters, parameters, size

OPTIMIZERS = ("adamw", "muon")
PRECISIONS = ("float32", "bfloat16")
KINDS = ("cpu", "cuda")


@dataclass(frozen=True)
class State:
    """Bytes that stay from step to step; weights and gradients are float32, also under bfloat16's autocast.

    >>> from clozelab import CausalLM
    >>> from clozelab.models import ModelConfig
    >>> from clozelab.planning import parameters, state
    >>> state(parameters(CausalLM(), ModelConfig(vocab_size=4096)), "adamw")
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

    AdamW keeps two numbers for each parameter, and a counter for each tensor; Muon one for each number of the matrices
    in the blocks, the tables staying with AdamW (`clozelab.training.optimizers`).

    Raises `InputError` for an optimiser that does not exist.
    """
    check_type(count, Parameters, "the parameters", "parameters(objective, config) counts them")
    whole("devices", devices)
    known("optimizer", optimizer, OPTIMIZERS)
    by_adamw = count.tables if optimizer == "muon" else count.tables + count.matrices
    by_muon = count.matrices if optimizer == "muon" else ()
    kept = 8 * size(by_adamw, devices) + 4 * len(by_adamw) + 4 * size(by_muon, devices)
    numbers = size(count.tables + count.matrices, devices)
    return State(4 * numbers, 4 * numbers, kept)


@dataclass(frozen=True)
class Saved:
    """Bytes that the forward pass keeps for the backward, weights not counted again.

    >>> from clozelab import CausalLM
    >>> from clozelab.models import ModelConfig
    >>> from clozelab.planning import row_of, saved
    >>> kept = saved(CausalLM(), ModelConfig(vocab_size=4096), row_of(CausalLM(), 128), rows=16)
    >>> kept.activations, kept.total
    (92774400, 96970632)
    """

    activations: int
    """What the model keeps: grows with rows, tokens and layers."""
    loss: int
    """The loss's gradients, for the hidden states at loss positions and for the table, which the forward pass has
    computed already; and these hidden states with their labels, for gradients of gradients."""
    casts: int
    """bfloat16 alone: the copies of the matrices that autocast makes are kept, two bytes for each number. Sharded
    weights come in bfloat16, and recomputed blocks keep nothing: there are none."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.activations + self.loss + self.casts


def saved(
    objective: Objective,
    config: ModelConfig,
    row: Row,
    rows: int = 1,
    *,
    precision: str = "float32",
    kind: str = "cpu",
    recompute: bool = False,
) -> Saved:
    """What `objective(model, batch)` keeps for `rows` rows, until `backward` has used it.

    `recompute` says that blocks keep their inputs alone (`TrainConfig.recompute`).

    `kind` "cpu" is exact, measured to the byte. For "cuda" it is what the same forward pass keeps with a fused
    attention, not measured: PyTorch's fused norm may keep queries and keys in bfloat16 where the processor keeps
    float32.

    Raises `InputError` for names that do not exist, and for no rows.
    """
    known("precision", precision, PRECISIONS)
    known("kind", kind, KINDS)
    whole("rows", rows)
    check_type(row, Row, "the row", "row_of(objective, length) makes it")
    how = {"precision": precision, "kind": kind}
    kept = bytes_kept(objective, config, row, rows, **how, recompute=recompute)
    casts = 2 * parameters(objective, config).in_blocks if precision == "bfloat16" and not recompute else 0
    numbers, tables = bytes_of_numbers(objective, config, row, **how), row.parts - (row.of_two_classes > 0)
    # Hidden states at loss positions and their gradients, labels, weights; the gradients of the tables.
    states = sum(round(rows * positions) * numbers[name] for name, positions in row.of_outputs)
    gradients = config.d_model * (states + 4 * tables * config.vocab_size + 8 * (row.of_two_classes > 0))
    asked = config.d_model * states + round(rows * row.loss_positions) * (8 + 4 * row.weighted)
    asked += round(rows * row.distributions)
    if row.of_two_classes:
        kept += 8 * rows * row.input_length  # the ids that are drawn, and read in the place of `input_ids`
    loss = gradients + asked + rows * row.outputs + 8 * row.parts  # what is in it, and the numbers it is divided by
    return Saved(kept - casts, loss, casts)


def loss_work(config: ModelConfig, row: Row, rows: int = 1, *, precision: str = "float32", kind: str = "cpu") -> int:
    """Bytes that the loss needs while it is computed, beside the gradients that it keeps.

    Of one part, as the parts are computed one after the other: room for a chunk of logits (`CHUNK` of them at most,
    however many loss positions there are), and the hidden states at the loss positions. Under bfloat16 also room for
    the chunk as the product gives it, copies of both factors, the gradient of one before it becomes float32, and the
    product for the other, which a processor copies once more to add it.

    >>> from clozelab import CausalLM
    >>> from clozelab.models import ModelConfig
    >>> from clozelab.planning import loss_work, row_of
    >>> few, many = (loss_work(ModelConfig(vocab_size=32_768), row_of(CausalLM(), 512), rows) for rows in (8, 16))
    >>> many - few == 8 * 511 * 128 * 4  # hidden states alone: the logits of 8 rows more take no room of their own
    True

    Raises `InputError` for names that do not exist, and for no rows.
    """
    known("precision", precision, PRECISIONS)
    known("kind", kind, KINDS)
    whole("rows", rows)
    positions, ids, width = round(rows * row.loss_positions / row.parts), config.vocab_size, config.d_model
    tables = row.parts - (row.of_two_classes > 0)
    chunk = max(1, min(round(rows * (row.loss_positions - row.of_two_classes) / tables), CHUNK[kind] // ids))
    if precision == "float32":
        return 4 * positions * width + 4 * chunk * ids
    copied = 4 if kind == "cpu" else 0
    return 8 * positions * width + 6 * chunk * ids + (4 + copied) * ids * width


def backward_work(config: ModelConfig, row: Row, rows: int = 1, *, precision: str = "float32") -> int:
    """Bytes that the backward needs where it needs most, beside what was saved and the gradients of the weights.

    Either at its beginning, where the loss's gradients are scaled and spread over all positions, or in a feed-forward:
    the gradients of two of its inner layers, of the stream twice, and of one matrix. An estimate of the sizes that
    matter: a whole step comes within 10% of it (`tests/planning/test_memory.py`).

    >>> from clozelab import CausalLM
    >>> from clozelab.models import ModelConfig
    >>> from clozelab.planning import backward_work, row_of
    >>> backward_work(ModelConfig(vocab_size=4096), row_of(CausalLM(), 128), rows=16)
    7909376

    Raises `InputError` for names that do not exist, and for no rows.
    """
    known("precision", precision, PRECISIONS)
    whole("rows", rows)
    number = 2 if precision == "bfloat16" else 4
    width, inner = config.d_model, config.feed_forward_size
    outputs, longest = rows * row.output_length, rows * max(length for _, length in row.inputs)
    begin = 4 * width * round(config.vocab_size + rows * row.loss_positions + outputs)
    matrix = (4 + (2 if precision == "bfloat16" else 0)) * width * inner
    return max(begin, longest * (8 * width + 2 * number * inner) + matrix)


def recomputed_work(
    objective: Objective, config: ModelConfig, row: Row, rows: int = 1, *, precision: str = "float32", kind: str = "cpu"
) -> int:
    """Bytes that a block has computed again when its backward begins, without its inputs, which were kept.

    Of the largest kind of block; with the copies that autocast makes of its matrices.

    >>> from clozelab import CausalLM
    >>> from clozelab.models import ModelConfig
    >>> from clozelab.planning import recomputed_work, row_of, saved
    >>> config, row = ModelConfig(vocab_size=4096, n_layers=8), row_of(CausalLM(), 128)
    >>> whole, inputs = (saved(CausalLM(), config, row, recompute=again).activations for again in (False, True))
    >>> whole - inputs == 8 * recomputed_work(CausalLM(), config, row)
    True

    Raises `InputError` for names that do not exist, and for no rows.
    """
    known("precision", precision, PRECISIONS)
    known("kind", kind, KINDS)
    whole("rows", rows)

    def kept(recompute: bool, **depth: int) -> int:
        how = {"precision": precision, "kind": kind, "recompute": recompute}
        return bytes_kept(objective, replace(config, **{**shallow, **depth}), row, rows, **how)

    shallow = {"n_layers": 1, **({"n_decoder_layers": 1} if row.decoder_length else {})}
    inputs, everything = kept(True), kept(False)
    of_blocks = [kept(False, **{name: 2}) - everything - (kept(True, **{name: 2}) - inputs) for name in shallow]
    return max(of_blocks)


def known(name: str, value: object, values: tuple[object, ...]) -> None:
    """Raises `InputError` for a value that is not among them."""
    if value not in values:
        raise InputError(f"{name} must be one of {', '.join(map(str, values))}, got {value!r}")


def whole(name: str, value: int) -> None:
    """Raises `InputError` for what is no whole number of at least 1."""
    if not (isinstance(value, int) and value >= 1):
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
