"""A plan as a table: the arithmetic of `clozelab.planning`, in units that can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..planning import Layout, Plan
    from ..planning.rows import Row


def plan_table(plans: Sequence[Plan], *, markdown: bool = False) -> str:
    """A column for each strategy of one plan; of several plans, for the strategy that has room. Text, or Markdown.

    >>> from clozelab.display.plan import plan_table
    >>> from clozelab.objectives import MaskedLM
    >>> from clozelab.planning import config_near, plan
    >>> run = plan(MaskedLM(), config_near(1e9, MaskedLM()), tokens=1e12)
    >>> for line in plan_table([run]).splitlines()[:4]:
    ...     print(line)
                                   masked, one device
    parameters                                 1.02 B
    width, layers, heads                 2048, 19, 16
    text of a row > model inputs          2048 > 2048
    """
    columns = [(made, layout) for made in plans for layout in _shown(made, alone=len(plans) == 1)]
    table = [["", *(f"{made.objective.name}, {layout.strategy}" for made, layout in columns)]]
    for label, cell in LINES:
        cells = [cell(*column) for column in columns]
        if any(cells):
            table.append([label, *cells])
    if markdown:
        lines = ["| " + " | ".join(cells) + " |" for cells in table]
        return "\n".join([lines[0], "|---" * len(table[0]) + "|", *lines[1:]])
    first, *rest = (max(len(cells[k]) for cells in table) for k in range(len(table[0])))
    return "\n".join(
        "   ".join([cells[0].ljust(first), *(cell.rjust(width) for cell, width in zip(cells[1:], rest))]).rstrip()
        for cells in table
    )


def plan_notes(made: Plan) -> list[str]:
    """What the table does not show, a sentence each: where there is no room, and what would help.

    >>> from clozelab.display.plan import plan_notes
    >>> from clozelab.objectives import CausalLM
    >>> from clozelab.planning import config_near, plan
    >>> for note in plan_notes(plan(CausalLM(), config_near(7e9, CausalLM()), tokens=1e12)):
    ...     print(note)
    causal: no strategy fits on this device of 80 GB; in ZeRO stage 3 it takes 2.
    """
    notes = []
    memory = quantity(made.machine.memory, "B")
    if made.chosen is None:
        count, needed = made.machine.devices, made.devices_needed()
        these = f"this device of {memory}" if count == 1 else f"these {count:,} devices of {memory}"
        if needed is None:
            whole = made.memory("ZeRO 3", 1)
            again = None if made.recompute else replace(made, recompute=True).devices_needed()
            cure = "tensor or pipeline parallelism, which clozelab does not offer"
            notes.append(
                f"{made.objective.name}: no strategy fits on {these}, nor does ZeRO stage 3 on any number of them: "
                f"{quantity(whole.copies + whole.saved + whole.work, 'B')} are not sharded (gathered weights, what is "
                f"kept for the backward, temporary memory); it takes "
                f"{f'--recompute, on {again:,} of them' if again else cure}."
            )
        else:
            notes.append(f"{made.objective.name}: no strategy fits on {these}; in ZeRO stage 3 it takes {needed:,}.")
    elif made.chosen.strategy.startswith("ZeRO"):
        short = made.layouts[0].memory.total - made.machine.memory
        notes.append(
            f"{made.objective.name}: with replication a device would need {quantity(short, 'B')} more than it has, so "
            "the weights are sharded."
        )
    if made.async_checkpoints and made.chosen is not None and made.machine.kind != "cpu":
        copies = quantity(made.staged(made.chosen.strategy), "B")
        notes.append(f"{made.objective.name}: asynchronous checkpoints take {copies} of the host's memory per device.")
    if made.row.sentinels > 100:
        notes.append(
            f"{made.objective.name}: a row has {made.row.sentinels} hidden spans, but tokenizers reserve 100 sentinels "
            "by default: train one with more (clozelab train --sentinels)."
        )
    return notes


def quantity(value: float, unit: str = "") -> str:
    """Three figures and a prefix, or a whole number below a thousand.

    >>> from clozelab.display.plan import quantity
    >>> quantity(27_926_200_320, "B"), quantity(6_981_550_080), quantity(512), quantity(0.0123)
    ('27.9 GB', '6.98 B', '512', '0.0123')
    """
    # Bytes and operations have the prefixes of physics, numbers of things those of English.
    names = ("k", "M", "G", "T", "P", "E", "Z", "Y", "R") if unit else ("k", "M", "B", "T", "Q")
    if abs(value) < 999.5:
        return f"{value:.3g} {unit}".rstrip()
    power = 0
    while abs(value) >= 999.5 and power < len(names):
        value, power = value / 1000, power + 1
    return f"{value:.3g} {names[power - 1]}{unit}" if value < 999.5 else f"{value:,.0f} {names[power - 1]}{unit}"


def time(seconds: float) -> str:
    """In the largest unit of which there is at least one.

    >>> from clozelab.display.plan import time
    >>> time(0.002), time(90), time(3.54e7)
    ('2 ms', '1.5 min', '410 days')
    """
    units = (("days", 86400), ("h", 3600), ("min", 60), ("s", 1))
    name, size = next(((name, size) for name, size in units if seconds >= size), ("ms", 1e-3))
    number = seconds / size
    return f"{number:,.0f} {name}" if number >= 100 else f"{number:.3g} {name}"


def _shown(made: Plan, alone: bool) -> Sequence[Layout]:
    return made.layouts if alone else (made.chosen or made.layouts[-1],)


def _shape(made: Plan) -> str:
    config = made.config
    decoder = config.n_layers if config.n_decoder_layers is None else config.n_decoder_layers
    layers = f"{config.n_layers} + {decoder}" if made.row.decoder_length else f"{config.n_layers}"
    return f"{config.d_model}, {layers}, {config.n_heads}"


def _row(made: Plan) -> str:
    row = made.row
    return f"{row.text} > {row.input_length}" + (f" + {row.decoder_length}" if row.decoder_length else "")


def _loss_positions(row: Row) -> str:
    return f"{row.loss_positions:.0f}, {_share(row.loss_positions, row.text)}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}"


def _flops(per: Callable[[Plan], float]) -> Callable[..., str]:
    return lambda made, layout: quantity(made.flops.total / per(made), "FLOP")


def _bytes(part: str) -> Callable[..., str]:
    return lambda made, layout: quantity(getattr(layout.memory, part), "B") if getattr(layout.memory, part) else ""


def _sent(part: str) -> Callable[..., str]:
    return lambda made, layout: quantity(getattr(layout.traffic, part), "B") if getattr(layout.traffic, part) else ""


def _between(made: Plan, layout: Layout, times: float) -> str:
    ends = [time(times * made.seconds(layout, overlapped=way)) for way in (True, False)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


LINES: list[tuple[str, Callable[..., str]]] = [
    ("parameters", lambda made, layout: quantity(made.parameters.total)),
    ("width, layers, heads", lambda made, layout: _shape(made)),
    ("text of a row > model inputs", lambda made, layout: _row(made)),
    ("loss positions, of the text", lambda made, layout: _loss_positions(made.row)),
    ("operations a token of text", _flops(lambda made: made.row.text)),
    ("operations a loss position", _flops(lambda made: made.row.loss_positions)),
    ("  in attention's products", lambda made, layout: _share(made.flops.attention, made.flops.forward)),
    ("  in the unembedding", lambda made, layout: _share(made.flops.unembedding, made.flops.forward)),
    ("operations of the run", lambda made, layout: f"{made.run_flops:.2e}".replace("e+", "e")),
    ("text of a step, steps", lambda made, layout: f"{quantity(made.step_tokens)}, {made.steps:,}"),
    ("memory: weights", _bytes("weights")),
    ("  gradients", _bytes("gradients")),
    ("  optimiser", _bytes("optimizer")),
    ("  buckets, or gathered", _bytes("copies")),
    ("  casts kept by autocast", _bytes("casts")),
    ("  kept for the backward", _bytes("saved")),
    ("  loss or backward at work", _bytes("work")),
    ("  copies for a checkpoint", _bytes("staged")),
    ("  all of it", _bytes("total")),
    ("has room", lambda made, layout: "yes" if layout.fits else "no"),
    ("rows a pass, passes a step", lambda made, layout: f"{layout.micro_batch_size} x {layout.passes}"),
    ("sent in a step by all-reduce", _sent("reduced")),
    ("sent in a step by all-gather", _sent("gathered")),
    ("sent by reduce-scatter", _sent("scattered")),
    ("sending a step", lambda made, layout: time(made.seconds_sending(layout)) if layout.traffic.total else ""),
    ("computing a step", lambda made, layout: time(made.seconds_computing)),
    ("the run", lambda made, layout: _between(made, layout, made.steps)),
    ("text a second, at most", lambda made, layout: quantity(made.tokens_a_second(layout))),
    ("one core makes batches of", lambda made, layout: quantity(made.delivered)),
    ("cores that make batches", lambda made, layout: f"{made.tokens_a_second(layout) / made.delivered:.2g}"),
]
"""(label, what stands there for a plan and a layout); a line in which nothing stands is left out."""
