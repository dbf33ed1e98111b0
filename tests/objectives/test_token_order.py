"""Token order prediction: golden targets, its window, documents, the loss against dense targets, and its floor."""

import itertools
import math

import pytest
import torch

from clozelab import CausalLM
from clozelab.data import IGNORED
from clozelab.errors import InputError
from clozelab.evaluation import label_counts
from clozelab.languages import MarkovSource
from clozelab.models import DecoderOnly
from clozelab.objectives import Prediction, Target, TokenOrderPrediction
from clozelab.objectives.cross_entropy import SoftLabels
from clozelab.objectives.token_order import token_order

from .cases import VOCAB, batch_of, reading_model

TEXT = [4, 3, 1, 3, 2, 0, 1]  # whose next tokens are 3 1 3 2 0 1
CHAIN = MarkovSource(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))
CYCLE = MarkovSource(torch.eye(4, dtype=torch.float64).roll(1, 1))  # 0 1 2 3 0 1 ...


def batch(text, documents=None):
    made = {"input_ids": torch.tensor([text]), "labels": torch.tensor([text])}
    return made if documents is None else {**made, "document_ids": torch.tensor([documents])}


def dense(soft, vocab_size):
    """(..., V): the whole distribution."""
    ids, probabilities = soft
    return torch.zeros(*ids.shape[:-1], vocab_size).scatter_add_(-1, ids, probabilities)


def orders_of(text, window, vocab_size, documents=None):
    target = TokenOrderPrediction(window=window).targets(batch(text, documents))["order"]
    return dense(target.soft_labels, vocab_size)[0], target.labels[0].tolist()


def by_definition(upcoming, window, vocab_size):
    """The softmax over the vocabulary of window - distance, -inf for ids that do not come up within the window."""
    scores = [-math.inf] * vocab_size
    for distance, token in reversed([*enumerate(upcoming)]):
        if distance <= window:
            scores[token] = float(window - distance)
    exp = [math.exp(score) for score in scores]
    return [one / sum(exp) for one in exp]


# ------------------------------------------------------------------ golden targets


def test_the_golden_targets():
    """Scores . 2 0 3 . / 0 3 1 2 . / 1 0 2 3 . of five ids, as the authors' PyTorch code has them."""
    orders, labels = orders_of(TEXT, window=3, vocab_size=5)
    off = -math.inf
    for order, scores in zip(orders, ([off, 2, 0, 3, off], [0, 3, 1, 2, off], [1, 0, 2, 3, off])):
        torch.testing.assert_close(order, torch.tensor([float(score) for score in scores]).softmax(0))
    torch.testing.assert_close(orders[0], torch.tensor([0.0, 0.2595, 0.0351, 0.7054, 0.0]), atol=5e-5, rtol=0)
    assert labels == [3, 1, 3, 2, 0, 1, IGNORED]
    assert -torch.xlogy(orders, orders).sum(1)[:3].mean().item() == pytest.approx(0.870, abs=5e-4)


@pytest.mark.parametrize("window", range(1, 6))
def test_the_target_of_every_short_text_is_the_definition(window):
    texts = torch.cartesian_prod(*[torch.arange(3)] * 5)  # behind a first token each
    text = torch.nn.functional.pad(texts, (1, 0))
    target = TokenOrderPrediction(window=window).targets({"input_ids": text, "labels": text})["order"]
    for upcoming, orders in zip(texts.tolist(), dense(target.soft_labels, 3)):
        for t in range(5):
            assert orders[t].tolist() == pytest.approx(by_definition(upcoming[t:], window, 3), abs=1e-6)


def test_the_window_counts_the_token_that_stands_as_far_behind_the_next_one():
    """distance <= window, as in the authors' PyTorch code; < window, as in their kernel, would leave out the 8."""
    orders, _ = orders_of([4, 5, 6, 7, 8, 9], window=3, vocab_size=10)
    assert orders[0].nonzero()[:, 0].tolist() == [5, 6, 7, 8]


def test_the_order_ends_with_the_document():
    """5 6 7 | 8 9: the first place knows of 6 and 7, the third of nothing."""
    orders, labels = orders_of([5, 6, 7, 8, 9], window=4, vocab_size=10, documents=[0, 0, 0, 1, 1])
    assert [order.nonzero()[:, 0].tolist() for order in orders] == [[6, 7], [7], [], [9], []]
    assert labels == [6, 7, IGNORED, 9, IGNORED]


