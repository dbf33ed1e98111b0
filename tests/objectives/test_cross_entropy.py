"""The loss of the loss positions: against its formula, and in chunks against all logits at once, gradients included."""

from functools import partial

import pytest
import torch

from clozelab.errors import InputError
from clozelab.objectives import cross_entropy
from clozelab.objectives.cross_entropy import SoftLabels, compiled_loss, loss_terms, unembedded_terms

N, D, V = 13, 8, 20
SETTINGS = [(0.0, 0.0), (0.1, 0.0), (0.0, 0.01), (0.1, 0.01)]  # label smoothing, z-loss


@pytest.fixture
def parts():
    """Hidden states, table, labels and weights, a zero and a negative one among them."""
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, D, generator=g, dtype=torch.float64).requires_grad_()
    table = torch.randn(V, D, generator=g, dtype=torch.float64).requires_grad_()
    weights = torch.rand(N, generator=g) * 3
    weights[2], weights[5] = 0.0, -1.5
    return hidden, table, torch.randint(V, (N,), generator=g), weights


def formula(logits, labels, weights, label_smoothing, z_loss):
    """(N,) float64: w x (-sum over v of t[v] log p[v] + z (log Z)^2), t = (1 - eps) x the label + eps / V."""
    exp = logits.double().exp()
    z = exp.sum(1, keepdim=True)
    target = torch.full_like(exp, label_smoothing / exp.shape[1])
    target[torch.arange(len(labels)), labels] += 1 - label_smoothing
    each = -(target * (exp / z).log()).sum(1) + z_loss * z[:, 0].log() ** 2
    return each if weights is None else each * weights.double()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("label_smoothing", "z_loss"), SETTINGS)
@pytest.mark.parametrize("rows", [1, 4, 5, 13, 100])
def test_value_terms_costs_and_gradients_are_those_of_the_formula(
    parts, weighted, label_smoothing, z_loss, rows, monkeypatch
):
    """To rounding in double precision: for logits, and for hidden states in chunks of any size."""
    monkeypatch.setitem(cross_entropy.CHUNK, "cpu", rows * V)
    hidden, table, labels, weights = parts
    weights = weights if weighted else None
    each = formula(hidden @ table.T, labels, weights, label_smoothing, z_loss)
    gradients = torch.autograd.grad(3 * each.sum(), (hidden, table))
    named = {"cross_entropy": formula(hidden @ table.T, labels, weights, 0.0, 0.0).sum()}
    if label_smoothing:
        smoothed = formula(hidden @ table.T, labels, weights, label_smoothing, 0.0).sum()
        named["label_smoothing"] = smoothed - named["cross_entropy"]
    if z_loss:
        named["z_loss"] = formula(hidden @ table.T, labels, weights, 0.0, z_loss).sum() - named["cross_entropy"]

    exact = {"rtol": 1e-12, "atol": 1e-12}
    settings = weights, label_smoothing, z_loss
    for loss, terms, costs in (
        loss_terms(hidden @ table.T, labels, *settings),
        unembedded_terms(hidden, table, labels, *settings),
    ):
        torch.testing.assert_close(loss, each.sum(), **exact)
        torch.testing.assert_close(costs, each.detach(), **exact)
        assert terms.keys() == named.keys()
        for name, term in terms.items():
            torch.testing.assert_close(term, named[name].detach(), **exact)
        assert not costs.requires_grad
        assert not any(term.requires_grad for term in terms.values())
        torch.testing.assert_close(torch.autograd.grad(3 * loss, (hidden, table)), gradients, **exact)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64], ids=str)
def test_weights_of_one_are_no_weights(parts, kind):
    hidden, table, labels, _ = parts
    hidden, table = hidden.detach().to(kind), table.detach().to(kind)
    plain = unembedded_terms(hidden, table, labels)
    weighted = unembedded_terms(hidden, table, labels, torch.ones(N))
    assert torch.equal(plain[0], weighted[0])
    assert torch.equal(plain[2], weighted[2])


def test_the_first_guess_of_nobody_costs_ln_v_whatever_the_smoothing(parts):
    _, _, labels, _ = parts
    for label_smoothing, _ in SETTINGS:
        loss, _, costs = loss_terms(torch.zeros(N, V), labels, None, label_smoothing)
        torch.testing.assert_close(costs, torch.full((N,), float(torch.tensor(V).log())))
        torch.testing.assert_close(loss, costs.sum())


def test_no_loss_position_costs_nothing_and_still_back_propagates(parts):
    hidden, table, labels, weights = parts
    loss, _, costs = unembedded_terms(hidden[:0], table, labels[:0], weights[:0])
    loss.backward()
    assert loss == 0
    assert len(costs) == 0
    assert table.grad.abs().sum() == 0


