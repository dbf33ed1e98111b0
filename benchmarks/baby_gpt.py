"""Baby GPT without a GPU: nanoGPT's GPU figure for the characters of Shakespeare, on two cores.

    python benchmarks/baby_gpt.py --corpus tinyshakespeare.txt --publish      train, show, publish
    python benchmarks/baby_gpt.py --run runs/baby-gpt --publish               show and publish a run that is done

nanoGPT trains 10.6 M parameters (6 layers, width 384, context 256, dropout 0.2) on a GPU and reports a validation loss
of 1.4697 nats on the last tenth of the text. Here a smaller model of the same depth and context goes after it, by Muon,
the learning rate following the clock. Log, curve and weights end up in the run folder, so that Ctrl-C costs nothing.
What came out is in `benchmarks/README.md`.
"""

import argparse
import os
from datetime import date
from pathlib import Path
from typing import Any

import torch
from learning import BABY_GOAL, baby
from matplotlib.figure import Figure
from measure import machine
from report import publish

from clozelab import load_corpus
from clozelab.models import ARCHITECTURES, ModelConfig
from clozelab.models.sketch import sketched
from clozelab.objectives import CausalLM
from clozelab.training import TrainConfig, prepare, read_metrics, read_run, seeded_model, train

GOAL = BABY_GOAL["nats"]
SHAPE = {"d_model": 256, "n_layers": 6, "n_heads": 4, "dropout": 0.2, "tied": False}
SMOOTH = 20
"""Steps over which the loss of training is averaged for the picture."""


def train_it(corpus: str, minutes: float, seed: int, run: Path) -> None:
    """Train by the clock, everything being written into the run folder."""
    prepared = prepare(load_corpus(corpus, split="position"), tokenizer="characters", sentinels=0)
    objective = CausalLM()
    model = seeded_model(objective, prepared.tokenizer.vocab_size, "small", seed, **SHAPE)
    print(f"{model.parameter_count() / 1e6:.2f} M parameters, {torch.get_num_threads()} threads")
    config = TrainConfig(
        steps=10**6,  # the clock ends it
        minutes=minutes,
        length=256,
        batch_size=24,
        learning_rate=3e-3,
        warmup=0.02,
        decay=0.7,
        eval_every=200,
        eval_rows=10**6,  # all of them
        checkpoint_every=400,
        seed=seed,
        matrix_momentum=0.95,
    )
    description = {"machine": machine(), "threads": torch.get_num_threads()}
    texts = prepared.tokenizer, prepared.text, prepared.heldout
    train(objective, model, *texts, config, run=run, progress=True, description=description)


def record_of(run: Path) -> dict[str, Any]:
    """What a run folder holds: the curve, the best loss, how long it took. Nothing is trained.

    Where the run did not write down its machine, it is taken to be this one. Its whole time, evaluations included, is
    that between its first file and its last line; None where the folder was copied and these times are lost.
    """
    described, path = read_run(run), run / "metrics.jsonl"
    lines, config = read_metrics(path), described["train"]
    seconds = {0: 0.0} | {line["step"]: line["seconds"] for line in lines if "seconds" in line}
    curve = [(line["step"], seconds[line["step"]] / 60, line["heldout"]) for line in lines if "heldout" in line]
    steps = [(line["seconds"] / 60, line["loss"]) for line in lines if "loss" in line]
    smooth = [sum(nats for _, nats in steps[i - SMOOTH : i]) / SMOOTH for i in range(SMOOTH, len(steps), SMOOTH)]
    with sketched():
        model = ARCHITECTURES["decoder-only"](ModelConfig(**described["model"]))
    _, best_at, best = min(curve, key=lambda point: point[2])
    last, minutes = max(seconds), seconds[max(seconds)] / 60
    whole = (os.stat(path).st_mtime - os.stat(run / "run.json").st_mtime) / 60
    on = described["description"].get("machine") or {**machine(), "torch": described["versions"]["torch"]}
    shape = described["model"]
    return {
        "date": date.fromtimestamp(os.stat(path).st_mtime).isoformat(),
        "machine": on,
        "threads": described["description"].get("threads"),
        "finished": minutes >= config["minutes"] and curve[-1][0] == last,
        "minutes": minutes,
        "wall_minutes": whole if whole >= minutes else None,
        "steps": last,
        "characters_per_step": config["batch_size"] * config["length"],
        "parameters": model.parameter_count(),
        "shape": f"{shape['n_layers']} layers of width {shape['d_model']}, context {config['length']}, "
        f"dropout {shape['dropout']}",
        "best": best,
        "best_at": best_at,
        "end": curve[-1][2],
        "reached_at": next((minute for _, minute, nats in curve if nats <= GOAL), None),
        "curve": curve,
        "training": [(steps[(i + 1) * SMOOTH - 1][0], nats) for i, nats in enumerate(smooth)],
    }


def draw(record: dict[str, Any], path: Path) -> None:
    """Training and held-out loss over the minutes, and the goal."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    curve = [(minute, nats) for _, minute, nats in record["curve"]]
    if record["training"]:
        axes.plot(*zip(*record["training"]), color="#999999", label="training, with dropout")
    axes.plot(*zip(*curve), "o-", color="#0072B2", markersize=3, label=f"held out, best {record['best']:.4f}")
    axes.axhline(GOAL, color="#D55E00", linestyle="--", label=f"nanoGPT on a GPU, {GOAL}")
    axes.set(xlabel="minutes of training on two cores", ylabel="nats per character", ylim=(1.0, 2.2))
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Train unless the folder holds a run, print what was reached and when, draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="tinyshakespeare.txt; needed to train")
    parser.add_argument("--minutes", type=float, default=42.0, help="of training; evaluations come on top")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=Path("runs/baby-gpt"))
    parser.add_argument("--publish", action="store_true", help="also put figures and picture into the repository")
    args = parser.parse_args()
    if (args.run / "run.json").exists():
        print(f"{args.run} holds a run: it is shown, and nothing is trained")
    elif args.corpus is None:
        parser.error(f"{args.run} holds no run: give a --corpus to train on")
    else:
        train_it(args.corpus, args.minutes, args.seed, args.run)
    record = record_of(args.run)
    print(baby(record).body)
    draw(record, args.run / "curve.png")
    if args.publish and not record["finished"]:
        parser.error(f"the run in {args.run} did not come to its end, and is not published")
    if args.publish:
        publish("baby-gpt", record, lambda path: draw(record, path))


if __name__ == "__main__":
    main()
