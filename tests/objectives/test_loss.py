"""A loss is parts of (weight, sum, count): their arithmetic, their counts, and the targets that they are made from."""

import pytest
import torch

from clozelab import IGNORED, InputError, Loss
from clozelab.objectives import Part, Prediction, Target, next_token_labels, total_counts


def two_parts(one: tuple[float, int], two: tuple[float, int]) -> Loss:
    """Parts "next" of weight 1 and "after" of weight 0.5, each of a sum and a count."""
    return Loss(
        {
            "next": Part(torch.tensor(one[0], requires_grad=True), torch.tensor(one[1])),
            "after": Part(torch.tensor(two[0], requires_grad=True), torch.tensor(two[1]), weight=0.5),
        }
    )


def test_the_mean_is_taken_of_each_part_by_its_own_count():
    loss = two_parts((6.0, 3), (8.0, 2))
    assert loss.mean.item() == 6 / 3 + 0.5 * 8 / 2
    assert float(loss) == loss.item() == 4.0
    assert list(loss) == ["next", "after"]
    assert [part.mean.item() for part in loss.values()] == [2.0, 4.0]
    assert repr(loss) == "Loss(next: 2.0000 nats over 3, after: 4.0000 nats over 2, weight 0.5)"


def test_losses_are_added_part_by_part_sums_with_sums_and_counts_with_counts():
    """4.0 nats in all; the mean of their means, 4.0 and 6.33, would be 5.17."""
    total = two_parts((6.0, 3), (8.0, 2)) + two_parts((6.0, 1), (2.0, 3))
    assert total["next"].sum.item() == 12
    assert total["next"].count.item() == 4
    assert total.mean.item() == 12 / 4 + 0.5 * 10 / 5
    assert sum([two_parts((6.0, 3), (8.0, 2)), two_parts((6.0, 1), (2.0, 3))]).mean == total.mean


def test_terms_are_added_by_name_and_the_weight_is_kept():
    first = Part(torch.tensor(3.0), torch.tensor(2), 0.5, {"cross_entropy": torch.tensor(3.0)})
    other = Part(torch.tensor(2.0), torch.tensor(1), 0.5, {"z_loss": torch.tensor(2.0)}, torch.tensor([2.0]))
    both = first + other
    assert (both.weight, both.terms, both.row_sums) == (0.5, {"cross_entropy": 3.0, "z_loss": 2.0}, None)


def test_shares_of_a_step_add_up_to_its_mean_with_different_counts_in_each_part():
    """Each micro-batch back-propagates its share of the counts of all, so one division is enough."""
    losses = [two_parts((6.0, 3), (8.0, 2)), two_parts((6.0, 1), (2.0, 3)), two_parts((0.0, 0), (5.0, 5))]
    counts = total_counts({name: part.count for name, part in loss.items()} for loss in losses)
    assert counts == {"next": 4, "after": 10}
    shares = [loss.over(counts) for loss in losses]
    assert sum(shares).item() == pytest.approx(sum(losses).mean.item(), abs=1e-6)
    for loss, share in zip(losses, shares):
        share.backward()
        assert loss["next"].sum.grad.item() == 1 / 4
        assert loss["after"].sum.grad.item() == pytest.approx(0.5 / 10)


def test_nothing_to_predict_is_zero_and_still_back_propagates():
    loss = two_parts((0.0, 0), (0.0, 0))
    loss.backward()
    assert loss.mean.item() == 0
    assert loss["next"].sum.grad.isfinite()


def test_a_single_part_may_be_left_unnamed_and_several_may_not():
    single = Loss.single(torch.tensor(4.0), torch.tensor(2), {"cross_entropy": torch.tensor(4.0)})
    assert (single.sum, single.count, dict(single.terms)) == (4.0, 2, {"cross_entropy": 4.0})
    for name in ("sum", "count", "terms"):
        with pytest.raises(InputError, match="parts next, after, each with a count of its own"):
            getattr(two_parts((6.0, 3), (8.0, 2)), name)


def test_losses_and_counts_of_other_parts_are_refused():
    loss = two_parts((6.0, 3), (8.0, 2))
    with pytest.raises(InputError, match="losses of next, after and of logits cannot be added"):
        loss + Loss.single(torch.tensor(1.0), torch.tensor(1))
    with pytest.raises(InputError, match="expected the counts of next, after, got logits"):
        loss.over({"logits": torch.tensor(1)})
    with pytest.raises(TypeError):
        loss + 1


