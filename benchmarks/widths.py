"""Do the learning rates of the preset `tiny` suit `small`, three times as wide, without being searched again?

    python benchmarks/widths.py --corpus tinyshakespeare.txt --publish     an hour on one core
    python benchmarks/widths.py --quick                                    seconds, only that it runs

Causal LM with the tokenizer and the learning rates that `train` takes unless told: Muon (one rate for the matrices
inside the blocks, another of AdamW for the rest), and AdamW alone. All rates of a recipe are multiplied by 1/3, 1 and 3
at both sizes, and once AdamW's rate beside Muon alone, that of the embedding. If the best multiplier is the same, what
was found at the small size can be used at the large one.

Muon's steps have a length of their own at every width, and AdamW's do not, so the two need not agree. A run is as
short as the minutes allow, and short runs like high learning rates: the figures compare sizes, they do not choose a
rate. The middle of `tiny` is run from three seeds, and how far they lie apart is what a difference must exceed to
count. All else is run from one seed, and from three where that one says that a multiplier is better than 1; a seed of
`small` takes as long as ten of `tiny`, mostly for the products inside Muon.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from learning import best_multipliers, widths_table
from matplotlib.figure import Figure
from measure import busy, provenance
from report import publish

from clozelab import load_corpus
from clozelab.objectives import CausalLM
from clozelab.training import NotFinite, Prepared, TrainConfig, prepare, seeded_model, train

RECIPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "Muon": ("muon", ("learning_rate", "matrix_learning_rate")),
    "Muon, AdamW's rate alone": ("muon", ("learning_rate",)),
    "AdamW": ("adamw", ("learning_rate",)),
}
"""The optimizer, and which of its rates are multiplied."""
SIZES = ("tiny", "small")
SEEDS = 3
"""Of the middle of `tiny`, and of what seems to be better than a middle, with that."""
MULTIPLIERS = (1 / 3, 1.0, 3.0)
BATCH, LENGTH = 16, 64


class Runs:
    """Each run is made once: recipes of one optimizer share the middle."""

    def __init__(self, prepared: Prepared, steps: int, eval_rows: int) -> None:
        self.prepared, self.settings = prepared, {"steps": steps, "eval_rows": eval_rows}
        self.known: dict[tuple[Any, ...], tuple[float | None, int, float]] = {}

    def __call__(self, size: str, seed: int, **settings: Any) -> tuple[float | None, int, float]:
        """(held-out nats, or None where it came to no number; parameters; seconds of the processor)."""
        key = size, seed, *sorted(settings.items())
        if key not in self.known:
            begun = time.process_time()
            nats, parameters = self._run(size, seed, settings)
            self.known[key] = nats, parameters, time.process_time() - begun
        return self.known[key]

    def _run(self, size: str, seed: int, settings: dict[str, Any]) -> tuple[float | None, int]:
        made, objective = self.prepared, CausalLM()
        model = seeded_model(objective, made.tokenizer.vocab_size, size, seed)
        config = TrainConfig(length=LENGTH, batch_size=BATCH, eval_every=0, seed=seed, **self.settings, **settings)
        try:
            result = train(objective, model, made.tokenizer, made.text, made.heldout, config)
        except NotFinite:
            return None, model.parameter_count()
        assert result.heldout is not None
        return result.heldout.nats, model.parameter_count()


def measured(runs: Runs, size: str, recipe: str, multiplier: float, seeds: int) -> dict[str, Any]:
    """A row of the table."""
    optimizer, rates = RECIPES[recipe]
    scaled = {rate: getattr(TrainConfig(optimizer=optimizer), rate) * multiplier for rate in rates}
    nats, parameters, seconds = zip(*(runs(size, seed, optimizer=optimizer, **scaled) for seed in range(seeds)))
    print(f"{recipe}, {size}, {multiplier:.2g} x: {nats} nats", flush=True)
    row = {"recipe": recipe, "size": size, "multiplier": multiplier, "nats": nats}
    return {**row, "parameters": parameters[0], "seconds": sum(seconds)}


def sweep(runs: Runs, sizes: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """A row for each size, recipe and multiplier."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        for recipe in RECIPES:
            mine = {m: measured(runs, size, recipe, m, seeds if (size, m) == (sizes[0], 1) else 1) for m in MULTIPLIERS}
            best = best_multipliers([*rows, *mine.values()])[recipe][size]
            if best != 1:
                mine |= {m: measured(runs, size, recipe, m, seeds) for m in (1.0, best)}
            rows += mine.values()
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each recipe, a line for each size, its best point filled."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, len(RECIPES), sharey=True, squeeze=False)[0]
    best_of = best_multipliers(rows)
    for axes, recipe in zip(panels, RECIPES):
        for size, colour in zip(SIZES, ("#E69F00", "#0072B2")):
            mine = [row for row in rows if (row["recipe"], row["size"]) == (recipe, size) and None not in row["nats"]]
            if not mine:
                continue
            points = {row["multiplier"]: sum(row["nats"]) / len(row["nats"]) for row in mine}
            axes.plot(*zip(*points.items()), "o-", color=colour, markerfacecolor="white", label=size)
            best = best_of[recipe][size]
            axes.plot(best, points[best], "o", color=colour)
        axes.set_xscale("log")
        axes.set_xticks(MULTIPLIERS, [f"{m:.2g}x" for m in MULTIPLIERS])
        axes.minorticks_off()
        axes.set_title(recipe)
        axes.set_xlabel("learning rates")
        axes.legend()
    panels[0].set_ylabel("held-out nats per token")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Sweep, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="builtin")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--quick", action="store_true", help="only see that it runs: `tiny` alone, two steps")
    parser.add_argument("--out", type=Path, default=Path("runs/widths"))
    parser.add_argument("--publish", action="store_true", help="also put figures and picture into the repository")
    args = parser.parse_args()
    if args.publish and args.quick:
        parser.error("a quick run is not published")
    torch.set_num_threads(1)
    before, steps = busy(), 2 if args.quick else args.steps
    prepared = prepare(load_corpus(args.corpus, split="position"), sentinels=0)
    runs = Runs(prepared, steps, eval_rows=8 if args.quick else 128)
    rows = sweep(runs, SIZES[:1], 2) if args.quick else sweep(runs, SIZES, SEEDS)
    print(f"\n{widths_table(rows)}\n")
    for recipe, best in best_multipliers(rows).items():
        same = len(set(best.values())) == 1
        print(f"{recipe}: {'the same' if same else 'not the same'} best multiplier at each size")
    record = {
        **provenance(before),
        "threads": 1,
        "corpus": Path(args.corpus).name,
        "steps": steps,
        "batch": BATCH,
        "length": LENGTH,
        "rows": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "widths.json").write_text(json.dumps(record, indent=1))
    draw(rows, args.out / "widths.png")
    if args.publish:
        publish("widths", record, lambda path: draw(rows, path))


if __name__ == "__main__":
    main()
