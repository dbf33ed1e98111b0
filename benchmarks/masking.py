"""Masking rates, and a causal phase before the masked one: what masked LM has learned after the same compute.

    python benchmarks/masking.py --corpus tinyshakespeare.txt --device cuda --processes 8      3 minutes on one H100
    python benchmarks/masking.py --quick                                                       seconds, that it runs

Every recipe gets the same floating-point operations of its model (`clozelab.planning.flops`), so a causal phase, whose
steps predict every token, has fewer steps than a masked one. All are measured on the same held-out rows with the same
masks, 15% of the tokens. Each phase has its own learning rate schedule; "masked twice" shows what that alone does.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from clozelab import CausalLM, MaskedLM, load_corpus
from clozelab.evaluation import evaluate, fixed_batches
from clozelab.models import model_config
from clozelab.objectives import Objective
from clozelab.planning import flops, row_of
from clozelab.training import Prepared, TrainConfig, prepare, seeded_model, train

LENGTH, BATCH, VOCABULARY = 128, 32, 2000
RECIPES: dict[str, list[tuple[Objective, float]]] = {
    "masked, 15%": [(MaskedLM(), 1.0)],
    "masked, 30%": [(MaskedLM(mask_rate=0.3), 1.0)],
    "masked, 30% to 15%": [(MaskedLM(mask_rate=0.3, final_mask_rate=0.15), 1.0)],
    "masked twice, 15%": [(MaskedLM(), 0.5), (MaskedLM(), 0.5)],
    "causal, then masked, 15%": [(CausalLM(), 0.5), (MaskedLM(), 0.5)],
}
"""Phases, each with its share of the compute."""


def steps_of(objective: Objective, share: float, steps: int) -> int:
    """How many steps have this share of the compute of so many steps of masked LM at 15%."""
    config = model_config(objective.architecture, "tiny", VOCABULARY)
    step, whole = (flops(one, config, row_of(one, LENGTH)).total for one in (objective, MaskedLM()))
    return max(1, round(share * steps * whole / step))


def heldout_nats(recipe: str, seed: int, prepared: Prepared, steps: int, device: str) -> float:
    """Of masked LM at 15%, once all phases are over."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        before = None
        for number, (objective, share) in enumerate(RECIPES[recipe]):
            model = seeded_model(objective, prepared.tokenizer.vocab_size, "tiny", seed).to(device)
            config = TrainConfig(
                steps=steps_of(objective, share, steps),
                length=LENGTH,
                batch_size=BATCH,
                optimizer="adamw",
                eval_every=0,
                seed=seed,
                warmup=0.05,
                decay=0.4,
            )
            run = Path(folder, str(number))
            text = prepared.tokenizer, prepared.text, prepared.heldout
            train(objective, model, *text, config, run=run, init_from=before)
            before = run
        collate = MaskedLM().collator(prepared.tokenizer.special)
        batches = fixed_batches(prepared.heldout.blocks(LENGTH), collate, rows=512)
        return evaluate(MaskedLM(), model, batches).nats


def main() -> None:
    """Train all recipes from several seeds, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="builtin")
    parser.add_argument("--steps", type=int, default=3000, help="of masked LM at 15%%; the others by their compute")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="only see that it runs: two steps from one seed")
    args = parser.parse_args()
    steps, seeds = (2, 1) if args.quick else (args.steps, args.seeds)
    prepared = prepare(load_corpus(args.corpus, split="position"), vocab_size=VOCABULARY, sentinels=0)
    with ProcessPoolExecutor(args.processes, torch.multiprocessing.get_context("spawn")) as pool:
        jobs = {
            recipe: [pool.submit(heldout_nats, recipe, seed, prepared, steps, args.device) for seed in range(seeds)]
            for recipe in RECIPES
        }
        print("| recipe | steps | held-out nats per hidden token | each seed |\n| --- | --- | --- | --- |")
        for recipe, of_seeds in jobs.items():
            nats = [job.result() for job in of_seeds]
            phases = " + ".join(f"{steps_of(objective, share, steps):,}" for objective, share in RECIPES[recipe])
            each = ", ".join(f"{one:.3f}" for one in nats)
            print(f"| {recipe} | {phases} | {statistics.mean(nats):.3f} | {each} |", flush=True)


if __name__ == "__main__":
    main()
