"""Who may attend to whom: the pictures as tables, then what combining them promises."""

import pytest
import torch

from clozelab.errors import InputError
from clozelab.models import (
    AttentionMask,
    DecoderOnly,
    ModelConfig,
    causal_mask,
    cross_attention_mask,
    document_mask,
    full_mask,
    group_mask,
    padding_mask,
    rank_mask,
    self_attention_mask,
)

FOUR = torch.zeros(1, 4, dtype=torch.int64)


def table(picture: str) -> torch.Tensor:
    """Rows of a picture, one a word, as a boolean matrix: x or 1 = may attend."""
    return torch.tensor([[place in "x1" for place in row] for row in picture.split()])


def rank(*numbers: int) -> torch.Tensor:
    """(T, T): who attends to whom by reading rank."""
    ranks = torch.tensor([numbers])
    return rank_mask(ranks, ranks)[0, 0]


# ------------------------------------------------------------------ structures


def test_causal_attends_to_itself_and_what_came_before():
    assert torch.equal(causal_mask(4), table("x... xx.. xxx. xxxx"))


def test_causal_queries_are_the_last_of_the_keys():
    assert torch.equal(causal_mask(2, 4), table("xxx. xxxx"))
    assert torch.equal(causal_mask(2, 4), causal_mask(4)[2:])


def test_full_attends_to_everything():
    assert torch.equal(full_mask(2, 3), table("xxx xxx"))


# ------------------------------------------------------------------ one integer a token


def test_a_rank_that_counts_is_causal_and_a_rank_that_does_not_is_full():
    assert torch.equal(rank(0, 1, 2, 3), causal_mask(4))
    assert torch.equal(rank(7, 7, 7, 7), full_mask(4, 4))


def test_a_prefix_of_three_in_six():
    assert torch.equal(rank(0, 0, 0, 1, 2, 3), table("111000 111000 111000 111100 111110 111111"))


def test_every_prefix_is_full_inside_and_causal_behind():
    for length in range(7):
        ranks = (torch.arange(6) - length + 1).clamp(min=0)
        expected = causal_mask(6)
        expected[:length, :length] = True
        assert torch.equal(rank(*ranks.tolist()), expected)


def test_an_order_is_the_rank_of_each_token_in_it():
    """Order 2 0 3 1: token 2 is read first, then 0, 3 and 1, so the ranks are 1 3 0 2."""
    order = torch.tensor([2, 0, 3, 1])
    assert order.argsort().tolist() == [1, 3, 0, 2]
    assert torch.equal(rank(1, 3, 0, 2), table("1010 1111 0010 1011"))


def test_causal_over_blocks_is_the_number_of_the_block():
    assert torch.equal(rank(0, 0, 1, 1, 2), table("11000 11000 11110 11110 11111"))


def test_each_row_of_a_batch_has_its_own_rank():
    ranks = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 0]])
    several = rank_mask(ranks, ranks)
    assert several.shape == (2, 1, 4, 4)
    assert torch.equal(several[0, 0], causal_mask(4))
    assert several[1].all()


def test_block_diffusion_needs_a_rank_and_a_group():
    """n = 4 in blocks of 2, a doubled row: noisy blocks of groups 1 and 2, then the clean text of group 0.

    A noisy block reads itself and the clean blocks before it; a clean block reads clean ones up to itself.
    """
    ranks = torch.tensor([[0, 0, 2, 2, 1, 1, 3, 3]])
    groups = torch.tensor([[1, 1, 2, 2, 0, 0, 0, 0]])
    expected = table("xx...... xx...... ..xxxx.. ..xxxx.. ....xx.. ....xx.. ....xxxx ....xxxx")
    assert torch.equal((rank_mask(ranks, ranks) & group_mask(groups, groups))[0, 0], expected)
    model = DecoderOnly(ModelConfig(vocab_size=9, d_model=16, n_layers=1, n_heads=1))
    tokens = torch.zeros(1, 8, dtype=torch.int64)
    seen = model.attention_matrix(tokens, reading_rank=ranks, reading_group=groups)
    assert torch.equal(seen[0], expected)


def test_a_token_of_group_zero_is_open_to_all_and_any_other_to_its_own_group():
    groups = torch.tensor([[1, 2, 0, 1]])
    assert torch.equal(group_mask(groups, groups)[0, 0], table("x.xx .xx. ..x. x.xx"))


# ------------------------------------------------------------------ documents and padding


