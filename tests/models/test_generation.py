"""Speaking: how a token is chosen, and that caches, orders and generators keep their promises."""

import pytest
import torch

from clozelab.errors import InputError
from clozelab.generation import fill_masks, fill_spans, generate, sample_token, token_chances
from clozelab.models import build
from clozelab.models.layers import Cache

V = 40


def awake(architecture: str, seed: int = 0):
    """A model that says something: the projections into the stream start at zero."""
    model = build(architecture, "tiny", V, d_model=32, n_layers=2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=weight.shape[-1] ** -0.5, generator=generator)
    return model


@pytest.fixture
def decoder():
    return awake("decoder-only")


@pytest.fixture
def encoder():
    return awake("encoder-only")


@pytest.fixture
def both():
    return awake("encoder-decoder")


PROMPTS = torch.tensor([[5, 6, 7], [8, 9, 10]])
TEXTS = torch.tensor([[5, 6, 39, 8, 9, 38, 1], [7, 39, 7, 7, 7, 7, 1]])
MASK = 2
BLANKS = torch.tensor([[5, MASK, 7, MASK, MASK, 10], [MASK, 6, 7, 8, 9, 10]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------ one token


def chances(**settings) -> torch.Tensor:
    """How often each of four tokens of probability .4 .3 .2 .1 is chosen, out of 20,000."""
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(20_000, 4)
    return sample_token(logits, generator=seeded(), **settings).bincount(minlength=4) / 20_000


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 9}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_p": 0.05}, [1, 0, 0, 0]),  # at least one
        ({"top_p": 0.39}, [1, 0, 0, 0]),
        ({"top_p": 0.41}, [4 / 7, 3 / 7, 0, 0]),  # the fewest that hold at least so much
        ({"top_p": 0.69}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.71}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_p": 1.0}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 2, "top_p": 0.5}, [1, 0, 0, 0]),  # of the two that are left, the first holds 4/7
        ({"greedy": True}, [1, 0, 0, 0]),
    ],
)
def test_tokens_are_chosen_as_often_as_they_should_be(settings, expected):
    assert chances(**settings).tolist() == pytest.approx(expected, abs=0.015)  # 4 standard deviations
    if "greedy" not in settings:
        assert token_chances(torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log(), **settings)[0].tolist() == pytest.approx(
            expected
        )


def test_ties_do_not_widen_top_k():
    assert sample_token(torch.zeros(5000, 4), top_k=2, generator=seeded()).unique().numel() == 2


def test_impossible_tokens_are_never_chosen():
    logits = torch.zeros(5000, 4)
    logits[:, 1] = -torch.inf
    for settings in ({}, {"top_k": 4}, {"top_p": 1.0}, {"top_k": 4, "top_p": 0.99}):
        assert 1 not in sample_token(logits, generator=seeded(), **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, decoder):
    with pytest.raises(InputError, match=next(iter(settings))):
        sample_token(torch.zeros(1, 4), **settings)
    with pytest.raises(InputError, match=next(iter(settings))):
        sample_token(torch.zeros(1, 4), greedy=True, **settings)
    with pytest.raises(InputError, match=next(iter(settings))):
        generate(decoder, PROMPTS, max_new_tokens=1, **settings)


# ------------------------------------------------------------------ going on


def test_a_cache_changes_the_cost_and_nothing_else(decoder):
    text = torch.randint(V, (2, 12), generator=seeded())
    cache = Cache()
    parts = [decoder(part, cache=cache) for part in text.split([5, 1, 1, 3, 2], 1)]  # one by one, and several at once
    assert cache.length == 12
    assert torch.allclose(torch.cat(parts, 1), decoder(text), atol=1e-5)


def test_greedy_words_are_those_of_the_slow_way(decoder):
    ids = PROMPTS
    for _ in range(20):
        ids = torch.cat((ids, decoder.unembed(decoder(ids)[:, -1]).argmax(-1, keepdim=True)), 1)
    assert torch.equal(generate(decoder, PROMPTS, max_new_tokens=20, greedy=True), ids)


def test_a_row_does_not_depend_on_the_others(decoder):
    together = generate(decoder, PROMPTS, max_new_tokens=10, greedy=True)
    assert torch.equal(together[1:], generate(decoder, PROMPTS[1:], max_new_tokens=10, greedy=True))


def test_a_row_that_has_ended_is_filled_with_the_end(decoder):
    free = generate(decoder, PROMPTS, max_new_tokens=10, greedy=True)
    eos = int(free[0, 5])  # the third word of the first row ends it
    ended = generate(decoder, PROMPTS, max_new_tokens=10, eos=eos, greedy=True)
    assert ended.shape == free.shape
    first = 3 + int((free[0, 3:] == eos).nonzero()[0])
    assert torch.equal(ended[0, : first + 1], free[0, : first + 1])
    assert (ended[0, first:] == eos).all()


