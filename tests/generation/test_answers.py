"""Fine-tuning as text to text: each model learns to answer in the form that it was pretrained on."""

import math

import pytest
import torch

from clozelab import CausalLM, MaskedLM, SpanCorruption
from clozelab.data import IGNORED, SpecialIds
from clozelab.errors import InputError
from clozelab.generation import answer_pairs, generate_answers
from clozelab.models import build
from clozelab.training import TrainConfig, fit

SPECIAL = SpecialIds(vocab_size=32, pad=0, eos=1, mask=2, sentinels=(31, 30, 29))
# Prompts of 1 to 4 tokens, answers of 1 to 3; no answer repeats its prompt, one prompt begins another.
PROMPTS = [[5], [5, 6], [7, 8, 9], [9, 8, 7], [10, 11, 12, 13], [14], [15, 5], [6, 6, 6]]
ANSWERS = [[20], [21, 22], [23, 24, 25], [20, 20], [26], [27, 28, 20], [22], [25, 21, 22]]
LENGTHS = [len(answer) for answer in ANSWERS]
BY_ARCHITECTURE = {objective.architecture: objective for objective in (CausalLM(), MaskedLM(), SpanCorruption())}
each = pytest.mark.parametrize("objective", BY_ARCHITECTURE.values(), ids=BY_ARCHITECTURE)


def fresh(objective, **more):
    torch.manual_seed(0)
    layers = {"n_decoder_layers": 1} if objective.architecture == "encoder-decoder" else {}
    return objective.build_model(SPECIAL.vocab_size, "tiny", d_model=32, n_layers=1, n_heads=2, **layers, **more)


def pairs(objective, prompts=PROMPTS, answers=ANSWERS):
    return answer_pairs(objective.architecture, prompts, answers, SPECIAL)


@pytest.fixture(scope="module", params=list(BY_ARCHITECTURE))
def tuned(request):
    """A model that has seen the eight pairs until it was certain of them."""
    objective = BY_ARCHITECTURE[request.param]
    model, batch = fresh(objective), pairs(objective)
    curve = fit(
        objective,
        model,
        lambda step: batch,
        TrainConfig(steps=160, optimizer="adamw", learning_rate=1e-2, precision="float32"),
    )
    assert curve[-1] < 0.05
    return model


def test_it_answers_exactly_what_it_was_taught(tuned):
    assert generate_answers(tuned, PROMPTS, SPECIAL, tokens=LENGTHS, greedy=True) == ANSWERS


def test_an_answer_does_not_depend_on_its_neighbours(tuned):
    for prompt, answer in zip(PROMPTS, ANSWERS):
        assert generate_answers(tuned, [prompt], SPECIAL, tokens=len(answer), greedy=True) == [answer]
    backwards = generate_answers(tuned, PROMPTS[::-1], SPECIAL, tokens=LENGTHS[::-1], greedy=True)
    assert backwards == ANSWERS[::-1]


def test_a_decoder_ends_its_answer_and_an_encoder_fills_as_many_tokens_as_asked_for(tuned):
    answers = generate_answers(tuned, PROMPTS, SPECIAL, tokens=5, greedy=True)
    if tuned.architecture == "encoder-only":
        assert [len(answer) for answer in answers] == [5] * 8
    else:
        assert answers == ANSWERS


def test_an_answer_is_no_longer_than_allowed(tuned):
    answers = generate_answers(tuned, PROMPTS, SPECIAL, tokens=1, greedy=True)
    assert [len(answer) for answer in answers] == [1] * 8
    if tuned.architecture != "encoder-only":  # which is asked for another length than it was taught
        assert answers == [answer[:1] for answer in ANSWERS]


def test_no_answer_holds_a_special_id(tuned):
    """Not even at a high temperature."""
    answers = generate_answers(tuned, PROMPTS * 20, SPECIAL, tokens=6, temperature=50.0)
    assert not {id for answer in answers for id in answer} & set(SPECIAL.all)
    assert len({tuple(answer) for answer in answers}) > 100


def test_answers_are_the_same_with_the_same_generator(tuned):
    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return generate_answers(tuned, PROMPTS, SPECIAL, tokens=4, temperature=5.0, generator=generator)

    assert drawn(1) == drawn(1) != drawn(2)


