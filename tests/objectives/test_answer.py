"""Fine-tuning as text to text: each objective learns to answer in the form that it was pretrained on."""

import math

import pytest
import torch

from clozelab.data import IGNORED, SpecialIds
from clozelab.errors import InputError
from clozelab.models import build
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption
from clozelab.training import TrainConfig
from clozelab.training import fit as learn

SPECIAL = SpecialIds(vocab_size=32, pad=0, eos=1, mask=2, sentinels=(31, 30, 29))
# Prompts of 1 to 4 tokens, answers of 1 to 3; no answer repeats its prompt, one prompt begins another.
PROMPTS = [[5], [5, 6], [7, 8, 9], [9, 8, 7], [10, 11, 12, 13], [14], [15, 5], [6, 6, 6]]
ANSWERS = [[20], [21, 22], [23, 24, 25], [20, 20], [26], [27, 28, 20], [22], [25, 21, 22]]
LENGTHS = [len(answer) for answer in ANSWERS]
OBJECTIVES = {"causal": CausalLM(), "masked": MaskedLM(), "span": SpanCorruption()}


def fresh(objective):
    torch.manual_seed(0)
    more = {"n_decoder_layers": 1} if objective.name == "span" else {}
    return objective.build_model(SPECIAL.vocab_size, "tiny", d_model=32, n_layers=1, n_heads=2, **more)


@pytest.fixture(scope="module", params=list(OBJECTIVES))
def taught(request):
    """(objective, model): it has seen the eight pairs until it was certain of them."""
    objective = OBJECTIVES[request.param]
    model, batch = fresh(objective), objective.pairs(PROMPTS, ANSWERS, SPECIAL)
    curve = learn(objective, model, lambda step: batch, TrainConfig(steps=160, learning_rate=1e-2, precision="float32"))
    assert curve[-1] < 0.05
    return objective, model


def test_it_answers_exactly_what_it_was_taught(taught):
    objective, model = taught
    assert objective.answer(model, PROMPTS, SPECIAL, tokens=LENGTHS, greedy=True) == ANSWERS


def test_an_answer_does_not_depend_on_its_neighbours(taught):
    objective, model = taught
    for prompt, answer in zip(PROMPTS, ANSWERS):
        assert objective.answer(model, [prompt], SPECIAL, tokens=len(answer), greedy=True) == [answer]
    backwards = objective.answer(model, PROMPTS[::-1], SPECIAL, tokens=LENGTHS[::-1], greedy=True)
    assert backwards == ANSWERS[::-1]


def test_who_decides_when_an_answer_ends(taught):
    """A decoder stops by itself, an encoder says as many tokens as it is asked for."""
    objective, model = taught
    answers = objective.answer(model, PROMPTS, SPECIAL, tokens=5, greedy=True)
    if objective.name == "masked":
        assert [len(answer) for answer in answers] == [5] * 8
    else:
        assert answers == ANSWERS


def test_an_answer_is_no_longer_than_allowed(taught):
    objective, model = taught
    answers = objective.answer(model, PROMPTS, SPECIAL, tokens=1, greedy=True)
    assert [len(answer) for answer in answers] == [1] * 8
    if objective.name != "masked":  # which is told another length than it was taught
        assert answers == [answer[:1] for answer in ANSWERS]


def test_no_answer_holds_a_special_id(taught):
    """Not even where the model is drawn from wildly."""
    objective, model = taught
    answers = objective.answer(model, PROMPTS * 20, SPECIAL, tokens=6, temperature=50.0)
    assert not {id for answer in answers for id in answer} & set(SPECIAL.all)
    assert len({tuple(answer) for answer in answers}) > 100


def test_answers_are_the_same_with_the_same_generator(taught):
    objective, model = taught

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return objective.answer(model, PROMPTS, SPECIAL, tokens=4, temperature=5.0, generator=generator)

    assert drawn(1) == drawn(1) != drawn(2)


def test_to_answer_leaves_the_model_as_it_was(taught):
    objective, model = taught
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for mode in (True, False):
        model.train(mode)
        objective.answer(model, PROMPTS, SPECIAL, tokens=2, greedy=True)
        assert model.training is mode
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# ------------------------------------------------------------------ what is paid


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_a_batch_of_pairs_is_one_of_the_objectives_own(name):
    """An untrained guess costs ln V at each token of an answer, and at what ends or opens it."""
    objective = OBJECTIVES[name]
    batch = objective.pairs(PROMPTS, ANSWERS, SPECIAL)
    model = objective.build_model(SPECIAL.vocab_size, "tiny", d_model=32, n_layers=1, n_heads=2, tied=False)
    loss = objective(model, batch)
    per_pair = {"causal": 1, "masked": 0, "span": 2}[name]
    assert int(loss.count) == sum(LENGTHS) + 8 * per_pair
    assert float(loss.mean.detach()) == pytest.approx(math.log(32), rel=1e-5)
    assert objective.paid(batch).sum() == loss.count


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_only_what_the_answer_is_changes_the_loss(name):
    """The labels of a prompt do not exist: gradients reach the outputs at answers alone."""
    objective = OBJECTIVES[name]
    batch = objective.pairs(PROMPTS, ANSWERS, SPECIAL)
    logits = torch.zeros(*batch["labels"].shape, SPECIAL.vocab_size, requires_grad=True)
    objective(logits, batch["labels"]).sum.backward()
    reached = logits.grad.abs().sum(2) > 0
    expected = batch["labels"] != IGNORED
    if name == "causal":  # the output one place before says it
        expected = expected.roll(-1, 1)
    assert torch.equal(reached, expected)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_a_pair_costs_the_same_beside_any_other(name):
    objective = OBJECTIVES[name]
    model = fresh(objective)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    together = objective(model, objective.pairs(PROMPTS, ANSWERS, SPECIAL))
    alone = sum(objective(model, objective.pairs([p], [a], SPECIAL)) for p, a in zip(PROMPTS, ANSWERS))
    assert together.count == alone.count
    assert float(together.sum.detach()) == pytest.approx(float(alone.sum.detach()), rel=1e-5)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("name", list(OBJECTIVES))
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
def test_what_cannot_be_answered_is_refused(name, prompts, tokens, message):
    objective = OBJECTIVES[name]
    with pytest.raises(InputError, match=message):
        objective.answer(fresh(objective), prompts, SPECIAL, tokens=tokens)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_the_model_of_another_objective_is_refused(name):
    wrong = "encoder-only" if name == "causal" else "decoder-only"
    model = build(wrong, "tiny", SPECIAL.vocab_size, d_model=16, n_layers=1, n_heads=1)
    with pytest.raises(InputError, match="was it trained by this objective"):
        OBJECTIVES[name].answer(model, PROMPTS, SPECIAL, tokens=1)


@pytest.mark.parametrize(("name", "message"), [("masked", "mask is None"), ("span", "SpecialIds has none")])
def test_special_ids_that_lack_what_is_needed_are_refused(name, message):
    objective, bare = OBJECTIVES[name], SpecialIds(vocab_size=32, pad=0, eos=1)
    with pytest.raises(InputError, match=message):
        objective.answer(fresh(objective), PROMPTS, bare, tokens=1)
    with pytest.raises(InputError, match=message):
        objective.pairs(PROMPTS, ANSWERS, bare)
