"""Decoding from the left: caches change the cost and nothing else, and what may be generated is known."""

import pytest
import torch

from clozelab.errors import InputError
from clozelab.generation import fill_spans, generate, truncate_at_eos
from clozelab.models.layers import Cache

from .models import PROMPTS, TEXTS, VOCAB, random_weights, seeded


@pytest.fixture
def decoder():
    return random_weights("decoder-only")


@pytest.fixture
def encoder_decoder():
    return random_weights("encoder-decoder")


# ------------------------------------------------------------------ continuing prompts


def test_a_cache_changes_the_cost_and_nothing_else(decoder):
    text = torch.randint(VOCAB, (2, 12), generator=seeded())
    cache = Cache()
    parts = [decoder(part, cache=cache) for part in text.split([5, 1, 1, 3, 2], 1)]  # one by one, and several at once
    assert cache.length == 12
    assert torch.allclose(torch.cat(parts, 1), decoder(text), atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_greedy_tokens_are_those_of_a_loop_without_a_cache(decoder, bidirectional):
    """With a prompt that is read on both sides, every forward pass has the prefix LM's rank: 0 0 0 1 2 ..."""
    ids = PROMPTS
    for _ in range(20):
        rank = (torch.arange(ids.shape[1]) - 2).clamp(min=0).expand_as(ids) if bidirectional else None
        hidden = decoder(ids, reading_rank=rank)
        ids = torch.cat((ids, decoder.unembed(hidden[:, -1]).argmax(-1, keepdim=True)), 1)
    generated = generate(decoder, PROMPTS, max_new_tokens=20, greedy=True, bidirectional_prompt=bidirectional)
    assert torch.equal(generated, ids)


def test_a_prompt_that_is_read_on_both_sides_continues_otherwise(decoder):
    prompt = torch.randint(3, VOCAB, (20, 6), generator=seeded())
    ways = [generate(decoder, prompt, max_new_tokens=4, greedy=True, bidirectional_prompt=b) for b in (False, True)]
    assert not torch.equal(*ways)


def test_a_row_does_not_depend_on_the_others(decoder):
    together = generate(decoder, PROMPTS, max_new_tokens=10, greedy=True)
    assert torch.equal(together[1:], generate(decoder, PROMPTS[1:], max_new_tokens=10, greedy=True))


def test_a_row_that_has_ended_is_filled_with_the_end(decoder):
    free = generate(decoder, PROMPTS, max_new_tokens=10, greedy=True)
    eos = int(free[0, 5])  # the third token of the first row ends it
    ended = generate(decoder, PROMPTS, max_new_tokens=10, eos=eos, greedy=True)
    assert ended.shape == free.shape
    first = 3 + int((free[0, 3:] == eos).nonzero()[0])
    assert torch.equal(ended[0, : first + 1], free[0, : first + 1])
    assert (ended[0, first:] == eos).all()


def test_an_end_in_the_prompt_ends_nothing(decoder):
    prompt = torch.tensor([[1, 6, 1]])
    free = generate(decoder, prompt, max_new_tokens=5, greedy=True, suppressed=(1,))
    assert torch.equal(generate(decoder, prompt, max_new_tokens=5, eos=1, greedy=True, suppressed=(1,)), free)


@pytest.mark.parametrize("greedy", [True, False])
def test_suppressed_ids_are_never_generated(decoder, encoder_decoder, greedy):
    settings = {"max_new_tokens": 30, "greedy": greedy, "suppressed": range(30)}
    assert generate(decoder, PROMPTS, **settings)[:, 3:].min() >= 30
    assert fill_spans(encoder_decoder, TEXTS, start_id=0, eos=1, **settings).min() >= 30


def test_chance_comes_from_the_generator_alone(decoder, encoder_decoder):
    for draw in (
        lambda generator: generate(decoder, PROMPTS, max_new_tokens=12, generator=generator),
        lambda generator: fill_spans(encoder_decoder, TEXTS, start_id=0, eos=1, max_new_tokens=12, generator=generator),
    ):
        before = torch.get_rng_state()
        first = draw(seeded(1))
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        assert torch.equal(draw(seeded(1)), first)
        assert not torch.equal(draw(seeded(2)), first)
        assert torch.equal(draw(None), draw(seeded(0)))  # no generator: seed 0, not the global state


def test_each_part_keeps_its_mode_and_no_gradients_are_kept(decoder):
    decoder.train()
    decoder.blocks[0].eval()
    modes = [part.training for part in decoder.modules()]
    assert not generate(decoder, PROMPTS, max_new_tokens=2).requires_grad
    assert [part.training for part in decoder.modules()] == modes
    with pytest.raises(InputError):
        generate(decoder, PROMPTS + 1000, max_new_tokens=2)
    assert [part.training for part in decoder.modules()] == modes


def test_what_was_generated_ends_before_the_end_of_text():
    assert truncate_at_eos([5, 6, 1, 7, 1], 1) == [5, 6]
    assert truncate_at_eos([5, 6], 1) == [5, 6]
    assert truncate_at_eos([1], 1) == []


# ------------------------------------------------------------------ filling spans


def test_targets_are_those_of_a_loop_without_a_cache(encoder_decoder):
    targets = torch.zeros(2, 1).long()
    for _ in range(15):
        logits = encoder_decoder.unembed(encoder_decoder(TEXTS, targets)[:, -1])
        targets = torch.cat((targets, logits.argmax(-1, keepdim=True)), 1)
    ended = (targets[:, 1:] == 1).cumsum(1) > 0
    expected = torch.where(ended, 1, targets[:, 1:])
    assert torch.equal(fill_spans(encoder_decoder, TEXTS, start_id=0, eos=1, max_new_tokens=15, greedy=True), expected)


def test_the_encoders_states_are_projected_once(encoder_decoder):
    calls = []
    encoder_decoder.decoder[0].cross_attention.key.register_forward_hook(lambda *_: calls.append(1))
    fill_spans(encoder_decoder, TEXTS, start_id=0, eos=1, max_new_tokens=9, suppressed=(1,))
    assert len(calls) == 1


def test_padding_of_the_text_is_not_read(encoder_decoder):
    padded = torch.cat((TEXTS, torch.full((2, 3), 33)), 1)
    attention_mask = torch.tensor([[1] * 7 + [0] * 3] * 2)
    settings = {"start_id": 0, "eos": 1, "max_new_tokens": 9, "greedy": True}
    targets = fill_spans(encoder_decoder, padded, attention_mask=attention_mask, **settings)
    assert torch.equal(targets, fill_spans(encoder_decoder, TEXTS, **settings))


def test_a_row_generates_its_own_sentinels_and_the_closing_one(encoder_decoder):
    targets = fill_spans(
        encoder_decoder,
        TEXTS,
        start_id=0,
        eos=1,
        sentinels=(39, 38, 37, 36),
        max_new_tokens=300,
        suppressed=(1,),
        temperature=9.0,
    )
    assert {36} & set(targets[0].tolist()) == set()
    assert {39, 38, 37} <= set(targets[0].tolist())  # 39 and 38 stand in the first row
    assert {37, 36} & set(targets[1].tolist()) == set()
    assert {39, 38} <= set(targets[1].tolist())  # 39 stands in the second


# ------------------------------------------------------------------ the public door


def test_what_cannot_be_generated_is_refused_with_the_reason(decoder, encoder_decoder):
    with pytest.raises(InputError, match="at least one token"):
        generate(decoder, torch.zeros(1, 0).long(), max_new_tokens=1)
    with pytest.raises(InputError, match="at least one token"):
        fill_spans(encoder_decoder, torch.zeros(1, 0).long(), start_id=0, eos=1, max_new_tokens=1)
    with pytest.raises(InputError, match="max_new_tokens must be a whole number of at least 1, got 0"):
        generate(decoder, PROMPTS, max_new_tokens=0)
    with pytest.raises(InputError, match="temperature must be above 0"):
        generate(decoder, PROMPTS, max_new_tokens=1, temperature=0.0)
    with pytest.raises(InputError, match=r"must lie in 0 .. 39"):
        generate(decoder, PROMPTS, max_new_tokens=1, suppressed=(40,))
    with pytest.raises(InputError, match="all 40 ids are suppressed"):
        generate(decoder, PROMPTS, max_new_tokens=1, suppressed=range(40))
