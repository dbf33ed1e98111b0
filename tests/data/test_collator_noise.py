"""The collator's noise: an example's own, whatever batch, order, padding, type, worker or random state."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from clozelab import CausalLM, MaskedLM, SpanCorruption
from clozelab.data import Noise, SpecialIds

from .cases import ALL, IN_PLACE, NOISY, SPECIAL, draws_noise, each, each_noisy, rows, same, unpadded


@pytest.fixture
def special() -> SpecialIds:
    return SPECIAL


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
    tokens = torch.randint(20, 80, (6, 50), generator=torch.Generator().manual_seed(0))
    block = collate.block(tokens, [10, 11, 12, 13, 14, 15])
    same(block, collate([{"input_ids": row.tolist(), "example_id": 10 + b} for b, row in enumerate(tokens)]))


@each
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.int64])
def test_ids_may_be_of_any_integer_type(special, objective, dtype):
    collate = objective.collator(special, seed=5)
    tokens = np.arange(20, 44, dtype=dtype).reshape(2, 12)
    expected = collate.block(torch.arange(20, 44).view(2, 12), [0, 1])
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
@pytest.mark.parametrize("setting", ["seed", "epoch"])
def test_another_seed_or_epoch_hides_other_tokens(special, objective, setting):
    """Of each row, in at least one of thirty: a corruption may leave some rows as they are."""
    examples = rows(20, shortest=35)
    batches = [objective.collator(special, **{setting: other})(examples) for other in range(31)]
    for b in range(len(examples)):
        first, *others = (unpadded(batch, b) for batch in batches)
        assert any(other != first for other in others)


def test_noise_is_drawn_by_all_that_hide_at_random():
    """Causal LM alone needs none: a helper that found none in others would leave them untested."""
    assert not draws_noise(CausalLM())
    assert draws_noise(MaskedLM())
    assert NOISY.keys() < ALL.keys()


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
    tokens = torch.arange(20, 60)[None]
    batch = MaskedLM().collator(special, seed=9, epoch=2).block(tokens, [77])
    noise = Noise.of(9, 2, [77]).uniform(0, 40)[0]
    hidden = torch.zeros(40, dtype=torch.bool)
    hidden[noise.argsort()[:6]] = True  # round(0.15 x 40)
    assert torch.equal(batch["labels"][0] != -100, hidden)
