"""The batches that a run is evaluated on: of one held-out text, or of each corpus of a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..data import Batch, Blocks, Collator, Mixture, Packed, Tokenizer
from ..errors import InputError
from ..objectives import Objective
from .heldout import fixed_batches
from .scored_bytes import scored_bytes


@dataclass(frozen=True)
class HeldOutBatches:
    """Batches of held-out text that are the same at every evaluation; `heldout_batches` makes them."""

    parts: Sequence[tuple[Blocks, list[Batch]]]
    """Of each corpus, its blocks and the batches of the first of them."""
    names: Sequence[str] = ()
    """The corpora of a mixture."""

    @property
    def batches(self) -> list[Batch]:
        """All batches."""
        return [batch for _, batches in self.parts for batch in batches]

    @property
    def corpora(self) -> list[str]:
        """The corpus of each batch; empty where the text is no mixture."""
        return [name for name, (_, batches) in zip(self.names, self.parts) for _ in batches]

    def scored_bytes(self, objective: Objective, tokenizer: Tokenizer, collator: Collator) -> int | None:
        """The bytes of the text that is scored, as the function of that name counts them; None where not known."""
        total = 0
        for blocks, batches in self.parts:
            scored = scored_bytes(objective, tokenizer, blocks, collator, batches)
            if scored is None:
                return None
            total += scored
        return total


def heldout_batches(
    heldout: Packed | Mixture, collator: Collator, length: int, *, rows: int = 256, batch_size: int = 32
) -> HeldOutBatches:
    """The first `rows` blocks of held-out text, corrupted once and for all: see `fixed_batches`.

    Of a mixture each corpus has its share of the rows, one at least, in batches of its own; one with too little
    held-out text has fewer.

    >>> from clozelab import CausalLM
    >>> from clozelab.data import Mixture, pack, train_bpe
    >>> from clozelab.evaluation.heldout_batches import heldout_batches
    >>> tokenizer = train_bpe(["the cat sat"] * 2, vocab_size=400)
    >>> texts = [pack([text] * 40, tokenizer) for text in ("the cat sat", "the cat")]
    >>> fixed = heldout_batches(Mixture(["a", "b"], texts, [3, 1]), CausalLM().collator(tokenizer.special), 4, rows=8)
    >>> [len(batch["labels"]) for batch in fixed.batches], fixed.corpora
    ([6, 2], ['a', 'b'])

    Raises `InputError` where a text does not fill one block.
    """
    texts, quotas, names = [heldout], [rows], []
    if isinstance(heldout, Mixture):
        texts, names = list(heldout.texts), list(heldout.names)
        quotas = [max(1, round(rows * share)) for share in heldout.shares]
    parts = []
    for text, quota in zip(texts, quotas):
        try:
            blocks = text.blocks(length)
        except InputError as error:
            name = f" of {names[len(parts)]}" if names else ""
            raise InputError(f"too little{name} is held out: {error}") from error
        parts.append((blocks, fixed_batches(blocks, collator, rows=quota, batch_size=batch_size)))
    return HeldOutBatches(parts, names)
