"""What an objective makes of a row of text: its lengths, and how much of it is in the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..checks import check_int, check_type
from ..data import Batch, SpecialIds
from ..errors import InputError
from ..objectives import Objective, Target
from ..objectives.model_calls import LOSS_KEYS

SAMPLE_TOKENS = 2**20
"""Tokens that are corrupted to see what a row looks like: in 64 rows at least, and in 1,024 at most."""
OWN_IDS = ("pad", "eos", "mask", "decoder_start")
"""Roles for which `SpecialIds` has fields of its own, or a default."""


@dataclass(frozen=True)
class Row:
    """The lengths of one row, in tokens, padding included.

    >>> from clozelab import CausalLM, MaskedLM, SpanCorruption
    >>> from clozelab.planning import row_of
    >>> row = row_of(SpanCorruption(), 512)
    >>> row.text, row.input_length, row.decoder_length, row.loss_positions, row.sentinels
    (568, 512, 114, 114.0, 28)
    >>> row_of(CausalLM(), 512).loss_positions, row_of(MaskedLM(), 512).loss_positions
    (511.0, 77.0)
    """

    text: int
    """Tokens of text that the row is made of."""
    inputs: tuple[tuple[str, int], ...]
    """What the model reads: the keys of the batch that are no labels, each with its length."""
    outputs: int
    """Positions that could be in the loss, over all outputs of the model."""
    of_outputs: tuple[tuple[str, float], ...]
    """Positions that are, in the mean over rows, by the output of the model: each has a loss of its own, which is
    computed after the one before it."""
    sentinels: int
    """The most sentinels that stand in the inputs: a tokenizer must have reserved as many."""
    weighted: bool = False
    """Whether each loss position has a weight of its own."""
    distributions: float = 0.0
    """Bytes of the distributions that are predicted at loss positions, beyond those of one id each."""
    of_two_classes: float = 0.0
    """Loss positions that are projected onto two classes, real and replaced: then ids were drawn at the others."""

    @property
    def loss_positions(self) -> float:
        """Positions in the loss, the only ones that are projected onto the vocabulary."""
        return sum(positions for _, positions in self.of_outputs)

    @property
    def parts(self) -> int:
        """Outputs of the model."""
        return len(self.of_outputs)

    @property
    def input_length(self) -> int:
        """Positions of `input_ids`: T, or S of an encoder-decoder."""
        return dict(self.inputs)["input_ids"]

    @property
    def decoder_length(self) -> int:
        """Positions of `decoder_input_ids`: T of an encoder-decoder, 0 elsewhere."""
        return dict(self.inputs).get("decoder_input_ids", 0)

    @property
    def output_length(self) -> int:
        """Positions of the stack that is last: those whose hidden states may be in the loss."""
        return self.decoder_length or self.input_length


def row_of(objective: Objective, length: int) -> Row:
    """A row of `length` input tokens: the mean of those that the objective's own collator makes of random ids.

    Lengths and loss positions of causal LM, masked LM and span corruption are the same in every row. In prefix LM and
    masked diffusion the loss positions are uniform over the row, so that the mean of 512 rows, at 2,048 tokens each,
    has a standard error of 2.6%. Of an objective that changes during a run they are those of its middle, where a rate
    on a straight line has its mean.

    >>> from clozelab import MaskedLM
    >>> from clozelab.planning import row_of
    >>> row_of(MaskedLM(mask_rate=0.4), 128).loss_positions
    51.0

    Raises `InputError` for a length that the objective cannot use.
    """
    check_type(objective, Objective, "the objective")
    if not 1 <= check_int(length, "length") <= 2**20:
        raise InputError(f"length must be a whole number from 1 to 2^20, got {length!r}")
    text = objective.source_length(length)
    special, rows = _special_ids(objective, sentinels=text), min(max(64, SAMPLE_TOKENS // text), 1024)
    ids = special.replacements
    picks = torch.randint(len(ids), (rows, text), generator=torch.Generator().manual_seed(0))
    batch = objective.collator(special).block(ids[picks], example_ids=range(rows), progress=0.5)
    row = row_of_batch(objective, batch, text, special)
    if row.loss_positions == 0:
        raise InputError(
            f"rows of {length} input tokens leave the {objective.name} objective nothing to predict: choose a greater "
            "length"
        )
    return row


def row_of_batch(objective: Objective, batch: Batch, text: int, special: SpecialIds) -> Row:
    """The mean row of a batch that was made of rows of `text` tokens.

    An attention mask that hides nothing is left out, as the models do.
    """
    by_output, rows = objective.targets(batch), len(batch["input_ids"])
    targets = by_output.values()
    hides_nothing = {key for key, value in batch.items() if key.endswith("attention_mask") and bool((value != 0).all())}
    no_inputs = LOSS_KEYS | hides_nothing | {key for key, value in batch.items() if value.dim() < 2}  # such as a mode
    no_inputs |= objective.breakdown(batch).keys()
    inputs = {key: value.shape[1] for key, value in batch.items() if key not in no_inputs}
    return Row(
        text=text,
        inputs=tuple(inputs.items()),
        outputs=sum(target.labels[0].numel() for target in targets),
        of_outputs=tuple((name, int(target.loss_mask.sum()) / rows) for name, target in by_output.items()),
        sentinels=int(torch.isin(batch["input_ids"], torch.tensor(special.sentinels)).sum(1).max()),
        weighted=any(target.weights is not None for target in targets),
        distributions=sum(_bytes_of_distributions(target) for target in targets) / rows,
        of_two_classes=sum(int(target.loss_mask.sum()) for target in targets if target.detects_replaced) / rows,
    )


def _bytes_of_distributions(target: Target) -> int:
    """8 and 4 for each id and its probability, less the 8 of a single id."""
    if target.soft_labels is None:
        return 0
    return int(target.loss_mask.sum()) * (12 * target.soft_labels.ids.shape[-1] - 8)


def _special_ids(objective: Objective, sentinels: int) -> SpecialIds:
    """A vocabulary that has all an objective may ask for: its roles, and a sentinel for every token."""
    roles = {role: 3 + k for k, role in enumerate(role for role in objective.roles if role not in OWN_IDS)}
    first = 3 + len(roles) + 1000  # a thousand ids of text
    vocab_size = first + sentinels
    return SpecialIds(
        vocab_size=vocab_size,
        pad=0,
        eos=1,
        mask=2,
        sentinels=range(vocab_size - 1, first - 1, -1),
        roles=roles,
        starts_word=torch.arange(vocab_size) % 2 == 0,
        ends_sentence=torch.arange(vocab_size) % 20 == 0,
    )
