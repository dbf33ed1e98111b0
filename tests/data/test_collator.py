"""What the collator hides and predicts, and that nothing of the caller's is lost or changed."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from clozelab import CausalLM, MaskedLM, PrefixLM, SpanCorruption
from clozelab.data import SpecialIds, restore_spans
from clozelab.errors import InputError

from .cases import ALL, SPECIAL, each, rows, same, unpadded


@pytest.fixture
def special() -> SpecialIds:
    return SPECIAL


# ------------------------------------------------------------------ what is hidden, what is predicted


def test_masked_inputs_differ_from_the_text_only_where_a_label_stands(special):
    examples = rows(50)
    batch = MaskedLM().collator(special)(examples)
    for b, example in enumerate(examples):
        n = len(example["input_ids"])
        text, labels = torch.tensor(example["input_ids"]), batch["labels"][b]
        predicted = labels != -100
        assert torch.equal(batch["input_ids"][b, :n][~predicted[:n]], text[~predicted[:n]])
        assert torch.equal(labels[:n][predicted[:n]], text[predicted[:n]])
        assert not predicted[n:].any()
        assert (batch["input_ids"][b, n:] == special.pad).all()
        assert predicted.sum() == max(1, round(0.15 * n))


def test_at_a_mask_rate_of_one_every_token_of_text_is_hidden(special):
    tokens = torch.tensor([[1, 20, 21, 2, 22, 1]])
    batch = MaskedLM(mask_rate=1.0, mask_replace_prob=1.0, random_replace_prob=0.0).collator(special).block(tokens, [0])
    assert batch["input_ids"].tolist() == [[1, 2, 2, 2, 2, 1]]
    assert batch["labels"].tolist() == [[-100, 20, 21, -100, 22, -100]]


def test_special_ids_are_never_hidden_and_never_a_replacement(special):
    tokens = torch.tensor([[1, 15, 16, 2, 17, 1, 18, 99] * 8] * 400)
    objective = MaskedLM(mask_rate=0.9, scheme="bernoulli", mask_replace_prob=0.0, random_replace_prob=1.0)
    batch = objective.collator(special).block(tokens, range(400))
    is_special = special.is_special(tokens)
    assert torch.equal(batch["input_ids"][is_special], tokens[is_special])
    assert (batch["labels"][is_special] == -100).all()
    assert not special.is_special(batch["input_ids"][~is_special]).any()


def test_span_corruption_can_be_undone(special):
    examples = rows(40, shortest=2)
    batch = SpanCorruption().collator(special)(examples)
    for b, example in enumerate(examples):
        row = unpadded(batch, b)
        inputs, targets = torch.tensor(row["input_ids"]), torch.tensor(row["labels"])
        assert restore_spans(inputs, targets, special.sentinels, eos=1).tolist() == example["input_ids"]


@pytest.mark.parametrize("start", [None, 1, 9])
def test_decoder_inputs_are_the_labels_one_later_without_minus_100(special, start):
    if start is not None:
        special = replace(special, roles={"decoder_start": start})
    batch = SpanCorruption().collator(special)(rows())
    labels, inputs = batch["labels"], batch["decoder_input_ids"]
    assert (inputs[:, 0] == (special.pad if start is None else start)).all()
    assert torch.equal(inputs[:, 1:], labels[:, :-1].masked_fill(labels[:, :-1] == -100, special.pad))


def test_causal_labels_are_the_inputs_and_padding_is_known_by_place_not_by_id(special):
    """With pad = eos the end of text must keep its label."""
    batch = CausalLM().collator(replace(special, pad=special.eos))([[15, 16, 1], [17, 1]])
    assert batch["labels"].tolist() == [[15, 16, 1], [17, 1, -100]]
    assert batch["input_ids"].tolist() == [[15, 16, 1], [17, 1, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_every_row_that_can_has_a_target(special):
    """Independent draws alone would leave 52% of rows of four without one."""
    examples = [{"input_ids": [15, 16, 17, 18], "example_id": b} for b in range(500)]
    for objective, least in (
        (MaskedLM(), 1),
        (MaskedLM(scheme="bernoulli"), 1),
        (SpanCorruption(), 3),
        (PrefixLM(), 1),
    ):
        batch = objective.collator(special)(examples)
        assert ((batch["labels"] != -100).sum(1) >= least).all()


@each
def test_a_row_of_special_ids_and_an_empty_one_do_no_harm(special, objective):
    """Such a row is corrupted to the same as if alone, and its neighbour to the same as without it."""
    odd, normal = [{"input_ids": [1, 1]}, {"input_ids": []}], {"input_ids": [15, 16, 17, 18, 19]}
    collate = objective.collator(special)
    together = collate([*odd, normal])
    assert unpadded(together, 2) == unpadded(collate([normal]), 0)
    assert objective.counts(collate(odd[1:])).keys() == objective.counts(together).keys()
    assert int((collate([{"input_ids": []}])["labels"] != -100).sum()) == 0


# ------------------------------------------------------------------ the caller's own


def test_examples_are_not_changed(special):
    examples = [
        {"input_ids": torch.arange(15, 40), "labels": torch.arange(15, 40), "attention_mask": torch.ones(25).long()},
        {"input_ids": list(range(15, 30)), "labels": list(range(15, 30)), "attention_mask": [1] * 15},
    ]
    before = copy.deepcopy(examples)
    for objective in ALL.values():
        objective.collator(special)(examples)
    assert all(torch.equal(examples[0][key], before[0][key]) for key in before[0])
    assert examples[1] == before[1]


@each
def test_a_callers_tensor_does_not_share_memory_with_the_batch(special, objective):
    tokens = torch.arange(15, 35)[None]
    batch = objective.collator(special, within_documents=True).block(tokens, [0])
    for value in batch.values():
        value.fill_(7)
    assert torch.equal(tokens[0], torch.arange(15, 35))


def test_labels_of_the_caller_are_respected(special):
    labels = [-100, -100, *range(17, 50)]
    example = {"input_ids": list(range(15, 50)), "labels": labels}
    assert CausalLM().collator(special)([example])["labels"][0].tolist() == labels
    masked = MaskedLM(mask_rate=0.9, scheme="bernoulli").collator(special)([example])
    assert (masked["labels"][0, :2] == -100).all()
    assert masked["input_ids"][0, :2].tolist() == [15, 16]
    others = {"input_ids": list(range(15, 50)), "labels": list(range(45, 80))}
    theirs = MaskedLM(mask_rate=0.9, scheme="bernoulli").collator(special)([others])["labels"][0]
    assert set(theirs.tolist()) <= {-100, *range(45, 80)}
    spans = SpanCorruption(noise_density=0.5, mean_noise_span_length=2.0).collator(special)([example])
    assert spans["input_ids"][0, :2].tolist() == [15, 16]
    with pytest.raises(InputError, match="other labels"):
        SpanCorruption().collator(special)([others])


def test_protected_and_padded_positions_are_never_hidden(special):
    example = {
        "input_ids": [0, 0, *range(15, 50)],
        "attention_mask": [0, 0, *[1] * 35],
        "special_tokens_mask": [0, 0, 1, 1, *[0] * 33],
    }
    collate = MaskedLM(mask_rate=0.9, scheme="bernoulli").collator(special)
    for b in range(30):
        batch = collate([{**example, "example_id": b}])
        assert batch["input_ids"][0, :2].tolist() == [15, 16]
        assert (batch["labels"][0, :2] == -100).all()
        assert batch["attention_mask"][0].tolist() == [1] * 35


def test_unknown_keys_are_refused_by_name(special):
    with pytest.raises(InputError, match=r"example 1 has 'token_type_ids', 'topic', which the collator does not read"):
        MaskedLM().collator(special)([[15, 16], {"input_ids": [15], "token_type_ids": [0], "topic": "a"}])


def test_kept_keys_pass_through(special):
    examples = [
        {"input_ids": [15, 16, 17], "score": 1, "vector": [1.0, 2.0], "token_type_ids": [0, 1, 1]},
        {"input_ids": [15, 16], "score": 2, "vector": [3.0, 4.0], "token_type_ids": [0, 1]},
    ]
    keep = ("score", "vector", "token_type_ids")
    batch = MaskedLM().collator(special, keep=keep)(examples)
    assert batch["score"].tolist() == [1, 2]
    assert batch["vector"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert batch["token_type_ids"].tolist() == [[0, 1, 1], [0, 1, 0]]
    assert "example_id" not in batch
    with pytest.raises(InputError, match=r"'token_type_ids' has one value a token, but Collator\(SpanCorruption"):
        SpanCorruption().collator(special, keep=keep)(examples)
    with pytest.raises(InputError, match="example 1 has no 'score'"):
        MaskedLM().collator(special, keep="score")([{**rows(1)[0], "score": 1}, rows(1)[0]])
    with pytest.raises(InputError, match="expected 'score' as numbers"):
        MaskedLM().collator(special, keep="score")([{"input_ids": [15], "score": "high"}])
    with pytest.raises(InputError, match="'score' has values of different shapes"):
        MaskedLM().collator(special, keep="score")(
            [{"input_ids": [15], "score": [1, 2]}, {"input_ids": [15], "score": 3}]
        )


def test_bare_lists_of_ids_are_examples_too(special):
    collate = MaskedLM().collator(special)
    ids = [row["input_ids"] for row in rows()]
    expected = collate([{"input_ids": row} for row in ids])
    same(collate(ids), expected)
    same(collate([torch.tensor(row) for row in ids]), expected)
    same(collate([np.array(row, dtype=np.uint16) for row in ids]), expected)
    same(collate(tuple(tuple(row) for row in ids)), expected)


def test_whole_words_take_the_words_from_the_row(special):
    words = [None, 0, 0, 0, 1, 1, 2, 3, 3, None]
    example = {"input_ids": [1, *range(15, 23), 1], "word_ids": words}
    collate = MaskedLM(mask_rate=0.4, scheme="whole-words").collator(special)
    for b in range(20):
        hidden = collate([{**example, "example_id": b}])["labels"][0] != -100
        for word in range(4):
            assert len({bool(h) for h, w in zip(hidden, words) if w == word}) == 1
    with pytest.raises(InputError, match=r"the rows have no 'word_ids' and the vocabulary no table of words"):
        collate(rows())
    with pytest.raises(InputError, match="example 0 has no 'word_ids', and example 1 has"):
        collate([{"input_ids": [15]}, example])


def test_whole_words_of_packed_text_come_from_the_vocabulary(special):
    """Even ids begin a word here; so packed text needs no word ids."""
    special = replace(special, starts_word=torch.arange(100) % 2 == 0)
    tokens = torch.tensor([[20, 21, 22, 1, 23, 25, 26, 27, 29, 30]]).expand(50, 10)
    words = torch.tensor([0, 0, 1, -1, 2, 2, 3, 3, 3, 4])
    hidden = MaskedLM(mask_rate=0.4, scheme="whole-words").collator(special).block(tokens, range(50))["labels"] != -100
    assert not hidden[:, 3].any()
    for word in range(5):
        assert (hidden[:, words == word].all(1) == hidden[:, words == word].any(1)).all()
    own = MaskedLM(mask_rate=0.4, scheme="whole-words").collator(special)
    same(own.block(tokens, range(50), word_ids=words.expand(50, 10)), own.block(tokens, range(50)))


def test_padding_belongs_to_no_word():
    """Not to the first one, whose id is 0: it would have a protected part, and never be hidden as a whole."""
    short, long = {"input_ids": [15, 16], "word_ids": [0, 0]}, {"input_ids": [20, 21, 22], "word_ids": [0, 1, 2]}
    collate = MaskedLM(scheme="whole-words", mask_rate=1.0).collator(SPECIAL)
    assert collate([short, long])["labels"].tolist() == [[15, 16, -100], [20, 21, 22]]
