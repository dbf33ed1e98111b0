"""Generation: continue text, fill masks, fill spans, fill a middle; fine-tuning pairs and their answers."""

from ..doors import explain_errors
from .answers import answer_pairs, generate_answers
from .completion import BLANK, Completion, encode_blanks
from .decoding import fill_spans, generate, truncate_at_eos
from .masks import ORDERS, fill_masks
from .moved_texts import (
    complete_middle_text,
    complete_moved_spans_text,
    sample_middle_text,
    sample_moved_spans_text,
)
from .pairs import causal_pairs, masked_pairs, seq2seq_pairs
from .sampling import Sampling, sample_token, token_probabilities
from .texts import (
    complete_masked_text,
    continue_by_blocks,
    continue_span_text,
    continue_text,
    fill_masked_text,
    fill_span_text,
    sample_masked_text,
    sample_span_text,
)
from .whole_texts import fill_span_in_place, rewrite_text, sample_rewritten_text, sample_span_in_place

__all__ = [
    "BLANK",
    "ORDERS",
    "Completion",
    "Sampling",
    "answer_pairs",
    "causal_pairs",
    "complete_masked_text",
    "complete_middle_text",
    "complete_moved_spans_text",
    "continue_by_blocks",
    "continue_span_text",
    "continue_text",
    "encode_blanks",
    "fill_masked_text",
    "fill_masks",
    "fill_span_in_place",
    "fill_span_text",
    "fill_spans",
    "generate",
    "generate_answers",
    "masked_pairs",
    "rewrite_text",
    "sample_masked_text",
    "sample_middle_text",
    "sample_moved_spans_text",
    "sample_rewritten_text",
    "sample_span_in_place",
    "sample_span_text",
    "sample_token",
    "seq2seq_pairs",
    "token_probabilities",
    "truncate_at_eos",
]

explain_errors(__name__)