def test_to_answer_leaves_the_model_as_it_was(tuned):
    before = {key: value.clone() for key, value in tuned.state_dict().items()}
    for mode in (True, False):
        tuned.train(mode)
        generate_answers(tuned, PROMPTS, SPECIAL, tokens=2, greedy=True)
        assert tuned.training is mode
    assert all(torch.equal(value, before[key]) for key, value in tuned.state_dict().items())


# ------------------------------------------------------------------ what is in the loss


@each
def test_a_batch_of_pairs_is_one_of_the_objectives_own(objective):
    """An untrained guess costs ln V at each token of an answer, and at what ends or opens it."""
    batch = pairs(objective)
    loss = objective(fresh(objective, tied=False), batch)
    per_pair = {"decoder-only": 1, "encoder-only": 0, "encoder-decoder": 2}[objective.architecture]
    assert int(loss.count) == sum(LENGTHS) + 8 * per_pair
    assert loss.item() == pytest.approx(math.log(32), rel=1e-5)
    assert objective.counts(batch) == {"logits": loss.count}


@each
def test_only_the_answer_is_in_the_loss(objective):
    """The labels of a prompt do not exist: gradients reach the outputs at answers alone."""
    batch = pairs(objective)
    logits = torch.zeros(*batch["labels"].shape, SPECIAL.vocab_size, requires_grad=True)
    objective(logits, batch).sum.backward()
    reached = logits.grad.abs().sum(2) > 0
    expected = batch["labels"] != IGNORED
    if objective.architecture == "decoder-only":  # predicted by the output one place before
        expected = expected.roll(-1, 1)
    assert torch.equal(reached, expected)


@each
def test_a_pair_costs_the_same_beside_any_other(objective):
    model = fresh(objective)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    together = objective(model, pairs(objective))
    alone = sum(objective(model, pairs(objective, [p], [a])) for p, a in zip(PROMPTS, ANSWERS))
    assert together.count == alone.count
    torch.testing.assert_close(together.sum, alone.sum, rtol=1e-5, atol=0)


# ------------------------------------------------------------------ what is refused


@each
@pytest.mark.parametrize(
    ("prompts", "tokens", "message"),
    [
        ([[5]], 0, "lengths of at least 1 for 1 answers, got 0"),
        ([[5]], [1, 2], "lengths of at least 1 for 1 answers"),
        ([[5], [6]], [1, -1], "lengths of at least 1 for 2 answers"),
        ([[5]], 1.5, "the length of an answer must be a whole number, got 1.5"),
        ([[5]], "many", "the length of an answer must be a whole number"),
        ([[5]], True, "the length of an answer must be a whole number"),
        ([[5, 99]], 1, r"must lie in 0 .. 31"),
        ([[]], 1, "at least one token"),
    ],
)
def test_what_cannot_be_answered_is_refused(objective, prompts, tokens, message):
    with pytest.raises(InputError, match=message):
        generate_answers(fresh(objective), prompts, SPECIAL, tokens=tokens)


def test_an_architecture_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="architecture must be one of decoder-only, encoder-only, encoder-decoder"):
        answer_pairs("causal", PROMPTS, ANSWERS, SPECIAL)
    with pytest.raises(InputError, match="expected a DecoderOnly, EncoderOnly or EncoderDecoder, got Linear"):
        generate_answers(torch.nn.Linear(2, 2), PROMPTS, SPECIAL, tokens=1)


@pytest.mark.parametrize(
    ("architecture", "message"), [("encoder-only", "mask is None"), ("encoder-decoder", "SpecialIds has none")]
)
def test_special_ids_that_lack_what_is_needed_are_refused(architecture, message):
    bare = SpecialIds(vocab_size=32, pad=0, eos=1)
    with pytest.raises(InputError, match=message):
        generate_answers(build(architecture, "tiny", 32, d_model=16, n_layers=1), PROMPTS, bare, tokens=1)
    with pytest.raises(InputError, match=message):
        answer_pairs(architecture, PROMPTS, ANSWERS, bare)
