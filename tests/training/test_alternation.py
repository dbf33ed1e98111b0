"""A causal phase and then a masked one (AntLM's order): what the second run takes over, and what it is worth."""

from dataclasses import replace

import pytest
import torch

from clozelab import CausalLM, MaskedLM
from clozelab.data import pack
from clozelab.objectives import MaskedNextToken
from clozelab.training import TrainConfig, load_run, read_run

pytestmark = pytest.mark.slow  # half a minute

PHASE = TrainConfig(steps=100, length=24, batch_size=16, eval_every=100, eval_rows=64, learning_rate=1e-2)
PAIRS = {
    "one shift": (MaskedNextToken(causal_share=1.0), MaskedNextToken(causal_share=0.0)),
    "in place": (CausalLM(), MaskedLM()),
}
"""Masked rows that are answered one place earlier, as causal ones are, and masked LM itself."""


@pytest.fixture(scope="module")
def large(tokenizer, tmp_path_factory):
    """(text, held-out text) that no phase sees twice."""
    documents = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(4000)]
    cache = tmp_path_factory.mktemp("large")
    return pack(documents[:3600], tokenizer, cache_dir=cache), pack(documents[3600:], tokenizer, cache_dir=cache)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_masked_run_from_causal_weights_begins_with_them_and_learns_more_than_one_from_none(
    pair, small_run, large, tmp_path
):
    causal, masked = PAIRS[pair]
    taught, _ = small_run(causal, PHASE, run=tmp_path / "causal", packed=large)
    still = replace(PHASE, steps=1, learning_rate=1e-12)
    untaught, _ = small_run(masked, still, init_from=tmp_path / "causal", packed=large)
    for mine, theirs in zip(untaught.parameters(), taught.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    _, second = small_run(masked, PHASE, init_from=tmp_path / "causal", run=tmp_path / "masked", packed=large)
    _, alone = small_run(masked, PHASE, packed=large)
    assert second.heldout.nats < alone.heldout.nats - 0.05
    assert read_run(tmp_path / "masked")["init_from"]["objective"] == causal.name
    assert load_run(tmp_path / "masked").objective.options() == masked.options()


def test_a_third_phase_begins_with_what_the_first_two_taught(small_run, large, tmp_path):
    """Causal, masked, causal, as AntLM goes on: the last run still continues texts, before its first step."""
    causal, masked = PAIRS["one shift"]
    _, first = small_run(causal, PHASE, run=tmp_path / "a", packed=large)
    small_run(masked, PHASE, init_from=tmp_path / "a", run=tmp_path / "b", packed=large)
    _, third = small_run(causal, PHASE, init_from=tmp_path / "b", run=tmp_path / "c", packed=large)
    assert read_run(tmp_path / "c")["init_from"]["run"] == str(tmp_path / "b")
    (_, untaught), (_, taught) = first.curve[0], third.curve[0]
    assert taught < 0.5 * untaught
