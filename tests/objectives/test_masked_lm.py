"""Masked LM: which tokens are hidden, what stands in their place, the schemes, and a rate that falls."""

from dataclasses import replace

import pytest
import torch

from clozelab import InputError, MaskedLM, SpecialIds
from clozelab.languages import MarkovSource

from .cases import SPECIAL, VOCAB, WORDS, batch_of, texts


def test_exactly_the_rate_is_hidden_and_labelled_in_place():
    batch = batch_of(MaskedLM(mask_rate=0.25), (40, 8))
    hidden = batch["labels"] != -100
    assert hidden.sum(1).tolist() == [10, 2]
    visible = ~hidden & (batch["attention_mask"] == 1)
    plain = MaskedLM(mask_rate=0.25, mask_replace_prob=0.0, random_replace_prob=0.0).collator(SPECIAL)(texts((40, 8)))
    assert torch.equal(batch["input_ids"][visible], plain["input_ids"][visible])
    assert torch.equal(batch["labels"][hidden], plain["input_ids"][hidden])


def test_hidden_tokens_are_masked_replaced_and_kept_in_80_10_10():
    batch = batch_of(MaskedLM(mask_rate=0.5), (1000,) * 40)
    hidden = batch["labels"] != -100
    inputs, labels = batch["input_ids"][hidden], batch["labels"][hidden]
    n = len(labels)
    assert (inputs == SPECIAL.mask).float().mean().item() == pytest.approx(0.8, abs=4 * (0.16 / n) ** 0.5)
    kept = 0.1 + 0.1 / WORDS  # a random token may be the original
    assert (inputs == labels).float().mean().item() == pytest.approx(kept, abs=4 * (0.09 / n) ** 0.5)
    assert not SPECIAL.is_special(inputs[inputs != SPECIAL.mask]).any()


def test_special_ids_are_never_hidden():
    text = [[SPECIAL.eos, 5, 6, SPECIAL.sentinels[0], 7] * 4]
    for scheme in ("exact-count", "bernoulli"):
        batch = MaskedLM(mask_rate=1.0, scheme=scheme).collator(SPECIAL)(text)
        assert torch.equal(batch["labels"] == -100, SPECIAL.is_special(torch.tensor(text)))


def test_all_tokens_can_be_hidden():
    batch = batch_of(MaskedLM(mask_rate=1.0, mask_replace_prob=1.0, random_replace_prob=0.0), (9,))
    assert (batch["input_ids"] == SPECIAL.mask).all()


def test_whole_words_are_hidden_or_left_alone():
    words = [0, 0, 1, 2, 2, 2, 3, 4, 4, 5, 5, 6, 6, 7, 8, 8, -1]
    example = {"input_ids": [*range(16), SPECIAL.eos], "word_ids": words}
    for seed in range(20):
        batch = MaskedLM(mask_rate=0.4, scheme="whole-words").collator(SPECIAL, seed=seed)([example])
        hidden = batch["labels"][0] != -100
        assert hidden.any()
        assert all(len({bool(h) for h, w in zip(hidden, words) if w == word}) == 1 for word in range(9))


def test_a_table_of_the_vocabulary_tells_packed_text_its_words():
    """Ids below 20 begin a word, the others go on with it."""
    starts = torch.arange(SPECIAL.vocab_size) < 20
    special = SpecialIds(SPECIAL.vocab_size, pad=40, eos=41, mask=42, starts_word=starts)
    text = torch.tensor([[1, 21, 22, 2, 3, 23, 41, 4, 24, 5]])
    for seed in range(20):
        batch = MaskedLM(mask_rate=0.4, scheme="whole-words").collator(special, seed=seed).block(text, [0])
        hidden = (batch["labels"][0] != -100).tolist()
        assert hidden[0] == hidden[1] == hidden[2]
        assert hidden[4] == hidden[5]
        assert hidden[7] == hidden[8]
        assert not hidden[6]
    with pytest.raises(InputError, match="whole words need to be known"):
        MaskedLM(scheme="whole-words").collator(replace(SPECIAL, starts_word=None)).block(text, [0])


# ------------------------------------------------------------------ spans

SPANS = ["n-grams", "geometric-spans", "uniform-spans"]


