"""A whole plan: which strategy, how long, and what the page of tables says."""

import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from clozelab.cli import main
from clozelab.errors import InputError
from clozelab.models import model_config
from clozelab.objectives import OBJECTIVES, CausalLM, SpanCorruption
from clozelab.planning import Machine, config_near, plan
from clozelab.planning.plan import DELIVERED

from ..objectives.cases import SAMPLED_NAMES

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def made(total=7e9, objective=CausalLM, **settings):
    machine = Machine(**settings.pop("machine", {}))
    settings = {"tokens": 1e12, **settings}
    return plan(objective(), config_near(total, objective()), machine=machine, **settings)


def test_a_small_model_has_room_on_one_device_and_a_larger_one_is_sharded():
    assert made(1.24e8).chosen.strategy == "one device"
    assert made(1.24e8, machine={"devices": 8}).chosen.strategy == "replicated"
    assert made(7e9, machine={"devices": 8}).chosen.strategy == "ZeRO 1"
    assert made(1e10, machine={"devices": 8}).chosen.strategy == "ZeRO 2"
    assert made(1.3e10, machine={"devices": 8}).chosen.strategy == "ZeRO 3"
    assert made(7e9).chosen is None


def test_the_least_number_of_devices_is_the_least():
    needed = made(7e9).devices_needed()
    assert made(7e9, machine={"devices": needed}).chosen.strategy == "ZeRO 3"
    assert made(7e9, machine={"devices": needed - 1}).chosen is None


def test_what_is_whole_on_every_device_can_be_too_much_for_any_number_of_them():
    """What a row of 70 thousand million parameters keeps is more than a device has, unless blocks are recomputed."""
    assert made(7e10).devices_needed() is None
    assert made(7e10).memory("ZeRO 3", 1).saved > 80e9
    assert made(7e10, recompute=True).devices_needed() == 20
    assert made(7e10, recompute=True).memory("ZeRO 3", 1).saved < 10e9


def test_recomputing_costs_a_forward_pass_of_the_blocks():
    plain, again = (made(1e9, recompute=again) for again in (False, True))
    assert again.run_flops == plain.run_flops
    assert again.seconds_computing / plain.seconds_computing == pytest.approx(
        1 + (plain.flops.projections + plain.flops.attention) / plain.flops.total
    )
    assert again.chosen.micro_batch_size > 4 * plain.chosen.micro_batch_size


def test_asynchronous_checkpoints_take_copies_of_weights_and_optimiser():
    for kind in ("cpu", "cuda"):
        run = made(1.24e8, async_checkpoints=True, machine={"kind": kind})
        memory = run.memory("one device", 1)
        assert run.staged("one device") == memory.weights + memory.optimizer
        assert memory.staged == (run.staged("one device") if kind == "cpu" else 0)  # else of the host
    assert made(1.24e8).staged("one device") == 0


def test_what_the_page_says_has_room_has():
    def has_room(total, devices, strategy):
        return made(total, machine={"devices": devices}).layout(strategy).fits

    assert has_room(3e9, 8, "replicated")
    assert not has_room(3.5e9, 8, "replicated")
    assert has_room(1.2e10, 8, "ZeRO 2")
    assert has_room(1.8e10, 8, "ZeRO 3")
    assert [made(total).devices_needed() for total in (1.3e10, 2e10, 3e10, 5e10)] == [5, 9, 21, 157]


def test_the_largest_micro_batch_that_has_room_is_taken():
    run = made(machine={"devices": 8})
    layout = run.chosen
    assert layout.memory.total <= run.machine.memory < run.memory(layout.strategy, layout.micro_batch_size + 1).total
    assert layout.micro_batch_size * layout.passes >= run.rows_of_device


def test_time_is_work_over_speed():
    """6 operations a parameter and token, and attention and unembedding: 7e9 on 1e12 tokens at 40% of 1e15."""
    run = made(machine={"devices": 8})
    rough = 6 * 7e9 * 1e12 / (8 * 1e15 * 0.4)
    assert rough < run.steps * run.seconds_computing < 1.15 * rough
    assert run.run_flops == pytest.approx(run.steps * run.seconds_computing * 8 * 1e15 * 0.4)


