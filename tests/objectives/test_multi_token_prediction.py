"""Multi-token prediction: golden labels, what each design reads, its floors, detached heads, and the trunk alone."""

import pytest
import torch

from clozelab import CausalLM
from clozelab.errors import InputError
from clozelab.generation import generate
from clozelab.languages import MarkovSource, step_costs
from clozelab.models import DecoderOnly
from clozelab.objectives import MultiTokenPrediction

from .cases import VOCAB, batch_of, reading_model

IGNORED = -100
CHAIN = MarkovSource(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))


def labels_of(objective, text, documents=None):
    batch = {"input_ids": torch.tensor([text]), "labels": torch.tensor([text])}
    if documents is not None:
        batch["document_ids"] = torch.tensor([documents])
    return [target.labels[0].tolist() for target in objective.targets(batch).values()]


# ------------------------------------------------------------------ golden labels


def test_the_golden_labels_of_three_heads():
    """5 6 7 8 9: 6 7 8 9 . / 7 8 9 . . / 8 9 . . ., counts 4, 3 and 2."""
    objective = MultiTokenPrediction(depth=2)
    assert labels_of(objective, [5, 6, 7, 8, 9]) == [
        [6, 7, 8, 9, IGNORED],
        [7, 8, 9, IGNORED, IGNORED],
        [8, 9, IGNORED, IGNORED, IGNORED],
    ]
    text = torch.tensor([[5, 6, 7, 8, 9]])
    counts = objective.counts({"input_ids": text, "labels": text})
    assert {name: int(count) for name, count in counts.items()} == {"logits": 4, "ahead_1": 3, "ahead_2": 2}


def test_no_head_predicts_a_token_of_the_next_document():
    """5 6 7 | 8 9: 6 7 . 9 . / 7 . . . . / none."""
    assert labels_of(MultiTokenPrediction(depth=2), [5, 6, 7, 8, 9], [0, 0, 0, 1, 1]) == [
        [6, 7, IGNORED, 9, IGNORED],
        [7, IGNORED, IGNORED, IGNORED, IGNORED],
        [IGNORED] * 5,
    ]


def test_with_depth_three_and_weight_three_the_loss_is_the_plain_sum_of_four_heads():
    objective = MultiTokenPrediction(design="parallel", depth=3, ahead_weight=3.0)
    loss = objective(reading_model(objective), batch_of(objective))
    assert len(loss) == 4
    torch.testing.assert_close(loss.mean, sum(part.sum / part.count for part in loss.values()))


# ------------------------------------------------------------------ what each head reads


@pytest.mark.parametrize(("design", "further"), [("parallel", 0), ("sequential", 2)])
def test_the_second_head_reads_two_tokens_more_in_the_sequential_design_alone(design, further):
    objective = MultiTokenPrediction(design=design, depth=2)
    text = torch.arange(5)[None]
    read = objective.reads({"input_ids": text, "labels": text})["ahead_2", "input_ids"][0]
    assert read.sum(1).tolist() == [min(t + 1 + further, 5) for t in range(5)]


def test_a_head_is_told_nothing_of_the_next_document():
    objective = MultiTokenPrediction()
    model, documents = reading_model(objective), torch.tensor([[0, 0, 1, 1]])
    outputs = [
        model(torch.tensor([[5, 6, later, 8]]), document_ids=documents)["ahead_1"].states[:, :2] for later in (7, 9)
    ]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("design", ["parallel", "sequential"])
def test_the_first_part_is_causal_lm_on_the_same_trunk(design):
    objective = MultiTokenPrediction(design=design, depth=2)
    model, batch = reading_model(objective), batch_of(objective)
    assert torch.equal(objective(model, batch)["logits"].sum, CausalLM()(model.trunk, batch).sum)


# ------------------------------------------------------------------ gradients


