"""Which weights Muon moves, two optimisers saved as one, and dropout that depends on seed and step alone."""

import pytest
import torch
from torch import nn

from clozelab.models import ModelConfig, build
from clozelab.objectives import OBJECTIVES
from clozelab.training import Optimizers, TrainConfig, optimizer_of
from clozelab.training.seeding import seeded_rng

MUON = TrainConfig(optimizer="muon", matrix_learning_rate=0.1, learning_rate=0.01)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("tied", [True, False])
def test_muon_takes_the_matrices_inside_the_blocks_and_adamw_the_tables(name, tied):
    model = OBJECTIVES[name]().build_model(50, "tiny", d_model=16, n_layers=1, n_heads=2, tied=tied)
    adamw, muon = optimizer_of(model, MUON).parts
    tables = {id(model.embedding.weight), id(model.unembedding)}
    assert isinstance(muon, torch.optim.Muon)
    assert {id(p) for group in adamw.param_groups for p in group["params"]} == tables
    inner = {id(p) for group in muon.param_groups for p in group["params"]}
    assert inner == {id(p) for p in model.parameters()} - tables


def test_the_head_of_a_foreign_model_is_a_table_too():
    transformers = pytest.importorskip("transformers")
    shape = {"vocab_size": 40, "n_embd": 8, "n_layer": 1, "n_head": 1, "tie_word_embeddings": False}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape))
    _, muon = optimizer_of(model, MUON).parts
    assert not any(p is model.lm_head.weight for group in muon.param_groups for p in group["params"])


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
