"""The memory of the loss: 4096 positions, a vocabulary of 32k, forward and backward."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from measure import DTYPES, GIVEN_BACK, Processes, Spread, Times, alternate, ratio
from results import Result

from clozelab.objectives.cross_entropy import unembedded_terms

SMALL = {"positions": 64, "vocabulary": 512}
SIDES = ("ours", "theirs", "linear_cross_entropy")


def sides(
    positions: int, vocabulary: int, d_model: int, dtype: str, device: str = "cpu", compiled: bool = False
) -> dict[str, Callable[[], float]]:
    """Value and gradients by each: ours in chunks, `cross_entropy` on full logits, PyTorch's own chunks.

    `compiled` compiles the full logits; ours are where `compiled_loss` says so.
    """
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(positions, d_model, generator=generator).to(device).requires_grad_()
    table = (torch.randn(vocabulary, d_model, generator=generator) / 8).to(device).requires_grad_()
    labels = torch.randint(vocabulary, (positions,), generator=generator).to(device)

    def chunked() -> torch.Tensor:
        return unembedded_terms(hidden, table, labels)[0] / positions

    def full() -> torch.Tensor:
        return F.cross_entropy(F.linear(hidden, table).float(), labels)

    def of_pytorch() -> torch.Tensor:
        options = torch.nn.LinearCrossEntropyOptions()
        low = torch.bfloat16 if dtype == "bfloat16" else torch.float32  # autocast does not reach inside it
        return F.linear_cross_entropy(hidden.to(low), table.to(low), labels, options=options)

    def work(loss_of: Callable[[], torch.Tensor]) -> Callable[[], float]:
        def both_ways() -> float:
            with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loss = loss_of()
            loss.backward()
            hidden.grad = table.grad = None
            return loss.item()

        return both_ways

    theirs = torch.compile(full) if compiled else full
    return {"ours": work(chunked), "theirs": work(theirs), "linear_cross_entropy": work(of_pytorch)}


def one_side(side: str, **shape: Any) -> Callable[[], float]:
    """The work of one of them, for its memory."""
    return sides(**shape)[side]


def times(rounds: int, **shape: Any) -> dict[str, Any]:
    """Ours and full logits in turns, after one call of all three, which gives the values and the third one's time."""
    works, values = sides(**shape), {}
    once = alternate({name: lambda n=name: values.update({n: works[n]()}) for name in works}, 1, warm=False)
    del works["linear_cross_entropy"]
    spent = {**once, **alternate(works, rounds, warm=False)}
    return {"values": values, "times": {name: vars(t) for name, t in spent.items()}}


def memory(processes: Processes, tokenizer: str) -> Iterator[Result]:
    """How much less memory, and how much more time, in both dtypes."""
    for dtype in DTYPES:
        if dtype not in processes.dtypes:
            yield Result.skipped("loss memory", f"loss, {dtype}", processes.slow_bfloat16 or "")
            continue
        shape = {"positions": 4096, "vocabulary": 32768, "d_model": 256, "dtype": dtype}
        if processes.quick:
            shape |= {"positions": 64, "vocabulary": 512, "d_model": 16}
        measured = processes.call("loss:times", rounds=1 if processes.quick else 3, **shape)
        spent = {side: Times(**t) for side, t in measured["times"].items()}
        peaks = {side: processes.peak("loss:one_side", SMALL, side=side, **shape) for side in SIDES}
        exact = [processes.peak("loss:one_side", SMALL, GIVEN_BACK, side=side, **shape) for side in SIDES[:2]]
        values = ", ".join(f"{side} {value:.4f}" for side, value in measured["values"].items())
        other, full = spent["linear_cross_entropy"], Spread.of(spent["theirs"].cpu).median
        name = f"loss of {shape['positions']} positions, vocabulary {shape['vocabulary']}, {dtype}"
        yield peak_memory(
            "loss memory",
            name,
            peaks,
            detail=f"with an allocator that gives free memory back at once {exact[0] / 1e6:.0f} MB and "
            f"{exact[1] / 1e6:.0f} MB, {exact[1] / max(exact[0], 1):.1f}x. `F.linear_cross_entropy` with its "
            f"options takes {peaks[SIDES[2]] / 1e6:.0f} MB and {other.cpu[0] / full:.2f} times the time of full "
            f"logits; nats: {values}",
        )
        yield Result(
            "loss time",
            f"{name}: time",
            "the same",
            ratio(spent["ours"].cpu, spent["theirs"].cpu),
            "times theirs",
            1.2,
            least=False,
            ours=_milliseconds(spent["ours"]),
            theirs=_milliseconds(spent["theirs"]),
        )


def peak_memory(row: str, name: str, peaks: Mapping[str, int], detail: str = "") -> Result:
    """Of our loss beside that of all logits, in bytes by side: a row of the suite, or of a GPU."""
    ours, theirs = peaks["ours"], peaks["theirs"]
    return Result(
        row,
        f"{name}: peak memory",
        "`cross_entropy` on full logits",
        Spread.of([theirs / max(ours, 1)]),
        "x",
        8.0,
        ours=f"{ours / 1e6:.0f} MB",
        theirs=f"{theirs / 1e6:.0f} MB",
        memory=(ours, theirs),
        detail=detail,
    )


def _milliseconds(times: Times) -> str:
    return f"{1e3 * Spread.of(times.cpu).median:.3g} ms"
