"""Each fault that is planted in a plain function (model, batch) -> loss is found, by the check that is named for it."""

import pytest
import torch
import torch.nn.functional as F

from clozelab import CausalLM, MaskedDiffusion, MaskedLM, SpecialIds
from clozelab.data import IGNORED
from clozelab.models import DecoderOnly, ModelConfig
from clozelab.testing import CheckFailed, check_objective

V = 60
SPECIAL = SpecialIds(V, pad=0, eos=1, mask=2)


def small(objective):
    torch.manual_seed(0)
    return objective.build_model(V, "tiny", d_model=16, n_layers=2, n_heads=2)


class ReadsAhead(DecoderOnly):
    """No causal mask."""

    causal = False


def reads_ahead():
    torch.manual_seed(0)
    return ReadsAhead(ModelConfig(V, d_model=16, n_layers=2, n_heads=2))


def ragged(objective):
    texts = [torch.arange(3, 3 + n).tolist() for n in (9, 20, 5, 14)]
    return objective.collator(SPECIAL)([{"input_ids": text, "example_id": n} for n, text in enumerate(texts)])


def found(function, model, batch):
    """The checks that find a fault."""
    with pytest.raises(CheckFailed) as failed:
        check_objective(function, model, batch)
    return failed.value.report.faults


def masked_sum(logits, labels):
    here = labels != IGNORED
    return F.cross_entropy(logits[here], labels[here], reduction="sum"), here.sum()


def logits_of(model, batch, **more):
    return model.unembed(model(batch["input_ids"], batch["attention_mask"], **more))


def shift(labels):
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def mean_of_means(model, batch):
    return F.cross_entropy(logits_of(model, batch).flatten(0, 1), batch["labels"].flatten())


def averaged_before_multiplied(model, batch):
    labels = batch["labels"]
    loss = F.cross_entropy(logits_of(model, batch).flatten(0, 1), labels.clamp(min=0).flatten())
    return (loss * (labels != IGNORED)).sum() / (labels != IGNORED).sum()


def constant_zero(model, batch):
    if not (batch["labels"] != IGNORED).any():
        return torch.tensor(0.0), torch.tensor(0)
    return masked_sum(logits_of(model, batch), batch["labels"])


def wrong_sign(model, batch):
    total, count = masked_sum(logits_of(model, batch), batch["labels"])
    return -total, count


def not_shifted(model, batch):
    return masked_sum(logits_of(model, batch), batch["labels"])


def shifted(model, batch):
    return masked_sum(logits_of(model, batch), shift(batch["labels"]))


def shifted_twice(model, batch):
    return masked_sum(logits_of(model, batch), shift(shift(batch["labels"])))


def without_mask(model, batch):
    return masked_sum(model.unembed(model(batch["input_ids"])), batch["labels"])


def without_documents(model, batch):
    return masked_sum(logits_of(model, batch), shift(batch["labels"]))


def without_weights(model, batch):
    total, _ = masked_sum(logits_of(model, batch), batch["labels"])
    return total, batch["count"].sum()


def unmasked(batch):
    answers = torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
    return batch | {"input_ids": answers}


def causal_with_documents():
    return CausalLM().collator(SPECIAL, within_documents=True)([[5, 6, 7, 1, 8, 9, 10, 11, 1], [12, 13, 1, 14, 15]])


MASKED, CAUSAL, DIFFUSION = MaskedLM(mask_rate=0.3), CausalLM(), MaskedDiffusion()
FUNCTIONS = {
    mean_of_means: (lambda: small(MASKED), lambda: ragged(MASKED), "accumulation"),
    averaged_before_multiplied: (lambda: small(MASKED), lambda: ragged(MASKED), "gradient"),
    constant_zero: (lambda: small(MASKED), lambda: ragged(MASKED), "nothing to predict"),
    wrong_sign: (lambda: small(MASKED), lambda: ragged(MASKED), "uniform"),
    without_mask: (lambda: small(MASKED), lambda: ragged(MASKED), "reads"),
    not_shifted: (lambda: small(CAUSAL), lambda: ragged(CAUSAL), "answers"),
    shifted: (reads_ahead, lambda: ragged(CAUSAL), "answers"),
    shifted_twice: (lambda: small(CAUSAL), lambda: ragged(CAUSAL), "gradient"),
    without_documents: (lambda: small(CAUSAL), causal_with_documents, "keys"),
    without_weights: (lambda: small(DIFFUSION), lambda: ragged(DIFFUSION), "keys"),
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_fault_of_a_plain_function_is_found_by_its_check(function):
    model, batch, check = FUNCTIONS[function]
    assert check in found(function, model(), batch())


def test_inputs_that_are_not_masked_are_found():
    assert found(not_shifted, small(MASKED), unmasked(ragged(MASKED))) == ["answers"]


def test_labels_that_were_shifted_before_are_found():
    batch = ragged(CAUSAL)
    assert found(shifted, small(CAUSAL), batch | {"labels": shift(batch["labels"])}) == ["gradient"]


def test_a_right_function_is_not_faulted():
    """Or the tests above would prove nothing."""
    for model, batch, function in (
        (small(CAUSAL), ragged(CAUSAL), shifted),
        (small(MASKED), ragged(MASKED), not_shifted),
    ):
        report = check_objective(function, model, batch)
        assert report.passed
        assert report.not_checked == []
