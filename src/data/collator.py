"""The one collator: examples in, a batch with Hugging Face's keys out, whatever the objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import is_whole, of_kind, tensor, whole_number
from ..errors import InputError
from .hiding import IGNORED, Hide, Rows, side_by_side
from .noise import Noise, identity_of
from .packing import document_ids
from .special import SpecialIds

_OWN_KEYS = ("input_ids", "attention_mask", "labels", "word_ids", "special_tokens_mask", "identity", "epoch")


class Collator:
    """Turns examples into a batch, hiding what `hide` hides, with noise that belongs to the example.

    The noise of an example is a function of (seed, epoch, identity) and of nothing else: not of the global
    random state, the number of workers or processes, or the place of the example in the batch. The next epoch
    brings other noise; a fixed epoch fixes it, which is how evaluation keeps its masks.

    Two ways in, one result:

    - `collate(examples)`: a list of dicts, as `DataLoader(collate_fn=...)`, `datasets` and the Hugging Face
      Trainer give it. Each holds `input_ids` (list or 1-D tensor) and may hold `identity` (an integer or a
      string; a hash of the tokens otherwise), `epoch` (the collator's own otherwise), `attention_mask` (0 =
      padding), `special_tokens_mask` (1 = never hide), `word_ids` (-1 or None = no word), `labels` (-100 = never
      pay). Any other key passes through: values of one number or one shape are stacked, the rest come as a list.
    - `collate.block(tokens, identities)`: token ids (B, T) of packed text, the fast way.

    Hugging Face's keys come out: `input_ids`, `attention_mask`, `labels`, and `decoder_input_ids` for span
    corruption. Nothing that comes in is changed.

    >>> from clozelab.data import Collator, HideTokens, SpecialIds
    >>> special = SpecialIds(vocab_size=20, pad=0, eos=1, mask=2, sentinels=(19, 18))
    >>> collate = Collator(HideTokens(), special, seed=0)
    >>> batch = collate([{"input_ids": [5, 6, 7, 8, 9, 10, 11, 1], "identity": 41}, {"input_ids": [5, 6]}])
    >>> batch["input_ids"]
    tensor([[ 5,  6,  7,  8,  2, 10, 11,  1],
            [ 2,  6,  0,  0,  0,  0,  0,  0]])
    >>> batch["labels"]
    tensor([[-100, -100, -100, -100,    9, -100, -100, -100],
            [   5, -100, -100, -100, -100, -100, -100, -100]])

    Raises `InputError` for rows without `input_ids`, ids outside the vocabulary, per-token values of another
    length than the tokens, and what the way of hiding cannot do.
    """

    def __init__(
        self,
        hide: Hide,
        special: SpecialIds,
        *,
        seed: int = 0,
        epoch: int = 0,
        within_documents: bool = False,
    ) -> None:
        if not callable(hide):
            raise InputError(f"expected a way of hiding, as HideNext(), got {type(hide).__name__}")
        self.hide = hide
        self.special = of_kind(special, SpecialIds, "special ids", "give tokenizer.special, or fill in SpecialIds")
        self.seed = whole_number(seed, "seed")
        self.within_documents = within_documents
        # In shared memory, so that workers that outlive an epoch (persistent_workers) see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.set_epoch(epoch)

    @property
    def epoch(self) -> int:
        """The epoch of examples that bring none."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next batches: fresh noise for every example. Call it before each pass."""
        self._epoch.fill_(whole_number(epoch, "epoch"))

    def block(
        self,
        tokens: Tensor,
        identities: Sequence[int | str] | Tensor,
        *,
        epoch: int | Sequence[int] | None = None,
        word_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """A batch from token ids (B, T), nothing padded, and the identities (B,) of the rows.

        `epoch` is one number or one for each row; the collator's own where it is None.
        """
        if not isinstance(tokens, (Tensor, np.ndarray, list, tuple)) or not hasattr(identities, "__len__"):
            came = f"{type(tokens).__name__} and {type(identities).__name__}"
            raise InputError(f"expected token ids (B, T) and B identities, got {came}")
        tokens = torch.as_tensor(tokens)
        if tokens.dim() != 2 or len(tokens) != len(identities) or not is_whole(tokens):
            raise InputError(
                f"expected token ids (B, T) of whole numbers and B identities, got {tokens.dtype} of shape "
                f"{tuple(tokens.shape)} and {len(identities)}"
            )
        if word_ids is not None and tensor(word_ids, "word_ids", "(B, T)").shape != tokens.shape:
            raise InputError(
                f"expected word_ids {tuple(tokens.shape)}, one for each token, got {tuple(word_ids.shape)}"
            )
        everywhere = torch.ones_like(tokens, dtype=torch.bool)
        noise = Noise.of(self.seed, self.epoch if epoch is None else epoch, identities)
        return self._hide(tokens.long(), everywhere, ~everywhere, noise, word_ids=word_ids)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        if not isinstance(examples, (list, tuple)):
            raise InputError(f"expected a list of dicts that hold 'input_ids', got {type(examples).__name__}")
        if not examples or not all(isinstance(example, Mapping) and "input_ids" in example for example in examples):
            came = "none" if not examples else _describe(examples)
            raise InputError(f"expected a list of dicts that hold 'input_ids', got {came}")
        texts = [_one_dimensional(example["input_ids"], "input_ids") for example in examples]
        lengths = [len(text) for text in texts]
        tokens = side_by_side(texts, self.special.pad)  # (B, T)
        present = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
        noise = Noise.of(
            self.seed,
            [example.get("epoch", self.epoch) for example in examples],
            [_identity(example, text) for example, text in zip(examples, texts)],
        )

        def per_token(key: str, missing: int) -> Tensor | None:
            """(B, T) of a key with one value for each token, or None where no example has it."""
            if not any(key in example for example in examples):
                return None
            return side_by_side(
                [_aligned(example.get(key), key, n, missing) for example, n in zip(examples, lengths)],
                missing,
            )

        attention, protected = per_token("attention_mask", 1), per_token("special_tokens_mask", 0)
        batch: dict[str, Any] = self._hide(
            tokens,
            present if attention is None else present & (attention != 0),
            torch.zeros_like(present) if protected is None else protected != 0,
            noise,
            labels=per_token("labels", IGNORED),
            word_ids=per_token("word_ids", -1),
        )
        same_text = batch["labels"].shape == tokens.shape and "decoder_input_ids" not in batch
        for key in dict.fromkeys(key for example in examples for key in example):
            if key not in _OWN_KEYS and key not in batch:
                batch[key] = _together([example.get(key) for example in examples], key, lengths, same_text)
        return batch

    def _hide(self, tokens: Tensor, present: Tensor, protected: Tensor, noise: Noise, **more: Tensor | None) -> dict:
        special = self.special
        low, high = (int(end) for end in tokens.aminmax()) if tokens.numel() else (0, 0)
        if low < 0 or high >= special.vocab_size:
            raise InputError(
                f"token ids must lie in 0 .. {special.vocab_size - 1}, got {low} .. {high}: "
                "do the texts and the special ids come from the same tokenizer?"
            )
        documents = document_ids(tokens, special.eos) if self.within_documents else None
        return self.hide(Rows(tokens, present, protected, noise, special, documents=documents, **more))


def _describe(examples: Sequence[Any]) -> str:
    for b, example in enumerate(examples):
        if not isinstance(example, Mapping):
            return f"a {type(example).__name__} in place {b}"
        if "input_ids" not in example:
            return f"the keys {sorted(map(str, example))} in place {b}: was the text tokenised?"
    return "something else"


def _one_dimensional(values: Any, key: str) -> Tensor:
    """A copy as int64; None stands for -1 (Hugging Face's word ids)."""
    if isinstance(values, (list, tuple)):
        values = [-1 if value is None else value for value in values]
    try:
        tensor = torch.as_tensor(np.asarray(values) if not isinstance(values, Tensor) else values)
    except (TypeError, ValueError) as error:
        raise InputError(f"'{key}' must be a list of integers or a 1-D tensor, got {values!r:.80}") from error
    if tensor.dim() != 1 or not (is_whole(tensor) or tensor.numel() == 0 or key.endswith("mask")):
        raise InputError(
            f"'{key}' must be a list of integers or a 1-D tensor, got {tensor.dtype} of shape {tuple(tensor.shape)}"
        )
    return tensor.long().cpu()


def _aligned(values: Any, key: str, length: int, missing: int) -> Tensor:
    if values is None:
        return torch.full((length,), missing)
    tensor = _one_dimensional(values, key)
    if len(tensor) != length:
        raise InputError(f"'{key}' must have one value for each of the {length} tokens, got {len(tensor)}")
    return tensor


def _identity(example: Mapping[str, Any], tokens: Tensor) -> int | str:
    identity = example.get("identity")
    return identity_of(tokens) if identity is None else identity


def _together(values: list[Any], key: str, lengths: list[int], same_text: bool) -> Any:
    """An extra key as one tensor where its values allow it, as a list otherwise."""
    try:
        tensors = [torch.as_tensor(value) for value in values]
    except (TypeError, ValueError, RuntimeError):
        return values
    if all(tensor.dim() == 1 and len(tensor) == n for tensor, n in zip(tensors, lengths)):
        if not same_text:
            raise InputError(
                f"'{key}' has one value for each token, but span corruption changes the number of tokens: remove it"
            )
        return side_by_side(tensors, 0)
    return torch.stack(tensors) if len({tensor.shape for tensor in tensors}) == 1 else values
