"""Compiled steps: the same losses, no recompilation a step, eager outside of training, weights by their own names."""

import copy
import shutil
from contextlib import nullcontext
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from clozelab import CausalLM, MaskedLM, SpanCorruption
from clozelab.cli import main
from clozelab.data import SpecialIds
from clozelab.errors import InputError
from clozelab.models import PRESETS, AttentionMask, eval_mode
from clozelab.objectives import LossModule
from clozelab.training import Processes, TrainConfig, load_run, optimizer_of, seeded_model
from clozelab.training.compiled import compiled_blocks
from clozelab.training.parallel import wrap
from clozelab.training.processes import SINGLE
from clozelab.training.recompute import recomputed
from clozelab.training.step import train_step

SPECIAL = SpecialIds(vocab_size=100, pad=0, eos=1, mask=2, sentinels=range(99, 79, -1))
SHAPE = {"d_model": 16, "n_layers": 3, "n_heads": 2}


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that torch.compile makes; a backend that runs them as they are, since a real one takes a minute."""
    found = []

    def backend(graph, inputs):
        found.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return found


def batch_of(objective, length=24, rows=2, seed=0):
    source = objective.source_length(length)
    text = torch.randint(3, 80, (rows, source), generator=torch.Generator().manual_seed(seed))
    return objective.collator(SPECIAL).block(text, range(rows))


def unwrapped(objective, model):
    return wrap(objective, model, SINGLE)


def trained(objective, batches, *, compiled, compute_again=False, micro_batches=1, around=unwrapped):
    """The losses of some steps, and the model."""
    model = seeded_model(objective, SPECIAL.vocab_size, "tiny", 0, **SHAPE).train()
    loss_module = around(objective, model)
    optimizer, losses = optimizer_of(model, TrainConfig(optimizer="adamw")), []  # sharding replaces the weights
    with compiled_blocks(model) if compiled else nullcontext(), recomputed(model) if compute_again else nullcontext():
        for batch in batches:
            parts = [{key: value[n::micro_batches] for key, value in batch.items()} for n in range(micro_batches)]
            settings = {"max_grad_norm": 1.0, "device": torch.device("cpu")}
            losses.append(float(train_step(loss_module, parts, optimizer, **settings).loss.mean))
    return losses, model


@pytest.mark.parametrize(
    ("objective", "kinds"),
    [
        pytest.param(CausalLM(), 1, id="causal"),
        pytest.param(MaskedLM(), 1, id="masked", marks=pytest.mark.slow),
        pytest.param(SpanCorruption(), 2, id="span", marks=pytest.mark.slow),
    ],
)
def test_one_graph_serves_all_layers_and_steps(graphs, objective, kinds):
    batches = [batch_of(objective, seed=n) for n in range(3)]
    losses, model = trained(objective, batches, compiled=True)
    assert len(graphs) == kinds  # an encoder's block and a decoder's
    assert losses == pytest.approx(trained(objective, batches, compiled=False)[0], abs=1e-5)
    assert not [name for name in model.state_dict() if "orig_mod" in name]
    assert all("forward" not in vars(part) for part in model.modules())  # eager afterwards


def test_ragged_lengths_are_compiled_once_more_and_not_again(graphs):
    objective = CausalLM()
    batches = [batch_of(objective, length, rows) for length, rows in ((24, 2), (20, 2), (28, 2), (17, 3), (31, 4))]
    losses, _ = trained(objective, batches, compiled=True)
    assert len(graphs) <= 3  # of one shape, of any length, of any number of rows
    assert losses == pytest.approx(trained(objective, batches, compiled=False)[0], abs=1e-5)


@pytest.mark.slow
def test_masks_that_are_matrices_are_made_before_the_first_block(graphs):
    objective = CausalLM()
    padded = batch_of(objective)
    padded["attention_mask"][0, -5:] = 0
    padded["labels"][0, -5:] = -100
    losses, _ = trained(objective, [padded] * 3, compiled=True)
    assert len(graphs) == 1
    assert losses == pytest.approx(trained(objective, [padded] * 3, compiled=False)[0], abs=1e-5)


@pytest.mark.slow
def test_micro_batches_and_recomputed_blocks_are_the_same_step(graphs):
    objective = CausalLM()
    batches = [batch_of(objective, rows=4)] * 2
    expected, _ = trained(objective, batches, compiled=False)
    for ways in ({"micro_batches": 2}, {"compute_again": True}):
        assert trained(objective, batches, compiled=True, **ways)[0] == pytest.approx(expected, abs=1e-5), ways
    assert graphs


def test_evaluation_is_eager(graphs):
    model = seeded_model(CausalLM(), 100, "tiny", 0, **SHAPE)
    with compiled_blocks(model), eval_mode(model):
        model(torch.arange(9)[None])
    assert not graphs
    with compiled_blocks(model.train()):
        model(torch.arange(9)[None])
    assert graphs


@pytest.mark.slow
def test_a_copy_of_the_model_has_weights_of_its_own(graphs):
    model, ids = seeded_model(CausalLM(), 100, "tiny", 0, **SHAPE).train(), torch.arange(9)[None]
    with compiled_blocks(model):
        other = copy.deepcopy(model)
        for block in model.blocks:
            torch.nn.init.constant_(block.feed_forward.output.weight, 9.0)
        assert not torch.equal(other(ids), model(ids))


@pytest.fixture
def alone():
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.slow
def test_sharded_and_replicated_steps_are_the_same(graphs, alone):
    objective = CausalLM()
    batches = [batch_of(objective, seed=n) for n in range(2)]
    expected, _ = trained(objective, batches, compiled=False)
    sharded = partial(wrap, processes=Processes(0, 1, sharded=True))
    for around in (sharded, lambda *both: DistributedDataParallel(LossModule(*both))):
        assert trained(objective, batches, compiled=True, around=around)[0] == pytest.approx(expected, abs=1e-5)
    assert len(graphs) == 2


def stopped_and_resumed(folder, monkeypatch):
    """The folders of two compiled runs, one of which lost its last checkpoint and was resumed."""
    monkeypatch.setenv("CLOZELAB_CACHE", str(folder / "cache"))
    (folder / "corpus.txt").write_text("\n\n".join(f"{n} and {n + 1} make {2 * n + 1}." for n in range(300)))
    for sizes in PRESETS.values():
        monkeypatch.setitem(sizes, "tiny", {"d_model": 16, "n_layers": 1, "n_heads": 2})
    words = ("--corpus", str(folder / "corpus.txt"), "--vocab-size", "400", "--length", "32", "--batch-size", "4")
    words = ("train", *words, "--steps", "4", "--checkpoint-every", "2", "--compile", "--run")
    runs = [folder / "whole", folder / "stopped"]
    for run in runs:
        assert main([*words, str(run)]) == 0
    shutil.rmtree(runs[1] / "checkpoints" / "step-00000004")
    assert main(["train", "--resume", "--run", str(runs[1])]) == 0
    whole, stopped = (load_run(run).model.state_dict() for run in runs)
    assert all(torch.equal(stopped[name], weight) for name, weight in whole.items())
    return runs


def test_a_run_is_compiled_resumed_and_extended_without(graphs, tmp_path, monkeypatch):
    _, stopped = stopped_and_resumed(tmp_path, monkeypatch)
    before = len(graphs)
    assert before
    assert main(["train", "--run", str(stopped), "--extend", "1", "--no-compile"]) == 0
    assert len(graphs) == before


@pytest.mark.slow
def test_a_run_with_real_kernels_is_resumed_bit_for_bit(tmp_path, monkeypatch):
    torch.compiler.reset()
    stopped_and_resumed(tmp_path, monkeypatch)


def test_versions_of_pytorch_that_cannot_tell_lengths_apart_compile_too(monkeypatch):
    """torch.compile of 2.11 does not know `isolate_recompiles`: `--compile` ended there in a traceback."""

    def older(model, *, fullgraph=False, dynamic=None, backend="inductor", mode=None, options=None, disable=False):
        return model

    monkeypatch.setattr(torch, "compile", older)
    model = seeded_model(CausalLM(), 100, "tiny", 0, **SHAPE).train()
    with compiled_blocks(model):
        assert model(torch.arange(9)[None]).shape[:2] == (1, 9)


def test_a_model_of_others_is_refused():
    with pytest.raises(InputError, match="got Linear without a block"), compiled_blocks(torch.nn.Linear(2, 2)):
        raise AssertionError("it was compiled")


def test_without_a_compiler_there_is_one_line(monkeypatch, tmp_path):
    from torch._inductor import cpp_builder

    monkeypatch.setattr(cpp_builder, "cpp_compiler_search", lambda search: _missing())
    model = seeded_model(CausalLM(), 100, "tiny", 0, **SHAPE)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler, and finds none here"), compiled_blocks(model):
        raise AssertionError("it was compiled")


def _missing():
    from torch._inductor.exc import InvalidCxxCompiler

    raise InvalidCxxCompiler


def test_the_matrix_of_a_mask_is_made_once():
    mask = AttentionMask(3, 3, causal=True)
    assert mask.matrix is mask.matrix
