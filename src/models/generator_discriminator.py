"""Two encoders and one table: a narrow generator fills the hidden tokens, a discriminator looks for what it filled."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import REAL, check_same_shape, check_tensor, tracing
from ..device import has_float64
from ..errors import InputError
from .config import ModelConfig
from .language_model import Prediction
from .transformer import EncoderOnly

DRAWN = 2**22
"""Probabilities that are held at once while ids are drawn."""


class Generator(EncoderOnly):
    """An encoder that is narrower than the table that it shares with another one: ids (B, T) to states (B, T, D).

    Two matrices lead from the width of the table D to its own and back. The table stays a part of the other encoder.
    """

    def __init__(self, config: ModelConfig, shared: EncoderOnly) -> None:
        super().__init__(config)
        width = shared.config.d_model
        sizes = (width, config.d_model), (config.d_model, width)
        self.widths = nn.ModuleList(nn.Linear(*size, bias=False) for size in sizes)  # a list, as of all inner matrices
        del self.embedding
        self._shared = [shared]  # in a list, for a weight that is a part of both would stand twice in a checkpoint
        self.__dict__["embedding"] = shared.embedding

    @property
    def unembedding(self) -> nn.Parameter:
        """(V, D), of the encoder that owns the table."""
        return self._shared[0].unembedding

    def unembed(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., D)."""
        return self._shared[0].unembed(hidden)

    def embed(self, ids: Tensor, name: str = "input_ids") -> Tensor:
        """(B, T) -> (B, T, d_model), narrowed."""
        return self.widths[0](super().embed(ids, name))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        return self.widths[1](super().forward(input_ids, attention_mask, document_ids))


class GeneratorDiscriminator(nn.Module):
    """Token ids (B, T) to {"generator": states and table, "discriminator": states and the two rows of its head}.

    Where `sampling_noise` is not 0 an id is drawn from the generator's prediction, and the discriminator reads it
    instead of the id that stands there. Drawing has no gradient, so what the discriminator learns reaches the generator
    by the table alone, which both share.

    `generator` is a masked language model for itself. `discriminator` is the `EncoderOnly` that is kept, and `verdict`
    (2, D) its head: real, replaced.

    >>> import torch
    >>> from clozelab.models import GeneratorDiscriminator, ModelConfig
    >>> model = GeneratorDiscriminator(ModelConfig(vocab_size=50, d_model=32))
    >>> outputs = model(torch.tensor([[7, 2, 9]]), sampling_noise=torch.tensor([[0.0, 0.6, 0.0]]))
    >>> outputs["discriminator"].sampled[0, [0, 2]]
    tensor([7, 9])

    Raises `InputError` for a share of the generator's width that leaves it none, and what `sample_ids` refuses.

    Source: Clark et al. 2020 (ELECTRA), sections 2 and 3.2 (sharing the table, smaller generators).
    """

    architecture = "encoder-only"
    causal = False

    def __init__(self, config: ModelConfig, generator_size: float = 0.25) -> None:
        super().__init__()
        self.config = config
        self.discriminator = EncoderOnly(config)
        self.generator = Generator(narrower(config, generator_size), self.discriminator)
        self.verdict = nn.Parameter(torch.zeros(2, config.d_model))

    @property
    def unembedding(self) -> nn.Parameter:
        """(V, D), of the generator; the embedding of both where `config.tied`."""
        return self.discriminator.unembedding

    def attention_matrix(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """Bool (B, T, T): whether token t attends to s, in both encoders."""
        return self.discriminator.attention_matrix(input_ids, attention_mask, document_ids)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        sampling_noise: Tensor | None = None,
    ) -> dict[str, Prediction]:
        generated = Prediction(self.generator(input_ids, attention_mask, document_ids), self.unembedding)
        sampled = sample_ids(generated, input_ids, sampling_noise)
        states = self.discriminator(sampled, attention_mask, document_ids)
        return {"generator": generated, "discriminator": Prediction(states, self.verdict, sampled)}


def narrower(config: ModelConfig, share: float) -> ModelConfig:
    """The same shape at a share of its width: the heads that come nearest, each as wide as before; one narrower head
    where the share is less than half of one."""
    if not 0 < share <= 1:
        raise InputError(f"the generator's share of the width lies in (0, 1], got {share}")
    heads = int(share * config.n_heads + 0.5)
    width = heads * config.d_head or 2 * round(share * config.d_model / 2)  # even, for rotary positions
    if width < 2:
        raise InputError(
            f"a generator of {share:g} of the width {config.d_model} has no width left: give it a greater share, as "
            "the 0.25 of the paper"
        )
    d_ff = None if config.d_ff is None else max(1, round(config.d_ff * width / config.d_model))
    return replace(config, n_heads=max(1, heads), d_model=width, d_ff=d_ff, tied=True)


@torch.no_grad()
def sample_ids(prediction: Prediction, input_ids: Tensor, noise: Tensor | None) -> Tensor:
    """(B, T) ids: where the noise (B, T) is not 0 drawn from the prediction, elsewhere `input_ids` (B, T). No gradient.

    Noise u in (0, 1] draws the first id whose cumulative probability reaches u. So the ids follow from the batch and
    the weights, whoever computes them; where the last bits of a sum differ, as between batches of other shapes, an id
    differs where u lies between the two sums: about once in a million draws in float32. None draws nothing.

    >>> import torch
    >>> from clozelab.models import Prediction
    >>> from clozelab.models.generator_discriminator import sample_ids
    >>> coin = Prediction(torch.tensor([0.5, 0.3, 0.2]).log().expand(1, 4, 3))
    >>> sample_ids(coin, torch.tensor([[2, 2, 2, 2]]), torch.tensor([[0.0, 0.4, 0.6, 1.0]]))
    tensor([[2, 0, 1, 2]])

    Raises `InputError` for noise of another shape, out of [0, 1], or of 8 or 11 bits, as some trainers make of floats:
    it would draw few of many ids.
    """
    if noise is None:
        return input_ids
    check_same_shape(input_ids=input_ids, noise=check_tensor(noise, "sampling_noise", "(B, T)"))
    if tracing():
        return torch.where(noise > 0, _drawn(prediction, prediction.states, noise), input_ids)
    here = noise > 0  # (B, T)
    if not bool(here.any()):
        return input_ids
    if not bool((noise <= 1).all()) or noise.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"expected sampling_noise of float32 or float64 in (0, 1], 0 where no id is drawn, got {noise.dtype}: was "
            "the batch cast to the precision of the model?"
        )
    states, size = prediction.states, prediction.states.shape[-1] if prediction.table is None else len(prediction.table)
    rows = max(1, DRAWN // size)
    parts = zip(states[here].split(rows), noise[here].split(rows))
    drawn = torch.cat([_drawn(prediction, some, of_some) for some, of_some in parts])
    return input_ids.masked_scatter(here, drawn.to(input_ids))


def _drawn(prediction: Prediction, states: Tensor, noise: Tensor) -> Tensor:
    """(...) int64 by noise (...), from states (..., V) or (..., D)."""
    table = prediction.table  # detached, or autocast would keep its copy of it for the backward that there is none of
    logits = states if table is None else F.linear(states, table.detach())
    dtype = torch.float64 if has_float64(logits.device) else torch.float32
    reached = check_tensor(logits, "logits", "(..., V)", REAL).to(dtype).softmax(-1).cumsum(-1)  # (..., V)
    return (reached < noise[..., None].to(dtype) * reached[..., -1:]).sum(-1)
