"""A scheme of one's own, documents, and what is refused with the reason."""

import pytest
import torch

from clozelab import Collator, MaskedLM, PrefixLM, SpanCorruption
from clozelab.data import SpecialIds
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES

from .cases import SPECIAL, each, rows, unpadded


@pytest.fixture
def special() -> SpecialIds:
    return SPECIAL


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
        (lambda tokens, maskable, generator: maskable.long(), "boolean tensor .* but returned torch.int64 .[0-9]+,.$"),
        (lambda tokens, maskable, generator: maskable.tolist(), "must return a boolean tensor .* but returned list$"),
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
    elif batch["input_ids"].shape[1] == 6:
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


def test_a_kept_key_does_not_replace_what_the_corruption_makes():
    example = {"input_ids": list(range(5, 13)), "reading_rank": [0] * 8}
    with pytest.raises(InputError, match="makes reading_rank itself"):
        PrefixLM().collator(SpecialIds(64, pad=0, eos=1), keep=["reading_rank"])([example])
