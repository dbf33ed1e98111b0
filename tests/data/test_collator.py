"""The one collator: law 1, Hugging Face's keys, and nothing of the caller's changed."""

import copy
import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from clozelab.data import (
    Bernoulli,
    Collator,
    HideNext,
    HideSpans,
    HideTokens,
    Noise,
    RandomSpans,
    WholeWords,
    restore_spans,
)
from clozelab.errors import InputError

HIDES = [HideNext(), HideTokens(), HideTokens(Bernoulli(0.3)), HideSpans(), HideSpans(RandomSpans(0.3, 2.0))]
NOISY = HIDES[1:]


def rows(n=12, seed=0, shortest=4, longest=40):
    lengths = torch.randint(shortest, longest, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    return [
        {"input_ids": [3 + (7 * b + t) % 70 for t in range(length)], "example_id": b}
        for b, length in enumerate(lengths)
    ]


def unpadded(batch, b):
    """What belongs to row b of a batch, without its padding."""
    n = int(batch["attention_mask"][b].sum())
    result = {"input_ids": batch["input_ids"][b, :n].tolist()}
    if "decoder_input_ids" in batch:
        result["labels"] = [label for label in batch["labels"][b].tolist() if label != -100]
    else:
        result["labels"] = batch["labels"][b, :n].tolist()
    return result


# ------------------------------------------------------------------ law 1


@pytest.mark.parametrize("hide", HIDES, ids=str)
def test_an_example_is_corrupted_alike_in_any_batch_order_and_company(special, hide):
    collate = Collator(hide, special, seed=5)
    examples = rows()
    together = collate(examples)
    for order in ([3, 1, 11], [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [4]):
        again = collate([examples[b] for b in order])
        for place, b in enumerate(order):
            assert unpadded(again, place) == unpadded(together, b)


@pytest.mark.parametrize("hide", HIDES, ids=str)
def test_a_block_gives_what_its_rows_give(special, hide):
    collate = Collator(hide, special, seed=5)
    tokens = torch.randint(3, 80, (6, 50), generator=torch.Generator().manual_seed(0))
    block = collate.block(tokens, [10, 11, 12, 13, 14, 15])
    listed = collate([{"input_ids": row.tolist(), "example_id": 10 + b} for b, row in enumerate(tokens)])
    assert block.keys() == listed.keys()
    assert all(torch.equal(block[key], listed[key]) for key in block)


@pytest.mark.parametrize("hide", NOISY, ids=str)
@pytest.mark.parametrize("other", [{"seed": 6}, {"epoch": 1}])
def test_another_seed_or_epoch_hides_other_tokens(special, hide, other):
    examples = rows(shortest=30)
    a, b = (Collator(hide, special, **settings)(examples) for settings in ({"seed": 5}, {"seed": 5, **other}))
    differ = [unpadded(a, k) != unpadded(b, k) for k in range(len(examples))]
    assert sum(differ) >= len(examples) - 1


@pytest.mark.parametrize("hide", NOISY, ids=str)
def test_the_global_random_state_is_neither_read_nor_changed(special, hide):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = Collator(hide, special)(rows())
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    again = Collator(hide, special)(rows())
    assert all(torch.equal(first[key], again[key]) for key in first)


def epoch_of_batches(collate, workers, persistent=False, epochs=1, **settings):
    loader = DataLoader(
        rows(),
        batch_size=5,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=persistent,
        **settings,
    )
    passes = []
    for epoch in range(epochs):
        collate.set_epoch(epoch)
        passes.append([unpadded(batch, b) for batch in loader for b in range(len(batch["input_ids"]))])
    return passes


@pytest.mark.parametrize("hide", [HideTokens(), HideSpans()], ids=str)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_masks_are_equal_for_any_number_of_workers(special, hide):
    expected = epoch_of_batches(Collator(hide, special), 0, epochs=2)
    assert expected[0] != expected[1]
    for workers in (1, 2, 4):
        assert epoch_of_batches(Collator(hide, special), workers, epochs=2) == expected


def test_workers_that_outlive_the_epoch_see_it_change(special):
    expected = epoch_of_batches(Collator(HideTokens(), special), 0, epochs=3)
    assert epoch_of_batches(Collator(HideTokens(), special), 2, persistent=True, epochs=3) == expected


def test_workers_that_are_spawned_agree_too(special):
    expected = epoch_of_batches(Collator(HideTokens(), special), 0)
    assert epoch_of_batches(Collator(HideTokens(), special), 1, multiprocessing_context="spawn") == expected


def test_a_row_may_carry_its_epoch(special):
    [example] = rows(1, shortest=30)
    later = Collator(HideTokens(), special, epoch=4)([example])
    carried = Collator(HideTokens(), special)([{**example, "epoch": 4}])
    assert torch.equal(later["input_ids"], carried["input_ids"])


def test_a_row_without_identity_is_known_by_its_tokens(special):
    collate = Collator(HideTokens(), special)
    anonymous = [{"input_ids": row["input_ids"]} for row in rows()]
    together, alone = collate(anonymous), collate(anonymous[7:8])
    assert unpadded(together, 7) == unpadded(alone, 0)


def test_a_pickled_collator_goes_on_alike(special):
    collate = Collator(HideTokens(), special, seed=3)
    collate.set_epoch(2)
    again = pickle.loads(pickle.dumps(collate))
    assert torch.equal(collate(rows())["input_ids"], again(rows())["input_ids"])


# ------------------------------------------------------------------ what is hidden, what is paid


def test_masked_inputs_differ_from_the_text_only_where_a_label_stands(special):
    """Catalogue of mistakes, rows 4 and 5."""
    examples = rows(50)
    batch = Collator(HideTokens(), special)(examples)
    for b, example in enumerate(examples):
        n = len(example["input_ids"])
        text, labels = torch.tensor(example["input_ids"]), batch["labels"][b]
        paid = labels != -100
        assert torch.equal(batch["input_ids"][b, :n][~paid[:n]], text[~paid[:n]])
        assert torch.equal(labels[:n][paid[:n]], text[paid[:n]])
        assert not paid[n:].any()
        assert (batch["input_ids"][b, n:] == special.pad).all()
        assert paid.sum() == max(1, round(0.15 * n))


def test_special_ids_are_never_hidden_and_never_a_replacement(special):
    """Catalogue of mistakes, row 7."""
    tokens = torch.tensor([[1, 5, 6, 2, 7, 1, 8, 99] * 8] * 400)
    batch = Collator(HideTokens(Bernoulli(0.9), mask_replace_prob=0.0, random_replace_prob=1.0), special).block(
        tokens, range(400)
    )
    is_special = special.is_special(tokens)
    assert torch.equal(batch["input_ids"][is_special], tokens[is_special])
    assert (batch["labels"][is_special] == -100).all()
    assert not special.is_special(batch["input_ids"][~is_special]).any()


def test_span_corruption_can_be_undone(special):
    examples = rows(40, shortest=2)
    batch = Collator(HideSpans(), special)(examples)
    for b, example in enumerate(examples):
        row = unpadded(batch, b)
        inputs, targets = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])
        assert restore_spans(inputs, targets, special.sentinels, eos=1).tolist() == example["input_ids"]


