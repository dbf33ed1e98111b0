"""Who may read whom: the pictures as tables, then what combining them promises."""

import pytest
import torch

from clozelab.errors import InputError
from clozelab.models import DecoderOnly, ModelConfig, Visibility, causal, full, prefix, real, within_documents


def table(*rows: str) -> torch.Tensor:
    """x = may read."""
    return torch.tensor([[place == "x" for place in row.split()] for row in rows])


def test_causal_reads_itself_and_what_came_before():
    assert torch.equal(causal(4), table("x . . .", "x x . .", "x x x .", "x x x x"))


def test_causal_queries_are_the_last_of_the_keys():
    assert torch.equal(causal(2, 4), table("x x x .", "x x x x"))
    assert torch.equal(causal(2, 4), causal(4)[2:])


def test_full_reads_everything():
    assert torch.equal(full(2, 3), table("x x x", "x x x"))


def test_a_prefix_is_read_both_ways_and_the_rest_from_the_left():
    assert torch.equal(prefix(4, 2), table("x x . .", "x x . .", "x x x .", "x x x x"))
    assert torch.equal(prefix(4, 0), causal(4))
    assert torch.equal(prefix(4, 4), full(4, 4))


def test_each_row_of_a_batch_may_have_its_own_prefix():
    several = prefix(4, torch.tensor([0, 3]))
    assert several.shape == (2, 1, 4, 4)
    assert torch.equal(several[0, 0], prefix(4, 0))
    assert torch.equal(several[1, 0], prefix(4, 3))


def test_nobody_reads_another_document():
    documents = torch.tensor([[1, 1, 2, 2], [5, 5, 5, 5]])
    readable = within_documents(documents, documents)
    assert readable.shape == (2, 1, 4, 4)
    assert torch.equal(readable[0, 0], table("x x . .", "x x . .", ". . x x", ". . x x"))
    assert readable[1].all()


def test_a_decoder_reads_only_the_encoder_text_of_its_document():
    readable = within_documents(torch.tensor([[1, 2]]), torch.tensor([[1, 1, 2]]))
    assert torch.equal(readable[0, 0], table("x x .", ". . x"))


def test_padding_hides_columns_not_rows():
    readable = full(3, 3) & real(torch.tensor([[1, 1, 0]]))
    assert torch.equal(readable[0, 0], table("x x .", "x x .", "x x ."))


def test_padding_documents_and_the_rule_combine():
    documents = torch.tensor([[1, 1, 2, 2]])
    matrix = Visibility.of(
        4,
        4,
        causal=True,
        attention_mask=torch.tensor([[1, 1, 1, 0]]),
        query_documents=documents,
        key_documents=documents,
    ).matrix
    assert torch.equal(matrix[0, 0], table("x . . .", "x x . .", ". . x .", ". . x ."))


@pytest.mark.parametrize("attention_mask", [None, torch.ones(2, 4), torch.ones(2, 4, dtype=torch.bool)])
@pytest.mark.parametrize("is_causal", [True, False])
def test_a_batch_without_padding_needs_no_mask(attention_mask, is_causal):
    visible = Visibility.of(4, 4, causal=is_causal, attention_mask=attention_mask)
    assert visible.by_rule
    assert torch.equal(visible.matrix, causal(4) if is_causal else full(4, 4))


def test_padding_and_several_remembered_tokens_need_a_mask():
    assert not Visibility.of(4, 4, causal=False, attention_mask=torch.tensor([[1, 1, 1, 0]])).by_rule
    assert not Visibility.of(2, 4, causal=True).by_rule
    assert Visibility.of(1, 4, causal=True).by_rule


def test_padding_on_the_left_leaves_empty_rows_and_no_nan():
    torch.manual_seed(0)
    model = DecoderOnly(ModelConfig(vocab_size=30, d_model=32))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    ids, attention_mask = torch.tensor([[0, 0, 7, 8]]), torch.tensor([[0, 0, 1, 1]])
    assert not model.visibility(ids, attention_mask)[0, :2].any()  # the two pads may read nobody
    hidden = model(ids, attention_mask)
    hidden.square().sum().backward()
    assert hidden.isfinite().all()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_the_messages_teach():
    with pytest.raises(InputError, match="3 queries and 2 keys"):
        causal(3, 2)
    with pytest.raises(InputError, match="a prefix of 4 tokens has 0 to 4 tokens"):
        prefix(4, 5)
    with pytest.raises(InputError, match="expected document ids"):
        within_documents(torch.zeros(2, 3), torch.zeros(3, 3))
