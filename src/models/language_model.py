"""The two ends that all three models share: a table that reads tokens, and one that says them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import of_kind, tensor
from ..errors import InputError
from .layers import ModelConfig, rotary


class LanguageModel(nn.Module):
    """Token ids in, hidden states out; never a label, and no logits that nobody asked for.

    An objective takes the hidden states (B, T, D) that it pays for and `unembed`s only those.

    >>> from clozelab.models import DecoderOnly
    >>> model = DecoderOnly(ModelConfig(vocab_size=50, width=32))
    >>> hidden = model(torch.tensor([[7, 8, 9]]))
    >>> hidden.shape, model.unembed(hidden[:, -1]).shape
    (torch.Size([1, 3, 32]), torch.Size([1, 50]))
    """

    architecture: ClassVar[str]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = of_kind(config, ModelConfig, "the shape of a model", "ModelConfig(vocab_size=...)")
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        # Blocks start as the identity, so a tied model starts by repeating what it reads, by a logit of width x std. It
        # is chosen to make that V^(1/3) times as likely as another token: the first loss then stays within 2% of ln V
        # at every width. A smaller table learns more slowly (0.008 for 0.02 at width 128: 0.17 nats after 300 steps).
        nn.init.normal_(self.embedding.weight, std=math.log(config.vocab_size) / 3 / config.width)
        self.head = None if config.tied else nn.Parameter(torch.zeros(config.vocab_size, config.width))

    @property
    def unembedding(self) -> nn.Parameter:
        """(V, D): what a hidden state is compared with; the embedding itself where `config.tied`."""
        return self.embedding.weight if self.head is None else self.head  # type: ignore[return-value]

    def unembed(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., D)."""
        if tensor(hidden, "hidden", "(..., D)").shape[-1] != self.config.width:
            raise InputError(f"expected hidden states of width {self.config.width}, got {hidden.shape[-1]}")
        return F.linear(hidden, self.unembedding)

    def parameter_count(self, *, vocabulary: bool = True) -> int:
        """How many numbers are learned; without the tables over the vocabulary, for `vocabulary=False`."""
        tables = () if vocabulary else (self.embedding.weight, self.head)
        return sum(p.numel() for p in self.parameters() if not any(p is table for table in tables))

    def _embed(self, ids: Tensor, name: str = "input_ids") -> Tensor:
        """(B, T) -> (B, T, D), checked at this one door."""
        if not isinstance(ids, Tensor):
            raise InputError(f"expected {name} as a tensor (B, T), got {type(ids).__name__}")
        if ids.dim() != 2 or ids.dtype not in (torch.int64, torch.int32):
            raise InputError(f"expected {name} (B, T) of whole numbers, got {ids.dtype} of shape {tuple(ids.shape)}")
        # On an accelerator the check would make the host wait, and its own bounds check speaks.
        if ids.device.type == "cpu" and ids.numel() and not torch.compiler.is_compiling():
            low, high = (int(end) for end in ids.aminmax())
            if low < 0 or high >= self.config.vocab_size:
                raise InputError(
                    f"{name} must lie in 0 .. {self.config.vocab_size - 1}, got {low} .. {high}: is the tokenizer "
                    "larger than the model's vocabulary, or are these labels with their -100?"
                )
        return self.embedding(ids)

    def _turns(self, start: int, length: int, device: torch.device) -> Tensor:
        """Rotary turns (T, K/2) of the positions start .. start + length - 1."""
        positions = torch.arange(start, start + length, device=device)
        return rotary(positions, self.config.head_size, self.config.rotary_base)


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradients inside; afterwards every part of the model is in the mode it was in.

    >>> model = nn.Sequential(nn.Dropout())
    >>> with measuring(model):
    ...     model.training, torch.is_grad_enabled()
    (False, False)
    >>> model.training
    True
    """
    of_kind(model, nn.Module, "a model")
    modes = {part: part.training for part in model.modules()}  # a part may be frozen while the whole is not
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def call(model: Callable[..., Any], *args: Any, **inputs: Any) -> Any:
    """`model(*args, **inputs)`; raises `InputError` for a model that takes other arguments."""
    if not callable(model):
        raise InputError(f"expected a model, got {type(model).__name__}")
    try:
        return model(*args, **inputs)
    except TypeError as error:
        takes = inspect.signature(model.forward if isinstance(model, nn.Module) else model)
        try:
            takes.bind(*args, **inputs)
        except TypeError:
            given = ", ".join([*["a tensor"] * len(args), *inputs])
            raise InputError(
                f"{type(model).__name__} takes ({', '.join(takes.parameters)}), but was given {given}: is it a model "
                "of another kind? An objective takes its logits as well"
            ) from error
        raise  # its own affair


def check_flags(ids: Tensor, **flags: Tensor | None) -> None:
    """Raises `InputError` where a mask or document ids have another shape than the token ids."""
    for name, flag in flags.items():
        if flag is not None and tensor(flag, name, "(B, T)").shape != ids.shape:
            raise InputError(
                f"expected {name} of the shape {tuple(ids.shape)} of its token ids, got {tuple(flag.shape)}: one "
                "number for each token"
            )
