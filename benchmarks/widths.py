"""Do the learning rates of the preset `tiny` suit `small`, three times as wide, without being searched again?

    python benchmarks/widths.py --corpus tinyshakespeare.txt --publish     5 minutes on one core
    python benchmarks/widths.py --quick                                    seconds, only that it runs

Characters, causal LM, two recipes: Muon (0.02 for the matrices inside the blocks, AdamW 6e-3 for the rest) and AdamW
alone (3e-3). Both learning rates of a recipe are multiplied by 1/3, 1 and 3 at both sizes. If the best multiplier is
the same, what was found at the small size can be used at the large one.

Muon's steps have a length of their own at every width, and AdamW's do not, so the two need not agree. A run is as
short as the minutes allow, and short runs like high learning rates: the figures compare sizes, they do not choose a
rate. Only the middle of `tiny` is run from three seeds, which shows what a difference must be to count; a seed of
`small` takes as long as ten of `tiny`, mostly for the products inside Muon.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from learning import best_multiplier, best_multipliers, widths_table
from matplotlib.figure import Figure
from measure import busy, provenance
from report import publish

from clozelab import load_corpus
from clozelab.objectives import CausalLM
from clozelab.training import NotFinite, Prepared, TrainConfig, prepare, seeded_model, train

RECIPES: dict[str, dict[str, Any]] = {
    "Muon": {"optimizer": "muon", "learning_rate": 6e-3, "matrix_learning_rate": 0.02, "matrix_momentum": 0.95},
    "AdamW": {"optimizer": "adamw", "learning_rate": 3e-3},
}
SIZES = {"tiny": 3, "small": 1}
"""Presets, and how many seeds the middle gets."""
MULTIPLIERS = (1 / 3, 1.0, 3.0)
BATCH, LENGTH = 12, 64


def heldout_nats(prepared: Prepared, size: str, settings: dict[str, Any], seed: int) -> tuple[float | None, int]:
    """At the end of one run, or None where it came to no number; and how many parameters the model has."""
    objective = CausalLM()
    model = seeded_model(objective, prepared.tokenizer.vocab_size, size, seed, tied=False)
    config = TrainConfig(length=LENGTH, batch_size=BATCH, decay=0.6, eval_every=0, seed=seed, **settings, warmup=0.05)
    try:
        result = train(objective, model, prepared.tokenizer, prepared.text, prepared.heldout, config)
    except NotFinite:
        return None, model.parameter_count()
    assert result.heldout is not None
    return result.heldout.nats, model.parameter_count()


def sweep(prepared: Prepared, sizes: dict[str, int], steps: int, eval_rows: int) -> list[dict[str, Any]]:
    """A row for each recipe, size and multiplier."""
    rows = []
    for size, seeds in sizes.items():
        for recipe, settings in RECIPES.items():
            for multiplier in MULTIPLIERS:
                scaled = {k: v * multiplier if k.endswith("learning_rate") else v for k, v in settings.items()}
                scaled |= {"steps": steps, "eval_rows": eval_rows}
                row = {"recipe": recipe, "size": size, "multiplier": multiplier, "nats": []}
                begun = time.process_time()
                for seed in range(seeds if multiplier == 1 else 1):
                    nats, row["parameters"] = heldout_nats(prepared, size, scaled, seed)
                    row["nats"].append(nats)
                row["seconds"] = time.process_time() - begun
                rows.append(row)
                print(f"{recipe}, {size}, {multiplier:.2g} x: {row['nats']} nats, {row['seconds']:.0f} s", flush=True)
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each recipe, a line for each size, its best point filled."""
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    panels = figure.subplots(1, len(RECIPES), sharey=True, squeeze=False)[0]
    for axes, recipe in zip(panels, RECIPES):
        for size, colour in zip(SIZES, ("#E69F00", "#0072B2")):
            mine = [row for row in rows if (row["recipe"], row["size"]) == (recipe, size) and None not in row["nats"]]
            if not mine:
                continue
            points = {row["multiplier"]: sum(row["nats"]) / len(row["nats"]) for row in mine}
            axes.plot(*zip(*points.items()), "o-", color=colour, markerfacecolor="white", label=size)
            best = best_multiplier(mine)
            axes.plot(best, points[best], "o", color=colour)
        axes.set_xscale("log")
        axes.set_xticks(MULTIPLIERS, [f"{m:.2g}x" for m in MULTIPLIERS])
        axes.minorticks_off()
        axes.set_title(recipe)
        axes.set_xlabel("learning rates")
        axes.legend()
    panels[0].set_ylabel("held-out nats per character")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Sweep, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="builtin")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="only see that it runs: `tiny` alone, two steps")
    parser.add_argument("--out", type=Path, default=Path("runs/widths"))
    parser.add_argument("--publish", action="store_true", help="also put figures and picture into the repository")
    args = parser.parse_args()
    if args.publish and args.quick:
        parser.error("a quick run is not published")
    torch.set_num_threads(1)
    before, steps = busy(), 2 if args.quick else args.steps
    prepared = prepare(load_corpus(args.corpus, split="position"), tokenizer="characters", sentinels=0)
    rows = sweep(prepared, {"tiny": 1} if args.quick else SIZES, steps, 8 if args.quick else 128)
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