def test_decoder_inputs_are_the_labels_one_later_without_minus_100(special):
    batch = Collator(HideSpans(), special)(rows())
    labels, inputs = batch["labels"], batch["decoder_input_ids"]
    assert (inputs[:, 0] == special.pad).all()
    assert torch.equal(inputs[:, 1:], labels[:, :-1].masked_fill(labels[:, :-1] == -100, special.pad))


def test_causal_labels_are_the_inputs_and_padding_is_known_by_place_not_by_id(special):
    """Catalogue of mistakes, row 21: with pad = eos the end of text must keep its label."""
    same = copy.copy(special)
    object.__setattr__(same, "pad", special.eos)
    batch = Collator(HideNext(), same)([{"input_ids": [5, 6, 1]}, {"input_ids": [7, 1]}])
    assert batch["labels"].tolist() == [[5, 6, 1], [7, 1, -100]]
    assert batch["input_ids"].tolist() == [[5, 6, 1], [7, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_every_row_that_can_has_a_target(special):
    """Catalogue of mistakes, row 9: independent draws leave 27% of rows of eight without one."""
    examples = [{"input_ids": [5, 6, 7, 8], "example_id": b} for b in range(500)]
    for hide in (HideTokens(), HideTokens(Bernoulli()), HideSpans()):
        batch = Collator(hide, special)(examples)
        assert ((batch["labels"] != -100).sum(1) >= (1 if isinstance(hide, HideTokens) else 3)).all()


def test_a_row_of_special_ids_has_no_target_and_does_no_harm(special):
    batch = Collator(HideTokens(), special)([{"input_ids": [1, 2, 1]}, {"input_ids": [5, 6]}, {"input_ids": []}])
    assert (batch["labels"][0] == -100).all()
    assert batch["input_ids"][0].tolist() == [1, 2, 1]


# ------------------------------------------------------------------ the caller's own


def test_rows_are_not_changed(special):
    examples = [
        {"input_ids": torch.arange(5, 30), "labels": torch.arange(5, 30), "attention_mask": torch.ones(25)},
        {"input_ids": list(range(5, 20)), "labels": list(range(5, 20)), "attention_mask": [1] * 15},
    ]
    examples[0]["attention_mask"] = examples[0]["attention_mask"].long()
    before = copy.deepcopy(examples)
    for hide in HIDES:
        Collator(hide, special)(examples)
    assert torch.equal(examples[0]["input_ids"], before[0]["input_ids"])
    assert torch.equal(examples[0]["labels"], before[0]["labels"])
    assert examples[1] == before[1]


def test_a_callers_tensor_does_not_share_memory_with_the_batch(special):
    tokens = torch.arange(5, 25)[None]
    for hide in HIDES:
        batch = Collator(hide, special).block(tokens, [0])
        for value in batch.values():
            value.fill_(7)
        assert torch.equal(tokens[0], torch.arange(5, 25))


def test_labels_of_the_caller_are_respected(special):
    labels = [-100, -100, *range(7, 40)]
    example = {"input_ids": list(range(5, 40)), "labels": labels}
    assert Collator(HideNext(), special)([example])["labels"][0].tolist() == labels
    masked = Collator(HideTokens(Bernoulli(0.9)), special)([example])
    assert (masked["labels"][0, :2] == -100).all()
    assert masked["input_ids"][0, :2].tolist() == [5, 6]
    others = {"input_ids": list(range(5, 40)), "labels": list(range(45, 80))}
    said = Collator(HideTokens(Bernoulli(0.9)), special)([others])["labels"][0]
    assert set(said.tolist()) <= {-100, *range(45, 80)}
    spans = Collator(HideSpans(RandomSpans(0.5, 2.0)), special)([example])
    assert spans["input_ids"][0, :2].tolist() == [5, 6]
    with pytest.raises(InputError, match="other labels"):
        Collator(HideSpans(), special)([others])


def test_protected_and_padded_positions_are_never_hidden(special):
    example = {
        "input_ids": [0, 0, *range(5, 40)],
        "attention_mask": [0, 0, *[1] * 35],
        "special_tokens_mask": [0, 0, 1, 1, *[0] * 33],
    }
    for b in range(30):
        batch = Collator(HideTokens(Bernoulli(0.9)), special)([{**example, "example_id": b}])
        assert batch["input_ids"][0, :4].tolist() == [0, 0, 5, 6]
        assert (batch["labels"][0, :4] == -100).all()
        assert batch["attention_mask"][0].tolist() == example["attention_mask"]


def test_extra_keys_pass_through(special):
    examples = [
        {"input_ids": [5, 6, 7], "topic": "a", "score": 1, "vector": [1.0, 2.0], "token_type_ids": [0, 1, 1]},
        {"input_ids": [5, 6], "topic": "b", "score": 2, "vector": [3.0, 4.0], "token_type_ids": [0, 1]},
    ]
    batch = Collator(HideTokens(), special)(examples)
    assert batch["topic"] == ["a", "b"]
    assert batch["score"].tolist() == [1, 2]
    assert batch["vector"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert batch["token_type_ids"].tolist() == [[0, 1, 1], [0, 1, 0]]
    assert "example_id" not in batch
    with pytest.raises(InputError, match="changes the number of tokens"):
        Collator(HideSpans(), special)(examples)


def test_whole_words_take_the_words_from_the_row(special):
    words = [None, 0, 0, 0, 1, 1, 2, 3, 3, None]
    example = {"input_ids": [1, *range(5, 13), 1], "word_ids": words}
    for b in range(20):
        batch = Collator(HideTokens(WholeWords(0.4), mask_replace_prob=1.0, random_replace_prob=0.0), special)(
            [{**example, "example_id": b}]
        )
        hidden = batch["labels"][0] != -100
        for word in range(4):
            assert len({bool(h) for h, w in zip(hidden, words) if w == word}) == 1
    with pytest.raises(InputError, match="word_ids"):
        Collator(HideTokens(WholeWords()), special)(rows())


# ------------------------------------------------------------------ a user's scheme


def every_third(tokens, maskable, generator):
    """A scheme as a user writes it."""
    offset = int(torch.randint(3, (1,), generator=generator))
    return maskable & (torch.arange(len(tokens)) % 3 == offset)


@pytest.mark.parametrize("wrap", [HideTokens, HideSpans])
def test_a_users_scheme_goes_straight_in_and_obeys_law_1(special, wrap):
    collate = Collator(wrap(every_third), special)
    examples = rows()
    together = collate(examples)
    for b in range(len(examples)):
        assert unpadded(collate(examples[b : b + 1]), 0) == unpadded(together, b)
    collate.set_epoch(1)
    assert any(unpadded(collate(examples), b) != unpadded(together, b) for b in range(len(examples)))


def test_a_users_scheme_cannot_change_the_text(special):
    def rude(tokens, maskable, generator):
        tokens.fill_(7)
        maskable.fill_(False)
        return torch.zeros(len(tokens), dtype=torch.bool)

    tokens = torch.arange(5, 25)[None]
    assert torch.equal(Collator(HideTokens(rude), special).block(tokens, [0])["input_ids"], tokens)


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (lambda tokens, maskable, generator: maskable.long(), "must return a boolean tensor"),
        (lambda tokens, maskable, generator: maskable[:-1], "must return a boolean tensor of shape"),
        (lambda tokens, maskable, generator: [True], "returned list"),
        (lambda tokens, maskable, generator: torch.ones_like(maskable), r"protected positions \[2\]"),
    ],
)
def test_a_scheme_that_breaks_the_contract_is_told_how(special, scheme, message):
    with pytest.raises(InputError, match=message):
        Collator(HideTokens(scheme), special).block(torch.tensor([[5, 6, 1, 7]]), [0])


# ------------------------------------------------------------------ documents, bad input


def test_documents_are_told_apart_by_their_end(special):
    collate = Collator(HideNext(), special, within_documents=True)
    batch = collate.block(torch.tensor([[5, 6, 1, 7, 1, 8]]), [0])
    assert batch["document_ids"].tolist() == [[0, 0, 0, 1, 1, 2]]
    spans = Collator(HideSpans(), special, within_documents=True).block(torch.tensor([[5, 6, 1, 7, 8, 8]]), [0])
    assert spans["document_ids"].shape == spans["input_ids"].shape
    assert spans["decoder_document_ids"].shape == spans["decoder_input_ids"].shape


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "got none"),
        ([{"text": "hello"}], r"keys \['text'\] in place 0: was the text tokenised"),
        ([[5, 6]], "a list in place 0"),
        ([{"input_ids": "hello"}], "list of integers"),
        ([{"input_ids": [[5, 6], [7, 8]]}], "1-D"),
        ([{"input_ids": [5.5, 6.5]}], "list of integers"),
        ([{"input_ids": [5, 100]}], r"0 \.\. 99, got 5 \.\. 100"),
        ([{"input_ids": [5, -1]}], "same tokenizer"),
        ([{"input_ids": [5, 6], "labels": [5]}], "one value for each of the 2 tokens, got 1"),
    ],
)
def test_bad_rows_are_told_what_was_expected(special, examples, message):
    with pytest.raises(InputError, match=message):
        Collator(HideTokens(), special)(examples)


def test_a_block_needs_one_identity_for_each_row(special):
    with pytest.raises(InputError, match="B example_ids"):
        Collator(HideTokens(), special).block(torch.ones(2, 3, dtype=torch.long), [0])


def test_masked_lm_without_a_mask_id_says_so(special):
    bare = copy.copy(special)
    object.__setattr__(bare, "mask", None)
    with pytest.raises(InputError, match="needs a mask id"):
        Collator(HideTokens(), bare)(rows())


def test_the_noise_of_a_batch_is_the_noise_of_its_rows(special):
    """What a reader can recompute by hand: key by (seed, epoch, identity), stream 0 chooses."""
    tokens = torch.arange(5, 45)[None]
    batch = Collator(HideTokens(), special, seed=9, epoch=2).block(tokens, [77])
    noise = Noise.of(9, 2, [77]).uniform(0, 40)[0]
    hidden = torch.zeros(40, dtype=torch.bool)
    hidden[noise.argsort()[:6]] = True  # round(0.15 x 40)
    assert torch.equal(batch["labels"][0] != -100, hidden)