@pytest.mark.parametrize("name", SAMPLED_NAMES)
def test_more_of_a_machine_never_takes_longer(name):
    objective = OBJECTIVES[name]
    base = {"devices": 8, "network": 1e11}
    run = made(1e9, objective, machine=base)
    seconds = run.seconds(run.chosen, overlapped=False)
    for better in ({"flops": 2e15}, {"network": 2e11}, {"memory": 160e9}, {"utilisation": 0.5}, {"devices": 16}):
        other = made(1e9, objective, machine=base | better)
        assert other.seconds(other.chosen, overlapped=False) <= seconds * 1.0001, better


def test_more_devices_hold_less_each_and_overlapping_never_hurts():
    few, many = (made(machine={"devices": n}) for n in (8, 64))
    assert many.memory("ZeRO 3", 1).total < few.memory("ZeRO 3", 1).total
    assert many.memory("replicated", 1) == few.memory("replicated", 1)
    for run in (few, many):
        for layout in run.layouts:
            assert run.seconds(layout) <= run.seconds(layout, overlapped=False)


def test_muon_remembers_less_and_computes_more():
    adamw, muon = (made(machine={"devices": 8}, optimizer=name) for name in ("adamw", "muon"))
    assert muon.memory("replicated", 1).optimizer < adamw.memory("replicated", 1).optimizer
    assert muon.seconds_computing > adamw.seconds_computing
    assert muon.run_flops == adamw.run_flops


