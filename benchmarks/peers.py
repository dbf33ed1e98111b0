"""What people use today, at our shapes: the models and the collator of `transformers`, a span collator, `datasets`.

Nothing is downloaded: models are fresh, and the tokenizer is trained here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clozelab.data import Tokenizer


def model(objective: str, vocabulary: int, *, length: int, d_model: int, n_layers: int, n_heads: int, attention: str):
    """The model of `transformers` that fits an objective, without dropout: GPT-2, BERT or T5.

    `attention` is "sdpa", the fused kernel, or "eager". T5 of this version has only what its version offers.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    ids = {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    if objective == "causal":
        kind, config = transformers.GPT2LMHeadModel, transformers.GPT2Config(
            n_embd=d_model, n_layer=n_layers, n_head=n_heads, n_positions=length,
            resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, loss_type="ForCausalLM", use_cache=False, **ids,
        )  # fmt: skip
    elif objective == "masked":
        kind, config = transformers.BertForMaskedLM, transformers.BertConfig(
            hidden_size=d_model, num_hidden_layers=n_layers, num_attention_heads=n_heads, intermediate_size=4 * d_model,
            max_position_embeddings=length, hidden_dropout_prob=0, attention_probs_dropout_prob=0, **ids,
        )  # fmt: skip
    else:
        kind, config = transformers.T5ForConditionalGeneration, transformers.T5Config(
            d_model=d_model, d_kv=d_model // n_heads, d_ff=4 * d_model, num_layers=n_layers,
            num_decoder_layers=n_layers, num_heads=n_heads, dropout_rate=0, decoder_start_token_id=0, use_cache=False,
            vocab_size=vocabulary, pad_token_id=0, eos_token_id=1,
        )  # fmt: skip
    config._attn_implementation = attention
    return kind(config).train()


def tokenizer(ours: Tokenizer):
    """Our tokenizer as `transformers` wraps it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=ours.backend, pad_token="<pad>", eos_token="</s>", mask_token="<mask>"
    )


# --------------------------------------------------------------------------- span corruption in numpy


class SpanCollator:
    """T5's span corruption as it is usually written, each example by itself.

    From the algorithm (Raffel et al. 2020, section 3.1.4): as many spans as the density and their mean length ask for,
    hidden and visible tokens each cut into that many parts by a random segmentation, the parts in turns, a visible one
    first; each hidden part becomes a sentinel, and the targets are the same with the roles exchanged.

    `together`: only the masks are drawn one by one and the rest is done for all rows at once, which works where all
    have one length.
    """

    def __init__(self, sentinels: Sequence[int], eos: int, start: int, *, together: bool = False):
        self.sentinels, self.eos, self.start, self.together = np.array(sentinels), eos, start, together
        self.density, self.mean_noise_span_length = 0.15, 3.0
        self.random = np.random.default_rng(0)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        rows = [np.asarray(example["input_ids"]) for example in examples]
        if self.together:
            tokens = np.stack(rows)  # (B, T)
            hidden = np.stack([self.mask(len(row)) for row in rows])
            inputs, targets = self.corrupt(tokens, hidden), self.corrupt(tokens, ~hidden)
        else:
            pairs = [(row[None], self.mask(len(row))[None]) for row in rows]
            inputs = np.concatenate([self.corrupt(row, hidden) for row, hidden in pairs])
            targets = np.concatenate([self.corrupt(row, ~hidden) for row, hidden in pairs])
        decoder_inputs = np.roll(targets, 1, axis=1)
        decoder_inputs[:, 0] = self.start
        return {
            "input_ids": torch.from_numpy(inputs),
            "attention_mask": torch.ones(inputs.shape, dtype=torch.long),
            "labels": torch.from_numpy(targets),
            "decoder_input_ids": torch.from_numpy(decoder_inputs),
        }

    def mask(self, length: int) -> np.ndarray:
        """(T,) bool: what is hidden of one example."""
        hidden = min(max(round(length * self.density), 1), length - 1)
        spans = max(round(hidden / self.mean_noise_span_length), 1)
        parts = np.stack([self.segments(length - hidden, spans), self.segments(hidden, spans)], 1).ravel()
        return np.repeat(np.arange(len(parts)) % 2 == 1, parts)

    def segments(self, total: int, parts: int) -> np.ndarray:
        """Lengths of at least 1 that add up to the total, every way of cutting equally likely."""
        cuts = np.arange(total - 1) < parts - 1
        self.random.shuffle(cuts)
        return np.bincount(np.concatenate([[0], np.cumsum(cuts)]), minlength=parts)

    def corrupt(self, tokens: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        """(B, S): each hidden run replaced by its sentinel, an end of text behind it."""
        first = hidden & ~np.pad(hidden, ((0, 0), (1, 0)))[:, :-1]
        stands = np.where(first, self.sentinels[np.cumsum(first, axis=1) - 1], tokens)
        kept = stands[~hidden | first].reshape(len(tokens), -1)
        return np.concatenate([kept, np.full((len(tokens), 1), self.eos)], axis=1)


# --------------------------------------------------------------------------- tokenising


def packed_by_datasets(
    documents: Iterable[str], ours: Tokenizer, length: int, cache: str, *, wrapped: bool, workers: int | None = None
) -> int:
    """Tokenise and pack with `datasets.map`, as its users do; returns the number of blocks.

    `wrapped`: by the fast tokenizer of `transformers`, whose call makes masks too; otherwise straight by `tokenizers`.
    Each batch of 1000 documents is laid end to end and cut, its remainder dropped.
    """
    import datasets

    datasets.disable_progress_bars()
    datasets.config.HF_DATASETS_CACHE = cache
    theirs, eos, dtype = tokenizer(ours), ours.special.eos, np.uint16 if ours.vocab_size <= 1 << 16 else np.int32

    def to_blocks(batch: dict[str, list]) -> dict[str, Any]:
        if wrapped:
            ids = theirs(batch["text"], add_special_tokens=False, return_attention_mask=False)["input_ids"]
        else:
            ids = ours.encode_batch(batch["text"])
        stream = np.concatenate([np.array([*document, eos], dtype=dtype) for document in ids])
        return {"input_ids": list(stream[: len(stream) // length * length].reshape(-1, length))}

    rows = datasets.Dataset.from_dict({"text": list(documents)})
    settings = {"num_proc": workers} if workers else {}
    file = f"{cache}/packed.arrow"
    return len(rows.map(to_blocks, batched=True, remove_columns=["text"], cache_file_name=file, **settings))


def parameters(network: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in network.parameters())
