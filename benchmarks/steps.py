"""Training steps: ours beside theirs, and beside what the machine can multiply."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import peers
import torch
from measure import TUNED, Processes, Spread, Times, alternate, processor_kind, product, ratio
from results import Result, speed

from clozelab.data import SpecialIds
from clozelab.objectives import OBJECTIVES
from clozelab.training import TrainConfig, optimizer_of, training_flops
from clozelab.training.compiled import compiled_blocks

PEERS = {"causal": "`GPT2LMHeadModel`", "masked": "`BertForMaskedLM`", "span": "`T5ForConditionalGeneration`"}
GOALS = {"causal": 1.3, "masked": 2.0, "span": 1.3}
"""Where the matrices dominate."""
GOALS_OF_AMX = {"causal": 1.5, "masked": 2.0, "span": 2.0}
"""Where bfloat16 products are so fast that all else is the cost."""
SHAPE = {"d_model": 256, "n_layers": 4, "n_heads": 4}
SMALL = {"vocabulary": 512, "rows": 2, "length": 32}
COMPILED = ExitStack()
"""Blocks stay compiled until the process ends."""
QUICK = {"d_model": 32, "n_layers": 1, "n_heads": 2}


def _batch(
    objective: str, vocabulary: int, rows: int, length: int, device: str = "cpu"
) -> tuple[dict[str, torch.Tensor], int]:
    """A batch of our collator, for both sides, and how many tokens of text are in it.

    Loss positions are as in real text; the attention mask, all ones, is left out: both sides are faster without.
    """
    kind = OBJECTIVES[objective]()
    roles = {role: 3 + n for n, role in enumerate(role for role in kind.roles if role != "mask")}
    sentinels = range(vocabulary - 1, vocabulary - 101, -1)
    special = SpecialIds(vocabulary, pad=0, eos=1, mask=2, sentinels=sentinels, roles=roles)
    raw = kind.source_length(length)
    text = torch.randint(3 + len(roles), vocabulary - 100, (rows, raw), generator=torch.Generator().manual_seed(0))
    batch = kind.collator(special).block(text, range(rows))
    del batch["attention_mask"]
    return {key: value.to(device) for key, value in batch.items()}, text.numel()


def ours(
    objective: str,
    vocabulary: int,
    batch: dict[str, torch.Tensor],
    d_model: int,
    n_layers: int,
    n_heads: int,
    *,
    compiled: str = "",
) -> Any:
    """Our step by dtype, on the device of the batch, and the model: compiled "whole", by "blocks", or not."""
    device = batch["input_ids"].device.type
    kind = OBJECTIVES[objective]()
    more = {"n_decoder_layers": n_layers} if kind.architecture == "encoder-decoder" else {}
    model = kind.build_model(vocabulary, "tiny", d_model=d_model, n_layers=n_layers, n_heads=n_heads, **more).to(device)
    if compiled == "blocks":
        COMPILED.enter_context(compiled_blocks(model))
    network = torch.compile(model) if compiled == "whole" else model
    optimizer = optimizer_of(model, TrainConfig(optimizer="adamw"))

    def step(dtype: str) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = kind(network, batch).mean
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, model


def theirs(
    objective: str,
    vocabulary: int,
    batch: dict[str, torch.Tensor],
    attention: str,
    *,
    compiled: str = "",
    **shape: int,
) -> Any:
    """Their step by dtype, on the device of the batch, and the model: compiled "whole" or not."""
    device = batch["input_ids"].device.type
    model = peers.model(objective, vocabulary, length=batch["input_ids"].shape[1], attention=attention, **shape)
    network = torch.compile(model.to(device)) if compiled else model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(dtype: str) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = network(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step, model


def one_side(side: str, dtype: str, objective: str, vocabulary: int, rows: int, length: int, shape: dict) -> Any:
    """Two steps of ours or theirs, for their memory: the second has the optimiser's state as well."""
    batch, _ = _batch(objective, vocabulary, rows, length)
    if side == "ours":
        step, _ = ours(objective, vocabulary, batch, **shape)
    else:
        step, _ = theirs(objective, vocabulary, batch, side, **shape)

    def work() -> None:
        step(dtype)
        step(dtype)

    return work


