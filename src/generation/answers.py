"""Fine-tuning and asking: prompts and answers in the form that each architecture was pretrained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_int, check_type
from ..data.special_ids import SpecialIds
from ..errors import InputError
from ..escape import shown
from ..models import DecoderOnly, EncoderDecoder, EncoderOnly
from .decoding import fill_spans, generate, truncate_at_eos
from .masks import fill_masks
from .pairs import Ids, causal_pairs, masked_pairs, seq2seq_pairs
from .texts import all_but, expect_model

PAIRS = {"decoder-only": causal_pairs, "encoder-only": masked_pairs, "encoder-decoder": seq2seq_pairs}


def answer_pairs(architecture: str, prompts: Ids, answers: Ids, special: SpecialIds) -> dict[str, Tensor]:
    """A batch for fine-tuning a model of an architecture, with the answers alone in the loss.

    Prompts and answers are rows of token ids, of any lengths; see `clozelab.generation.pairs`.

    Raises `InputError` for an architecture that does not exist, and what the pairs refuse.
    """
    if architecture not in PAIRS:
        raise InputError(f"architecture must be one of {', '.join(PAIRS)}, got {architecture!r}")
    return PAIRS[architecture](prompts, answers, special)


def generate_answers(
    model: nn.Module, prompts: Ids, special: SpecialIds, *, tokens: int | Sequence[int], **sampling: Any
) -> list[list[int]]:
    """What a model answers to prompts, as `answer_pairs` taught it: ids without end of text, a list for each prompt.

    `tokens` is how long an answer may be, and for an encoder how long it is: one number, or one for each prompt.
    `sampling` are the keywords of `clozelab.generation.sample_token`; greedy=True takes the most probable token.

    Raises `InputError` for a model that is none of ours, and for lengths that do not fit the prompts.
    """
    check_type(special, SpecialIds, "special ids", "give tokenizer.special")
    lengths = _lengths(prompts, tokens)
    architecture = getattr(model, "architecture", None)
    if architecture not in PAIRS:
        raise InputError(f"expected a DecoderOnly, EncoderOnly or EncoderDecoder, got {type(model).__name__}")
    answer = {"decoder-only": _continued, "encoder-only": _unmasked, "encoder-decoder": _filled}[architecture]
    return answer(model, prompts, special, lengths, **sampling)


def _continued(
    model: nn.Module, prompts: Ids, special: SpecialIds, lengths: list[int], **sampling: Any
) -> list[list[int]]:
    """Continue each prompt until the end of text; prompts of one length are read together."""
    answers: dict[int, list[int]] = {}
    for length in sorted({len(prompt) for prompt in prompts}):
        rows = [b for b, prompt in enumerate(prompts) if len(prompt) == length]
        ids = generate(
            expect_model(model, DecoderOnly),
            torch.tensor([list(prompts[b]) for b in rows]),
            max_new_tokens=max(lengths[b] for b in rows),
            eos=special.eos,
            suppressed=all_but(special, special.eos),
            **sampling,
        )[:, length:]
        answers |= {b: truncate_at_eos(row, special.eos)[: lengths[b]] for b, row in zip(rows, ids.tolist())}
    return [answers[b] for b in range(len(prompts))]


def _unmasked(
    model: nn.Module, prompts: Ids, special: SpecialIds, lengths: list[int], **sampling: Any
) -> list[list[int]]:
    """Fill as many masks as the answer has tokens, so that its length is given away.

    All at once, as `masked_pairs` taught it; order="confidence" or "left_to_right" gives the model answers of which a
    part is filled, and those it has only met if it was pretrained.
    """
    batch = masked_pairs(prompts, [[special.eos] * n for n in lengths], special)  # only the places count
    filled = fill_masks(
        expect_model(model, EncoderOnly),
        batch["input_ids"],
        special["mask"],
        attention_mask=batch["attention_mask"],
        suppressed=special.all,
        **sampling,
    )
    return [filled[b, len(prompt) : len(prompt) + n].tolist() for b, (prompt, n) in enumerate(zip(prompts, lengths))]


def _filled(
    model: nn.Module, prompts: Ids, special: SpecialIds, lengths: list[int], **sampling: Any
) -> list[list[int]]:
    """What the decoder generates behind the sentinel that stands at the end of each prompt."""
    batch = seq2seq_pairs(prompts, [[]] * len(prompts), special)  # only the inputs count
    first = special.sentinels[:1]
    targets = fill_spans(
        expect_model(model, EncoderDecoder),
        batch["input_ids"],
        start_id=special["decoder_start"],
        eos=special.eos,
        sentinels=first,
        max_new_tokens=max(lengths) + 2,
        attention_mask=batch["attention_mask"],
        suppressed=all_but(special, special.eos, *first),
        **sampling,
    )
    rows = ([token for token in truncate_at_eos(row, special.eos) if token not in first] for row in targets.tolist())
    return [row[:n] for row, n in zip(rows, lengths)]


def _lengths(prompts: Ids, tokens: int | Sequence[int]) -> list[int]:
    """How long each answer may be. Raises `InputError` for another number of lengths than of prompts, or of none."""
    if not hasattr(prompts, "__len__") or not all(hasattr(prompt, "__len__") for prompt in prompts):
        raise InputError(f"expected prompts as rows of token ids, got {shown(prompts)}")
    each = tokens if isinstance(tokens, Sequence) else [tokens] * len(prompts)
    lengths = [check_int(n, "the length of an answer") for n in each]
    if len(lengths) != len(prompts) or min(lengths, default=1) < 1:
        raise InputError(f"expected lengths of at least 1 for {len(prompts)} answers, got {shown(tokens)}")
    return lengths