def test_an_end_in_the_prompt_ends_nothing(decoder):
    prompt = torch.tensor([[1, 6, 1]])
    free = generate(decoder, prompt, max_new_tokens=5, greedy=True, forbidden=(1,))
    assert torch.equal(generate(decoder, prompt, max_new_tokens=5, eos=1, greedy=True, forbidden=(1,)), free)


@pytest.mark.parametrize("greedy", [True, False])
def test_forbidden_words_are_never_said(decoder, encoder, both, greedy):
    forbidden = range(0, 30)
    said = generate(decoder, PROMPTS, max_new_tokens=30, greedy=greedy, forbidden=forbidden)[:, 3:]
    assert said.min() >= 30
    assert fill_masks(encoder, BLANKS, MASK, greedy=greedy, forbidden=forbidden)[BLANKS == MASK].min() >= 30
    assert fill_spans(both, TEXTS, start_id=0, eos=1, max_new_tokens=30, greedy=greedy, forbidden=forbidden).min() >= 30


def test_chance_comes_from_the_generator_alone(decoder, encoder, both):
    for speak in (
        lambda generator: generate(decoder, PROMPTS, max_new_tokens=12, generator=generator),
        lambda generator: fill_masks(encoder, BLANKS, MASK, order="confidence", generator=generator),
        lambda generator: fill_spans(both, TEXTS, start_id=0, eos=1, max_new_tokens=12, generator=generator),
    ):
        before = torch.get_rng_state()
        first = speak(seeded(1))
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        assert torch.equal(speak(seeded(1)), first)
        assert not torch.equal(speak(seeded(2)), first)
        assert torch.equal(speak(None), speak(seeded(0)))  # no generator: seed 0, not the global state


def test_each_part_keeps_its_mode_and_no_gradients_are_kept(decoder):
    decoder.train()
    decoder.blocks[0].eval()
    modes = [part.training for part in decoder.modules()]
    assert not generate(decoder, PROMPTS, max_new_tokens=2).requires_grad
    assert [part.training for part in decoder.modules()] == modes
    with pytest.raises(InputError):
        generate(decoder, PROMPTS + 1000, max_new_tokens=2)
    assert [part.training for part in decoder.modules()] == modes


def test_a_cache_refuses_padding(decoder):
    with pytest.raises(InputError, match="rows of equal length"):
        decoder(PROMPTS, attention_mask=torch.ones(2, 3), cache=Cache())


# ------------------------------------------------------------------ filling masks


@pytest.mark.parametrize("order", ["all", "left_to_right", "confidence", "random"])
def test_every_mask_is_filled_and_the_rest_stays(encoder, order):
    given = BLANKS.clone()
    filled = fill_masks(encoder, BLANKS, MASK, order=order)
    assert torch.equal(BLANKS, given)
    assert torch.equal(filled[BLANKS != MASK], BLANKS[BLANKS != MASK])
    assert MASK not in filled


def test_all_at_once_is_one_reading(encoder):
    expected = encoder.unembed(encoder(BLANKS))
    expected[..., MASK] = -torch.inf
    assert torch.equal(
        fill_masks(encoder, BLANKS, MASK, order="all", greedy=True),
        torch.where(BLANKS == MASK, expected.argmax(-1), BLANKS),
    )


@pytest.mark.parametrize("order", ["left_to_right", "confidence"])
def test_an_order_is_the_loop_that_it_describes(encoder, order):
    for row in range(2):
        ids = BLANKS[row].clone()
        while (ids == MASK).any():
            logits = encoder.unembed(encoder(ids[None]))[0]
            logits[:, MASK] = -torch.inf
            places = (ids == MASK).nonzero()[:, 0]
            certainty = logits.softmax(-1).amax(-1)[places]
            place = places[0] if order == "left_to_right" else places[certainty.argmax()]
            ids[place] = logits[place].argmax()
        assert torch.equal(fill_masks(encoder, BLANKS, MASK, order=order, greedy=True)[row], ids)


def test_a_random_order_is_drawn_for_each_row_and_every_place_is_as_likely_to_come_first(encoder):
    seen = []
    handle = encoder.register_forward_hook(lambda module, ids, out: seen.append(ids[0] != MASK))
    fill_masks(encoder, torch.full((3000, 3), MASK), MASK, order="random", generator=seeded())
    handle.remove()
    assert [int(filled.sum()) for filled in seen] == [0, 3000, 6000]  # one blank of each row in a round
    first = seen[1].sum(0) / 3000
    assert (first - 1 / 3).abs().max() < 5 * (2 / 9 / 3000) ** 0.5  # five standard errors


