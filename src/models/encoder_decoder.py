"""An encoder that reads both sides and a decoder that attends to it: T5, BART, MASS."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..checks import REAL, check_tensor
from ..errors import InputError
from .attention_mask import cross_attention_mask, self_attention_mask
from .config import ModelConfig
from .language_model import LanguageModel, check_flags
from .layers import Block, Cache, rms_norm


class EncoderDecoder(LanguageModel):
    """An encoder and a decoder of the same blocks; each decoder block also attends to the encoder's hidden states.

    `forward(input_ids (B, S), decoder_input_ids (B, T), attention_mask=None (B, S), document_ids=None (B, S),
    decoder_document_ids=None (B, T), decoder_attention_mask=None (B, T), decoder_position_ids=None (B, T))` -> hidden
    (B, T, D) of the decoder, whose positions are 0 .. T - 1 where none are given.

    `encode` and `decode` are its two halves, for generation. One table embeds both texts. As in T5, cross-attention
    has no positions: the two texts have different lengths, and the sentinels say where a span belongs. A decoder that
    writes the very text that the encoder reads needs them to find its place: `config.cross_rotary`.

    >>> import torch
    >>> from clozelab.models import EncoderDecoder, ModelConfig
    >>> model = EncoderDecoder(ModelConfig(vocab_size=50, d_model=32, n_layers=2))
    >>> model(torch.tensor([[7, 49, 9, 1]]), decoder_input_ids=torch.tensor([[0, 49, 8]])).shape
    torch.Size([1, 3, 32])
    >>> matrices = model.attention_matrix(torch.tensor([[7, 49, 9, 1]]), torch.tensor([[0, 49, 8]]))
    >>> {name: tuple(matrix.shape) for name, matrix in matrices.items()}
    {'encoder': (1, 4, 4), 'decoder': (1, 3, 3), 'cross': (1, 3, 4)}

    Raises `InputError` for ids outside the vocabulary, flags of another shape, and document ids for one side only.

    Source: Raffel et al. 2020 (T5), section 2.1; without positions in cross-attention, but for `cross_rotary`.
    """

    architecture = "encoder-decoder"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        n_decoder_layers = config.n_layers if config.n_decoder_layers is None else config.n_decoder_layers
        self.encoder = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.decoder = nn.ModuleList(Block(config, cross_attention=True) for _ in range(n_decoder_layers))

    def forward(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        decoder_position_ids: Tensor | None = None,
    ) -> Tensor:
        return self.decode(
            decoder_input_ids,
            self.encode(input_ids, attention_mask, document_ids),
            attention_mask=attention_mask,
            document_ids=document_ids,
            decoder_document_ids=decoder_document_ids,
            decoder_attention_mask=decoder_attention_mask,
            decoder_position_ids=decoder_position_ids,
        )

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """The encoder's hidden states (B, S, D) of a text (B, S)."""
        x = self.embed(input_ids)  # (B, S, D)
        check_flags(input_ids, attention_mask=attention_mask, document_ids=document_ids)
        mask = self_attention_mask(x, causal=False, attention_mask=attention_mask, document_ids=document_ids)
        freqs = self.rotary_freqs(None, mask, x.device)
        for block in self.encoder:
            x = block(x, mask, freqs)
        return rms_norm(x, self.config.norm_eps)

    def decode(
        self,
        decoder_input_ids: Tensor,
        encoder_hidden_states: Tensor,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        decoder_position_ids: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """The decoder's hidden states (B, T, D) of its text (B, T), given those of the encoder (B, S, D).

        A cache as in `Transformer`; `attention_mask` and `document_ids` are those of the encoder's text.
        """
        x = self.embed(decoder_input_ids, "decoder_input_ids")  # (B, T, D)
        flags = {"decoder_attention_mask": decoder_attention_mask, "decoder_document_ids": decoder_document_ids}
        check_flags(decoder_input_ids, decoder_position_ids=decoder_position_ids, **flags)
        if check_tensor(encoder_hidden_states, "encoder_hidden_states", "(B, S, D)", REAL).shape[::2] != x.shape[::2]:
            raise InputError(
                f"expected encoder_hidden_states ({len(x)}, S, {x.shape[2]}), got {tuple(encoder_hidden_states.shape)}"
            )
        if (document_ids is None) != (decoder_document_ids is None):
            raise InputError("document_ids and decoder_document_ids go together: one side alone cannot be told apart")
        if cache is not None and not all(flag is None for flag in (document_ids, *flags.values())):
            raise InputError("a cache goes with decoder rows of equal length: leave out decoder flags and document ids")
        mask = self_attention_mask(
            x,
            causal=True,
            attention_mask=decoder_attention_mask,
            document_ids=decoder_document_ids,
            past=0 if cache is None else cache.length,
        )
        cross = cross_attention_mask(x, encoder_hidden_states, attention_mask, decoder_document_ids, document_ids)
        freqs, encoder_freqs = self.rotary_freqs(decoder_position_ids, mask, x.device), None
        if self.config.cross_rotary:
            encoder_positions = torch.arange(encoder_hidden_states.shape[1], device=x.device)[None]  # (1, S)
            encoder_freqs = self.rotary_freqs(encoder_positions, cross, x.device)
        for block in self.decoder:
            x = block(x, mask, freqs, encoder_hidden_states, cross, cache, encoder_freqs)
        if cache is not None:
            cache.length += mask.queries
        return rms_norm(x, self.config.norm_eps)

    def attention_matrix(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Who attends to whom, bool: "encoder" (B, S, S), "decoder" (B, T, T), "cross" (B, T, S), as in `forward`."""
        check_flags(input_ids, attention_mask=attention_mask, document_ids=document_ids)
        flags = {"decoder_attention_mask": decoder_attention_mask, "decoder_document_ids": decoder_document_ids}
        check_flags(decoder_input_ids, **flags)
        masks = {
            "encoder": self_attention_mask(
                input_ids, causal=False, attention_mask=attention_mask, document_ids=document_ids
            ),
            "decoder": self_attention_mask(
                decoder_input_ids,
                causal=True,
                attention_mask=decoder_attention_mask,
                document_ids=decoder_document_ids,
            ),
            "cross": cross_attention_mask(
                decoder_input_ids, input_ids, attention_mask, decoder_document_ids, document_ids
            ),
        }
        return {name: mask.expand(len(input_ids)) for name, mask in masks.items()}
