"""Read both sides, then speak from the left: T5."""

from __future__ import annotations

from torch import Tensor, nn

from ..checks import tensor
from ..errors import InputError
from .language_model import LanguageModel, check_flags
from .layers import Block, Cache, ModelConfig, rms_norm
from .visibility import Visibility, among


class EncoderDecoder(LanguageModel):
    """An `EncoderOnly` and a `DecoderOnly` of the same blocks; each decoder block also reads what the encoder made.

    `forward(input_ids (B, S), decoder_input_ids (B, T), attention_mask=None (B, S), document_ids=None (B, S),
    decoder_document_ids=None (B, T), decoder_attention_mask=None (B, T))` -> hidden (B, T, D) of the decoder.

    `encode` and `decode` are its two halves, for generation. One table reads both texts. As in T5, cross-attention
    knows no positions: the two texts have different lengths, and the sentinels say where a span belongs.

    >>> import torch
    >>> model = EncoderDecoder(ModelConfig(vocab_size=50, width=32, layers=2))
    >>> model(torch.tensor([[7, 49, 9, 1]]), decoder_input_ids=torch.tensor([[0, 49, 8]])).shape
    torch.Size([1, 3, 32])
    >>> seen = model.visibility(torch.tensor([[7, 49, 9, 1]]), torch.tensor([[0, 49, 8]]))
    >>> {name: tuple(readable.shape) for name, readable in seen.items()}
    {'encoder': (1, 4, 4), 'decoder': (1, 3, 3), 'cross': (1, 3, 4)}

    Raises `InputError` for ids outside the vocabulary, flags of another shape, and document ids for one side only.

    Source: Raffel et al. 2020 (T5), section 2.1.
    """

    architecture = "encoder-decoder"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        decoder_layers = config.layers if config.decoder_layers is None else config.decoder_layers
        self.encoder = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.decoder = nn.ModuleList(Block(config, reads_memory=True) for _ in range(decoder_layers))

    def forward(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        return self.decode(
            decoder_input_ids,
            self.encode(input_ids, attention_mask, document_ids),
            attention_mask=attention_mask,
            document_ids=document_ids,
            decoder_document_ids=decoder_document_ids,
            decoder_attention_mask=decoder_attention_mask,
        )

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """The memory (B, S, D) of a text (B, S), read both ways."""
        x = self._embed(input_ids)  # (B, S, D)
        check_flags(input_ids, attention_mask=attention_mask, document_ids=document_ids)
        visible = among(x, causal=False, attention_mask=attention_mask, document_ids=document_ids)
        turns = self._turns(0, visible.queries, x.device)
        for block in self.encoder:
            x = block(x, visible, turns)
        return rms_norm(x, self.config.norm_eps)

    def decode(
        self,
        decoder_input_ids: Tensor,
        memory: Tensor,
        *,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Hidden states (B, T, D) of what is said (B, T) about a memory (B, S, D); a cache as in `DecoderOnly`."""
        x = self._embed(decoder_input_ids, "decoder_input_ids")  # (B, T, D)
        flags = {"decoder_attention_mask": decoder_attention_mask, "decoder_document_ids": decoder_document_ids}
        check_flags(decoder_input_ids, **flags)
        if tensor(memory, "memory", "(B, S, D)").shape[::2] != x.shape[::2]:
            raise InputError(f"expected a memory ({len(x)}, S, {x.shape[2]}), got {tuple(memory.shape)}")
        if (document_ids is None) != (decoder_document_ids is None):
            raise InputError("document_ids and decoder_document_ids go together: one side alone cannot be told apart")
        if cache is not None and not all(flag is None for flag in (document_ids, *flags.values())):
            raise InputError("a cache goes with decoder rows of equal length: leave out decoder flags and document ids")
        visible = among(
            x,
            causal=True,
            attention_mask=decoder_attention_mask,
            document_ids=decoder_document_ids,
            past=0 if cache is None else cache.length,
        )
        memory_visible = _cross(x, memory, attention_mask, decoder_document_ids, document_ids)
        turns = self._turns(visible.keys - visible.queries, visible.queries, x.device)
        for block in self.decoder:
            x = block(x, visible, turns, memory, memory_visible, cache)
        if cache is not None:
            cache.length += visible.queries
        return rms_norm(x, self.config.norm_eps)

    def visibility(
        self,
        input_ids: Tensor,
        decoder_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Who may read whom, bool: "encoder" (B, S, S), "decoder" (B, T, T), "cross" (B, T, S). As `forward` has it."""
        check_flags(input_ids, attention_mask=attention_mask, document_ids=document_ids)
        said = {"decoder_attention_mask": decoder_attention_mask, "decoder_document_ids": decoder_document_ids}
        check_flags(decoder_input_ids, **said)
        encoder = among(input_ids, causal=False, attention_mask=attention_mask, document_ids=document_ids)
        decoder = among(
            decoder_input_ids, causal=True, attention_mask=decoder_attention_mask, document_ids=decoder_document_ids
        )
        cross = _cross(decoder_input_ids, input_ids, attention_mask, decoder_document_ids, document_ids)
        seen = {"encoder": encoder, "decoder": decoder, "cross": cross}
        return {name: visible.matrix_of(len(input_ids)) for name, visible in seen.items()}


def _cross(
    said: Tensor, text: Tensor, attention_mask: Tensor | None, said_documents: Tensor | None, documents: Tensor | None
) -> Visibility:
    return Visibility.of(
        said.shape[1],
        text.shape[1],
        causal=False,
        device=said.device,
        attention_mask=attention_mask,
        query_documents=said_documents,
        key_documents=documents,
    )
