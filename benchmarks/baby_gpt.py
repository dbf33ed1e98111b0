"""Baby GPT without a GPU: nanoGPT's GPU figure for the characters of Shakespeare, on two cores.

    python benchmarks/baby_gpt.py --corpus tinyshakespeare.txt --minutes 42

nanoGPT trains 10.6 M parameters (6 layers, width 384, context 256, dropout 0.2) on a GPU and reports a validation loss
of 1.4697 nats on the last tenth of the text. Here a smaller model of the same depth and context goes after it, by Muon,
the learning rate following the clock. Log, curve and weights end up in the run folder, so that Ctrl-C costs nothing.
It has not been run to its end yet: `benchmarks/README.md`.
"""

import argparse
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure

from clozelab.objectives import CausalLM
from clozelab.training import TrainConfig, prepare, read_metrics, train
from clozelab.training.run import seeded_model

GOAL = 1.4697
SHAPE = {"width": 256, "layers": 6, "heads": 4, "dropout": 0.2, "tied": False}


def main() -> None:
    """Train by the clock, say what was reached and when, draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="tinyshakespeare.txt")
    parser.add_argument("--minutes", type=float, default=42.0, help="of training; evaluations come on top")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, default=Path("runs/baby-gpt"))
    args = parser.parse_args()
    begun = time.perf_counter()
    prepared = prepare(args.corpus, tokenizer="characters", sentinels=0, split="position")
    objective = CausalLM()
    model = seeded_model(objective, prepared.tokenizer.vocab_size, "small", args.seed, **SHAPE)
    print(f"{model.parameter_count() / 1e6:.2f} M parameters, {torch.get_num_threads()} threads")
    config = TrainConfig(
        steps=10**6,  # the clock ends it
        minutes=args.minutes,
        length=256,
        batch_size=24,
        optimizer="muon",
        warmup=0.02,
        decay=0.7,
        eval_every=200,
        eval_rows=10**6,  # all of them
        checkpoint_every=400,
        seed=args.seed,
    )
    result = train(
        objective, model, prepared.tokenizer, prepared.text, prepared.heldout, config, run=args.run, progress=True
    )
    lines = read_metrics(args.run / "metrics.jsonl")
    seconds = {line["step"]: line["seconds"] for line in lines if "seconds" in line} | {0: 0.0}
    curve = [(seconds[line["step"]] / 60, line["heldout"]) for line in lines if "heldout" in line]
    best_at, best = min(curve, key=lambda point: point[1])
    reached = next((minute for minute, nats in curve if nats <= GOAL), None)
    print(f"{result.step} steps, {result.tokens / 1e6:.1f} M characters, {result.tokens_per_second:,.0f} a second")
    print(f"best {best:.4f} nats after {best_at:.1f} minutes of training; the end: {curve[-1][1]:.4f}")
    print(f"{GOAL} {'not reached' if reached is None else f'reached after {reached:.1f} minutes'}")
    print(f"everything, evaluations included, took {(time.perf_counter() - begun) / 60:.1f} minutes")
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    trained = [(line["seconds"] / 60, line["loss"]) for line in lines if "loss" in line]
    smooth = [sum(nats for _, nats in trained[i : i + 20]) / 20 for i in range(len(trained) - 20)]
    axes.plot([minute for minute, _ in trained[20:]], smooth, color="#999999", label="training, with dropout")
    axes.plot(*zip(*curve), "o-", color="#0072B2", markersize=3, label=f"held out, best {best:.4f}")
    axes.axhline(GOAL, color="#D55E00", linestyle="--", label=f"nanoGPT on a GPU, {GOAL}")
    axes.set(xlabel="minutes of training on two cores", ylabel="nats per character", ylim=(1.0, 2.2))
    axes.legend()
    figure.savefig(args.run / "curve.png", dpi=130)


if __name__ == "__main__":
    main()
