"""Training steps: ours beside theirs, and beside what the machine can multiply."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import peers
import torch
from measure import TUNED, Processes, Spread, Times, alternate, product, ratio
from results import Result, speed

from clozelab.data import SpecialIds
from clozelab.objectives import OBJECTIVES
from clozelab.training import TrainConfig, optimizer_of, training_flops

PEERS = {"causal": "`GPT2LMHeadModel`", "masked": "`BertForMaskedLM`", "span": "`T5ForConditionalGeneration`"}
GOALS = {"causal": 1.5, "masked": 2.0, "span": 2.0}
SHAPE = {"d_model": 256, "n_layers": 4, "n_heads": 4}
SMALL = {"vocabulary": 512, "rows": 2, "length": 32}
QUICK = {"d_model": 32, "n_layers": 1, "n_heads": 2}
DTYPES = ("float32", "bfloat16")


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
    compiled: bool = False,
) -> Any:
    """Our step by dtype, on the device of the batch, and the model."""
    device = batch["input_ids"].device.type
    kind = OBJECTIVES[objective]()
    more = {"n_decoder_layers": n_layers} if kind.architecture == "encoder-decoder" else {}
    model = kind.build_model(vocabulary, "tiny", d_model=d_model, n_layers=n_layers, n_heads=n_heads, **more).to(device)
    network = torch.compile(model) if compiled else model
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
    compiled: bool = False,
    **shape: int,
) -> Any:
    """Their step by dtype, on the device of the batch, and the model."""
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


def times(objective: str, vocabulary: int, rows: int, length: int, shape: dict, rounds: int) -> dict[str, Any]:
    """Both sides in both dtypes in turns, theirs with whichever attention is the faster one in that dtype."""
    batch, tokens = _batch(objective, vocabulary, rows, length)
    our_step, our_model = ours(objective, vocabulary, batch, **shape)
    steps: dict[str, Callable[[str], None]] = {}
    sizes = {"ours": peers.parameters(our_model)}
    for attention in ("sdpa", "eager"):
        try:
            steps[attention], model = theirs(objective, vocabulary, batch, attention, **shape)
        except ValueError:  # this model has no such kernel
            continue
        sizes["theirs"] = peers.parameters(model)
    sides: dict[str, Callable[[], Any]] = {f"ours {dtype}": _bound(our_step, dtype) for dtype in DTYPES}
    chosen = {}
    for dtype in DTYPES:
        candidates = {name: _bound(step, dtype) for name, step in steps.items()}
        trial = alternate(candidates, rounds=2, warm=False)
        chosen[dtype] = min(trial, key=lambda name: min(trial[name].cpu))
        sides[f"theirs {dtype}"] = candidates[chosen[dtype]]
    spent = {name: vars(t) for name, t in alternate(sides, rounds).items()}
    operations = training_flops(OBJECTIVES[objective](), our_model, [batch])
    best = {dtype: _best_product(dtype, rows) for dtype in DTYPES}
    limits = {dtype: operations / best[dtype] for dtype in DTYPES}
    return {"times": spent, "attention": chosen, "parameters": sizes, "tokens": tokens, "limits": limits}


def _best_product(dtype: str, rows: int) -> float:
    """Operations a second, of a quick look."""
    work, operations = product(dtype, 1024 if rows > 2 else 64)
    [spent] = alternate({"": work}, rounds=5).values()
    return operations / min(spent.cpu)


def _bound(step: Callable[[str], None], dtype: str) -> Callable[[], None]:
    return lambda: step(dtype)


def _fastest(spent: dict[str, Times], side: str) -> str:
    return min(DTYPES, key=lambda dtype: Spread.of(spent[f"{side} {dtype}"].cpu).median)


def training(processes: Processes, tokenizer: str) -> list[Result]:
    """The training step at the base shape, at a large vocabulary, and at a long context."""
    quick, results = processes.quick, []
    shapes = [
        ("vocabulary 8192, T 256", 8192, 16, 256, 4),
        ("vocabulary 32768", 32768, 16, 256, 2),
        ("T 1024", 8192, 4, 1024, 2),
    ]
    if quick:
        shapes = [(name, 512, 2, 32, 1) for name, *_ in shapes[:2]]
    base = {}
    for (name, vocabulary, rows, length, rounds), objective in itertools.product(shapes, PEERS):
        arguments = {"objective": objective, "vocabulary": vocabulary, "rows": rows, "length": length}
        arguments["shape"] = QUICK if quick else SHAPE
        result = _compared(processes, name, arguments, rounds, base.get(objective, GOALS[objective]))
        base.setdefault(objective, result.figure.median)
        results.append(result)
    return results


def _compared(processes: Processes, name: str, arguments: dict[str, Any], rounds: int, goal: float) -> Result:
    objective = arguments["objective"]
    measured = processes.call("steps:times", rounds=rounds, **arguments)
    spent = {side: Times(**t) for side, t in measured["times"].items()}
    mine, other = (_fastest(spent, side) for side in ("ours", "theirs"))
    best, peer = spent[f"ours {mine}"], spent[f"theirs {other}"]
    alike = {d: ratio(spent[f"theirs {d}"].cpu, spent[f"ours {d}"].cpu).median for d in DTYPES}
    sizes = measured["parameters"]
    most = Spread.of(peer.cpu).median / min(measured["limits"].values())
    detail = (
        f"with nothing but its products, at the machine's peak, our step would be {most:.2f}x; "
        f"float32 {alike['float32']:.2f}x, bfloat16 {alike['bfloat16']:.2f}x; parameters {sizes['ours'] / 1e6:.2f} M "
        f"and {sizes['theirs'] / 1e6:.2f} M; their attention {measured['attention'][other]}"
    )
    if name.startswith("vocabulary 8192") and not processes.quick:
        again = processes.call("steps:times", TUNED, rounds=2, **arguments)["times"]
        tuned = ratio(again[f"theirs {other}"]["cpu"], again[f"ours {mine}"]["cpu"]).median
        detail += f"; with an allocator set for large tensors on both sides {tuned:.2f}x"
    memory = [
        processes.peak("steps:one_side", SMALL, side=side, dtype=dtype, **arguments)
        for side, dtype in (("ours", mine), (measured["attention"][other], other))
    ]
    return Result(
        "training step" if name.startswith("vocabulary 8192") else "training step, larger",
        f"{objective}: training step, {name}",
        PEERS[objective],
        ratio(peer.cpu, best.cpu),
        "x",
        goal,
        ours=f"{speed(measured['tokens'], best.cpu)} ({mine})",
        theirs=f"{speed(measured['tokens'], peer.cpu)} ({other})",
        memory=(memory[0], memory[1]),
        wall=ratio(peer.wall, best.wall).median,
        detail=detail,
    )


# --------------------------------------------------------------------------- the machine


def utilisation(objective: str, vocabulary: int, rows: int, length: int, shape: dict, rounds: int, quick: bool) -> Any:
    """Share of the machine's best product that a step of ours reaches, by dtype: products and steps in turns."""
    batch, _ = _batch(objective, vocabulary, rows, length)
    step, model = ours(objective, vocabulary, batch, **shape)
    operations = training_flops(OBJECTIVES[objective](), model, [batch])
    shares = {}
    for dtype in DTYPES:
        products = {str(size): product(dtype, size) for size in ((64,) if quick else (512, 1024, 2048))}
        sides = {name: work for name, (work, _) in products.items()}
        spent = alternate({"step": _bound(step, dtype), **sides}, rounds)
        peaks = [max(products[s][1] / spent[s].cpu[r] for s in sides) for r in range(rounds)]
        best = Spread.of(peaks).median
        shares[dtype] = {
            "shares": [operations / seconds / best for seconds in spent["step"].cpu],
            "peak": best,
            "speed": operations / Spread.of(spent["step"].cpu).median,
        }
    return {"operations": operations, **shares}


def machine_share(processes: Processes, tokenizer: str) -> list[Result]:
    """Model FLOPs over the measured peak."""
    quick, results = processes.quick, []
    shape = SMALL if quick else {"vocabulary": 8192, "rows": 16, "length": 256}
    for objective in PEERS:
        measured = processes.call(
            "steps:utilisation",
            objective=objective,
            shape=QUICK if quick else SHAPE,
            rounds=2 if quick else 5,
            quick=quick,
            **shape,
        )
        for dtype, goal in (("float32", 0.6), ("bfloat16", 0.4)):
            results.append(
                Result(
                    "utilisation",
                    f"{objective}: model FLOPs of a step, {dtype}",
                    "the best product",
                    Spread.of(measured[dtype]["shares"]),
                    "%",
                    goal,
                    ours=f"{measured[dtype]['speed'] / 1e9:.0f} GFLOP/s",
                    theirs=f"{measured[dtype]['peak'] / 1e9:.0f} GFLOP/s",
                    detail="",
                )
            )
    return results