@pytest.mark.parametrize("scheme", SPANS)
def test_spans_hide_the_budget_and_never_an_end_of_text(scheme):
    text = torch.randint(0, WORDS, (200, 60), generator=torch.Generator().manual_seed(0))
    text[:, 20::21] = SPECIAL.eos
    for options in ({}, {"max_span_length": 2}):
        batch = MaskedLM(scheme=scheme, mask_rate=0.3, **options).collator(SPECIAL).block(text, range(200))
        hidden = batch["labels"] != -100
        assert (hidden.sum(1) == round(0.3 * 58)).all()
        assert not hidden[text == SPECIAL.eos].any()
        longest = max(len(run) for row in hidden.int().tolist() for run in "".join(map(str, row)).split("0"))
        assert longest == {"n-grams": 5, "geometric-spans": 10, "uniform-spans": 3}[scheme] if not options else 2


@pytest.mark.parametrize("scheme", SPANS)
def test_spans_of_words_in_packed_text_keep_every_word_whole(scheme):
    """Ids below 20 begin a word; the budget is of tokens, and is not exceeded."""
    special = replace(SPECIAL, starts_word=torch.arange(VOCAB) < 20)
    text = torch.randint(0, WORDS, (100, 80), generator=torch.Generator().manual_seed(0))
    text[:, ::25] = SPECIAL.eos
    batch = MaskedLM(scheme=scheme, span_unit="words", mask_rate=0.3).collator(special).block(text, range(100))
    hidden, goes_on = batch["labels"] != -100, (text >= 20) & (text < WORDS)
    joined = goes_on[:, 1:] & (text[:, :-1] != SPECIAL.eos)  # a token and the one after it in the same word
    assert (hidden[:, 1:] == hidden[:, :-1])[joined].all()
    assert (hidden.sum(1) <= round(0.3 * 76)).all()
    assert hidden.sum(1).double().mean() > 0.95 * 0.3 * 76
    assert not hidden[text == SPECIAL.eos].any()


