"""The one collator: examples in, a batch with Hugging Face's keys out, whatever the objective."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_int, check_number, check_tensor, check_type, is_whole
from ..errors import InputError
from ..escape import shown
from .examples import IGNORED, Batch, Examples, fill_value, pad_rows
from .noise import Noise, hash_tokens
from .packing import document_ids
from .special_ids import SpecialIds

Corruption = Callable[[Examples], Batch]
"""What an objective hides: a pure function from examples to a batch."""

PER_TOKEN = {"attention_mask": 1, "special_tokens_mask": 0, "loss_mask": 1, "labels": IGNORED, "word_ids": -1}
"""Keys of an example with one value a token, and the value of a token that has none."""
OWN_KEYS = {"input_ids", "example_id", "epoch", *PER_TOKEN}
"""All keys of an example that the collator reads."""


class Collator:
    """Turns examples into a batch by a corruption, with noise that belongs to the example.

    The noise of an example is a function of (seed, epoch, example id) and of nothing else: not of the global random
    state, the number of workers or processes, the place of the example in the batch, or padding. The next epoch brings
    other noise; a fixed epoch fixes it, which is how evaluation keeps its masks.

    Two ways in, one result:

    - `collate(examples)`: a list, as `DataLoader(collate_fn=...)`, `datasets` and the Hugging Face Trainer give it.
      Each example is a list of ids or a dict with `input_ids` (list or 1-D tensor), and may hold `example_id` (an
      integer or a string; a hash of the tokens otherwise), `epoch` (the collator's own otherwise), `attention_mask`
      (0 = padding, which is removed on whichever side it stands), `special_tokens_mask` (1 = never hide), `loss_mask`
      (0 = may be hidden, and is not in the loss), `word_ids` (-1 or None = no word), `labels` (-100 = not in the loss,
      and never hidden). The corruption gets the keys of `extra`, a key of `keep` passes through to the model, and any
      other is an error that names it.
    - `collate.block(tokens, example_ids)`: token ids (B, T) of packed text, the fast way.

    Hugging Face's keys come out: `input_ids`, `attention_mask`, `labels`, `decoder_input_ids` and so on, on the CPU,
    padded on the right to the longest row, and on to a multiple of `pad_to_multiple_of` (the length itself makes all
    batches equally wide). Nothing that comes in is changed.

    >>> from clozelab import MaskedLM, SpecialIds
    >>> special = SpecialIds(vocab_size=20, pad=0, eos=1, mask=2, sentinels=(19, 18))
    >>> collate = MaskedLM().collator(special, seed=0)
    >>> batch = collate([{"input_ids": [5, 6, 7, 8, 9, 10, 11, 1], "example_id": 41}, [5, 6]])
    >>> batch["input_ids"]
    tensor([[ 5,  6,  7,  8,  2, 10, 11,  1],
            [ 2,  6,  0,  0,  0,  0,  0,  0]])
    >>> batch["labels"]
    tensor([[-100, -100, -100, -100,    9, -100, -100, -100],
            [   5, -100, -100, -100, -100, -100, -100, -100]])

    Raises `InputError` for rows without `input_ids`, unknown keys, ids outside the vocabulary, per-token values of
    another length than the tokens, a corruption that does not keep documents apart where it is asked to, and what the
    corruption itself refuses.
    """

    def __init__(
        self,
        corrupt: Corruption,
        special: SpecialIds,
        *,
        seed: int = 0,
        epoch: int = 0,
        within_documents: bool = False,
        keep: Collection[str] = (),
        extra: Collection[str] = (),
        pad_to_multiple_of: int = 1,
    ) -> None:
        if not callable(corrupt):
            raise InputError(f"expected a corruption, as MaskedLM().corrupt, got {type(corrupt).__name__}")
        self.corrupt = corrupt
        self.special = check_type(special, SpecialIds, "special ids", "give tokenizer.special, or fill in SpecialIds")
        self.seed = check_int(seed, "seed")
        self.within_documents = within_documents
        self.keep = frozenset({keep} if isinstance(keep, str) else keep)
        if own := self.keep & OWN_KEYS:
            raise InputError(
                f"the collator reads {', '.join(sorted(own))} itself and passes none on: leave it out of keep"
            )
        self.extra = frozenset({extra} if isinstance(extra, str) else extra)
        self.pad_to_multiple_of = check_int(pad_to_multiple_of, "pad_to_multiple_of", 1)
        # In shared memory, so that workers that outlive an epoch (persistent_workers) see them change.
        with on_cpu():
            self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
            self._progress = torch.ones((), dtype=torch.float64).share_memory_()
        self.set_epoch(epoch)

    def __repr__(self) -> str:
        owner = getattr(self.corrupt, "__self__", self.corrupt)
        more = f", keep={sorted(self.keep)}" if self.keep else ""
        more += f", pad_to_multiple_of={self.pad_to_multiple_of}" if self.pad_to_multiple_of > 1 else ""
        return (
            f"Collator({owner!r}, seed={self.seed}, epoch={self.epoch}, within_documents={self.within_documents}{more})"
        )

    @property
    def epoch(self) -> int:
        """The epoch of examples that bring none."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next batches: fresh noise for every example. Call it before each pass."""
        self._epoch.fill_(check_int(epoch, "epoch", 0))

    @property
    def progress(self) -> float:
        """How much of the training run is done, for batches that are given none; 1 until `set_progress`."""
        return float(self._progress)

    def set_progress(self, progress: float) -> None:
        """Say how much of the training run is done, in [0, 1]: for corruptions that change with it."""
        self._progress.fill_(_checked_progress(progress))

    def block(
        self,
        tokens: Tensor,
        example_ids: Sequence[int | str] | Tensor,
        *,
        epoch: int | Sequence[int] | None = None,
        word_ids: Tensor | None = None,
        progress: float | None = None,
    ) -> Batch:
        """A batch from token ids (B, T), nothing padded, and the ids (B,) of the examples.

        `epoch` is one number or one for each row, and `progress` in [0, 1] is how much of the training run is done; the
        collator's own where they are None.
        """
        if not isinstance(tokens, (Tensor, np.ndarray, list, tuple)) or not hasattr(example_ids, "__len__"):
            came = f"{type(tokens).__name__} and {type(example_ids).__name__}"
            raise InputError(f"expected token ids (B, T) and B example ids, got {came}")
        with on_cpu():
            tokens = torch.as_tensor(tokens).cpu()
        if tokens.dim() != 2 or len(tokens) != len(example_ids) or not is_whole(tokens):
            raise InputError(
                f"expected token ids (B, T) of whole numbers and B example ids, got {tokens.dtype} of shape "
                f"{tuple(tokens.shape)} and {len(example_ids)}"
            )
        if word_ids is not None and check_tensor(word_ids, "word_ids", "(B, T)").shape != tokens.shape:
            raise InputError(f"expected word_ids {tuple(tokens.shape)}, one a token, got {tuple(word_ids.shape)}")
        if self.extra:
            raise InputError(
                f"{self!r} needs {', '.join(sorted(self.extra))} of each example, which packed tokens do not have: "
                "give it a list of examples"
            )
        everywhere = torch.ones_like(tokens, dtype=torch.bool)
        words = None if word_ids is None else word_ids.cpu()
        with on_cpu():
            noise = Noise.of(self.seed, self.epoch if epoch is None else epoch, example_ids)
            return self._padded(
                self._corrupted(tokens.long(), everywhere, everywhere, noise, word_ids=words, progress=progress)
            )

    def __call__(self, examples: Sequence[Mapping[str, Any] | Sequence[int] | Tensor]) -> Batch:
        if not isinstance(examples, (list, tuple)) or not examples:
            raise InputError(
                f"expected a list of examples, got {'none' if examples == [] else type(examples).__name__}"
            )
        with on_cpu():
            return self._padded(self._batch([self._row(example, b) for b, example in enumerate(examples)]))

    def _batch(self, rows: list[dict[str, Any]]) -> Batch:
        """A batch of rows without padding."""
        tokens = pad_rows([row["input_ids"] for row in rows], self.special.pad)  # (B, T)
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        is_token = torch.arange(tokens.shape[1]) < lengths[:, None]

        def per_token(key: str, of_row: Callable[[dict[str, Any]], Tensor]) -> Tensor | None:
            """(B, T) of a key with one value a token, or None where no example has it."""
            if not any(key in row for row in rows):
                return None
            return pad_rows([row[key] if key in row else of_row(row) for row in rows], PER_TOKEN[key])

        protected = per_token("special_tokens_mask", lambda row: torch.zeros_like(row["input_ids"]))
        labels = per_token("labels", lambda row: row["input_ids"])
        in_loss = per_token("loss_mask", lambda row: torch.ones_like(row["input_ids"]))
        words = [b for b, row in enumerate(rows) if "word_ids" in row]
        if 0 < len(words) < len(rows):
            without = next(b for b in range(len(rows)) if b not in words)
            raise InputError(
                f"example {without} has no 'word_ids', and example {words[0]} has: give them to all or none"
            )
        maskable = is_token if protected is None else is_token & (protected == 0)
        noise = Noise.of(self.seed, [row.get("epoch", self.epoch) for row in rows], [row["example_id"] for row in rows])
        batch = self._corrupted(
            tokens,
            is_token,
            maskable if labels is None else maskable & (labels != IGNORED),
            noise,
            labels=labels,
            in_loss=None if in_loss is None else in_loss != 0,
            word_ids=per_token("word_ids", lambda row: row["input_ids"]),
            extra={key: [row[key] for row in rows] for key in sorted(self.extra)},
        )
        if taken := self.keep & batch.keys():
            raise InputError(f"{self!r} makes {', '.join(sorted(taken))} itself: remove it from keep")
        for key in sorted(self.keep):
            batch[key] = self._kept(key, rows, in_place=torch.equal(batch["attention_mask"].sum(1), lengths))
        return batch

    def _row(self, example: Any, b: int) -> dict[str, Any]:
        """One example with its padding removed: `input_ids` (n,), `example_id` and whatever else it brings."""
        if not isinstance(example, Mapping):
            example = {"input_ids": example}
        if "input_ids" not in example:
            raise InputError(
                f"expected examples with 'input_ids', got the keys {sorted(map(str, example))} in place {b}: was the "
                "text tokenised?"
            )
        unknown = [str(key) for key in example if key not in OWN_KEYS | self.keep | self.extra]
        if unknown:
            raise InputError(
                f"example {b} has {', '.join(map(repr, unknown))}, which the collator does not read: remove it, or "
                f"pass it on to the model by keep={unknown!r}"
            )
        row = {key: value for key, value in example.items() if value is not None}
        row["input_ids"] = tokens = _one_dimensional(example["input_ids"], "input_ids")
        for key in PER_TOKEN.keys() & row.keys():
            row[key] = _one_dimensional(row[key], key)
            if len(row[key]) != len(tokens):
                raise InputError(
                    f"'{key}' must have one value for each of the {len(tokens)} tokens, got {len(row[key])}"
                )
        if without := self.extra - row.keys():
            raise InputError(
                f"example {b} has no {', '.join(sorted(without))}, which {self!r} asks for: give it to all"
            )
        row |= {key: self._kept_value(key, row[key]) for key in (self.keep | self.extra) & row.keys()}
        if "attention_mask" in row:
            real = row["attention_mask"] != 0
            one_a_token = [key for key, value in row.items() if isinstance(value, Tensor) and value.shape == real.shape]
            row |= {key: row[key][real] for key in one_a_token}
        row.setdefault("example_id", hash_tokens(row["input_ids"]))
        return row

    @staticmethod
    def _kept_value(key: str, value: Any) -> Tensor:
        try:
            return torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"expected '{key}' as numbers, which can become a tensor, got {shown(value)}") from error

    def _kept(self, key: str, rows: list[dict[str, Any]], in_place: bool) -> Tensor:
        """A key of the user's as one tensor; `in_place`: whether each row of the batch has as many tokens as before."""
        without = [b for b, row in enumerate(rows) if key not in row]
        if without:
            raise InputError(f"example {without[0]} has no {key!r}, which the collator is to keep: give it to all")
        tensors = [row[key] for row in rows]
        if all(one.shape == row["input_ids"].shape for one, row in zip(tensors, rows)):
            if not in_place:
                raise InputError(
                    f"'{key}' has one value a token, but {self!r} changes the number of tokens: remove it from keep"
                )
            return pad_rows(tensors, 0)
        if len({one.shape for one in tensors}) > 1:
            raise InputError(f"'{key}' has values of different shapes: give one a token, or one shape for all")
        return torch.stack(tensors)

    def _corrupted(
        self,
        tokens: Tensor,
        is_token: Tensor,
        maskable: Tensor,
        noise: Noise,
        *,
        progress: float | None = None,
        **more: Any,
    ) -> Batch:
        special = self.special
        low, high = (int(end) for end in tokens.aminmax()) if tokens.numel() else (0, 0)
        if low < 0 or high >= special.vocab_size:
            raise InputError(
                f"token ids must lie in 0 .. {special.vocab_size - 1}, got {low} .. {high}: "
                "do the texts and the special ids come from the same tokenizer?"
            )
        documents = document_ids(tokens, special.eos) if self.within_documents else None
        progress = self.progress if progress is None else _checked_progress(progress)
        batch = self.corrupt(
            Examples(tokens, is_token, maskable, noise, special, document_ids=documents, progress=progress, **more)
        )
        if self.within_documents and "document_ids" not in batch:
            raise InputError(f"{self!r} does not keep documents apart: leave within_documents out")
        return batch

    def _padded(self, batch: Batch) -> Batch:
        """Each key with one value a token, filled up to a multiple of `pad_to_multiple_of`."""
        if self.pad_to_multiple_of == 1:
            return batch
        filled = {}
        for key, value in batch.items():
            missing = -value.shape[1] % self.pad_to_multiple_of if value.dim() == 2 else 0
            filled[key] = F.pad(value, (0, missing), value=fill_value(key, self.special.pad)) if missing else value
        return filled


def on_cpu() -> AbstractContextManager[Any]:
    """Whatever torch's default device is: batches are made on the CPU, in workers too, and moved by the loop."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


def _checked_progress(progress: float) -> float:
    if not 0.0 <= check_number(progress, "progress") <= 1.0:
        raise InputError(f"progress lies in [0, 1], got {progress!r}")
    return float(progress)


def _one_dimensional(values: Any, key: str) -> Tensor:
    """A copy (n,) as int64; None stands for -1 (Hugging Face's word ids)."""
    if isinstance(values, (list, tuple)):
        values = [-1 if value is None else value for value in values]
    try:
        made = torch.as_tensor(np.asarray(values) if not isinstance(values, Tensor) else values)
    except (TypeError, ValueError) as error:
        raise InputError(f"'{key}' must be a list of integers or a 1-D tensor, got {shown(values)}") from error
    if made.dim() != 1 or not (is_whole(made) or made.numel() == 0 or key.endswith("mask")):
        raise InputError(
            f"'{key}' must be a list of integers or a 1-D tensor, got {made.dtype} of shape {tuple(made.shape)}"
        )
    return made.long().cpu()
