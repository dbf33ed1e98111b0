"""The loss in chunks is the loss of all logits at once: value, terms and gradients."""

import pytest
import torch

from clozelab.objectives import cross_entropy
from clozelab.objectives.cross_entropy import loss_terms, unembedded_terms

N, D, V = 13, 8, 20


@pytest.fixture
def parts():
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=g).requires_grad_()
    table = torch.randn(V, D, generator=g).requires_grad_()
    return hidden, table, torch.randint(V, (N,), generator=g)


@pytest.mark.parametrize("rows", [1, 4, 5, 13, 100])
@pytest.mark.parametrize("settings", [(0.0, 0.0), (0.1, 0.0), (0.0, 0.01), (0.1, 0.01)])
def test_chunks_of_any_size_give_the_loss_and_gradients_of_all_logits(parts, rows, settings, monkeypatch):
    hidden, table, labels = parts
    whole = loss_terms(hidden @ table.T, labels, *settings)
    expected = torch.autograd.grad(3 * sum(whole.values()), (hidden, table))
    monkeypatch.setitem(cross_entropy.CHUNK, "cpu", rows * V)
    loss, named = unembedded_terms(hidden, table, labels, *settings)
    torch.testing.assert_close(loss, sum(whole.values()))
    assert named.keys() == whole.keys()
    for name, term in named.items():
        torch.testing.assert_close(term, whole[name].detach())
    torch.testing.assert_close(torch.autograd.grad(3 * loss, (hidden, table)), expected)


def test_nothing_paid_costs_nothing_and_still_back_propagates(parts):
    hidden, table, labels = parts
    loss, _ = unembedded_terms(hidden[:0], table, labels[:0])
    loss.backward()
    assert loss == 0
    assert table.grad.abs().sum() == 0


def test_where_no_gradient_is_wanted_none_is_made(parts):
    hidden, table, labels = parts
    with torch.no_grad():
        loss, _ = unembedded_terms(hidden, table, labels)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, loss_terms(hidden @ table.T, labels)["cross_entropy"])


def test_it_is_right_in_bfloat16_too():
    """Where `F.linear_cross_entropy` of torch 2.13 gives 9.19 on a processor instead of 9.33."""
    g = torch.Generator().manual_seed(0)
    hidden, table = torch.randn(512, 256, generator=g), torch.randn(8192, 256, generator=g) * 0.05
    labels = torch.randint(8192, (512,), generator=g)
    exact = loss_terms(hidden @ table.T, labels)["cross_entropy"] / 512
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = unembedded_terms(hidden, table, labels)
    assert abs(loss / 512 - exact) < 0.002


def test_gradients_of_gradients_are_refused_instead_of_being_wrong(parts):
    hidden, table, labels = parts
    loss, _ = unembedded_terms(hidden, table, labels)
    [grad] = torch.autograd.grad(loss.square(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("autocast", [False, True])
def test_double_precision_stays_double(parts, autocast):
    hidden, table, labels = (part.detach().double() if part.is_floating_point() else part for part in parts)
    expected = torch.nn.functional.cross_entropy(hidden @ table.T, labels, reduction="sum")
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss, _ = unembedded_terms(hidden.requires_grad_(), table, labels)
        plain = loss_terms(hidden @ table.T, labels)["cross_entropy"]
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(plain, expected, rtol=1e-13, atol=0)