def test_a_token_that_is_not_in_the_loss_is_no_part_of_an_order_and_keeps_its_place():
    order = token_order(torch.tensor([3, IGNORED, 1]))
    torch.testing.assert_close(dense(order, 4), torch.tensor([0.0, math.exp(-2), 0.0, 1.0]) / (1 + math.exp(-2)))


def test_behind_the_default_window_nothing_counts():
    """All ids farther away together have less than single precision can tell from the nearest one."""
    window = TokenOrderPrediction().window
    assert math.exp(-window - 1) / (1 - math.exp(-1)) < torch.finfo(torch.float32).eps


# ------------------------------------------------------------------ the loss


@pytest.mark.parametrize(("label_smoothing", "z_loss"), [(0.0, 0.0), (0.1, 0.01)])
@pytest.mark.parametrize("unembedded", [False, True])
def test_the_loss_and_its_gradient_are_those_of_dense_targets(label_smoothing, z_loss, unembedded):
    """-sum over v of target(v) log p(v), all V of them at once."""
    g = torch.Generator().manual_seed(0)
    states = torch.randn(1, 7, 8, generator=g, dtype=torch.float64).requires_grad_()
    table = torch.randn(5, 8, generator=g, dtype=torch.float64).requires_grad_()
    target = TokenOrderPrediction(window=3).targets(batch(TEXT))["order"]
    wanted = (1 - label_smoothing) * dense(target.soft_labels, 5)[0, :6].double() + label_smoothing / 5
    logits = states[0, :6] @ table.T
    each = -(wanted * logits.log_softmax(-1)).sum(-1) + z_loss * logits.logsumexp(-1) ** 2
    expected = torch.autograd.grad(each.sum(), (states, table))
    prediction = Prediction(states, table) if unembedded else Prediction(states @ table.T)
    part = target.part(prediction, label_smoothing, z_loss)
    torch.testing.assert_close(part.sum, each.sum(), rtol=1e-6, atol=0)  # targets are single precision
    torch.testing.assert_close(part.row_sums, each.sum()[None].detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.autograd.grad(part.sum, (states, table)), expected, rtol=1e-6, atol=1e-7)
    assert int(part.count) == 6


def test_gradients_of_gradients_know_soft_labels():
    g = torch.Generator().manual_seed(0)
    states, table = (torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((1, 7, 3), (5, 3)))
    soft = TokenOrderPrediction(window=3).targets(batch(TEXT))["order"]
    soft = Target(soft.labels, soft_labels=SoftLabels(soft.soft_labels.ids, soft.soft_labels.probabilities.double()))
    cost = lambda *parts: soft.part(Prediction(*parts), 0.1, 0.01).sum  # noqa: E731
    assert torch.autograd.gradgradcheck(cost, (states.requires_grad_(), table.requires_grad_()))


def test_where_values_cannot_be_looked_at_the_loss_is_the_same(monkeypatch):
    """As inside torch.compile: all positions are projected, and those without a next token weigh nothing."""
    objective = TokenOrderPrediction()
    model, made = reading_model(objective), batch_of(objective, (9, 5))
    outputs, loss = model(**objective.model_inputs(model, made)), objective(model, made)
    monkeypatch.setattr("clozelab.objectives.loss.tracing", lambda: True)
    torch.testing.assert_close(objective.loss(outputs, made).mean, loss.mean)
    torch.testing.assert_close(objective.loss(outputs, made)["order"].row_sums, loss["order"].row_sums)


def test_the_first_part_is_causal_lm_on_the_same_trunk_and_the_weights_add_up():
    objective = TokenOrderPrediction(order_weight=0.5)
    model, made = reading_model(objective), batch_of(objective)
    loss = objective(model, made)
    assert torch.equal(loss["logits"].sum, CausalLM()(model.trunk, made).sum)
    torch.testing.assert_close(loss.mean, loss["logits"].mean + 0.5 * loss["order"].mean)
    assert int(loss["logits"].count) == int(loss["order"].count)


