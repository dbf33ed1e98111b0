"""Batch n is a pure function of (text, seed, n)."""

import pytest
import torch

from clozelab.data import pack, pad_rows
from clozelab.objectives import IGNORED, OBJECTIVES, CausalLM, MaskedLM
from clozelab.training import Batches, Processes

each_objective = pytest.mark.parametrize("objective", [objective() for objective in OBJECTIVES.values()], ids=repr)


@pytest.fixture
def text(tokenizer, tmp_path):
    documents = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(60)]
    return pack(documents, tokenizer, cache_dir=tmp_path)


def batches(objective, tokenizer, text, seed=0, size=6):
    return Batches(text.blocks(objective.source_length(24)), objective.collator(tokenizer.special, seed=seed), size)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def stacked(parts, pad):
    """Micro-batches as one batch: those of fill-in-the-middle, of UL2 and others have different widths."""
    fill = {"input_ids": pad, "labels": IGNORED}
    whole = {}
    for key in parts[0]:
        rows = [row for part in parts for row in part[key]]
        whole[key] = pad_rows(rows, fill.get(key, 0)) if rows[0].dim() else torch.stack(rows)
    return whole


def without_ends(batch):
    """Decoder inputs are targets one place later: behind a short row stands its end of text, which predicts nothing."""
    if "decoder_input_ids" not in batch:
        return batch
    return batch | {"decoder_input_ids": batch["decoder_input_ids"].masked_fill(batch["labels"] == IGNORED, 0)}


@each_objective
def test_a_batch_is_the_same_asked_for_in_any_order_and_after_any_pause(objective, tokenizer, text):
    first = batches(objective, tokenizer, text)
    forwards = [first[n] for n in range(20)]
    again = batches(objective, tokenizer, text)
    torch.manual_seed(99)
    for n in (19, 3, 0, 11):
        assert same(again[n], forwards[n])


@each_objective
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 2, 4, None])
def test_micro_batches_of_all_processes_hold_what_the_batch_holds(objective, tokenizer, text, size, count):
    mine = batches(objective, tokenizer, text)
    shares = [list(mine.micro_batches(4, size, Processes(rank, count))) for rank in range(count)]
    cut = [part for share in shares for part in share]
    whole = mine[4]
    assert all(len(part["input_ids"]) <= (size or 6) for part in cut)
    assert same(without_ends(whole), without_ends(stacked(cut, tokenizer.special.pad)))


def test_every_block_is_seen_once_in_an_epoch_and_in_another_order_in_the_next(tokenizer, text):
    mine = batches(CausalLM(), tokenizer, text, size=1)
    n = len(mine.blocks)
    orders = [[mine.examples(epoch * n + i)[0][0] for i in range(n)] for epoch in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(n))
    assert orders[0] != orders[1]


def test_the_next_epoch_hides_other_tokens_of_the_same_block(tokenizer, text):
    mine = batches(MaskedLM(), tokenizer, text, size=1)
    n = len(mine.blocks)
    block = mine.examples(0)[0]
    later = next(i for i in range(n, 2 * n) if mine.examples(i)[0] == block)
    assert not torch.equal(mine[0]["labels"], mine[later]["labels"])


def test_another_seed_is_another_run(tokenizer, text):
    a, b = (batches(MaskedLM(), tokenizer, text, seed=seed)[0] for seed in (0, 1))
    assert not same(a, b)


def test_a_batch_larger_than_the_corpus_spans_epochs(tokenizer, text):
    mine = batches(MaskedLM(), tokenizer, text, size=500)
    example_ids, epochs = mine.examples(0)
    assert len(example_ids) == 500
    assert set(epochs) == set(range(500 // len(mine.blocks) + 1))
    assert len(mine[0]["input_ids"]) == 500


@pytest.mark.parametrize(("total_steps", "expected"), [(40, [0.0, 0.25, 1.0]), (None, [1.0, 1.0, 1.0])])
def test_progress_is_the_share_of_the_run_before_a_batch(tokenizer, text, total_steps, expected):
    seen = []

    class Watching(type(CausalLM().collator(tokenizer.special))):
        def block(self, *arguments, progress, **settings):
            seen.append(progress)
            return super().block(*arguments, progress=progress, **settings)

    collator = Watching(CausalLM().corrupt, tokenizer.special)
    made = Batches(text.blocks(24), collator, 4, total_steps)
    for n in (0, 10, 40):
        made[n]
    assert seen == expected
