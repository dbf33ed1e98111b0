"""The one collator: an example's noise is its own, Hugging Face's keys come out, nothing of the caller's changes."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from clozelab import CausalLM, Collator, MaskedDiffusion, MaskedLM, PrefixLM, SpanCorruption
from clozelab.data import Noise, SpecialIds, restore_spans
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES

OTHERS = {
    "masked, bernoulli": MaskedLM(scheme="bernoulli", mask_rate=0.3),
    "span, short": SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0),
    "diffusion, bernoulli": MaskedDiffusion(exact_count=False),
}
ALL = {**{name: objective() for name, objective in OBJECTIVES.items()}, **OTHERS}
NOISY = {name: objective for name, objective in ALL.items() if not isinstance(objective, CausalLM)}
IN_PLACE = {name: objective for name, objective in ALL.items() if objective.source_length(20) == 20}
each = pytest.mark.parametrize("objective", ALL.values(), ids=ALL)
each_noisy = pytest.mark.parametrize("objective", NOISY.values(), ids=NOISY)


@pytest.fixture
def special() -> SpecialIds:
    """Ids 10 .. 79 are text."""
    roles = {"fim_prefix": 3, "fim_suffix": 4, "fim_middle": 5, "fim_end": 6}
    return SpecialIds(vocab_size=100, pad=0, eos=1, mask=2, sentinels=range(99, 79, -1), roles=roles)


def rows(n=12, seed=0, shortest=4, longest=40):
    lengths = torch.randint(shortest, longest, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    return [
        {"input_ids": [10 + (7 * b + t) % 70 for t in range(length)], "example_id": b}
        for b, length in enumerate(lengths)
    ]


def unpadded(batch, b):
    """What belongs to row b of a batch, without its padding."""
    length = int(batch["attention_mask"][b].sum())
    targets = int((batch["labels"][b] != -100).sum()) if "decoder_input_ids" in batch else length
    of_decoder = {"decoder_input_ids", "decoder_document_ids", *(["labels"] if "decoder_input_ids" in batch else [])}
    lengths = {key: targets if key in of_decoder else length for key in batch}
    return {key: value[b, : lengths[key]].tolist() if value.dim() > 1 else value[b] for key, value in batch.items()}


def same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].dtype == other[key].dtype, key
        assert torch.equal(one[key], other[key]), key


# ------------------------------------------------------------------ an example's noise is its own


@each
def test_an_example_is_corrupted_alike_in_any_batch_order_and_company(special, objective):
    collate = objective.collator(special, seed=5)
    examples = rows()
    together = collate(examples)
    for order in ([3, 1, 11], [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0], [4]):
        again = collate([examples[b] for b in order])
        for place, b in enumerate(order):
            assert unpadded(again, place) == unpadded(together, b)


@each
@pytest.mark.parametrize("pad", [0, 55])
@pytest.mark.parametrize("identified", [True, False])
def test_padding_on_either_side_and_holes_change_nothing(special, objective, pad, identified):
    """Same masks, labels and noise, whatever id stands in the padding, and also where tokens are the identity."""
    examples = rows(6) if identified else [{"input_ids": row["input_ids"]} for row in rows(6)]
    collate = objective.collator(special, seed=5)
    padded = {"left": [], "right": [], "holes": []}
    for example in examples:
        ids = example["input_ids"]
        for side, flags in (
            ("left", [0] * (41 - len(ids)) + [1] * len(ids)),
            ("right", [1] * len(ids) + [0] * (41 - len(ids))),
            ("holes", [0, 1, 0, *[1] * (len(ids) - 2), 0, 0, 1, 0]),
        ):
            left = iter(ids)
            tokens = [next(left) if flag else pad for flag in flags]
            padded[side].append({**example, "input_ids": tokens, "attention_mask": flags})
    expected = collate(examples)
    for brought in padded.values():
        same(collate(brought), expected)


@pytest.mark.parametrize("objective", IN_PLACE.values(), ids=IN_PLACE)
def test_values_stay_with_their_tokens_where_padding_is_removed(special, objective):
    """Labels, protection and kept keys; where tokens move, the latter are refused."""
    [ids] = [row["input_ids"] for row in rows(1, shortest=20)]
    n = len(ids)
    bare = {
        "input_ids": ids,
        "example_id": 3,
        "special_tokens_mask": [t % 5 == 0 for t in range(n)],
        "labels": [-100 if t % 7 == 0 else id for t, id in enumerate(ids)],
        "token_type_ids": [t // 3 for t in range(n)],
    }
    left = {key: value if key == "example_id" else [0, 0, 0, *value] for key, value in bare.items()}
    collate = objective.collator(special, keep="token_type_ids")
    batch = collate([{**left, "attention_mask": [0, 0, 0, *[1] * n]}])
    same(batch, collate([bare]))
    assert batch["token_type_ids"].tolist() == [bare["token_type_ids"]]


@each
def test_a_row_has_the_same_labels_whatever_its_batch_mates_bring(special, objective):
    first, second = rows(2, shortest=20)
    brings = {
        **second,
        "labels": list(second["input_ids"]),
        "special_tokens_mask": [1, *[0] * 40][: len(second["input_ids"])],
    }
    collate = objective.collator(special)
    alone = unpadded(collate([first]), 0)
    assert unpadded(collate([first, brings]), 0) == alone
    assert unpadded(collate([{**first, "labels": None, "special_tokens_mask": None}, brings]), 0) == alone
    assert unpadded(collate([{**first, "labels": None}]), 0) == alone


@each
def test_a_block_gives_what_its_rows_give(special, objective):
    collate = objective.collator(special, seed=5)
    tokens = torch.randint(10, 80, (6, 50), generator=torch.Generator().manual_seed(0))
    block = collate.block(tokens, [10, 11, 12, 13, 14, 15])
    same(block, collate([{"input_ids": row.tolist(), "example_id": 10 + b} for b, row in enumerate(tokens)]))


@each
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.int64])
def test_ids_may_be_of_any_integer_type(special, objective, dtype):
    collate = objective.collator(special, seed=5)
    tokens = np.arange(10, 34, dtype=dtype).reshape(2, 12)
    expected = collate.block(torch.arange(10, 34).view(2, 12), [0, 1])
    same(collate.block(tokens, [0, 1]), expected)
    same(collate.block(torch.from_numpy(tokens), [0, 1]), expected)
    same(collate([{"input_ids": row, "example_id": b} for b, row in enumerate(tokens)]), expected)


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_default_type_changes_nothing(special, objective, dtype):
    examples = rows(30, longest=120)
    expected = objective.collator(special, seed=5)(examples)
    torch.set_default_dtype(dtype)
    try:
        batch = objective.collator(special, seed=5)(examples)
    finally:
        torch.set_default_dtype(torch.float32)
    same(batch, expected)


@each_noisy
@pytest.mark.parametrize("other", [{"seed": 6}, {"epoch": 1}], ids=["seed", "epoch"])
def test_another_seed_or_epoch_hides_other_tokens(special, objective, other):
    examples = rows(60, shortest=35)
    a, b = (objective.collator(special, **settings)(examples) for settings in ({"seed": 5}, {"seed": 5, **other}))
    differ = [unpadded(a, k) != unpadded(b, k) for k in range(len(examples))]
    # Half of the documents of a fill-in-the-middle row stay as they are, so a quarter of the pairs agree.
    assert sum(differ) >= (33 if objective.name == "fim" else 54)


@each_noisy
def test_the_global_random_state_is_neither_read_nor_changed(special, objective):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = objective.collator(special)(rows())
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    same(objective.collator(special)(rows()), first)


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


@pytest.mark.parametrize("objective", [MaskedLM(), SpanCorruption()], ids=lambda objective: objective.name)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_masks_are_equal_for_any_number_of_workers(special, objective):
    expected = epoch_of_batches(objective.collator(special), 0, epochs=2)
    assert expected[0] != expected[1]
    for workers in (1, 2, 4):
        assert epoch_of_batches(objective.collator(special), workers, epochs=2) == expected


def test_workers_that_outlive_the_epoch_see_it_change(special):
    expected = epoch_of_batches(MaskedLM().collator(special), 0, epochs=3)
    assert epoch_of_batches(MaskedLM().collator(special), 2, persistent=True, epochs=3) == expected


def test_workers_that_are_spawned_agree_too(special):
    expected = epoch_of_batches(MaskedLM().collator(special), 0)
    assert epoch_of_batches(MaskedLM().collator(special), 1, multiprocessing_context="spawn") == expected


def test_a_row_may_carry_its_epoch(special):
    [example] = rows(1, shortest=30)
    later = MaskedLM().collator(special, epoch=4)([example])
    same(MaskedLM().collator(special)([{**example, "epoch": 4}]), later)


def test_a_row_without_an_id_is_known_by_its_tokens(special):
    collate = MaskedLM().collator(special)
    anonymous = [{"input_ids": row["input_ids"]} for row in rows()]
    together, alone = collate(anonymous), collate(anonymous[7:8])
    assert unpadded(together, 7) == unpadded(alone, 0)


def test_a_pickled_collator_continues_alike(special):
    collate = MaskedLM().collator(special, seed=3)
    collate.set_epoch(2)
    same(pickle.loads(pickle.dumps(collate))(rows()), collate(rows()))


def test_the_noise_of_a_batch_is_the_noise_of_its_rows(special):
    """What a reader can recompute by hand: key by (seed, epoch, example id), stream 0 chooses."""
    tokens = torch.arange(10, 50)[None]
    batch = MaskedLM().collator(special, seed=9, epoch=2).block(tokens, [77])
    noise = Noise.of(9, 2, [77]).uniform(0, 40)[0]
    hidden = torch.zeros(40, dtype=torch.bool)
    hidden[noise.argsort()[:6]] = True  # round(0.15 x 40)
    assert torch.equal(batch["labels"][0] != -100, hidden)


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
    tokens = torch.tensor([[1, 10, 11, 2, 12, 1]])
    batch = MaskedLM(mask_rate=1.0, mask_replace_prob=1.0, random_replace_prob=0.0).collator(special).block(tokens, [0])
    assert batch["input_ids"].tolist() == [[1, 2, 2, 2, 2, 1]]
    assert batch["labels"].tolist() == [[-100, 10, 11, -100, 12, -100]]


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
    assert int((collate([{"input_ids": []}])["labels"] != -100).sum()) == (
        1 if objective.name.startswith("span") else 0
    )


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
    with pytest.raises(InputError, match="'score' cannot become a tensor"):
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


# ------------------------------------------------------------------ a scheme of one's own


def every_third(tokens, maskable, generator):
    """A scheme as a user writes it."""
    offset = int(torch.randint(3, (1,), generator=generator))
    return maskable & (torch.arange(len(tokens)) % 3 == offset)


@pytest.mark.parametrize("made", [MaskedLM, SpanCorruption])
def test_a_scheme_of_ones_own_follows_the_example_alone(special, made):
    collate = made(scheme=every_third).collator(special)
    examples = rows()
    together = collate(examples)
    for b in range(len(examples)):
        assert unpadded(collate(examples[b : b + 1]), 0) == unpadded(together, b)
    collate.set_epoch(1)
    assert any(unpadded(collate(examples), b) != unpadded(together, b) for b in range(len(examples)))


def test_a_scheme_cannot_change_the_text(special):
    def rude(tokens, maskable, generator):
        tokens.fill_(7)
        maskable.fill_(False)
        return torch.zeros(len(tokens), dtype=torch.bool)

    tokens = torch.arange(15, 35)[None]
    assert torch.equal(MaskedLM(scheme=rude).collator(special).block(tokens, [0])["input_ids"], tokens)


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (lambda tokens, maskable, generator: maskable.long(), "must return a boolean tensor"),
        (lambda tokens, maskable, generator: maskable[:-1], "must return a boolean tensor of shape"),
        (lambda tokens, maskable, generator: [True], "returned list"),
        (lambda tokens, maskable, generator: torch.ones_like(maskable), r"protected positions \[2\]"),
    ],
)
def test_a_scheme_that_breaks_the_contract_is_refused_with_the_reason(special, scheme, message):
    with pytest.raises(InputError, match=message):
        MaskedLM(scheme=scheme).collator(special).block(torch.tensor([[15, 16, 1, 17]]), [0])


# ------------------------------------------------------------------ documents, bad input


@each
def test_documents_are_told_apart_by_their_end(special, objective):
    batch = objective.collator(special, within_documents=True).block(torch.tensor([[15, 16, 1, 17, 1, 18]]), [0])
    assert batch["document_ids"].shape == batch["input_ids"].shape
    if "decoder_input_ids" in batch:
        assert batch["decoder_document_ids"].shape == batch["decoder_input_ids"].shape
    elif objective.name != "fim":
        assert batch["document_ids"].tolist() == [[0, 0, 0, 1, 1, 2]]


def test_a_corruption_that_does_not_keep_documents_apart_is_refused(special):
    collate = Collator(lambda examples: {"input_ids": examples.tokens}, special, within_documents=True)
    with pytest.raises(InputError, match="does not keep documents apart: leave within_documents out"):
        collate.block(torch.tensor([[15, 1, 16]]), [0])


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "got none"),
        ({"input_ids": [15]}, "expected a list of examples, got dict"),
        ([{"text": "hello"}], r"keys \['text'\] in place 0: was the text tokenised"),
        ([{"input_ids": "hello"}], "list of integers"),
        (["hello"], "list of integers"),
        ([{"input_ids": [[15, 16], [17, 18]]}], "1-D"),
        ([{"input_ids": [5.5, 6.5]}], "list of integers"),
        ([{"input_ids": [15, 100]}], r"0 \.\. 99, got 15 \.\. 100"),
        ([{"input_ids": [15, -1]}], "same tokenizer"),
        ([{"input_ids": [15, 16], "labels": [15]}], "one value for each of the 2 tokens, got 1"),
        ([{"input_ids": [15, 16], "attention_mask": [1]}], "one value for each of the 2 tokens, got 1"),
        ([{"input_ids": [15], "epoch": 1.5}], "an epoch must be a whole number"),
    ],
)
def test_bad_examples_are_refused_with_what_was_expected(special, examples, message):
    with pytest.raises(InputError, match=message):
        MaskedLM().collator(special)(examples)


@pytest.mark.parametrize(
    ("tokens", "ids", "more", "message"),
    [
        (torch.ones(2, 3).long(), [0], {}, "B example ids"),
        (torch.ones(2, 3), [0, 1], {}, "of whole numbers"),
        (torch.ones(3).long(), [0, 1, 2], {}, r"shape \(3,\)"),
        ("text", [0], {}, "got str and list"),
        (torch.ones(1, 3).long(), 0, {}, "got Tensor and int"),
        (torch.ones(1, 3).long(), [0], {"progress": 1.5}, r"progress lies in \[0, 1\], got 1.5"),
        (torch.ones(1, 3).long(), [0], {"word_ids": torch.ones(1, 2)}, r"word_ids \(1, 3\), one a token"),
        (torch.ones(1, 3).long(), [0], {"epoch": [0, 1]}, "one epoch, or one for each of 1 rows, got 2"),
    ],
)
def test_bad_blocks_are_refused_with_what_was_expected(special, tokens, ids, more, message):
    with pytest.raises(InputError, match=message):
        MaskedLM().collator(special).block(tokens, ids, **more)


@pytest.mark.parametrize("name", [name for name, objective in OBJECTIVES.items() if objective.roles])
def test_a_vocabulary_without_the_roles_of_an_objective_is_refused(name):
    with pytest.raises(InputError, match=f"no id for the role '{OBJECTIVES[name].roles[0]}'"):
        OBJECTIVES[name]().collator(SpecialIds(vocab_size=100, pad=0, eos=1))


def test_progress_reaches_the_corruption(special):
    seen = []

    def corrupt(examples):
        seen.append(examples.progress)
        return {"input_ids": examples.tokens}

    collate = Collator(corrupt, special)
    collate.block(torch.tensor([[15]]), [0], progress=0.25)
    collate.block(torch.tensor([[15]]), [0])
    assert seen == [0.25, 1.0]


def test_a_collator_shows_what_it_was_made_of(special):
    assert repr(MaskedLM(mask_rate=0.3).collator(special, seed=4, keep="score")) == (
        "Collator(MaskedLM(mask_rate=0.3), seed=4, epoch=0, within_documents=False, keep=['score'])"
    )
