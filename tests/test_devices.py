"""The device of a run, and that every objective and command runs where there is no float64 and no complex number."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from clozelab.cli import main
from clozelab.device import autocast, devices, find_device, has_complex, to_float64
from clozelab.errors import InputError
from clozelab.models.layers import apply_rotary, rotary_freqs
from clozelab.objectives import OBJECTIVES
from clozelab.training.precision import uses_bfloat16
from clozelab.training.processes import init_processes

CPU = torch.device("cpu")


@pytest.fixture
def two_of(monkeypatch):
    """`two_of("xpu")`: this machine seems to have two accelerators of a kind."""

    def pretend(kind):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device(kind))
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
        monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)

    return pretend


def test_without_an_accelerator_there_is_the_processor():
    assert find_device() == find_device("cpu") == find_device("cpu:0") == find_device(process=7) == CPU
    assert devices() == ["cpu"]


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_the_accelerator_is_taken_unless_told(two_of, kind):
    two_of(kind)
    assert find_device() == find_device(kind) == torch.device(kind, 0)
    assert find_device(f"{kind}:1") == find_device(process=1) == torch.device(kind, 1)
    assert find_device("cpu") == CPU
    assert devices() == ["cpu", f"{kind}:0", f"{kind}:1"]


def test_a_device_that_is_not_there_is_one_line(two_of, capsys):
    for name in ("cuda", "mps", "cpu:1", "meta", "gpu", ""):
        with pytest.raises(InputError, match=r"this machine has no device '.*', it has cpu \(PyTorch .* no accel"):
            find_device(name)
    assert main(["train", "--device", "cuda", "--run", "nowhere"]) == 2
    assert "this machine has no device 'cuda', it has cpu" in capsys.readouterr().err
    two_of("cuda")
    for name in ("mps", "cuda:2"):
        with pytest.raises(InputError, match=f"no device '{name}', it has cpu, cuda:0, cuda:1$"):
            find_device(name)


def test_processes_have_an_accelerator_each(two_of, monkeypatch):
    two_of("cuda")
    with pytest.raises(InputError, match=r"process 3 of this machine has no device: the machine shows 2 of .* cuda"):
        find_device(process=2)
    with pytest.raises(InputError, match="cuda:1 is one: leave its number out"):
        find_device("cuda:1", process=0)
    for name, value in {"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="process 3 of this machine has no device"), init_processes():
        raise AssertionError("it was joined")


def test_what_a_device_has_not_is_computed_otherwise():
    assert to_float64(torch.ones(2)).dtype == torch.float64
    assert has_complex(CPU)
    assert not has_complex(torch.device("mps"))
    x, freqs = torch.zeros(1, 1, 5, 8, device="meta"), rotary_freqs(torch.arange(5, device="meta"), 8)
    assert not freqs.is_complex()
    assert apply_rotary(x, freqs).shape == x.shape
    with torch.autocast("cpu", torch.bfloat16), autocast(CPU, bfloat16=False):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert not uses_bfloat16("auto", torch.device("mps"))


def on_a_fake_accelerator(folder: Path, what: str):
    """What on_a_fake_accelerator.py found."""
    words = [sys.executable, Path(__file__).with_name("on_a_fake_accelerator.py"), folder, what]
    done = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ), timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "result.json").read_text()), done.stdout + done.stderr


@pytest.fixture(scope="module")
def losses(tmp_path_factory):
    found, _ = on_a_fake_accelerator(tmp_path_factory.mktemp("fake"), "objectives")
    return found


def test_the_fake_accelerator_refuses_what_it_has_not(losses):
    assert losses["refusals"] == [
        "the device fake has no torch.float64",
        "the device fake has no torch.complex64",
        "aten.add.Tensor: a tensor of cpu among those of fake",
    ]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_learns_without_float64_and_complex_numbers(losses, name):
    on_the_processor, there = losses[name]
    assert there == pytest.approx(on_the_processor, abs=1e-5)
    assert on_the_processor[1] < on_the_processor[0] + 1  # the loss after the step: of other weights, and no NaN


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_commands_run_there_and_a_run_changes_its_device(tmp_path):
    codes, output = on_a_fake_accelerator(tmp_path, "commands")
    *ran, (_, refused) = codes
    assert [(name, code) for name, code in ran if code] == [], output
    assert refused == 2
    assert "this machine has no device 'cuda', it has cpu, fake:0" in output
