"""How the ladders, baby GPT and the learning rates at other widths are shown."""

from __future__ import annotations

from typing import Any

from results import cells
from section_outcome import FAST_BFLOAT16, Outcome, kind_of, missed

BABY_GOAL = {"nats": 1.4697, "minutes": 45.0}
"""nanoGPT's figure for its GPU recipe, and how long two cores may take."""

LADDER_GOALS = {
    **{"shakespeare": (4.0, 8.0), "masked": (5.0, 5.0), "span": (5.0, 5.0)},
    **dict.fromkeys(("default-causal", "default-masked", "default-span"), (2.0, 2.0)),
}
"""How many times sooner than the recipe its own held-out loss is to be reached: without fast bfloat16, and with it."""


def ladder_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each rung; what no seed, or not every seed, reached is marked."""
    lines = [
        cells("rung", "steps", "held-out nats", "ms a step", "seconds to the goal", "times sooner"),
        cells(*["---"] * 6),
    ]
    for row in rows:
        reached = [second for second in row["seconds"] if second is not None]
        missing = len(row["seconds"]) - len(reached)
        took = f"{min(reached):.1f} to {max(reached):.1f}" if reached else "-"
        of = f"{missing} of {len(row['seconds'])} seeds" if len(row["seconds"]) > 1 else "the seed"
        took += f" ({of} did not reach it)" if missing else ""
        nats = f"{row['nats']:.3f}" + ("" if row["nats_spread"] is None else f" ± {row['nats_spread']:.3f}")
        sooner = "-" if row["times_sooner"] is None else f"{row['times_sooner']:.1f}"
        lines.append(cells(row["rung"], row["steps"], nats, f"{row['milliseconds_per_step']:.0f}", took, sooner))
    return "\n".join(lines)


def ladder(record: dict[str, Any]) -> Outcome:
    """The rungs; the last one is held against the goal."""
    rows, goal = record["rows"], LADDER_GOALS[record["ladder"]][kind_of(record) in FAST_BFLOAT16]
    sooner = rows[-1]["times_sooner"]
    met = sooner is not None and sooner >= goal
    blocks, seeds = record["heldout_blocks"], len(record["seeds"])
    body = (
        f"Text: {record['corpus']}, {seeds} seed{'s' * (seeds > 1)}; an evaluation reads {blocks} held-out blocks. "
        f"The recipe's own {rows[0]['nats']:.3f} nats are what all rungs go after.\n\n{ladder_table(rows)}"
        f"{missed('ladder-' + record['ladder'], met)}"
    )
    return Outcome("not reached by every seed" if sooner is None else f"{sooner:.1f}x", met, body)


def baby(record: dict[str, Any]) -> Outcome:
    """What the run reached, and when."""
    reached, whole = record["reached_at"], record["wall_minutes"]
    met, when = False, "not reached"
    if reached is not None:  # evaluations are as frequent before it as after it
        with_evaluations = reached * (whole or record["minutes"]) / record["minutes"]
        met = with_evaluations <= BABY_GOAL["minutes"]
        when = f"reached after {reached:.1f} minutes of training, {with_evaluations:.1f} with evaluations"
    more = "" if whole is None else f", {whole:.1f} with its evaluations"
    lines = [
        cells("what", "figure"),
        cells("---", "---"),
        cells("best held-out nats", f"{record['best']:.4f}, after {record['best_at']:.1f} minutes of training"),
        cells(f"the goal, {BABY_GOAL['nats']}", when),
        cells("at the end", f"{record['end']:.4f}"),
        cells("minutes", f"{record['minutes']:.1f} of training{more}"),
        cells("steps", f"{record['steps']} of {record['characters_per_step']} characters"),
        cells("parameters", f"{record['parameters'] / 1e6:.2f} M, {record['shape']}"),
    ]
    return Outcome(f"{record['best']:.4f} nats", met, "\n".join(lines) + missed("baby-gpt", met))


def widths_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each recipe and size, a column for each multiplier."""
    multipliers = sorted({row["multiplier"] for row in rows})
    head = ["recipe", "size", "parameters", *(f"{m:.2g} x the learning rates" for m in multipliers), "best"]
    lines = [cells(*head), cells(*["---"] * len(head))]
    best = best_multipliers(rows)
    for recipe, size in dict.fromkeys((row["recipe"], row["size"]) for row in rows):
        mine = {row["multiplier"]: row for row in rows if (row["recipe"], row["size"]) == (recipe, size)}
        shown = [_nats(mine[m]["nats"]) for m in multipliers]
        parameters = f"{next(iter(mine.values()))['parameters'] / 1e6:.2f} M"
        lines.append(cells(recipe, size, parameters, *shown, f"{best[recipe][size]:.2g} x"))
    return "\n".join(lines)


def best_multiplier(rows: list[dict[str, Any]], noise: float) -> float:
    """1, unless another one ends lower with the same seeds by more than `noise`; no number (None) is the worst."""
    middle = next(row["nats"] for row in rows if row["multiplier"] == 1)

    def gain(row: dict[str, Any]) -> float:
        pairs = list(zip(middle, row["nats"]))
        if None in row["nats"]:
            return float("-inf")
        return sum(float("inf") if one is None else one - other for one, other in pairs) / len(pairs)

    best = max(rows, key=gain)
    return best["multiplier"] if gain(best) > noise else 1.0


def _nats(values: list[float | None]) -> str:
    finite = [value for value in values if value is not None]
    if len(finite) < len(values):
        return "no number"
    middle = sum(finite) / len(finite)
    return f"{middle:.3f}" + (f" ({min(finite):.3f} to {max(finite):.3f})" if len(finite) > 1 else "")


def best_multipliers(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By recipe and size. How far the seeds of a recipe's first middle lie apart is its noise."""
    found: dict[str, dict[str, float]] = {}
    for recipe, size in dict.fromkeys((row["recipe"], row["size"]) for row in rows):
        of_recipe = [row for row in rows if row["recipe"] == recipe]
        seeds = [nats for nats in next(row["nats"] for row in of_recipe if row["multiplier"] == 1) if nats is not None]
        noise = max(seeds, default=0.0) - min(seeds, default=0.0)
        mine = [row for row in of_recipe if row["size"] == size]
        found.setdefault(recipe, {})[size] = best_multiplier(mine, noise)
    return found


def widths(record: dict[str, Any]) -> Outcome:
    """Held-out nats by size and multiplier."""
    best = best_multipliers(record["rows"])
    figure = "; ".join(
        f"{recipe}: " + ", ".join(f"{size} {m:.2g}x" for size, m in mine.items()) for recipe, mine in best.items()
    )
    met = all(len(set(mine.values())) == 1 for mine in best.values())
    body = (
        f"Text: {record['corpus']}, {record['steps']} steps of {record['batch']} x {record['length']} tokens; held-out "
        "nats, and where there are several seeds their mean and range. A multiplier is better than 1 where it ends "
        "lower, with the same seeds, by more than the seeds of `tiny` lie apart at 1. So short a run likes high "
        "learning rates: what is asked is only whether both sizes like the same ones.\n\n"
        f"{widths_table(record['rows'])}{missed('widths', met)}"
    )
    return Outcome(figure, met, body)
