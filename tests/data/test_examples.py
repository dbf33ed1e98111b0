"""Examples and their noise, and the small functions that put rows side by side."""

import pytest
import torch

from clozelab.data import IGNORED, Examples, Noise, SpecialIds, pad_rows, shift_targets, smallest, stack_batches
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES

from .cases import SPECIAL


def examples_of(rows, special=SPECIAL, ids=None, **more) -> Examples:
    tokens = pad_rows(rows, special.pad)
    is_token = torch.arange(tokens.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    noise = Noise.of(0, 0, ids or range(len(rows)))
    return Examples(tokens, is_token, is_token, noise, special, **more)


ROWS = [[15, 16, 17, 18, 1, 19], [20, 21, 22, 23, 24], [30, 31, 32]]


def test_some_of_the_examples_keep_their_own_noise_and_everything_else():
    words, documents = torch.arange(18).view(3, 6), torch.arange(18).view(3, 6) % 2
    examples = examples_of(ROWS, labels=pad_rows(ROWS, -100), word_ids=words, document_ids=documents, progress=0.25)
    index = torch.tensor([2, 0])
    some = examples.rows(index)
    assert some.progress == 0.25
    assert some.special is SPECIAL
    for name in ("tokens", "is_token", "maskable", "labels", "word_ids", "document_ids"):
        assert torch.equal(getattr(some, name), getattr(examples, name)[index]), name
    assert torch.equal(some.uniform(3), examples.uniform(3)[index])
    assert torch.equal(some.uniform_row(3), examples.uniform_row(3)[index])
    assert examples_of(ROWS).rows(index).labels is None


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_row_of_a_mixture_is_corrupted_as_if_alone(name):
    """What a mixture does: split the rows, corrupt each part its own way, stack the parts again."""
    corrupt, examples = OBJECTIVES[name]().corrupt, examples_of(ROWS)
    parts = [torch.tensor([2, 0]), torch.tensor([1])]
    stacked = stack_batches([corrupt(examples.rows(part)) for part in parts], torch.cat(parts), SPECIAL.pad)
    whole = corrupt(examples)
    assert stacked.keys() == whole.keys()
    for key in whole:
        if key == "reading_rank":  # what it is at padding is read by nobody
            stacked[key], whole[key] = (batch[key] * batch["attention_mask"] for batch in (stacked, whole))
        if key == "decoder_input_ids":  # behind a short row stands its end of text, which predicts nothing
            stacked[key], whole[key] = (batch[key] * (batch["labels"] != IGNORED) for batch in (stacked, whole))
        assert torch.equal(stacked[key], whole[key]), key


def test_a_text_is_what_may_be_hidden_and_is_no_special_id():
    examples = examples_of([[15, 1, 2, 99, 3, 16], [17]])
    assert examples.text_maskable.int().tolist() == [[1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]]
    assert examples.token_lists() == [[15, 1, 2, 99, 3, 16], [17]]


def test_padding_that_is_the_end_of_text_is_no_end_of_text():
    same = SpecialIds(vocab_size=100, pad=1, eos=1)
    assert examples_of([[10, 1], [11]], same).is_eos.tolist() == [[False, True], [False, False]]


def test_reading_keys_hold_documents_only_where_they_are_kept_apart():
    assert examples_of(ROWS).reading_keys().keys() == {"attention_mask"}
    documents = torch.zeros(3, 6, dtype=torch.int64)
    keys = examples_of(ROWS, document_ids=documents).reading_keys()
    assert keys["document_ids"] is documents
    assert keys["attention_mask"].tolist() == [[1] * 6, [1] * 5 + [0], [1] * 3 + [0] * 3]


def test_words_come_from_the_rows_or_from_the_table_of_the_vocabulary():
    begins = torch.tensor([id % 2 == 0 for id in range(100)])
    special = SpecialIds(vocab_size=100, pad=0, eos=1, starts_word=begins)
    rows = [[10, 11, 13, 12, 1, 15, 14], [11, 13]]
    assert examples_of(rows, special).words().tolist() == [[1, 1, 1, 2, -1, 3, 4], [0, 0, -1, -1, -1, -1, -1]]
    own = torch.zeros(2, 7, dtype=torch.int64)
    assert examples_of(rows, special, word_ids=own).words() is own
    with pytest.raises(InputError, match=r"no 'word_ids' and the vocabulary no table of words"):
        examples_of(rows).words()


# ------------------------------------------------------------------ rows side by side


def test_rows_are_padded_on_the_right_and_an_empty_one_holds_ids_too():
    """`torch.as_tensor([])` is float32, and the first row decides the type of all."""
    for rows, padded in (
        ([[], [5, 6]], [[9, 9], [5, 6]]),
        ([[]], [[]]),
        ([[5], torch.tensor([6, 7])], [[5, 9], [6, 7]]),
    ):
        assert pad_rows(rows, 9).dtype == torch.int64
        assert pad_rows(rows, 9).tolist() == padded


def test_the_k_smallest_of_each_row_are_chosen_and_nothing_else():
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.0], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    among = torch.tensor([[True, True, True, False], [True] * 4, [False] * 4])
    assert smallest(noise, torch.tensor([[2], [1], [3]]), among).int().tolist() == [
        [0, 1, 1, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 0],
    ]
    assert torch.equal(smallest(noise, torch.tensor([[9], [9], [9]]), among), among)