def times(
    objective: str, vocabulary: int, rows: int, length: int, shape: dict, rounds: int, dtypes: list[str], compiled: bool
) -> dict[str, Any]:
    """All sides in turns, in each dtype: ours and theirs, each eager and, where asked for, compiled.

    Theirs also with each of its attention kernels. The first call of each is apart: it compiles.
    """
    batch, tokens = _batch(objective, vocabulary, rows, length)
    made = {"ours, eager": ours(objective, vocabulary, batch, **shape)}
    for attention in ("sdpa", "eager"):
        with suppress(ValueError):  # this model has no such kernel
            name = f"theirs, eager, {attention} attention"
            made[name] = theirs(objective, vocabulary, batch, attention, **shape)
    if compiled:
        attention = "sdpa" if len(made) == 3 else "eager"
        more = {**shape, "compiled": "whole"}
        made["ours, compiled by blocks"] = ours(objective, vocabulary, batch, **{**more, "compiled": "blocks"})
        made["ours, compiled whole"] = ours(objective, vocabulary, batch, **more)
        made["theirs, compiled"] = theirs(objective, vocabulary, batch, attention, **more)
    sides = {f"{name}, {dtype}": partial(step, dtype) for name, (step, _) in made.items() for dtype in dtypes}
    first = {}
    for name, work in sides.items():
        before = sum(os.times()[:4])  # of the compiler's processes too
        work()
        first[name] = sum(os.times()[:4]) - before
    spent = {name: vars(t) for name, t in alternate(sides, rounds, warm=False).items()}
    models = {"ours": made["ours, eager"][1], "theirs": list(made.values())[1][1]}
    operations = training_flops(OBJECTIVES[objective](), models["ours"], [batch])
    return {
        "times": spent,
        "first": first,
        "parameters": {name: peers.parameters(model) for name, model in models.items()},
        "tokens": tokens,
        "limit": min(operations / _best_product(dtype, small=vocabulary == SMALL["vocabulary"]) for dtype in dtypes),
    }


def _best_product(dtype: str, *, small: bool) -> float:
    """Operations a second, of a quick look."""
    work, operations = product(dtype, 64 if small else 1024)
    [spent] = alternate({"": work}, rounds=5).values()
    return operations / min(spent.cpu)


BASE = {"vocabulary": 8192, "rows": 4, "length": 256}
LARGER = {**BASE, "vocabulary": 32768}, {**BASE, "rows": 1, "length": 1024}


def training(processes: Processes, tokenizer: str) -> Iterator[Result]:
    """The training step, eager on both sides: at the base shape, at a large vocabulary, at a long context."""
    if processes.slow_bfloat16 is not None:
        yield Result.skipped("training step", "training steps in bfloat16", processes.slow_bfloat16)
    for size, objective in itertools.product((BASE, *LARGER), PEERS):
        goal, row = (_goal(objective), "training step") if size is BASE else (1.0, "training step, larger")
        yield _compared(processes, row, objective, size, goal, rounds=3, compiled=False)


def compiled(processes: Processes, tokenizer: str) -> Iterator[Result]:
    """The training step at the base shape, each side at its best: eager or compiled, ours whole or by blocks."""
    for objective in PEERS:
        yield _compared(processes, "compiled step", objective, BASE, _goal(objective), rounds=5, compiled=True)


def _goal(objective: str) -> float:
    return (GOALS_OF_AMX if processor_kind() == "AMX" else GOALS)[objective]


