"""The faults that `examples/faults_elsewhere.py` shows are found, each by its name."""

from pathlib import Path

import pytest
from packaging.version import Version

transformers = pytest.importorskip("transformers")

from clozelab.testing import CheckFailed, target  # noqa: E402

TESTED = "5.23.0"
FILE = Path(__file__).parents[2] / "examples" / "faults_elsewhere.py"
pytestmark = pytest.mark.skipif(Version(transformers.__version__) != Version(TESTED), reason=f"shown on {TESTED}")


def faults(name):
    with pytest.raises(CheckFailed) as failed:
        target.check(target.load(f"{FILE}:{name}"))
    return set(failed.value.report.faults)


def test_their_masked_collator_leaves_rows_without_a_target_and_puts_special_ids_into_texts():
    assert {"targets", "replacements", "global state", "order", "workers", "ranks"} == faults("mlm")


def test_a_seed_freezes_its_masks_when_there_are_workers():
    assert {"targets", "replacements", "order", "workers", "epochs", "ranks"} == faults("mlm_seeded")


def test_an_end_of_text_that_is_also_padding_is_never_predicted():
    assert faults("clm") == {"end of text"}


@pytest.mark.parametrize("name", ["bert_loss", "t5_loss"])
def test_the_losses_of_bert_and_t5_are_a_mean_of_means_under_accumulation(name):
    assert {"accumulation", "nothing to predict"} <= faults(name)


def test_their_trainer_divides_the_loss_of_gpt2_by_labels_that_no_output_predicts():
    """A uniform model then has less than ln V; the gradients of a step agree with each other, too small by the same."""
    assert faults("gpt2_loss") == {"uniform"}