def gradients(**options):
    """(of the trunk's blocks, of the heads): their norms, where the further heads alone are in the loss."""
    objective = MultiTokenPrediction(**options)
    model = reading_model(objective)
    loss = objective(model, batch_of(objective))
    loss["ahead_1"].sum.backward()
    sums = [sum(float(p.grad.abs().sum()) for p in m.parameters() if p.grad is not None) for m in parts_of(model)]
    return sums[0], sums[1]


def parts_of(model):
    return model.trunk.blocks, model.heads


@pytest.mark.parametrize("design", ["parallel", "sequential"])
def test_detached_heads_learn_and_teach_the_blocks_nothing(design):
    trunk, heads = gradients(design=design, detach_heads=True)
    assert (trunk, heads > 0) == (0.0, True)
    trunk, heads = gradients(design=design)
    assert trunk > 0
    assert heads > 0


# ------------------------------------------------------------------ floors


@pytest.mark.parametrize(("step", "entropy"), [(1, 0.3965), (2, 0.5028), (3, 0.5405), (4, 0.5543)])
def test_further_tokens_cost_the_golden_entropies(step, entropy):
    """H(x[t + step] | x[t]) of the chain, by the expectation of the costs over all pairs."""
    pairs = torch.cartesian_prod(torch.arange(2), torch.arange(2))
    text = torch.stack([pairs[:, 0], *[torch.zeros(4).long()] * (step - 1), pairs[:, 1]], 1)  # what lies between: any
    costs = step_costs(CHAIN, text, step, torch.ones(4, 1, dtype=torch.bool))[:, 0]
    p = CHAIN.stationary[pairs[:, 0]] * (-costs).exp()
    assert p.sum().item() == pytest.approx(1)
    assert (p * costs).sum().item() == pytest.approx(entropy, abs=5e-5)


def test_the_floor_rises_from_head_to_head_in_the_parallel_design_and_not_in_the_sequential():
    text = CHAIN.sample(20_000, 12, seed=0)
    batch = {"input_ids": text, "labels": text}
    per_token = {}
    for design in ("parallel", "sequential"):
        objective = MultiTokenPrediction(design=design, depth=3)
        floors, counts = objective.entropy_floor(CHAIN, batch, CHAIN.special_ids()), objective.counts(batch)
        per_token[design] = [float(floors[name].sum() / counts[name]) for name in floors]
    assert per_token["parallel"] == pytest.approx([0.3965, 0.5028, 0.5405, 0.5543], abs=0.01)
    assert per_token["sequential"] == pytest.approx([0.3965] * 4, abs=0.01)


# ------------------------------------------------------------------ the trunk alone


def test_the_trunk_continues_texts_and_the_heads_do_not_matter(tokenizer):
    objective = MultiTokenPrediction()
    torch.manual_seed(0)
    model = objective.build_model(tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2)
    before = str(objective.complete(model, tokenizer, "The cat", greedy=True, max_new_tokens=5))
    for head in model.heads.parameters():
        torch.nn.init.normal_(head)
    assert str(objective.complete(model, tokenizer, "The cat", greedy=True, max_new_tokens=5)) == before
    assert isinstance(model.trunk, DecoderOnly)
    assert generate(model.trunk, torch.tensor([[5]]), max_new_tokens=2, eos=1).shape[1] >= 2


def test_a_model_without_heads_is_refused_by_name():
    objective = MultiTokenPrediction()
    with pytest.raises(InputError, match="output ahead_1 of the model, which gives logits alone: its heads"):
        objective(CausalLM().build_model(VOCAB, d_model=16, n_layers=1, n_heads=2), batch_of(objective))


def test_a_text_shorter_than_the_depth_costs_nothing_ahead():
    objective = MultiTokenPrediction(depth=4)
    loss = objective(reading_model(objective), batch_of(objective, (2, 1)))
    assert [int(part.count) for part in loss.values()] == [1, 0, 0, 0, 0]
    assert loss.mean.isfinite()