def test_no_token_attends_to_another_document():
    documents = torch.tensor([[1, 1, 2, 2], [5, 5, 5, 5]])
    mask = document_mask(documents, documents)
    assert mask.shape == (2, 1, 4, 4)
    assert torch.equal(mask[0, 0], table("xx.. xx.. ..xx ..xx"))
    assert mask[1].all()


def test_a_decoder_attends_only_to_the_encoder_text_of_its_document():
    mask = document_mask(torch.tensor([[1, 2]]), torch.tensor([[1, 1, 2]]))
    assert torch.equal(mask[0, 0], table("xx. ..x"))


def test_padding_hides_columns_not_rows():
    mask = full_mask(3, 3) & padding_mask(torch.tensor([[1, 1, 0]]))
    assert torch.equal(mask[0, 0], table("xx. xx. xx."))


def test_padding_documents_and_structure_combine():
    flags = {"attention_mask": torch.tensor([[1, 1, 1, 0]]), "document_ids": torch.tensor([[1, 1, 2, 2]])}
    causal = self_attention_mask(FOUR, causal=True, **flags)
    assert torch.equal(causal.matrix[0, 0], table("x... xx.. ..x. ..x."))
    ranks = torch.tensor([[0, 0, 1, 1]])
    ranked = self_attention_mask(FOUR, causal=True, reading_rank=ranks, **flags)
    assert torch.equal(ranked.matrix[0, 0], table("xx.. xx.. ..x. ..x."))


def test_cross_attention_has_no_order_and_keeps_padding_and_documents_out():
    decoder, encoder = torch.zeros(1, 2, dtype=torch.int64), FOUR
    flags = torch.tensor([[1, 1, 1, 0]]), torch.tensor([[1, 2]]), torch.tensor([[1, 1, 2, 2]])
    assert torch.equal(cross_attention_mask(decoder, encoder).matrix, full_mask(2, 4))
    assert torch.equal(cross_attention_mask(decoder, encoder, *flags).matrix[0, 0], table("xx.. ..x."))


# ------------------------------------------------------------------ what a kernel needs


@pytest.mark.parametrize("attention_mask", [None, torch.ones(2, 4), torch.ones(2, 4, dtype=torch.bool)])
@pytest.mark.parametrize("causal", [True, False])
def test_a_batch_without_padding_needs_no_matrix(attention_mask, causal):
    mask = self_attention_mask(FOUR.expand(2, 4), causal=causal, attention_mask=attention_mask)
    assert mask.is_structural
    assert torch.equal(mask.matrix, causal_mask(4) if causal else full_mask(4, 4))
    assert torch.equal(mask.expand(2), mask.matrix.expand(2, 4, 4))


def test_padding_and_several_cached_tokens_need_a_matrix():
    assert not self_attention_mask(FOUR, causal=False, attention_mask=torch.tensor([[1, 1, 1, 0]])).is_structural
    assert not self_attention_mask(FOUR, causal=True, reading_rank=torch.arange(4)[None]).is_structural
    assert not AttentionMask(2, 4, causal=True).is_structural
    assert AttentionMask(1, 4, causal=True).is_structural
    assert AttentionMask(2, 4, causal=False).is_structural


def test_padding_on_the_left_leaves_empty_rows_and_no_nan():
    torch.manual_seed(0)
    model = DecoderOnly(ModelConfig(vocab_size=30, d_model=32))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    ids, attention_mask = torch.tensor([[0, 0, 7, 8]]), torch.tensor([[0, 0, 1, 1]])
    assert not model.attention_matrix(ids, attention_mask)[0, :2].any()  # the two pads may attend to nothing
    hidden = model(ids, attention_mask)
    hidden.square().sum().backward()
    assert hidden.isfinite().all()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_what_does_not_fit_is_refused_with_the_reason():
    with pytest.raises(InputError, match="3 queries and 2 keys"):
        causal_mask(3, 2)
    for make, name in ((document_mask, "document ids"), (rank_mask, "reading ranks"), (group_mask, "reading groups")):
        with pytest.raises(InputError, match=rf"expected {name} \(B, T\) and \(B, S\), got \(2, 3\) and \(3, 3\)"):
            make(torch.zeros(2, 3).long(), torch.zeros(3, 3).long())
        with pytest.raises(InputError, match=f"expected the {name} of the keys .* of whole numbers, got torch.float32"):
            make(torch.zeros(2, 3).long(), torch.zeros(2, 3))