def test_stacked_batches_are_padded_by_what_each_key_means():
    one = {
        "input_ids": torch.tensor([[5, 6, 7], [8, 9, 10]]),
        "labels": torch.tensor([[5, -100, 7], [8, 9, 10]]),
        "attention_mask": torch.ones(2, 3, dtype=torch.int64),
        "weights": torch.tensor([[0.5, 0.5, 0.5], [2.0, 2.0, 2.0]]),
        "count": torch.tensor([3, 4]),
    }
    two = {key: value[:1, :2] if value.dim() == 2 else value[:1] + 7 for key, value in one.items()}
    stacked = stack_batches([one, two], torch.tensor([2, 0, 1]), pad=77)
    assert {key: value.tolist() for key, value in stacked.items()} == {
        "input_ids": [[8, 9, 10], [5, 6, 77], [5, 6, 7]],
        "labels": [[8, 9, 10], [5, -100, -100], [5, -100, 7]],
        "attention_mask": [[1, 1, 1], [1, 1, 0], [1, 1, 1]],
        "weights": [[2.0, 2.0, 2.0], [0.5, 0.5, 0.0], [0.5, 0.5, 0.5]],
        "count": [4, 10, 3],
    }


def test_batches_of_different_keys_are_not_stacked():
    """The rank of a prefix LM's rows would be lost beside a causal batch that came first."""
    causal = {"input_ids": torch.tensor([[5]])}
    with pytest.raises(InputError, match="input_ids and input_ids, reading_rank: a key that one lacks"):
        stack_batches([causal, {**causal, "reading_rank": torch.tensor([[0]])}], torch.tensor([0, 1]), 0)


def test_decoder_inputs_begin_again_at_each_document():
    targets = torch.tensor([[99, 12, 98, 13, 97, 1], [99, 10, 11, 98, 14, 1]])
    documents = torch.tensor([[0, 0, 1, 1, 3, 3], [0, 0, 0, 0, 0, 0]])
    assert shift_targets(targets, 7).tolist() == [[7, 99, 12, 98, 13, 97], [7, 99, 10, 11, 98, 14]]
    assert shift_targets(targets, 7, documents).tolist() == [[7, 99, 7, 98, 7, 97], [7, 99, 10, 11, 98, 14]]
    assert torch.equal(targets, torch.tensor([[99, 12, 98, 13, 97, 1], [99, 10, 11, 98, 14, 1]]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32], ids=str)
def test_targets_of_narrow_types_are_shifted_alike(dtype):
    documents = torch.tensor([[0, 0, 1]])
    assert shift_targets(torch.tensor([[99, 12, 98]], dtype=dtype), 900, documents).tolist() == [[900, 99, 900]]


def test_a_single_batch_is_stacked_too():
    one = {"labels": torch.tensor([[7, 8], [5, 6]])}
    assert stack_batches([one], torch.tensor([1, 0]), pad=0)["labels"].tolist() == [[5, 6], [7, 8]]
