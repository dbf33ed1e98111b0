"""Batch n is a pure function of (text, seed, n)."""

import pytest
import torch

from clozelab.data import pack
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption
from clozelab.training import Batches, Processes

OBJECTIVES = [CausalLM(), MaskedLM(), SpanCorruption()]


@pytest.fixture
def text(tokenizer, tmp_path):
    documents = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(60)]
    return pack(documents, tokenizer, cache_dir=tmp_path)


def batches(objective, tokenizer, text, seed=0, size=6):
    return Batches(text.blocks(objective.source_length(24)), objective.collator(tokenizer.special, seed=seed), size)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_a_batch_is_the_same_asked_for_in_any_order_and_after_any_pause(objective, tokenizer, text):
    first = batches(objective, tokenizer, text)
    forwards = [first[n] for n in range(20)]
    again = batches(objective, tokenizer, text)
    torch.manual_seed(99)
    for n in (19, 3, 0, 11):
        assert same(again[n], forwards[n])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 2, 4, None])
def test_micro_batches_of_all_processes_hold_what_the_batch_holds(objective, tokenizer, text, size, count):
    mine = batches(objective, tokenizer, text)
    shares = [list(mine.micro_batches(4, size, Processes(rank, count))) for rank in range(count)]
    cut = [part for share in shares for part in share]
    whole = mine[4]
    assert all(len(part["input_ids"]) <= (size or 6) for part in cut)
    assert same(whole, {key: torch.cat([part[key] for part in cut]) for key in whole})


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
