"""Pairs of prompt and answer as a batch of each architecture: literal tables, ragged rows, and what is refused."""

import pytest
import torch

from clozelab.data import IGNORED, SpecialIds
from clozelab.errors import InputError
from clozelab.generation import causal_pairs, masked_pairs, seq2seq_pairs

PAD, END, MASK, X, Y = 0, 1, 2, 19, 18
SPECIAL = SpecialIds(vocab_size=20, pad=PAD, eos=END, mask=MASK, sentinels=(X, Y))
NO = IGNORED
PROMPTS, ANSWERS = [[5, 6, 7], [8]], [[9], [10, 11]]
WAYS = [causal_pairs, masked_pairs, seq2seq_pairs]


def test_a_decoder_continues_its_prompt_and_stops():
    batch = causal_pairs(PROMPTS, ANSWERS, SPECIAL)
    expected = {
        "input_ids": [[5, 6, 7, 9, END], [8, 10, 11, END, PAD]],
        "attention_mask": [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]],
        "labels": [[NO, NO, NO, 9, END], [NO, 10, 11, END, NO]],
    }
    assert {key: value.tolist() for key, value in batch.items()} == expected


def test_an_encoder_has_one_mask_for_each_token_of_the_answer():
    batch = masked_pairs(PROMPTS, ANSWERS, SPECIAL)
    expected = {
        "input_ids": [[5, 6, 7, MASK, END], [8, MASK, MASK, END, PAD]],
        "attention_mask": [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]],
        "labels": [[NO, NO, NO, 9, NO], [NO, 10, 11, NO, NO]],
    }
    assert {key: value.tolist() for key, value in batch.items()} == expected


def test_an_encoder_decoder_answers_behind_a_sentinel():
    batch = seq2seq_pairs(PROMPTS, ANSWERS, SPECIAL)
    expected = {
        "input_ids": [[5, 6, 7, X, END], [8, X, END, PAD, PAD]],
        "attention_mask": [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]],
        "decoder_input_ids": [[PAD, X, 9, END], [PAD, X, 10, 11]],
        "labels": [[X, 9, END, NO], [X, 10, 11, END]],
    }
    assert {key: value.tolist() for key, value in batch.items()} == expected


@pytest.mark.parametrize("pairs", WAYS)
def test_tensors_are_ids_whatever_the_rows_are(pairs):
    """Lists, tuples and tensors make the same batch, whole numbers all of it, and stay as they were."""
    prompts = [torch.tensor(row) for row in PROMPTS]
    batch, other = pairs(prompts, tuple(map(tuple, ANSWERS)), SPECIAL), pairs(PROMPTS, ANSWERS, SPECIAL)
    assert all(torch.equal(batch[key], other[key]) for key in other)
    assert {value.dtype for value in batch.values()} == {torch.int64}
    assert [row.tolist() for row in prompts] == PROMPTS


@pytest.mark.parametrize("pairs", WAYS)
def test_a_row_is_the_same_beside_any_other(pairs):
    together, alone = pairs(PROMPTS, ANSWERS, SPECIAL), pairs(PROMPTS[1:], ANSWERS[1:], SPECIAL)
    for key, row in alone.items():
        n = row.shape[1]
        assert torch.equal(together[key][1, :n], row[0])
        rest = {"labels": NO, "attention_mask": 0}.get(key, PAD)
        # The decoder reads the label before, an end of text too; nothing behind its row is in the loss.
        assert key == "decoder_input_ids" or bool((together[key][1, n:] == rest).all())


@pytest.mark.parametrize("pairs", WAYS)
def test_only_answers_are_in_the_loss(pairs):
    """With the end of text and the sentinel, where the form has them."""
    labels = pairs(PROMPTS, ANSWERS, SPECIAL)["labels"]
    predicted = [[id for id in row if id not in (NO, END, X)] for row in labels.tolist()]
    assert predicted == ANSWERS


def test_padding_that_is_the_end_of_text_is_not_in_the_loss():
    same = SpecialIds(vocab_size=20, pad=END, eos=END)
    assert causal_pairs(PROMPTS, ANSWERS, same)["labels"].tolist() == [[NO, NO, NO, 9, END], [NO, 10, 11, END, NO]]


def test_an_empty_answer_ends_at_once():
    assert causal_pairs([[5]], [[]], SPECIAL)["labels"].tolist() == [[NO, END]]
    assert masked_pairs([[5]], [[]], SPECIAL)["labels"].tolist() == [[NO, NO]]  # nothing to predict
    assert seq2seq_pairs([[5]], [[]], SPECIAL)["labels"].tolist() == [[X, END]]


@pytest.mark.parametrize("pairs", WAYS)
@pytest.mark.parametrize(
    ("prompts", "answers", "message"),
    [
        ([[5], [6]], [[7]], "got 2 prompts and 1 answers"),
        ([], [], "got 0 prompts and 0 answers"),
        ([[5], []], [[7], [8]], "prompts of at least one token"),
        ([[5, 20]], [[7]], r"0 .. 19, but row 0 of the prompts holds 5 .. 20"),
        ([[5], [6]], [[7], [IGNORED]], r"row 1 of the answers holds -100 .. -100"),
        ([[5.5]], [[7]], "must be a whole number, got 5.5"),
        (["five"], [[7]], "must be a whole number, got 'f'"),
        ([5, 6], [7, 8], "put a single prompt, and its answer, in a list"),
        ([[[5]]], [[7]], "must be a whole number"),
    ],
)
def test_what_is_no_pair_is_refused(pairs, prompts, answers, message):
    with pytest.raises(InputError, match=message):
        pairs(prompts, answers, SPECIAL)


def test_the_decoder_starts_as_the_vocabulary_says():
    special = SpecialIds(vocab_size=20, pad=PAD, eos=END, sentinels=(X,), roles={"decoder_start": 7})
    assert seq2seq_pairs([[5]], [[9]], special)["decoder_input_ids"].tolist() == [[7, X, 9]]


def test_special_ids_that_lack_what_is_needed_are_refused():
    bare = SpecialIds(vocab_size=20, pad=PAD, eos=END)
    with pytest.raises(InputError, match=r"SpecialIds.mask is None"):
        masked_pairs(PROMPTS, ANSWERS, bare)
    with pytest.raises(InputError, match="SpecialIds has none"):
        seq2seq_pairs(PROMPTS, ANSWERS, bare)
