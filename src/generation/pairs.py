"""Text to text: pairs of a prompt and an answer as a batch of each architecture, with the answer alone in the loss.

One pair, three forms (`</s>` is the end of text, `<X>` the first sentinel):

    prompt "2 + 3 =", answer "5"

    decoder-only      input_ids            2 + 3 = 5 </s>
                      labels               . . . . 5 </s>       unshifted, as everywhere
    encoder-only      input_ids            2 + 3 = [M] </s>     the length of the answer is given
                      labels               . . . .  5   .
    encoder-decoder   input_ids            2 + 3 = <X> </s>
                      labels               <X> 5 </s>
                      decoder_input_ids    <pad> <X> 5

Each is the form that the objective was pretrained on, so that nothing new is to be learned but the task. Source: Raffel
et al. 2020 (T5), section 2.4, for text to text; Radford et al. 2018 (GPT), section 3.3, for the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..checks import check_int, check_type
from ..data.examples import IGNORED, pad_rows, shift_targets
from ..data.special_ids import SpecialIds
from ..errors import InputError

Ids = Sequence[Sequence[int]]
"""Rows of token ids, of any lengths."""


def causal_pairs(prompts: Ids, answers: Ids, special: SpecialIds) -> dict[str, Tensor]:
    """For a decoder: (B, T) of prompt, answer, end of text; the latter two in the loss.

    >>> from clozelab import SpecialIds
    >>> from clozelab.generation import causal_pairs
    >>> special = SpecialIds(vocab_size=10, pad=0, eos=1)
    >>> causal_pairs([[5, 6]], [[7]], special)["labels"]
    tensor([[-100, -100,    7,    1]])

    Raises `InputError` for another number of answers than of prompts, for a prompt without tokens, and for ids that are
    none of the vocabulary, -100 among them: what is not in the loss belongs to the prompt.
    """
    _check(prompts, answers, special)
    rows = [[*prompt, *answer, special.eos] for prompt, answer in zip(prompts, answers)]
    labels = [[IGNORED] * len(prompt) + [*answer, special.eos] for prompt, answer in zip(prompts, answers)]
    return {**_inputs(rows, special), "labels": pad_rows(labels, IGNORED)}


def masked_pairs(prompts: Ids, answers: Ids, special: SpecialIds) -> dict[str, Tensor]:
    """For an encoder: (B, T) of prompt, a mask for each token of the answer, end of text; the masks in the loss.

    >>> from clozelab import SpecialIds
    >>> from clozelab.generation import masked_pairs
    >>> special = SpecialIds(vocab_size=10, pad=0, eos=1, mask=2)
    >>> masked_pairs([[5, 6]], [[7]], special)["input_ids"]
    tensor([[5, 6, 2, 1]])

    Raises `InputError` for special ids without a mask, and what `causal_pairs` refuses.
    """
    _check(prompts, answers, special)
    if special.mask is None:
        raise InputError("an encoder answers in the place of masks, but SpecialIds.mask is None")
    rows = [[*prompt, *[special.mask] * len(answer), special.eos] for prompt, answer in zip(prompts, answers)]
    labels = [[*[IGNORED] * len(prompt), *answer, IGNORED] for prompt, answer in zip(prompts, answers)]
    return {**_inputs(rows, special), "labels": pad_rows(labels, IGNORED)}


def seq2seq_pairs(prompts: Ids, answers: Ids, special: SpecialIds) -> dict[str, Tensor]:
    """For an encoder-decoder: inputs (B, S) of prompt, sentinel, end of text; targets (B, L) of sentinel, answer, end.

    >>> from clozelab import SpecialIds
    >>> from clozelab.generation import seq2seq_pairs
    >>> special = SpecialIds(vocab_size=10, pad=0, eos=1, sentinels=(9,))
    >>> seq2seq_pairs([[5, 6]], [[7]], special)["labels"]
    tensor([[9, 7, 1]])

    Raises `InputError` for special ids without sentinels, and what `causal_pairs` refuses.
    """
    _check(prompts, answers, special)
    if not special.sentinels:
        raise InputError("an encoder-decoder answers behind a sentinel, but SpecialIds has none")
    first = special.sentinels[0]
    rows = [[*prompt, first, special.eos] for prompt in prompts]
    targets = [[first, *answer, special.eos] for answer in answers]
    padded = pad_rows(targets, special.pad)
    return {
        **_inputs(rows, special),
        "decoder_input_ids": shift_targets(padded, special["decoder_start"]),
        "labels": pad_rows(targets, IGNORED),
    }


def _check(prompts: Ids, answers: Ids, special: SpecialIds) -> None:
    check_type(special, SpecialIds, "special ids", "give tokenizer.special")
    if not (hasattr(prompts, "__len__") and hasattr(answers, "__len__")):
        raise InputError("expected rows of token ids as prompts, and as answers")
    if len(prompts) != len(answers) or not len(prompts):
        raise InputError(f"expected an answer for each prompt, got {len(prompts)} prompts and {len(answers)} answers")
    if not all(hasattr(row, "__len__") for row in (*prompts, *answers)):
        raise InputError("expected rows of token ids, got single ids: put a single prompt, and its answer, in a list")
    if not all(len(prompt) for prompt in prompts):
        raise InputError("expected prompts of at least one token: to begin from nothing, begin with the end of text")
    for name, rows in (("prompts", prompts), ("answers", answers)):
        for b, row in enumerate(rows):
            ids = [check_int(id, f"each id of the {name}") for id in row]
            if ids and not 0 <= min(ids) <= max(ids) < special.vocab_size:
                raise InputError(
                    f"ids must lie in 0 .. {special.vocab_size - 1}, but row {b} of the {name} holds {min(ids)} .. "
                    f"{max(ids)}: do texts and special ids come from the same tokenizer?"
                )


def _inputs(rows: Ids, special: SpecialIds) -> dict[str, Tensor]:
    return {
        "input_ids": pad_rows(rows, special.pad),
        "attention_mask": pad_rows([[1] * len(row) for row in rows], 0),
    }
