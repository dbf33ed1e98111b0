"""Masked LM: which tokens are hidden, what stands in their place, and the three schemes."""

import pytest
import torch

from clozelab import InputError, MaskedLM, SpecialIds

from .cases import SPECIAL, WORDS, batch_of, texts


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
        MaskedLM(scheme="whole-words").collator(SPECIAL).block(text, [0])


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