def test_rounds_share_the_blanks(encoder):
    readings = []
    encoder.register_forward_hook(lambda module, ids, out: readings.append((ids[0] == MASK).sum(1).tolist()))
    ids = torch.full((1, 7), MASK)
    fill_masks(encoder, ids, MASK, order="confidence", rounds=3)
    assert readings == [[7], [4], [2]]
    readings.clear()
    fill_masks(encoder, ids, MASK, order="left_to_right")
    assert readings == [[7], [6], [5], [4], [3], [2], [1]]


def test_nothing_to_fill_is_no_work(encoder):
    assert torch.equal(fill_masks(encoder, PROMPTS, MASK), PROMPTS)


def test_padding_is_not_read_when_filling(encoder):
    padded = torch.cat((BLANKS, torch.zeros(2, 3).long()), 1)
    attention_mask = torch.tensor([[1] * 6 + [0] * 3] * 2)
    filled = fill_masks(encoder, padded, MASK, order="confidence", attention_mask=attention_mask, greedy=True)
    assert torch.equal(filled[:, :6], fill_masks(encoder, BLANKS, MASK, order="confidence", greedy=True))


# ------------------------------------------------------------------ filling spans


def test_spans_are_those_of_the_slow_way(both):
    said = torch.zeros(2, 1).long()
    for _ in range(15):
        logits = both.unembed(both(TEXTS, said)[:, -1])
        said = torch.cat((said, logits.argmax(-1, keepdim=True)), 1)
    ended = (said[:, 1:] == 1).cumsum(1) > 0
    expected = torch.where(ended, 1, said[:, 1:])
    assert torch.equal(fill_spans(both, TEXTS, start_id=0, eos=1, max_new_tokens=15, greedy=True), expected)


def test_the_memory_is_projected_once(both):
    calls = []
    both.decoder[0].cross_attention.key.register_forward_hook(lambda *_: calls.append(1))
    fill_spans(both, TEXTS, start_id=0, eos=1, max_new_tokens=9, forbidden=(1,))
    assert len(calls) == 1


def test_padding_of_the_text_is_not_read(both):
    padded = torch.cat((TEXTS, torch.full((2, 3), 33)), 1)
    attention_mask = torch.tensor([[1] * 7 + [0] * 3] * 2)
    said = fill_spans(both, padded, start_id=0, eos=1, max_new_tokens=9, attention_mask=attention_mask, greedy=True)
    assert torch.equal(said, fill_spans(both, TEXTS, start_id=0, eos=1, max_new_tokens=9, greedy=True))


def test_a_row_says_its_own_sentinels_and_the_closing_one(both):
    said = fill_spans(
        both, TEXTS, start_id=0, eos=1, sentinels=(39, 38, 37, 36), max_new_tokens=300, forbidden=(1,), temperature=9.0
    )
    assert {36} & set(said[0].tolist()) == set()
    assert {39, 38, 37} <= set(said[0].tolist())  # 39 and 38 stand in the first row
    assert {37, 36} & set(said[1].tolist()) == set()
    assert {39, 38} <= set(said[1].tolist())  # 39 stands in the second


# ------------------------------------------------------------------ the public door


def test_what_cannot_be_said_is_refused_with_the_reason(decoder, encoder, both):
    with pytest.raises(InputError, match="at least one token"):
        generate(decoder, torch.zeros(1, 0).long(), max_new_tokens=1)
    with pytest.raises(InputError, match="at least one token"):
        fill_spans(both, torch.zeros(1, 0).long(), start_id=0, eos=1, max_new_tokens=1)
    with pytest.raises(InputError, match="max_new_tokens must be at least 1"):
        generate(decoder, PROMPTS, max_new_tokens=0)
    with pytest.raises(InputError, match=r"special ids must lie in 0 .. 39"):
        generate(decoder, PROMPTS, max_new_tokens=1, forbidden=(40,))
    with pytest.raises(InputError, match="all 40 ids are forbidden"):
        generate(decoder, PROMPTS, max_new_tokens=1, forbidden=range(40))
    with pytest.raises(InputError, match="order must be one of all, left_to_right, confidence, random"):
        fill_masks(encoder, BLANKS, MASK, order="backwards")
    with pytest.raises(InputError, match="rounds must be at least 1"):
        fill_masks(encoder, BLANKS, MASK, order="confidence", rounds=0)
    with pytest.raises(InputError, match="order 'all' has one"):
        fill_masks(encoder, BLANKS, MASK, order="all", rounds=2)