@pytest.mark.parametrize(
    ("soft", "message"),
    [
        (SoftLabels(torch.tensor([[[3, 1]]]), torch.tensor([[[0.5, 0.4]]])), "sum to 1, got sums from 0.9 to 0.9"),
        (SoftLabels(torch.tensor([[[3, 1]]]), torch.tensor([[[1.5, -0.5]]])), "not negative"),
        (SoftLabels(torch.tensor([[[3, 5]]]), torch.tensor([[[0.5, 0.5]]])), r"labels must lie in 0 .. 4"),
    ],
)
def test_what_is_no_distribution_over_the_vocabulary_is_refused(soft, message):
    with pytest.raises(InputError, match=message):
        Target(torch.tensor([[3]]), soft_labels=soft).part(Prediction(torch.zeros(1, 1, 5)))


def test_a_unigram_guess_knows_the_distributions():
    """How often each id is asked for: its probabilities, summed over the places."""
    counts = label_counts(TokenOrderPrediction(window=3), [batch(TEXT)], vocab_size=6)
    orders, _ = orders_of(TEXT, window=3, vocab_size=6)
    torch.testing.assert_close(counts["order"], orders.sum(0).double(), rtol=1e-6, atol=0)
    assert counts["order"].sum().item() == pytest.approx(6)


# ------------------------------------------------------------------ the floor


def best_loss(source, length, window):
    """The least mean loss of the second part, by all texts: each place predicts the mean target of its prefix."""
    texts = [*itertools.product(range(source.symbols), repeat=length)]
    p = torch.tensor([source.log_prob(torch.tensor(text)).exp().item() for text in texts])
    total = 0.0
    for t in range(length - 1):
        groups = {}
        for text, p_text in zip(texts, p):
            order = torch.tensor(by_definition(text[t + 1 :], window, source.symbols))
            groups.setdefault(text[: t + 1], []).append((p_text, order))
        for members in groups.values():
            mean = sum(q * order for q, order in members) / sum(q for q, _ in members)
            total += float(sum(q * -torch.xlogy(order, mean).sum() for q, order in members))
    return total


@pytest.mark.parametrize("window", [1, 2, 3])
def test_the_floor_is_that_of_all_texts_whatever_came_before(window):
    """Its expectation over all texts of 5 symbols against the best prediction from each whole prefix."""
    texts = torch.cartesian_prod(*[torch.arange(2)] * 5)
    objective = TokenOrderPrediction(window=window)
    floors = objective.entropy_floor(CHAIN, {"input_ids": texts, "labels": texts}, CHAIN.special_ids())
    mean = (CHAIN.log_prob(texts).exp() * floors["order"]).sum().item()
    assert mean == pytest.approx(best_loss(CHAIN, 5, window), rel=1e-5)
    causal = CausalLM().entropy_floor(CHAIN, {"input_ids": texts, "labels": texts}, CHAIN.special_ids())
    assert torch.equal(floors["logits"], causal["logits"])


def test_where_the_future_is_known_the_floor_is_the_entropy_of_the_target():
    text = CYCLE.sample(1, 9, seed=0)
    objective, made = TokenOrderPrediction(window=2), {"input_ids": text, "labels": text}
    target = objective.targets(made)["order"]
    entropy = -torch.xlogy(target.soft_labels.probabilities, target.soft_labels.probabilities).sum()
    assert entropy > 1
    assert objective.entropy_floor(CYCLE, made, CYCLE.special_ids())["order"].item() == pytest.approx(entropy.item())


def test_a_floor_that_would_be_a_sum_over_too_many_texts_is_refused():
    text = CHAIN.sample(1, 24, seed=0)
    with pytest.raises(InputError, match=r"all 23 upcoming symbols, and 2\^23 are too many: choose a smaller window"):
        TokenOrderPrediction(window=30).entropy_floor(CHAIN, {"input_ids": text, "labels": text}, CHAIN.special_ids())


# ------------------------------------------------------------------ the model


def test_the_trunk_continues_texts_and_the_second_table_does_not_matter(tokenizer):
    objective = TokenOrderPrediction()
    torch.manual_seed(0)
    model = objective.build_model(tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2)
    before = str(objective.complete(model, tokenizer, "The cat", greedy=True, max_new_tokens=5))
    torch.nn.init.normal_(model.order.weight)
    assert str(objective.complete(model, tokenizer, "The cat", greedy=True, max_new_tokens=5)) == before
    assert isinstance(model.trunk, DecoderOnly)


def test_a_model_without_the_second_table_is_refused_by_name():
    objective = TokenOrderPrediction()
    with pytest.raises(InputError, match="output order of the model, which gives logits alone: its heads"):
        objective(CausalLM().build_model(VOCAB, d_model=16, n_layers=1, n_heads=2), batch_of(objective))
