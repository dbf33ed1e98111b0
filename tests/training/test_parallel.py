"""Sharding on one process, which makes the step of a model that is not sharded, in every ZeRO stage; recomputing."""

import copy
import math

import pytest
import torch
import torch.distributed as dist

from clozelab.errors import InputError
from clozelab.models.transformer import Transformer
from clozelab.objectives import OBJECTIVES
from clozelab.training import Optimizers, Processes, init_processes, train_step
from clozelab.training.parallel import unsharded, wrap
from clozelab.training.recompute import blocks, recomputed

from ..objectives.cases import ROLES

CPU, BFLOAT16 = torch.device("cpu"), torch.bfloat16


@pytest.fixture
def alone():
    """A group of one process: everything is gathered and scattered, from and to itself."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


NAMES = [
    pytest.param(name, id=name, marks=[] if name in ("causal", "span") else pytest.mark.slow) for name in OBJECTIVES
]
"""By default one stack, and two of which the first is read by all blocks of the second."""


@pytest.fixture(params=NAMES)
def made(request, tokenizer_of_roles):
    """(objective, model, three micro-batches), each projection into the residual stream away from its zero."""
    objective = OBJECTIVES[request.param]()
    tokenizer = tokenizer_of_roles
    torch.manual_seed(0)
    model = objective.build_model(tokenizer.vocab_size, d_model=16, n_layers=2, n_heads=2, dropout=0.1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    text = torch.tensor([n for n in range(tokenizer.vocab_size) if n not in tokenizer.special.all])
    rows = text[torch.randint(len(text), (6, objective.source_length(24)))]
    collate = objective.collator(tokenizer.special)
    return objective, model, [collate.block(rows[n : n + 2], example_ids=range(n, n + 2)) for n in (0, 2, 4)]


@pytest.fixture(scope="module")
def tokenizer_of_roles():
    from clozelab.data import train_bpe

    return train_bpe([f"{n} and {n + 1} make {2 * n + 1}." for n in range(80)], 400, sentinels=20, roles=list(ROLES))


def stepped(made, processes, bfloat16, compute_again=False):
    """(loss, weights after a step of plain gradient descent) of a copy of the model."""
    objective, model, batches = copy.deepcopy(made)
    loss_module = wrap(objective, model, processes, bfloat16=bfloat16)
    optimizer = Optimizers(torch.optim.SGD(model.parameters(), lr=1.0))
    torch.manual_seed(1)  # for dropout
    how = {"max_grad_norm": math.inf, "device": CPU, "bfloat16": bfloat16, "processes": processes}
    if compute_again:
        with recomputed(model):
            result = train_step(loss_module, batches, optimizer, **how)
    else:
        result = train_step(loss_module, batches, optimizer, **how)
    weights = {name: getattr(p, "full_tensor", lambda p=p: p)().detach() for name, p in model.named_parameters()}
    return result.loss.mean, weights


def assert_equal(first, second, within=0.0):
    assert torch.equal(first[0], second[0])
    assert first[1].keys() == second[1].keys()
    assert max(float((first[1][name] - weight).abs().max()) for name, weight in second[1].items()) <= within


@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
def test_each_zero_stage_makes_the_step_of_a_model_that_is_not_sharded(alone, made, bfloat16):
    reference = stepped(made, Processes(), bfloat16)
    assert any(not torch.equal(p, reference[1][name]) for name, p in made[1].named_parameters())
    # What several blocks read, as an encoder's states, adds their gradients in another order.
    within = 0.0 if isinstance(made[1], Transformer) else 1e-2 if bfloat16 else 1e-6
    for stage in (1, 2, 3):
        assert_equal(stepped(made, Processes(0, 1, sharded=True, zero_stage=stage), bfloat16), reference, within)


@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
def test_recomputing_changes_no_bit(alone, made, bfloat16):
    """Dropout included, sharded or not."""
    for processes in (Processes(), Processes(0, 1, sharded=True)):
        first, second = (stepped(made, processes, bfloat16, compute_again=again) for again in (False, True))
        assert_equal(first, second)


def test_a_dropout_that_is_drawn_anew_would_be_found(made):
    """Without the random state of the first time, gradients belong to another mask."""
    reference = stepped(made, Processes(), bfloat16=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clozelab.training.recompute.checkpoint", _without_random_state)
        other = stepped(made, Processes(), bfloat16=False, compute_again=True)
    assert any(not torch.equal(weight, other[1][name]) for name, weight in reference[1].items())


def _without_random_state(*arguments, **settings):
    from torch.utils.checkpoint import checkpoint

    return checkpoint(*arguments, preserve_rng_state=False, **settings)


def test_the_blocks_of_a_model_are_as_they_were_after_recomputing(made):
    objective, model, [batch, *_] = made
    with recomputed(model):
        assert all("forward" in vars(block) for block in blocks(model))
        copy.deepcopy(model)
        assert torch.equal(objective(model.eval(), batch).mean, objective(copy.deepcopy(model), batch).mean)
    assert not any("forward" in vars(block) for block in blocks(model))


def test_a_list_inside_of_a_block_is_a_part_of_it():
    inner = torch.nn.ModuleDict({"parts": torch.nn.ModuleList([torch.nn.Linear(2, 2)])})
    assert blocks(torch.nn.ModuleDict({"stack": torch.nn.ModuleList([inner])})) == [inner]


def test_blocks_are_bfloat16_while_a_sharded_model_is_called_by_itself(alone, made):
    objective, model, [batch, *_] = made
    processes = Processes(0, 1, sharded=True)
    loss_module = wrap(objective, model, processes, bfloat16=True)
    with torch.autocast("cpu", BFLOAT16):
        loss_module(batch)
    seen = set()
    blocks(model)[0].register_forward_pre_hook(lambda block, _: seen.update(p.dtype for p in block.parameters()))
    with torch.no_grad(), unsharded(loss_module, processes, bfloat16=True):
        model(**objective.model_inputs(model, batch))
    assert seen == {BFLOAT16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("stage", [0, 4])
def test_a_zero_stage_that_does_not_exist_is_refused(stage):
    with (
        pytest.raises(InputError, match=f"zero_stage must be 1, 2 or 3, got {stage}"),
        init_processes(zero_stage=stage),
    ):
        Processes(zero_stage=stage)
