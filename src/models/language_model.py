"""What all models share: the embedding, the unembedding, and how a model is called."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import REAL, check_tensor, check_type, tracing
from ..errors import InputError
from .attention_mask import AttentionMask
from .config import ModelConfig
from .layers import rotary_freqs


@dataclass(frozen=True)
class Prediction:
    """An output of a model: hidden states (B, T, D) and the table (V, D) they are compared with, or logits alone."""

    states: Tensor
    """(B, T, D), or logits (B, T, V) where there is no table."""
    table: Tensor | None = None
    """(V, D)"""
    sampled: Tensor | None = None
    """(B, T) ids of text that the model drew itself, where the output says of each whether it was replaced: class 1
    where it is another than the text's, else 0."""


class LanguageModel(nn.Module):
    """Token ids in, hidden states out; never a label, and no logits that nobody asked for.

    An objective takes the hidden states (B, T, D) at its loss positions and projects only those.

    >>> import torch
    >>> from clozelab.models import DecoderOnly, ModelConfig
    >>> model = DecoderOnly(ModelConfig(vocab_size=50, d_model=32))
    >>> hidden = model(torch.tensor([[7, 8, 9]]))
    >>> hidden.shape, model.unembed(hidden[:, -1]).shape
    (torch.Size([1, 3, 32]), torch.Size([1, 50]))
    """

    architecture: ClassVar[str]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = check_type(config, ModelConfig, "the shape of a model", "ModelConfig(vocab_size=...)")
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        # Blocks start as the identity, so a tied model starts by repeating its input, with a logit of d_model x std^2
        # per unit. The std makes that V^(1/3) times as likely as another token: the first loss then stays within 2% of
        # ln V at every width. A smaller table learns more slowly (0.008 for 0.02 at width 128: 0.17 nats after 300
        # steps).
        nn.init.normal_(self.embedding.weight, std=math.log(config.vocab_size) / 3 / config.d_model)
        self.head = None if config.tied else nn.Parameter(torch.zeros(config.vocab_size, config.d_model))

    @property
    def unembedding(self) -> nn.Parameter:
        """(V, D): what a hidden state is compared with; the embedding itself where `config.tied`."""
        return self.embedding.weight if self.head is None else self.head  # type: ignore[return-value]

    def unembed(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., D)."""
        if check_tensor(hidden, "hidden", "(..., D)", REAL).shape[-1] != self.config.d_model:
            raise InputError(f"expected hidden states of width {self.config.d_model}, got {hidden.shape[-1]}")
        if hidden.dtype != self.unembedding.dtype and not torch.is_autocast_enabled(hidden.device.type):
            raise InputError(f"expected hidden states of {self.unembedding.dtype}, as the weights, got {hidden.dtype}")
        return F.linear(hidden, self.unembedding)

    def parameter_count(self, *, vocabulary: bool = True) -> int:
        """Number of learned parameters; `vocabulary=False` leaves out the tables over the vocabulary."""
        tables = () if vocabulary else (self.embedding.weight, self.head)
        return sum(p.numel() for p in self.parameters() if not any(p is table for table in tables))

    def embed(self, ids: Tensor, name: str = "input_ids") -> Tensor:
        """(B, T) -> (B, T, D), checked at this one door."""
        if not isinstance(ids, Tensor):
            raise InputError(f"expected {name} as a tensor (B, T), got {type(ids).__name__}")
        if ids.dim() != 2 or ids.dtype not in (torch.int64, torch.int32):
            raise InputError(f"expected {name} (B, T) of whole numbers, got {ids.dtype} of shape {tuple(ids.shape)}")
        # Skipped on a GPU, where it would force a synchronisation.
        if ids.device.type == "cpu" and ids.numel() and not tracing():
            low, high = (int(end) for end in ids.aminmax())
            if low < 0 or high >= self.config.vocab_size:
                raise InputError(
                    f"{name} must lie in 0 .. {self.config.vocab_size - 1}, got {low} .. {high}: is the tokenizer "
                    "larger than the model's vocabulary, or are these labels with their -100?"
                )
        return self.embedding(ids)

    def rotary_freqs(self, position_ids: Tensor | None, mask: AttentionMask, device: torch.device) -> Tensor:
        """Rotations (T, K/2, 2) of the newest positions of a cache, or (B, 1, T, K/2, 2) of the positions given."""
        if position_ids is None:
            positions = torch.arange(mask.keys - mask.queries, mask.keys, device=device)
        else:
            positions = position_ids[:, None]
        dtype = torch.promote_types(self.embedding.weight.dtype, torch.float32)
        return rotary_freqs(positions, self.config.d_head, self.config.rotary_base, dtype)


def device_of(model: nn.Module) -> torch.device:
    """Where the weights of a model lie."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode it was in.

    >>> import torch
    >>> from torch import nn
    >>> from clozelab.models import eval_mode
    >>> model = nn.Sequential(nn.Dropout())
    >>> with eval_mode(model):
    ...     model.training, torch.is_grad_enabled()
    (False, False)
    >>> model.training
    True
    """
    check_type(model, nn.Module, "a model")
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
        if flag is not None and check_tensor(flag, name, "(B, T)").shape != ids.shape:
            raise InputError(
                f"expected {name} of the shape {tuple(ids.shape)} of its token ids, got {tuple(flag.shape)}: one "
                "number for each token"
            )