def test_the_same_spans_are_hidden_whoever_draws_them_and_others_in_the_next_epoch():
    objective = MaskedLM(scheme="geometric-spans", mask_rate=0.3)
    text = torch.arange(30).expand(3, 30)
    first = objective.collator(SPECIAL).block(text, [4, 5, 6])["labels"]
    assert torch.equal(first[2:], objective.collator(SPECIAL).block(text[:1], [6])["labels"])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, objective.collator(SPECIAL, epoch=1).block(text, [4, 5, 6])["labels"])
    assert not torch.equal(first, objective.collator(SPECIAL, seed=1).block(text, [4, 5, 6])["labels"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"span_unit": "words"}, "span_unit words would be ignored: only n-grams, geometric-spans, uniform-spans draw"),
        ({"scheme": "whole-words", "max_span_length": 3}, "max_span_length 3 would be ignored"),
        ({"scheme": "n-grams", "max_span_length": 0}, "max_span_length must lie in"),
        ({"scheme": "n-grams", "max_span_length": 2.5}, "max_span_length must be a whole number"),
        ({"scheme": lambda t, m, g: m, "final_mask_rate": 0.1}, "would be ignored: a scheme of your own"),
        ({"final_mask_rate": 15}, r"final_mask_rate must lie in \(0, 1\], got 15"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        MaskedLM(**options)


# ------------------------------------------------------------------ a rate that falls


def test_the_golden_counts_of_a_rate_that_falls_from_30_to_15_percent():
    """38 34 29 24 19 of 128 tokens at a progress of 0, 1/4, 1/2, 3/4 and 1."""
    objective = MaskedLM(mask_rate=0.3, final_mask_rate=0.15)
    collate, text = objective.collator(SPECIAL), torch.arange(128)[None] % WORDS
    found = [int((collate.block(text, [0], progress=done)["labels"] != -100).sum()) for done in (0, 0.25, 0.5, 0.75, 1)]
    assert found == [38, 34, 29, 24, 19]
    plain = MaskedLM(mask_rate=0.15).collator(SPECIAL).block(text, [0])
    at_the_end = collate.block(text, [0])  # no progress is given: that of the end
    assert all(torch.equal(at_the_end[key], plain[key]) for key in plain)


@pytest.mark.parametrize("scheme", ["exact-count", "bernoulli"])
def test_what_a_lower_rate_hides_the_higher_one_has_hidden_too(scheme):
    collate = MaskedLM(mask_rate=0.3, final_mask_rate=0.15, scheme=scheme).collator(SPECIAL)
    text = torch.arange(128).expand(20, 128) % WORDS
    early, late = (collate.block(text, range(20), progress=done)["labels"] != -100 for done in (0.1, 0.9))
    assert (early | ~late).all()


@pytest.mark.parametrize("scheme", ["exact-count", "bernoulli", "whole-words", *SPANS])
def test_every_scheme_follows_the_rate(scheme):
    special = replace(SPECIAL, starts_word=torch.arange(VOCAB) < 20)
    collate = MaskedLM(mask_rate=0.4, final_mask_rate=0.1, scheme=scheme).collator(special)
    text = torch.randint(0, WORDS, (30, 100), generator=torch.Generator().manual_seed(0))
    shares = [(collate.block(text, range(30), progress=p)["labels"] != -100).double().mean() for p in (0, 0.5, 1)]
    assert shares == pytest.approx([0.4, 0.25, 0.1], abs=0.03)


def test_a_schedule_is_said_in_words_and_a_constant_rate_is_none():
    assert MaskedLM(mask_rate=0.3, final_mask_rate=0.15).schedule == "mask_rate 0.3 to 0.15, evaluated at 0.15"
    assert MaskedLM().schedule == MaskedLM(mask_rate=0.3, final_mask_rate=0.3).schedule == ""


# ------------------------------------------------------------------ floors


@pytest.mark.parametrize("scheme", ["exact-count", *SPANS])
def test_masks_alone_have_an_exact_floor_whichever_tokens_are_hidden(scheme):
    """By brute force over every text that the row could come from."""
    source, n = MarkovSource.random(3, entropy=0.7), 7
    special = source.special_ids()
    options = {"mask_replace_prob": 1.0, "random_replace_prob": 0.0, "mask_rate": 0.5, "final_mask_rate": 0.4}
    objective = MaskedLM(scheme=scheme, **options)
    batch = objective.collator(special).block(source.sample(6, n), range(6))
    every = torch.cartesian_prod(*[torch.arange(3)] * n)
    p = source.log_prob(every).exp()
    found = objective.entropy_floor(source, batch, special)["logits"]
    for row, labels, nats in zip(batch["input_ids"], batch["labels"], found):
        fits = ((every == row) | (row == special.mask)).all(1)
        places = (labels != -100).nonzero()[:, 0].tolist()
        shares = [(p * fits * (every[:, t] == labels[t])).sum() / (p * fits).sum() for t in places]
        assert nats.item() == pytest.approx(-sum(share.log().item() for share in shares))


def test_a_rate_that_falls_has_no_exact_floor_where_tokens_are_not_all_masks():
    source, falling = MarkovSource.random(3, entropy=0.7), MaskedLM(scheme="bernoulli", final_mask_rate=0.1)
    batch = falling.collator(source.special_ids()).block(source.sample(2, 9), range(2))
    with pytest.raises(InputError, match="hidden independently at one rate"):
        falling.entropy_floor(source, batch, source.special_ids())


# ------------------------------------------------------------------ a scheme of your own


def test_a_scheme_of_your_own_sees_each_example_without_its_padding():
    seen = []

    def first_token(tokens, maskable, generator):
        seen.append(tokens.tolist())
        return maskable & (torch.arange(len(tokens)) == 0)

    batch = MaskedLM(scheme=first_token).collator(SPECIAL)([[5, 6, 7], [8]])
    assert seen == [[5, 6, 7], [8]]
    assert (batch["labels"] != -100).tolist() == [[True, False, False], [True, False, False]]


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (lambda t, m, g: m.long(), "must return a boolean tensor"),
        (lambda t, m, g: m[:2], "must return a boolean tensor of shape"),
        (lambda t, m, g: torch.ones_like(m), "hides the protected positions"),
    ],
)
def test_a_scheme_that_returns_something_else_is_named(scheme, message):
    with pytest.raises(InputError, match=message):
        MaskedLM(scheme=scheme).collator(SPECIAL)([[5, 6, SPECIAL.eos]])


def test_a_vocabulary_without_a_mask_is_refused_before_the_first_batch():
    with pytest.raises(InputError, match="no id for the role 'mask'"):
        MaskedLM().collator(SpecialIds(vocab_size=9, pad=0, eos=1))