def test_a_detached_loss_has_the_same_numbers_and_no_graph():
    loss = two_parts((6.0, 3), (8.0, 2))
    assert loss.detach().mean == loss.mean
    assert not loss.detach().mean.requires_grad


# ------------------------------------------------------------------ targets

LABELS = torch.tensor([[3, IGNORED, 1, 2], [IGNORED, IGNORED, IGNORED, 0]])
LOGITS = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
COSTS = -LOGITS.log_softmax(-1).gather(-1, LABELS.clamp(min=0)[..., None])[..., 0].masked_fill(LABELS == IGNORED, 0)


def test_a_target_sums_the_costs_of_its_loss_positions_and_counts_them():
    part = Target(LABELS).part(Prediction(LOGITS))
    torch.testing.assert_close(part.sum, COSTS.sum())
    torch.testing.assert_close(part.row_sums, COSTS.sum(1))
    assert part.count == 4
    assert Target(LABELS).row_counts.tolist() == [3, 1]


def test_a_target_may_bring_weights_a_count_and_a_weight_of_its_part():
    weights = torch.tensor([[2.0, 9.0, 0.5, 0.0], [9.0, 9.0, 9.0, 3.0]])
    target = Target(LABELS, weights, torch.tensor([10, 20]), weight=0.25)
    part = target.part(Prediction(LOGITS))
    torch.testing.assert_close(part.sum, (COSTS * weights).sum())
    torch.testing.assert_close(part.row_sums, (COSTS * weights).sum(1))
    assert (int(part.count), part.weight) == (30, 0.25)
    torch.testing.assert_close(Loss({"logits": part}).mean, 0.25 * (COSTS * weights).sum() / 30)


def test_logits_and_hidden_states_with_their_table_cost_the_same():
    hidden, table = LOGITS[..., :3], LOGITS[0].T.contiguous()[:, :3]
    for settings in ((), (0.1, 0.01)):
        one = Target(LABELS).part(Prediction(hidden, table), *settings)
        other = Target(LABELS).part(Prediction(hidden @ table.T), *settings)
        torch.testing.assert_close(one.sum, other.sum, rtol=1e-12, atol=0)
        torch.testing.assert_close(one.row_sums, other.row_sums, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8], ids=str)
def test_labels_may_be_of_any_integer_type(dtype):
    torch.testing.assert_close(Target(LABELS.to(dtype)).part(Prediction(LOGITS)).sum, COSTS.sum())


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        (LABELS.float(), LOGITS, "expected labels that are ids"),
        (LABELS == 0, LOGITS, "expected labels that are ids"),
        (LABELS[:, :3], LOGITS, r"expected outputs \(B, T, V\) and labels \(B, T\), got \(2, 4, 5\) .* and \(2, 3\)"),
        (LABELS, LOGITS.long(), r"expected outputs"),
        (LABELS + 5, LOGITS, r"labels must lie in 0 \.\. 4 or be -100, got .* \.\. 8"),
        (LABELS.masked_fill(LABELS == 3, -1), LOGITS, r"labels must lie in 0 \.\. 4 or be -100, got -1 \.\."),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(labels, logits, message):
    with pytest.raises(InputError, match=message):
        Target(labels).part(Prediction(logits))


@pytest.mark.parametrize(
    "count", [torch.tensor([1]), torch.tensor([[1, 2]]), torch.tensor(3), torch.tensor([1.0, 2.0])]
)
def test_a_count_is_a_whole_number_a_row(count):
    with pytest.raises(InputError, match=r"expected a count \(2,\) of whole numbers, one a row"):
        Target(LABELS, count=count).part(Prediction(LOGITS))


def test_the_next_token_is_predicted_by_no_padding_and_by_no_other_document():
    labels = torch.tensor([[5, 6, 1, 7, 8, 9]])
    no = IGNORED
    assert next_token_labels({"labels": labels}).tolist() == [[6, 1, 7, 8, 9, no]]
    padding, documents = torch.tensor([[1, 1, 1, 1, 1, 0]]), torch.tensor([[0, 0, 0, 1, 1, 1]])
    left = torch.tensor([[0, 1, 1, 1, 1, 1]])
    masked = labels.masked_fill(padding == 0, no)
    assert next_token_labels({"labels": masked, "attention_mask": padding}).tolist() == [[6, 1, 7, 8, no, no]]
    assert next_token_labels({"labels": labels, "attention_mask": left}).tolist() == [[no, 1, 7, 8, 9, no]]
    assert next_token_labels({"labels": labels, "document_ids": documents}).tolist() == [[6, 1, no, 8, 9, no]]
    assert labels.tolist() == [[5, 6, 1, 7, 8, 9]]
