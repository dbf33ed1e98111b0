"""How many bytes of text a held-out loss is the likelihood of: what its bits per byte are divided by."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from ..checks import check_type
from ..data import IGNORED, Batch, Blocks, Collator, IdTokenizer, Packed, SpecialIds, Tokenizer
from ..errors import InputError
from ..objectives import Likelihood, Objective
from .heldout import EVALUATION_EPOCH


def scored_bytes(
    objective: Objective,
    tokenizer: Tokenizer,
    blocks: Blocks,
    collator: Collator,
    batches: Sequence[Batch],
) -> int | None:
    """The UTF-8 bytes of the text that the loss of `batches = fixed_batches(blocks, collator)` is the likelihood of.

    Where the ids of a tokenizer stand for bytes (`Tokenizer.byte_lengths`), those of the scored ids are added. For any
    other, they are counted in the text itself as it is packed, `pack(..., byte_counts=True)`: each token has the bytes
    up to its end. Ids of an `IdTokenizer` have none. The result is None, not an estimate, where the bytes are not
    known, and for a loss that is no likelihood.

    >>> from clozelab import CausalLM
    >>> from clozelab.data import pack, train_characters
    >>> from clozelab.evaluation import fixed_batches, scored_bytes
    >>> tokenizer, objective = train_characters(["été"]), CausalLM()
    >>> blocks = pack(["été"], tokenizer, byte_counts=True).blocks(3)
    >>> collator = objective.collator(tokenizer.special)
    >>> scored_bytes(objective, tokenizer, blocks, collator, fixed_batches(blocks, collator))  # all but the first
    3
    """
    check_type(objective, Objective, "the objective")
    check_type(tokenizer, Tokenizer, "the tokenizer")
    if isinstance(tokenizer, IdTokenizer):
        return 0
    if objective.likelihood is Likelihood.NONE:
        return None
    if tokenizer.byte_lengths is not None:
        lengths = tokenizer.byte_lengths
        return sum(int(lengths[objective.scored_ids(batch)].sum()) for batch in batches)
    if not isinstance(blocks.packed, Packed) or blocks.packed.byte_counts is None:
        return None
    counts = Blocks(replace(blocks.packed, tokens=blocks.packed.byte_counts), blocks.length)
    total = first = 0
    for batch in batches:
        numbers = list(range(first, first + len(batch["labels"])))
        first += len(numbers)
        places = _scored_places(objective, collator, blocks.take(numbers), numbers, batch)
        if places is None:
            return None
        total += int(counts.take(numbers).flatten()[places].sum())
    return total


def _scored_places(
    objective: Objective, collator: Collator, tokens: Tensor, numbers: list[int], batch: Batch
) -> Tensor | None:
    """The places in tokens (B, T), flattened, of the scored ids of their batch; None where they cannot be told.

    Each token is replaced by an id that says its place, and the same corruption is applied. Ends of text keep their
    ids, by which documents are found, and have no bytes. The result is held against the batch itself.
    """
    special = collator.special
    size, flat = special.vocab_size, tokens.flatten()
    places = torch.arange(flat.numel())
    keeps = flat == special.eos
    numbered = torch.where(keeps, flat, size + places)
    further = size + places[special.is_special(flat) & ~keeps]  # an unknown token is special wherever it stands
    placed = copy(collator)
    placed.special = _grown(special, size + flat.numel(), further.tolist())
    try:
        coded = placed.block(numbered.view_as(tokens), numbers, epoch=EVALUATION_EPOCH, progress=1.0)
    except InputError:  # it asks more of an id than that it is text: where words begin
        return None
    scored = objective.scored_ids(coded).flatten()
    found = scored[scored >= size] - size
    spelled = scored.clone()
    spelled[scored >= size] = flat[found]
    expected = objective.scored_ids(batch).flatten()
    return found if torch.equal(spelled[spelled != IGNORED], expected[expected != IGNORED]) else None


def _grown(special: SpecialIds, vocab_size: int, others: list[int]) -> SpecialIds:
    return replace(
        special, vocab_size=vocab_size, others=(*special.others, *others), starts_word=None, ends_sentence=None
    )
