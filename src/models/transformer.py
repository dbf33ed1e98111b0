"""One stack of blocks under an attention mask: GPT's decoder, BERT's encoder, and whatever a reading rank says."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from ..errors import InputError
from .attention_mask import AttentionMask, self_attention_mask
from .config import ModelConfig
from .language_model import LanguageModel, check_flags
from .layers import Block, Cache, rms_norm


class Transformer(LanguageModel):
    """Token ids (B, T) to hidden states (B, T, D); `DecoderOnly` and `EncoderOnly` differ by one word, `causal`.

    `forward(input_ids, attention_mask=None, document_ids=None, reading_rank=None, reading_group=None,
    position_ids=None, cache=None)`, flags being integers (B, T):

    - `attention_mask`: 1 = token, 0 = padding, on either side;
    - `document_ids`: tokens attend only to their own document of a packed row;
    - `reading_rank`: token t attends to s iff rank[s] <= rank[t], instead of the structure of the class;
    - `reading_group`: a token of group 0 is open to all, any other only to its own group;
    - `position_ids`: positions for the rotary embedding, 0 .. T - 1 where None;
    - `cache`: a `Cache` of the tokens read so far, so that only new ones are given. A `reading_rank` may come with the
      first call; later tokens attend to everything before them.

    Raises `InputError` for ids outside the vocabulary, flags of another shape, and a cache together with other flags.
    """

    causal: ClassVar[bool]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.n_decoder_layers is not None:
            raise InputError(f"n_decoder_layers is for an encoder-decoder; a {self.architecture} model has n_layers")
        if config.cross_rotary:
            raise InputError(f"cross_rotary is for an encoder-decoder; a {self.architecture} model has one attention")
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        reading_rank: Tensor | None = None,
        reading_group: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        x = self.embed(input_ids)  # (B, T, D)
        flags = {"attention_mask": attention_mask, "document_ids": document_ids, "reading_group": reading_group}
        mask = self._mask(input_ids, reading_rank, position_ids, cache, **flags)
        freqs = self.rotary_freqs(position_ids, mask, x.device)
        for block in self.blocks:
            x = block(x, mask, freqs, cache=cache)
        if cache is not None:
            cache.length += mask.queries
        return rms_norm(x, self.config.norm_eps)

    def attention_matrix(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        reading_rank: Tensor | None = None,
        reading_group: Tensor | None = None,
    ) -> Tensor:
        """Bool (B, T, T): whether token t attends to s. The very mask that `forward` uses."""
        flags = {"attention_mask": attention_mask, "document_ids": document_ids, "reading_group": reading_group}
        return self._mask(input_ids, reading_rank, None, None, **flags).expand(len(input_ids))

    def _mask(
        self,
        ids: Tensor,
        reading_rank: Tensor | None,
        position_ids: Tensor | None,
        cache: Cache | None,
        **flags: Tensor | None,
    ) -> AttentionMask:
        check_flags(ids, reading_rank=reading_rank, position_ids=position_ids, **flags)
        past = 0 if cache is None else cache.length
        if cache is not None and (
            any(flag is not None for flag in flags.values()) or (past and reading_rank is not None)
        ):
            raise InputError(
                "a cache goes with rows of equal length: leave out attention_mask, document_ids and reading_group, and "
                "give a reading_rank with the first call alone"
            )
        return self_attention_mask(ids, causal=self.causal, reading_rank=reading_rank, past=past, **flags)


class DecoderOnly(Transformer):
    """Every token attends to itself and what comes before it, unless a reading rank says otherwise. See `Transformer`.

    >>> import torch
    >>> from clozelab.models import Cache, DecoderOnly, ModelConfig
    >>> model = DecoderOnly(ModelConfig(vocab_size=50, d_model=32))
    >>> model.attention_matrix(torch.tensor([[7, 8, 9]]))[0].int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    >>> cache = Cache()
    >>> before = model(torch.tensor([[7, 8]]), cache=cache)
    >>> model(torch.tensor([[9]]), cache=cache).shape, cache.length
    (torch.Size([1, 1, 32]), 3)

    Source: Radford et al. 2019 (GPT-2), section 2.3.
    """

    architecture = "decoder-only"
    causal = True


class EncoderOnly(Transformer):
    """Every token attends to every other. See `Transformer`.

    BERT's head has one more layer before the table (Devlin et al. 2019, appendix A); ours has none, so that the
    architectures differ by nothing but who attends to whom.

    >>> import torch
    >>> from clozelab.models import EncoderOnly, ModelConfig
    >>> model = EncoderOnly(ModelConfig(vocab_size=50, d_model=32))
    >>> model.attention_matrix(torch.tensor([[7, 8, 0]]), attention_mask=torch.tensor([[1, 1, 0]]))[0].int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [1, 1, 0]], dtype=torch.int32)

    Source: Devlin et al. 2019 (BERT), section 3.
    """

    architecture = "encoder-only"
    causal = False