def _compared(
    processes: Processes,
    row: str,
    objective: str,
    size: dict[str, int],
    goal: float,
    *,
    rounds: int,
    compiled: bool,
) -> Result:
    """The fastest of ours beside the fastest of theirs."""
    if processes.quick:
        size, rounds, compiled = SMALL, 1, False
    measured = processes.call(
        "steps:times",
        TUNED,
        objective=objective,
        shape=QUICK if processes.quick else SHAPE,
        rounds=rounds,
        dtypes=processes.dtypes,
        compiled=compiled,
        **size,
    )
    spent = {side: Times(**t) for side, t in measured["times"].items()}
    medians = {side: Spread.of(times.cpu).median for side, times in spent.items()}
    mine, other = (
        min((side for side in spent if side.startswith(whose)), key=medians.__getitem__) for whose in ("ours", "theirs")
    )
    sizes, tokens = measured["parameters"], measured["tokens"]
    detail = "; ".join(f"{side} {1e3 * seconds:.0f} ms" for side, seconds in medians.items())
    detail += (
        f"; with nothing but its products, at the machine's peak, our step would be "
        f"{medians[other] / measured['limit']:.2f}x; parameters {sizes['ours'] / 1e6:.2f} M and "
        f"{sizes['theirs'] / 1e6:.2f} M"
    )
    if cold := {side: seconds for side, seconds in measured["first"].items() if "compiled" in side}:
        detail += "; the first step, which compiles: "
        detail += ", ".join(f"{side} {seconds:.0f} s" for side, seconds in cold.items())
    best = ", each at its best" if row == "compiled step" else ", eager"
    return Result(
        row,
        f"{objective}: training step, {size['rows']} x {size['length']}, V {size['vocabulary']}{best}",
        PEERS[objective],
        ratio(spent[other].cpu, spent[mine].cpu),
        "x",
        goal,
        ours=f"{speed(tokens, spent[mine].cpu)} ({mine.partition(', ')[2]})",
        theirs=f"{speed(tokens, spent[other].cpu)} ({other.partition(', ')[2]})",
        wall=ratio(spent[other].wall, spent[mine].wall).median,
        detail=detail,
    )


def memory(processes: Processes, tokenizer: str) -> Iterator[Result]:
    """The peak memory of a training step at the base shape, both sides eager, in float32."""
    size, shape = (SMALL, QUICK) if processes.quick else ({**BASE, "rows": 16}, SHAPE)
    for objective in PEERS:
        arguments = {"dtype": "float32", "objective": objective, "shape": shape, **size}
        ours, theirs = (processes.peak("steps:one_side", SMALL, side=side, **arguments) for side in ("ours", "eager"))
        yield Result(
            "step memory",
            f"{objective}: peak memory of a training step, {size['rows']} x {size['length']}, V {size['vocabulary']}",
            PEERS[objective],
            Spread.of([theirs / max(ours, 1)]),
            "x",
            1.0,
            memory=(ours, theirs),
        )


# --------------------------------------------------------------------------- the machine


def utilisation(
    objective: str, vocabulary: int, rows: int, length: int, shape: dict, rounds: int, quick: bool, dtypes: list[str]
) -> Any:
    """Share of the machine's best product that a step of ours reaches, by dtype: products and steps in turns."""
    batch, _ = _batch(objective, vocabulary, rows, length)
    step, model = ours(objective, vocabulary, batch, **shape)
    operations = training_flops(OBJECTIVES[objective](), model, [batch])
    shares = {}
    for dtype in dtypes:
        products = {str(size): product(dtype, size) for size in ((64,) if quick else (512, 1024, 2048))}
        sides = {name: work for name, (work, _) in products.items()}
        spent = alternate({"step": partial(step, dtype), **sides}, rounds)
        peaks = [max(products[s][1] / spent[s].cpu[r] for s in sides) for r in range(rounds)]
        best = Spread.of(peaks).median
        shares[dtype] = {
            "shares": [operations / seconds / best for seconds in spent["step"].cpu],
            "peak": best,
            "speed": operations / Spread.of(spent["step"].cpu).median,
        }
    return shares


def machine_share(processes: Processes, tokenizer: str) -> Iterator[Result]:
    """Model FLOPs over the measured peak."""
    quick = processes.quick
    shape = SMALL if quick else {"vocabulary": 8192, "rows": 16, "length": 256}
    for objective in PEERS:
        measured = processes.call(
            "steps:utilisation",
            objective=objective,
            shape=QUICK if quick else SHAPE,
            rounds=2 if quick else 5,
            quick=quick,
            dtypes=processes.dtypes,
            **shape,
        )
        for dtype, goal in (("float32", 0.6), ("bfloat16", 0.4)):
            name = f"{objective}: model FLOPs of a step, {dtype}"
            if dtype not in processes.dtypes:
                yield Result.skipped("utilisation", name, processes.slow_bfloat16 or "")
                continue
            yield Result(
                "utilisation",
                name,
                "the best product",
                Spread.of(measured[dtype]["shares"]),
                "%",
                goal,
                ours=f"{measured[dtype]['speed'] / 1e9:.0f} GFLOP/s",
                theirs=f"{measured[dtype]['peak'] / 1e9:.0f} GFLOP/s",
            )
