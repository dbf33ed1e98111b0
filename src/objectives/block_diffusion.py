"""Block diffusion (BD3-LM): masked diffusion within a block, blocks from left to right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.examples import IGNORED, Batch, Examples, arrange
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, continue_by_blocks
from ..languages import MarkovSource, masked_costs
from .masked_diffusion import EPS, LEVEL, WHICH, MaskedDiffusion
from .objective import FloorExercise, Likelihood
from .options import Bounds, options


@options
class BlockDiffusion(MaskedDiffusion):
    """Hide any share of each block, read the block on both sides and all blocks before it, predict the hidden tokens.

        text         the  cat  sat  on   the  mat                                        blocks of 2
        input_ids    the  [M]  [M]  [M]  [M]  mat  |  the  cat  sat  on   the  mat       noisy half, clean half
        block         0    0    1    1    2    2   |   0    0    1    1    2    2
        labels        .   cat  sat  on   the   .   |   .    .    .    .    .    .
        weights       2    2    1    1    2    2   |   0    0    0    0    0    0        b / k in each block

    A noisy block reads itself and the clean blocks before it; a clean block reads itself and the clean blocks before
    it. Both halves have the positions 0 .. n - 1, so a row is twice as long as its text. The clean half has no loss;
    later blocks attend to it. Each block of b tokens hides k of them, k uniform in 1 .. b, as `MaskedDiffusion` does
    with a whole text; the last block may be shorter. Where documents are kept apart, each document begins a block.

    The loss, summed over a text, is an upper bound of -ln p(text), its first token included. With blocks of 1 it
    *equals* -ln p(text), as for an autoregressive model; one block of all tokens is masked diffusion, bit for bit. The
    loss is in nats per token of the text.

    >>> import torch
    >>> from clozelab import SpecialIds
    >>> from clozelab.objectives import BlockDiffusion
    >>> objective, special = BlockDiffusion(block_size=2), SpecialIds(vocab_size=20, pad=0, eos=1, mask=2)
    >>> batch = objective.collator(special).block(torch.arange(10, 14)[None], example_ids=[3])
    >>> for key in ("input_ids", "labels", "weights"):
    ...     print(f"{key:9}", *(f"{x:5g}" for x in batch[key][0].tolist()))
    input_ids    10     2     2     2    10    11    12    13
    labels     -100    11    12    13  -100  -100  -100  -100
    weights       2     2     1     1     0     0     0     0
    >>> objective(torch.zeros(1, 8, 20), batch)  # a uniform guess among 20: ln 20, whatever is hidden
    Loss(logits: 2.9957 nats over 4)

    Raises `InputError` for options out of bounds, for a batch without weights or count, and for one in which a loss
    position is visible.

    Source: Arriola et al. 2025 (BD3-LM), sections 3.1 and 3.2; LLaDA's likelihood for the exact count. BD3-LM also
    clips the noise levels of a block to those with the least variance. With the exact count, the loss of a uniform
    guess has no variance already.
    """

    name, canonical, architecture, colour = "block-diffusion", "BD3-LM", "encoder-only", "#332288"
    hides, attends_to = "any share of each block", "its block on both sides, and the blocks before it"
    predicts, completes = "the hidden tokens, weighted by b / k", ("continue",)
    likelihood = Likelihood.BOUND
    exercise = FloorExercise(length=32, steps=4000)
    export_refusal = (
        "its model reads a text block after block, and no encoder of transformers does: what it exports would read all "
        "of a text"
    )

    block_size: Annotated[int, Bounds(1)] = 4
    """Tokens per block: 1 is autoregression; the length of the text is masked diffusion."""

    def corrupt(self, examples: Examples) -> Batch:
        text = examples.maskable & (~examples.special.is_special(examples.tokens) | examples.is_eos)
        block, first = number_blocks(examples.document_ids, examples.is_token, self.block_size)
        n = torch.zeros_like(block).scatter_add(1, block, text.long()).gather(1, block)  # of each token's block
        level, noise = examples.uniform(LEVEL).gather(1, first), examples.uniform(WHICH)  # one level a block
        if self.exact_count:
            k = 1 + (level * n).long()
            order = (2 * block + torch.where(text, noise, 1.0)).argsort(1)  # by block, then by noise
            hidden, weight = text & (order.argsort(1) - first < k), n.double() / k
        else:
            p = (1 - EPS) * level + EPS
            hidden, weight = text & (noise < p), 1 / p
        return noisy_and_clean(examples, block, hidden, weight * text) | Batch(count=text.sum(1))

    def source_length(self, length: int) -> int:
        """Half of the row."""
        if length < 2:
            raise InputError(f"a row of {length} tokens does not hold a text twice: use a longer one")
        return length // 2

    def reads(self, batch: Batch) -> dict[tuple[str, str], Tensor]:
        """By the lengths and the block size alone, so that a batch or a model with another rank is found out."""
        is_token = batch["attention_mask"] != 0
        length = is_token.sum(1, keepdim=True) // 2
        clean = torch.arange(is_token.shape[1], device=length.device) >= length  # (B, 2T)
        documents = batch.get("document_ids", torch.zeros_like(batch["input_ids"]))
        block, _ = number_blocks(2 * documents + clean, is_token, self.block_size)
        block = block - clean * block.gather(1, length.clamp(max=clean.shape[1] - 1))  # both halves from 0
        query, key = (lambda of: of[:, :, None]), (lambda of: of[:, None])
        own_block = (query(clean) == key(clean)) & (query(block) == key(block))
        before = key(clean) & (key(block) < query(block))
        mask = (own_block | before) & (query(documents) == key(documents)) & key(is_token)
        return {("logits", "input_ids"): mask}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        open_to_all, labels = batch["reading_group"] == 0, batch["labels"].long()
        if open_to_all.shape == labels.shape and bool((open_to_all & (labels != IGNORED)).any()):
            raise InputError(
                "tokens of the loss stand in reading group 0, which later blocks read: only those of a noisy half are "
                "in the loss, each block in a group of its own"
            )

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """The weighted costs of the hidden tokens under the exact posterior; their expectation is -ln p(text).

        Of the blocks before it, a block needs to know only the symbol that stands at its left.
        """
        k, same, size = source.symbols, torch.eye(source.symbols).double(), self.block_size
        visible = torch.cat([same, torch.ones(k, 1).double()], 1)  # (K, K + 1): a mask says nothing
        length = batch["attention_mask"].sum(1)[:, None] // 2
        ids, column = batch["input_ids"].clamp(max=k), torch.arange(int(length.max()))
        noisy = ids[:, column].masked_fill(column >= length, k)  # (B, T)
        clean = ids.gather(1, (column + length).clamp(max=ids.shape[1] - 1))
        labels, weights = batch["labels"][:, column], batch["weights"][:, column]
        total = torch.zeros(len(ids), dtype=torch.float64)
        for start in range(0, len(column), size):
            here, left = slice(start, start + size), slice(max(start - 1, 0), start)
            seen = torch.cat([clean[:, left], noisy[:, here]], 1)
            asked = torch.cat([torch.full_like(clean[:, left], IGNORED), labels[:, here]], 1)
            costs = masked_costs(source, seen, asked, visible, visible)[:, -noisy[:, here].shape[1] :]
            total += (costs * weights[:, here]).sum(1)
        return {"logits": total}

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Continue a text, one block after the other, each in the order of its most certain tokens."""
        return continue_by_blocks(model, tokenizer, text, block_size=self.block_size, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Continue a text by 24 tokens."""
        return self.complete(model, tokenizer, text, max_new_tokens=24, **sampling)


def noisy_and_clean(examples: Examples, block: Tensor, hidden: Tensor, weights: Tensor) -> Batch:
    """The batch (B, 2T), without its count, of tokens (B, T) in blocks (B, T), `hidden` (B, T) in the noisy half."""
    tokens, is_token = examples.tokens, examples.is_token
    clean = Batch(
        input_ids=tokens,
        labels=torch.full_like(tokens, IGNORED),
        weights=torch.zeros_like(weights, dtype=torch.float32),
        position_ids=torch.arange(tokens.shape[1]).expand_as(tokens),
        reading_rank=block + 1,
        reading_group=torch.zeros_like(block),  # open to all of a higher rank
        **examples.reading_keys(),
    )
    noisy = clean | Batch(
        input_ids=tokens.masked_fill(hidden, examples.special["mask"]),
        labels=examples.answers.masked_fill(~hidden, IGNORED),
        weights=weights.float(),
        reading_rank=block,  # below that of its own clean block
        reading_group=block + 1,  # open to its own alone
    )
    both = {key: torch.cat([noisy[key], clean[key]], 1) for key in clean}
    half = torch.cat([is_token.long() - 1, 2 * is_token.long() - 1], 1)  # 0 and 1, and -1 of padding
    return arrange(both, half, examples.special.pad)


def number_blocks(document_ids: Tensor | None, is_token: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(B, T) each: the block of a token, counted through the row, and the column of the block's first token.

    Each document (B, T) begins a block, None being one a row, and so does every `size`-th token of it.

    >>> import torch
    >>> from clozelab.objectives.block_diffusion import number_blocks
    >>> number_blocks(torch.tensor([[0, 0, 0, 1, 1, 1]]), torch.ones(1, 6).bool(), size=2)
    (tensor([[0, 0, 1, 2, 2, 3]]), tensor([[0, 0, 2, 3, 3, 5]]))
    """
    documents = torch.zeros_like(is_token, dtype=torch.int64) if document_ids is None else document_ids
    documents = documents.masked_fill(~is_token, -1)  # padding belongs to none
    column = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = documents != F.pad(documents, (1, 0), value=-2)[:, :-1]
    place = column - column.masked_fill(~begins, 0).cummax(1).values  # in its document
    begins = place % size == 0
    return begins.long().cumsum(1) - 1, column.masked_fill(~begins, 0).cummax(1).values