def test_the_speed_of_the_data_counts():
    slow = made(1.24e8, SpanCorruption, delivered=1e5)
    assert slow.delivered == 1e5
    assert slow.tokens_a_second(slow.chosen) > slow.delivered  # two cores must make its batches


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": 0}, "tokens must be"),
        ({"tokens": math.nan}, "tokens must be"),
        ({"batch_tokens": math.inf}, "batch_tokens must be"),
        ({"length": 0}, "length must be"),
        ({"precision": "int8"}, "precision must be"),
        ({"optimizer": "sgd"}, "optimizer must be"),
        ({"delivered": 0}, "delivered must be"),
        ({"machine": {"devices": 4096}}, "too few for 4,096 devices"),
        ({"machine": {"devices": 0}}, "devices must be"),
        ({"machine": {"devices": 2.0}}, "devices must be"),
        ({"machine": {"flops": math.inf}}, "flops of a device"),
        ({"machine": {"memory": -1}}, "memory of a device"),
        ({"machine": {"network": 0}}, "network of a device"),
        ({"machine": {"utilisation": 1.1}}, "utilisation is a share"),
        ({"machine": {"kind": "tpu"}}, "kind must be"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        made(1e9, **settings)


# ------------------------------------------------------------------ the command


def printed(capsys, *arguments):
    assert main(["plan", *arguments]) == 0
    return capsys.readouterr().out


def test_the_command_prints_each_strategy_of_one_objective(capsys):
    out = printed(capsys, "--params", "7e9", "--tokens", "1e12", "--objective", "causal", "--devices", "8")
    heading, *lines = out.splitlines()
    strategies = ("replicated", "ZeRO 1", "ZeRO 2", "ZeRO 3")
    assert re.split(r"\s{3,}", heading.strip()) == [f"causal, {strategy}" for strategy in strategies]
    table = [re.split(r"\s{3,}", line.strip()) for line in lines]
    assert ["has room", "no", "yes", "yes", "yes"] in table
    assert "so the weights are sharded" in out


@pytest.mark.parametrize(
    "names", [[], ["causal", "ul2r"], pytest.param(list(OBJECTIVES), marks=pytest.mark.slow)], ids=len
)
def test_the_command_prints_objectives_side_by_side(names, capsys):
    """Those that are named, or the first of each architecture."""
    flags = ["--objectives", *names] if names else []
    out = printed(capsys, "--size", "tiny", "--vocab-size", "4096", "--length", "128", "--markdown", *flags)
    heading, rule, *lines = out.splitlines()
    names = names or ["causal", "masked", "span"]
    assert heading == "|  | " + " | ".join(f"{name}, one device" for name in names) + " |"
    assert rule == "|---" * (1 + len(names)) + "|"
    assert all(line.count("|") == len(names) + 2 for line in lines if line.startswith("|"))
    of_each = {"span": "1.45 M", "ul2": "1.45 M", "mtp": "1.55 M", "top": "1.84 M"}
    assert "| parameters | " + " | ".join(of_each.get(name, "1.31 M") for name in names) + " |" in lines


def test_the_command_names_what_would_help(capsys):
    assert "in ZeRO stage 3 it takes 2" in printed(capsys, "--objective", "causal")
    assert "it takes --recompute, on 20 of them" in printed(capsys, "--objective", "causal", "--params", "7e10")
    flags = ("--objective", "masked", "--params", "1e12", "--recompute")
    assert "tensor or pipeline parallelism" in printed(capsys, *flags)
    assert "tokenizers reserve 100 sentinels" in printed(capsys, "--objective", "span")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--params", "0"], "a number of parameters from 1 to 1e15"),
        (["--params", "1e4"], "no shape has about 1e\\+04 parameters"),
        (["--params", "7e9", "--size", "tiny"], "--size and --params exclude each other"),
        (["--tokens", "nan"], "--tokens: expected a number of tokens"),
        (["--objective", "next"], "next"),
        (["--devices", "2.5"], "--devices: expected a whole number"),
        (["--devices", "3000"], "too few for 3,000 devices"),
        (["--utilisation", "40"], "--utilisation: expected a probability"),
        (["--objective", "causal", "--objectives", "span"], "give one of them"),
        (["--network", "inf"], "--network: expected a number above 0"),
        (["--length", "1", "--objective", "causal"], "nothing to predict"),
        (["--length", "2", "--objective", "span"], "cannot hold a visible token"),
        (["--vocab-size", "1000000000000"], "no shape has about"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert main(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert error.startswith("clozelab: ")
    assert re.search(message, error), error


# ------------------------------------------------------------------ the page

BLOCKS = re.findall(r"```sh\n(clozelab plan .*?)\n```\n\n(\|.*?\n)\n", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_page_has_a_table_for_each_machine():
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize(  # a plan of all objectives is dear: by default the first table and the last
    ("command", "table"),
    [
        pytest.param(*block, id=str(n), marks=[pytest.mark.slow] if 0 < n < len(BLOCKS) - 1 else [])
        for n, block in enumerate(BLOCKS)
    ],
)
def test_the_tables_of_the_page_are_what_the_command_prints(command, table, capsys):
    out = printed(capsys, *shlex.split(command.replace("\\\n", " "))[2:])
    assert table == "".join(line + "\n" for line in out.splitlines() if line.startswith("|"))


def test_the_page_computes_rightly_what_share_of_the_peak_was_measured():
    """| causal | 21,249 | 8.65 MFLOP | 184 GFLOP/s | 43% |: the product and the share of 430 GFLOP/s."""
    rows = re.findall(r"\| (\w+) \| ([\d,]+) \| ([\d.]+) MFLOP \| (\d+) GFLOP/s \| (\d+)% \|", PAGE.read_text("utf-8"))
    assert len(rows) >= 3
    for name, speed, operations, rate, share in rows:
        objective = OBJECTIVES[name]()
        run = plan(objective, model_config(objective.architecture, "tiny", 4096), tokens=1, length=128)
        a_token = run.flops.total / run.row.text
        done = a_token * int(speed.replace(",", ""))
        assert (operations, rate, share) == (f"{a_token / 1e6:.2f}", f"{done / 1e9:.0f}", f"{done / 430e9 * 100:.0f}")


def test_the_page_names_the_slowest_of_the_measured_collators_and_what_it_is_enough_for():
    page, machine = PAGE.read_text("utf-8"), Machine()
    rows = re.findall(r"\| ([\w-]+) \| ([\d.]+) \([\d.]+ to [\d.]+\) \|", page)
    assert [name for name, _ in rows] == list(OBJECTIVES)
    assert min(float(speed) for _, speed in rows) == pytest.approx(DELIVERED / 1e6, rel=0.01)
    cost = machine.flops * machine.utilisation / DELIVERED / 1e6
    assert f"costs less than {round(cost, -1):.0f} MFLOP" in page


def test_a_plan_for_another_machine_is_one_replaced_field():
    run = made(1.24e8)
    assert replace(run, machine=Machine(devices=8)).rows_of_device == math.ceil(run.rows / 8)
