"""Hide: text to tokens to blocks to a corrupted batch."""

from .collator import Collator
from .corpus import Corpus, load_corpus
from .hiding import IGNORED, Hide, HideNext, HideSpans, HideTokens, Rows, shift_right
from .masking import (
    Bernoulli,
    ExactCount,
    MaskScheme,
    RandomSpans,
    WholeWords,
    bernoulli_mask,
    exact_count_mask,
    random_spans_mask,
    span_counts,
    whole_word_mask,
)
from .mixture import MixtureSource
from .noise import Noise
from .packing import Blocks, Packed, document_ids, pack
from .pairs import pairs_to_fill, pairs_to_go_on, pairs_to_unmask
from .replacement import replace_tokens
from .sentinels import (
    SpanLengths,
    corrupt_span_batch,
    corrupt_spans,
    restore_spans,
    solve_span_lengths,
    span_lengths,
    split_spans,
)
from .shards import PackedShards, is_packed, open_shards, pack_shards
from .skills import Exercise, World
from .special import SpecialIds
from .stream import Lane, Stream
from .streamed import StreamedDocuments
from .tokenizer import Tokenizer, load_tokenizer, train_bpe, train_characters

__all__ = [
    "IGNORED",
    "Bernoulli",
    "Blocks",
    "Collator",
    "Corpus",
    "ExactCount",
    "Exercise",
    "Hide",
    "HideNext",
    "HideSpans",
    "HideTokens",
    "Lane",
    "MaskScheme",
    "MixtureSource",
    "Noise",
    "Packed",
    "PackedShards",
    "RandomSpans",
    "Rows",
    "SpanLengths",
    "SpecialIds",
    "Stream",
    "StreamedDocuments",
    "Tokenizer",
    "WholeWords",
    "World",
    "bernoulli_mask",
    "corrupt_span_batch",
    "corrupt_spans",
    "document_ids",
    "exact_count_mask",
    "is_packed",
    "load_corpus",
    "load_tokenizer",
    "open_shards",
    "pack",
    "pack_shards",
    "pairs_to_fill",
    "pairs_to_go_on",
    "pairs_to_unmask",
    "random_spans_mask",
    "replace_tokens",
    "restore_spans",
    "shift_right",
    "solve_span_lengths",
    "span_counts",
    "span_lengths",
    "split_spans",
    "train_bpe",
    "train_characters",
    "whole_word_mask",
]
