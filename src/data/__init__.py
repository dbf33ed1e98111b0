"""Hide: text to tokens to blocks to a corrupted batch."""

from ..doors import explain_errors
from .blocks import Blocks
from .collator import Collator, Corruption
from .corpora.corpus import Corpus, load_corpus
from .corpora.report import CorpusReport, MixtureReport
from .corpora.shards import PackedShards, is_packed, open_shards, pack_shards
from .corpora.stream import Stream, StreamShard
from .corpora.streamed import StreamedDocuments
from .drawn_spans import drawn_span_lengths, drawn_spans_mask
from .examples import IGNORED, Batch, Examples, arrange, pad_rows, shift_targets, smallest, stack_batches
from .masking import MaskScheme, bernoulli_mask, exact_count_mask, scheme_keys, scheme_mask, whole_word_mask
from .mixture import Mixture
from .noise import Noise
from .packing import Packed, document_ids, pack
from .replacement import replace_tokens
from .span_masking import (
    SpanLengths,
    random_spans_mask,
    rolled_mask,
    solve_span_lengths,
    span_counts,
    span_lengths,
)
from .spans import corrupt_span_batch, corrupt_spans, restore_spans, split_spans
from .special_ids import SpecialIds
from .tokenizers.ids import IdTokenizer
from .tokenizers.load import load_tokenizer
from .tokenizers.tokenizer import Tokenizer
from .tokenizers.train import train_bpe, train_characters

__all__ = [
    "IGNORED",
    "Batch",
    "Blocks",
    "Collator",
    "Corpus",
    "CorpusReport",
    "Corruption",
    "Examples",
    "IdTokenizer",
    "MaskScheme",
    "Mixture",
    "MixtureReport",
    "Noise",
    "Packed",
    "PackedShards",
    "SpanLengths",
    "SpecialIds",
    "Stream",
    "StreamShard",
    "StreamedDocuments",
    "Tokenizer",
    "arrange",
    "bernoulli_mask",
    "corrupt_span_batch",
    "corrupt_spans",
    "document_ids",
    "drawn_span_lengths",
    "drawn_spans_mask",
    "exact_count_mask",
    "is_packed",
    "load_corpus",
    "load_tokenizer",
    "open_shards",
    "pack",
    "pack_shards",
    "pad_rows",
    "random_spans_mask",
    "replace_tokens",
    "restore_spans",
    "rolled_mask",
    "scheme_keys",
    "scheme_mask",
    "shift_targets",
    "smallest",
    "solve_span_lengths",
    "span_counts",
    "span_lengths",
    "split_spans",
    "stack_batches",
    "train_bpe",
    "train_characters",
    "whole_word_mask",
]

explain_errors(__name__)
