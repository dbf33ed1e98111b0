"""Which weights Muon moves, two optimisers saved as one, and dropout that depends on seed and step alone."""

import pytest
import torch
from torch import nn

from clozelab.models import ModelConfig, build
from clozelab.objectives import OBJECTIVES
from clozelab.training import Optimizers, TrainConfig, muon, optimizer_of
from clozelab.training.muon import Muon, orthogonal
from clozelab.training.seeding import seeded_rng

MUON = TrainConfig(optimizer="muon", matrix_learning_rate=0.1, learning_rate=0.01)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("tied", [True, False])
def test_muon_takes_the_matrices_inside_the_blocks_and_adamw_the_tables(name, tied):
    model = OBJECTIVES[name]().build_model(50, "tiny", d_model=16, n_layers=1, n_heads=2, tied=tied)
    adamw, by_muon = optimizer_of(model, MUON).parts
    tables = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)} | {id(model.unembedding)}
    tables |= {id(weight) for part, weight in model.named_parameters() if part == "verdict"}  # ELECTRA's two classes
    assert isinstance(by_muon, Muon)
    assert {id(p) for group in adamw.param_groups for p in group["params"]} == tables
    inner = {id(p) for group in by_muon.param_groups for p in group["params"]}
    assert inner == {id(p) for p in model.parameters()} - tables


def test_the_head_of_a_foreign_model_is_a_table_too():
    transformers = pytest.importorskip("transformers")
    shape = {"vocab_size": 40, "n_embd": 8, "n_layer": 1, "n_head": 1, "tie_word_embeddings": False}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape))
    _, by_muon = optimizer_of(model, MUON).parts
    assert not any(p is model.lm_head.weight for group in by_muon.param_groups for p in group["params"])


def test_every_learning_rate_is_a_share_of_its_own_peak():
    optimizer = optimizer_of(build("decoder-only", "tiny", 50, d_model=16, n_layers=1, n_heads=2), MUON)
    optimizer.set_lr_scale(0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.005, 0.05]


def steps(model, optimizer, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        sum((p * torch.randn(p.shape, generator=generator)).sum() for p in model.parameters()).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_state_of_both_comes_back_exactly(optimizer):
    config = TrainConfig(optimizer=optimizer)

    def fresh():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 6), nn.Linear(6, 4))
        return model, optimizer_of(model, config)

    whole, first = fresh()
    steps(whole, first, 0, 4)
    cut, before = fresh()
    steps(cut, before, 0, 2)
    after = optimizer_of(cut, config)
    after.load_state_dict(before.state_dict())
    steps(cut, after, 2, 4)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters()))


SHAPES = [(6, 4), (4, 6), (6, 4), (5, 5), (4, 6)]
"""Tall, wide and square, and two of a shape that do not stand side by side."""


def test_in_bfloat16_muon_makes_the_steps_of_pytorch():
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in SHAPES]
    ours, theirs = ([nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    for weights, optimizer in (
        (ours, Muon(ours, lr=0.1, weight_decay=0.2, bfloat16=True)),
        (theirs, torch.optim.Muon(theirs, lr=0.1, weight_decay=0.2)),
    ):
        for step in range(4):
            for number, weight in enumerate(weights):
                generator = torch.Generator().manual_seed(10 * step + number)
                weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs))


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_a_step_of_muon_is_about_as_long_in_every_direction(shape, bfloat16):
    """Singular vectors stay, and singular values of 1 to 0.05 become the polynomial's: about 0.7 to 1.2."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    matrix = u * torch.linspace(1, 0.05, u.shape[1], dtype=torch.float64) @ v
    (made,) = orthogonal([matrix], bfloat16=bfloat16)
    values = u.T @ made @ v.T
    off_diagonal = values - torch.diag(values.diag())
    assert made.dtype == torch.float64
    assert off_diagonal.abs().max() < (0.05 if bfloat16 else 1e-12)
    assert values.diag().min() > 0.6
    assert values.diag().max() < 1.3


def test_a_matrix_without_gradient_stays_and_a_gradient_of_zero_moves_nothing():
    idle, still = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    still.grad = torch.zeros(3, 3)
    Muon([idle, still], weight_decay=0.0).step()
    assert torch.equal(idle, torch.ones(3, 3))
    assert torch.equal(still, torch.ones(3, 3))


def test_many_matrices_of_a_shape_are_made_orthogonal_in_bounded_groups(monkeypatch):
    torch.manual_seed(0)
    gradients = torch.randn(5, 4, 4)
    results = []
    for bound in (2**24, 33, 1):  # all at once, two at a time, one at a time
        monkeypatch.setattr(muon, "STACKED", bound)
        weights = [nn.Parameter(torch.zeros(4, 4)) for _ in gradients]
        for weight, gradient in zip(weights, gradients):
            weight.grad = gradient.clone()
        Muon(weights).step()
        results.append(torch.stack(list(weights)))
    assert torch.allclose(results[0], results[1], atol=1e-6)
    assert torch.allclose(results[0], results[2], atol=1e-6)


def test_a_state_with_other_groups_is_refused():
    model = nn.Linear(4, 4)
    saved = Optimizers(torch.optim.AdamW([model.weight]), torch.optim.AdamW([model.bias])).state_dict()
    with pytest.raises(ValueError, match="groups"):
        Optimizers(torch.optim.AdamW([model.weight])).load_state_dict(saved)


def test_dropout_belongs_to_seed_and_step_and_leaves_the_random_state_alone():
    def drawn(seed, step):
        with seeded_rng(seed, step, torch.device("cpu")):
            return torch.rand(8)

    before = torch.get_rng_state()
    assert torch.equal(drawn(0, 3), drawn(0, 3))
    assert not torch.equal(drawn(0, 3), drawn(0, 4))
    assert not torch.equal(drawn(0, 3), drawn(1, 3))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("architecture", ["decoder-only", "encoder-only", "encoder-decoder"])
def test_dropout_drops_in_training_alone(architecture):
    torch.manual_seed(0)
    model = build(architecture, "tiny", 50, d_model=16, n_layers=1, n_heads=2, dropout=0.5)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3)
    ids = {"input_ids": torch.arange(5, 15)[None]}
    if architecture == "encoder-decoder":
        ids["decoder_input_ids"] = ids["input_ids"]
    assert not torch.equal(model(**ids), model(**ids))
    model.eval()
    assert torch.equal(model(**ids), model(**ids))


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_dropout_that_is_no_probability_is_refused(dropout):
    with pytest.raises(ValueError, match="dropout is a probability"):
        ModelConfig(vocab_size=50, dropout=dropout)