def test_where_no_gradient_is_wanted_none_is_made(parts):
    hidden, table, labels, weights = parts
    with torch.no_grad():
        loss, _, _ = unembedded_terms(hidden, table, labels, weights)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, loss_terms(hidden @ table.T, labels, weights)[0].detach())


def test_it_is_right_in_bfloat16_too():
    """Where `F.linear_cross_entropy` of bfloat16 tensors gives 9.25 on a processor instead of 9.27 (torch 2.13)."""
    g = torch.Generator().manual_seed(0)
    hidden, table = torch.randn(128, 256, generator=g), torch.randn(8192, 256, generator=g) * 0.05
    labels = torch.randint(8192, (128,), generator=g)
    exact = loss_terms(hidden @ table.T, labels)[0] / 128
    with torch.autocast("cpu", torch.bfloat16):
        loss, _, _ = unembedded_terms(hidden, table, labels)
    assert abs(loss / 128 - exact) < 0.002


def test_the_gradient_of_a_bfloat16_table_does_not_lose_more_with_more_chunks(monkeypatch):
    """Summed in bfloat16, a hundred chunks had an error of 1.2% where one product has 0.2%."""
    g = torch.Generator().manual_seed(0)
    hidden, table = torch.randn(1000, 16, generator=g).bfloat16(), torch.randn(64, 16, generator=g).bfloat16()
    labels, table = torch.randint(64, (1000,), generator=g), table.requires_grad_()
    exact = table.detach().float().requires_grad_()
    loss_terms(hidden.float() @ exact.T, labels)[0].backward()
    monkeypatch.setitem(cross_entropy.CHUNK, "cpu", 10 * 64)
    unembedded_terms(hidden, table, labels)[0].backward()
    assert table.grad.dtype == torch.bfloat16
    assert (table.grad.float() - exact.grad).norm() < 0.004 * exact.grad.norm()


def test_a_great_logit_is_no_nan_where_there_is_no_z_loss():
    hidden, table = torch.tensor([[1e30, 0.0]]), torch.eye(2)
    loss, _, _ = unembedded_terms(hidden, table, torch.tensor([0]))
    assert loss == 0


@pytest.mark.parametrize("soft", [False, True])
def test_what_would_get_no_gradient_may_not_ask_for_one(parts, soft):
    hidden, table, labels, weights = parts
    learned = torch.full((N, 1), 1.0).requires_grad_() if soft else weights.clone().requires_grad_()
    given = (SoftLabels(labels[:, None], learned), weights) if soft else (labels, learned)
    with pytest.raises(InputError, match="would get none here: detach them"):
        unembedded_terms(hidden, table, *given)


def test_gradients_of_gradients_are_those_of_the_plain_loss(parts):
    """The gradients that are computed with the loss are constants: as they were, their curvature was lost unseen."""
    hidden, table, labels, weights = (part.double() if part.is_floating_point() else part for part in parts)
    hidden, table = hidden.detach().requires_grad_(), table.detach().requires_grad_()
    settings = labels, weights, 0.1, 0.01
    loss = lambda hidden, table: unembedded_terms(hidden, table, *settings)[0]  # noqa: E731
    assert torch.autograd.gradgradcheck(loss, (hidden, table))
    assert torch.autograd.gradgradcheck(lambda hidden: loss(hidden, table.detach()), hidden)
    assert torch.autograd.gradgradcheck(lambda table: loss(hidden.detach(), table), table)


@pytest.mark.parametrize("autocast", [False, True])
def test_double_precision_stays_double(parts, autocast):
    hidden, table, labels, weights = (part.detach() for part in parts)
    expected = formula(hidden @ table.T, labels, weights, 0.0, 0.0).sum()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss, _, _ = unembedded_terms(hidden.requires_grad_(), table, labels, weights)
        plain, _, _ = loss_terms(hidden @ table.T, labels, weights)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(plain, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("label_smoothing", "z_loss"), SETTINGS)
def test_compiled_it_is_the_same(parts, soft, label_smoothing, z_loss, monkeypatch):
    """By a backend that runs the graph as it is, since real kernels take half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setitem(cross_entropy.CHUNK, "cpu", 2 * V)  # compiled, a chunk has 4 of the 13 positions
    hidden, table, labels, weights = parts
    if soft:
        labels = SoftLabels(torch.stack((labels, (labels + 1) % V), 1), torch.tensor([0.75, 0.25]).expand(N, 2))

    def of_all():
        loss, terms, costs = unembedded_terms(hidden, table, labels, weights, label_smoothing, z_loss)
        return loss, *terms.values(), costs, *torch.autograd.grad(loss, (hidden, table))

    expected = of_all()
    with compiled_loss():
        found = of_all()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert cross_entropy._compute.chunk is cross_entropy._terms_and_gradient  # as before, outside
