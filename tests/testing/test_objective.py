"""The kit passes our objectives, and finds losses that average, count or read what they must not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clozelab.data import SpecialIds
from clozelab.errors import InputError
from clozelab.objectives import CausalLM, Loss, MaskedLM, SpanCorruption
from clozelab.testing import CheckFailed, check_objective

OBJECTIVES = [CausalLM(), MaskedLM(), SpanCorruption()]
SPECIAL = SpecialIds(vocab_size=60, pad=0, eos=1, mask=2, sentinels=range(59, 39, -1))


def small(objective):
    torch.manual_seed(0)
    return objective.build_model(60, "tiny", d_model=32, n_layers=2, n_heads=2)


def ragged(objective):
    texts = [list(range(3, 3 + n)) for n in (9, 20, 5, 14)]
    return objective.collator(SPECIAL)([{"input_ids": text, "example_id": n} for n, text in enumerate(texts)])


def faults(objective, model, batch=None):
    with pytest.raises(CheckFailed) as failed:
        check_objective(objective, model, batch)
    return failed.value.report.faults


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
def test_ours_pass(objective):
    assert check_objective(objective, small(objective)).passed


def masked(change):
    """Masked LM with its cross-entropy (N, V), (N,) replaced by `change`."""
    inner = MaskedLM()

    def objective(model, batch):
        logits = model.unembed(model(batch["input_ids"], batch["attention_mask"]))
        return change(logits, batch["labels"])

    return objective, small(inner), ragged(inner)


def test_a_mean_of_means_is_found_and_explained():
    objective, model, batch = masked(lambda logits, labels: F.cross_entropy(logits.flatten(0, 1), labels.flatten()))
    with pytest.raises(CheckFailed, match="positions paid by row") as failed:
        check_objective(objective, model, batch)
    # The plain mean of PyTorch has both: it averages averages, and is 0 / 0 where nothing is paid.
    assert failed.value.report.faults == ["accumulation", "nothing to predict"]


def test_averaging_before_multiplying_is_found():
    """Row 1 of the catalogue: the mask does nothing once the loss is a scalar."""

    def change(logits, labels):
        loss = F.cross_entropy(logits.flatten(0, 1), labels.clamp(min=0).flatten())
        return (loss * (labels != -100)).sum() / (labels != -100).sum()

    assert "unpaid" in faults(*masked(change))


def test_a_constant_zero_is_found():
    def change(logits, labels):
        paid = labels != -100
        if not paid.any():
            return Loss(torch.tensor(0.0), torch.tensor(0))
        return Loss(F.cross_entropy(logits[paid], labels[paid], reduction="sum"), paid.sum())

    assert faults(*masked(change)) == ["nothing to predict"]


def test_a_wrong_sign_or_weight_is_found():
    def change(logits, labels):
        paid = labels != -100
        return Loss(-F.cross_entropy(logits[paid], labels[paid], reduction="sum"), paid.sum())

    assert "uniform" in faults(*masked(change))


def test_a_model_that_looks_ahead_is_found():
    """An encoder where a decoder belongs: the missing causal mask."""
    model = small(MaskedLM())
    assert faults(CausalLM(), model) == ["leaks"]


def test_a_model_that_draws_from_its_batch_is_found():
    class Standardised(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(60, 16)
            self.head = nn.Linear(16, 60)

        def forward(self, input_ids, **_):
            hidden = self.embedding(input_ids)
            return self.head(hidden - hidden.mean((0, 1)))

    objective = MaskedLM()
    assert "leaks" in faults(objective, Standardised(), ragged(objective))


def test_the_model_is_left_as_it_was():
    objective = SpanCorruption()
    model = small(objective)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    check_objective(objective, model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_checked_says_why():
    objective = MaskedLM()
    with pytest.raises(InputError, match="could not be told from a mean"):
        check_objective(objective, small(objective), {"input_ids": torch.ones(2, 3).long(), "labels": torch.ones(2, 3)})
    with pytest.raises(InputError, match="only clozelab's objectives"):
        check_objective(lambda model, batch: None, small(objective))
    with pytest.raises(InputError, match="tells no vocabulary"):
        check_objective(objective, nn.Linear(2, 2))
