"""From a well-known recipe to ours, one change a rung: how long until the same held-out loss?

    python benchmarks/ladder.py shakespeare --corpus tinyshakespeare.txt
    python benchmarks/ladder.py masked --corpus ag_news.csv --column 2
    python benchmarks/ladder.py span --corpus ag_news.csv --column 2
    python benchmarks/ladder.py default-causal      default-masked, default-span: from 0.1's recipe to today's

Each on one thread; with `--publish` what comes out goes into `benchmarks/README.md`. The first rung is the recipe that
people would use, on the model of `transformers`; its held-out loss at the end of its budget, mean over the seeds, is
the goal of all rungs. A rung keeps what the rungs before it changed, but for its number of steps: a schedule that ends
sooner learns sooner, up to a point.

Seconds are processor seconds of the training steps alone, on one thread. All rungs see the same text, cut into the same
examples in the same order. An evaluation reads all held-out text of Shakespeare, and the first 256 blocks of longer
texts (`--rows`): all of AG News would take longer than the training.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

import torch
from learning import ladder_table
from matplotlib.figure import Figure
from measure import busy, provenance
from report import publish
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

from clozelab import load_corpus
from clozelab.evaluation import evaluate, fixed_batches
from clozelab.objectives import CausalLM, Loss, MaskedLM, Objective, SpanCorruption
from clozelab.training import Batches, Prepared, TrainConfig, clip_and_step, optimizer_of, prepare
from clozelab.training.precision import flushed_denormals, uses_bfloat16


@dataclass(frozen=True)
class Rung:
    """A recipe: whose model, which loss, and the settings of the run."""

    name: str
    config: TrainConfig
    theirs: bool = False
    """The model of `transformers` with its own loss, instead of ours."""
    cosine: bool = False
    """Down by a cosine to a tenth of the learning rate, as nanoGPT has it, instead of on a straight line to zero."""
    objective: Objective | None = None
    """What is trained on, where that is not what the ladder evaluates."""

    def but(
        self,
        name: str,
        *,
        theirs: bool = False,
        cosine: bool = False,
        objective: Objective | None = None,
        **changes,
    ) -> Rung:
        """The next rung: this one, but for what is changed."""
        return Rung(name, replace(self.config, **changes), theirs, cosine, objective)

    def share(self, progress: float) -> float:
        """Of the highest learning rate, when `progress` of the run is done."""
        if not self.cosine:
            return self.config.schedule(progress)
        after = max(0.0, progress - self.config.warmup) / (1 - self.config.warmup)
        return min(progress / self.config.warmup, 0.1 + 0.45 * (1 + math.cos(math.pi * after)))


@dataclass(frozen=True)
class Ladder:
    """An objective, the model that people would use for it, and the rungs."""

    objective: Objective
    peer: Callable[[int, int], nn.Module]
    """From (vocabulary, length) to a model of `transformers` of the shape of our "tiny"."""
    rungs: list[Rung]
    prepare: dict[str, object]
    """How the text is cut into tokens."""
    model: dict[str, object]
    """Fields of our `ModelConfig` other than those of "tiny"."""
    split: str = "auto"
    """How text is held out."""
    rows: int | None = 256
    """Blocks of held-out text in an evaluation; None: all there are."""


@dataclass(frozen=True)
class Climb:
    """One rung, one seed."""

    rung: str
    seed: int
    steps: int
    seconds: float
    """Of the whole run."""
    curve: list[tuple[int, float, float]]
    """(step, seconds, held-out nats) along the second half of the run."""

    def seconds_to(self, goal: float) -> float | None:
        """Until the first evaluation at or below the goal; None where it was not reached."""
        return next((seconds for _, seconds, nats in self.curve if nats <= goal), None)


def heldout_blocks(ladder: Ladder, length: int, prepared: Prepared) -> int:
    """How many blocks an evaluation reads."""
    there = len(prepared.heldout.blocks(ladder.objective.source_length(length)))
    return there if ladder.rows is None else min(ladder.rows, there)


def climb(ladder: Ladder, rung: Rung, seed: int, prepared: Prepared) -> Climb:
    """Train by one recipe, looking at the held-out loss ten times in the second half."""
    objective, config = rung.objective or ladder.objective, replace(rung.config, seed=seed)
    torch.manual_seed(seed)
    vocab_size, length = prepared.tokenizer.vocab_size, objective.source_length(config.length)
    if rung.theirs:
        model = ladder.peer(vocab_size, config.length)
    else:
        model = objective.build_model(vocab_size, "tiny", **ladder.model)
    special = prepared.tokenizer.special
    collator, heldout = objective.collator(special, seed=seed), prepared.heldout.blocks(length)
    batches = Batches(prepared.text.blocks(length), collator, config.batch_size, config.steps)
    rows = heldout_blocks(ladder, config.length, prepared)
    fixed = fixed_batches(heldout, ladder.objective.collator(special), rows=rows, batch_size=64)
    optimizer = optimizer_of(model, config)
    bfloat16 = uses_bfloat16(config.precision, torch.device("cpu"))
    seconds, curve = 0.0, []
    for step in range(config.steps):
        begun = time.process_time()
        batch = batches[step]
        optimizer.set_lr_scale(rung.share((step + 0.5) / config.steps))
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = objective(model, batch) if not rung.theirs else own_loss(objective, model, batch)
        loss.mean.backward()
        clip_and_step(optimizer, loss.detach(), config.max_grad_norm)
        seconds += time.process_time() - begun
        left = config.steps - 1 - step
        if left <= config.steps // 2 and left % -(-config.steps // 20) == 0:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                curve.append((step + 1, seconds, evaluate(ladder.objective, model, fixed).nats))
    return Climb(rung.name, seed, config.steps, seconds, curve)


def own_loss(objective: Objective, model: nn.Module, batch: dict[str, Tensor]) -> Loss:
    """The loss that a model of `transformers` computes itself: a mean over the loss positions, and so its sum."""
    count = objective.counts(batch)["logits"]
    return Loss.single(model(**batch).loss * count, count)


# ------------------------------------------------------------------ the recipes

IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}


def gpt2(vocab_size: int, length: int) -> nn.Module:
    """nanoGPT's recipe for a CPU has no dropout."""
    shape = {"n_embd": 128, "n_layer": 4, "n_head": 4, "n_positions": length}
    none = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, loss_type="ForCausalLM", **shape, **none, **IDS))


def bert(vocab_size: int, length: int) -> nn.Module:
    """Without dropout, which only costs in runs as short as these."""
    shape = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForMaskedLM(BertConfig(vocab_size=vocab_size, max_position_embeddings=length, **shape, **none, **IDS))


def t5(vocab_size: int, length: int) -> nn.Module:
    """T5 1.0's shape, and without dropout."""
    shape = {"d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
    return T5ForConditionalGeneration(
        T5Config(vocab_size=vocab_size, dropout_rate=0.0, decoder_start_token_id=0, **shape, **IDS)
    )


NANOGPT = Rung(
    "nanoGPT's recipe: GPT-2, AdamW, float32",
    TrainConfig(
        steps=2000,
        length=64,
        batch_size=12,
        optimizer="adamw",
        learning_rate=1e-3,
        betas=(0.9, 0.99),
        warmup=0.05,
        precision="float32",
        decay=0.4,
    ),
    theirs=True,
    cosine=True,
)
PLAIN = TrainConfig(
    steps=3000,
    optimizer="adamw",
    learning_rate=1e-3,
    betas=(0.9, 0.999),
    warmup=0.1,
    decay=0.9,
    weight_decay=0.01,
    precision="float32",
)
BERT = Rung("a BERT-style recipe: AdamW, float32", PLAIN, theirs=True)
T5 = Rung("a T5-style recipe: AdamW, float32", PLAIN, theirs=True)


BFLOAT16_THEIRS = "(the recipe in bfloat16)"
"""No rung that others stand on: it shows the peer at its best."""
BLOCKS = "our blocks, projecting only loss positions"
RATE = "three times the learning rate"
MUON = "today's defaults: Muon, its schedule and rates"
RECIPE = "many masks first, then fewer"


def up(first: Rung, steps: dict[str, int], recipe: Objective | None = None) -> list[Rung]:
    """The rungs that lead up from a recipe, each with its number of steps, in bfloat16 too where that is fast."""
    now = TrainConfig()
    fast = uses_bfloat16("auto", torch.device("cpu"))
    rungs = [first, first.but(BFLOAT16_THEIRS, theirs=True, cosine=first.cosine, precision="auto")]
    rungs.append(first.but(BLOCKS, cosine=first.cosine, steps=steps[BLOCKS]))
    rungs.append(rungs[-1].but(RATE, learning_rate=3 * first.config.learning_rate, decay=0.6, steps=steps[RATE]))
    shape = {"length": first.config.length, "batch_size": first.config.batch_size, "precision": "float32"}
    rungs.append(Rung(MUON, replace(now, **shape, steps=steps[MUON])))
    if recipe is not None:
        rungs.append(rungs[-1].but(RECIPE, objective=recipe, steps=steps[RECIPE]))
    rungs.append(rungs[-1].but("bfloat16", objective=recipe, precision="auto"))
    return rungs if fast else [rung for rung in rungs if rung.config.precision == "float32"]


def from_version_0_1(steps: int, objective: Objective | None = None) -> list[Rung]:
    """From what `clozelab compare` did in version 0.1 to what it does now, in so many steps at the end."""
    first = Rung(
        "0.1: AdamW, 0.003", TrainConfig(steps=781, optimizer="adamw", precision="float32", warmup=0.05, decay=0.4)
    )
    muon = first.but("Muon inside the blocks", steps=steps, optimizer="muon", learning_rate=3e-3, matrix_momentum=0.95)
    table = muon.but("0.03 for the table", learning_rate=None)
    now = TrainConfig()
    schedule = {"warmup": now.warmup, "decay": now.decay, "matrix_momentum": now.matrix_momentum}
    rungs = [first, muon, table, table.but("less momentum, falling for 80% of the run", **schedule)]
    if objective is not None:
        rungs.append(rungs[-1].but("many masks first, then fewer", objective=objective))
    return rungs


LADDERS = {
    "shakespeare": Ladder(
        CausalLM(),
        gpt2,
        up(NANOGPT, {BLOCKS: 1500, RATE: 900, MUON: 300}),
        {"tokenizer": "characters", "sentinels": 0},
        {"tied": False},
        rows=None,
        split="position",
    ),
    "masked": Ladder(
        MaskedLM(),
        bert,
        up(BERT, {BLOCKS: 800, RATE: 500, MUON: 250, RECIPE: 200}, MaskedLM.with_recipe()),
        {"vocab_size": 4096},
        {},
    ),
    "span": Ladder(SpanCorruption(), t5, up(T5, {BLOCKS: 1200, RATE: 700, MUON: 350}), {"vocab_size": 4096}, {}),
    "default-causal": Ladder(CausalLM(), gpt2, from_version_0_1(390), {}, {}),
    "default-masked": Ladder(MaskedLM(), bert, from_version_0_1(390, MaskedLM.with_recipe()), {}, {}),
    "default-span": Ladder(SpanCorruption(), t5, from_version_0_1(390), {}, {}),
}


# ------------------------------------------------------------------ what came out


def climbed(path: Path) -> dict[tuple[str, int, int], Climb]:
    """The climbs of a file, by rung, seed and steps."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    climbs = [Climb(**json.loads(line)) for line in lines]
    return {(climb.rung, climb.seed, climb.steps): climb for climb in climbs}


def table(climbs: list[Climb]) -> list[dict]:
    """A row for each rung: steps, held-out loss, seconds to the goal, and how many times sooner than the recipe."""
    names = list(dict.fromkeys(climb.rung for climb in climbs))
    of = {name: sorted((c for c in climbs if c.rung == name), key=lambda c: c.seed) for name in names}
    goal = fmean(c.curve[-1][2] for c in of[names[0]])
    base = fmean(c.seconds for c in of[names[0]])
    rows = []
    for name, climbs in of.items():
        nats, seconds = [c.curve[-1][2] for c in climbs], [c.seconds_to(goal) for c in climbs]
        if climbs is of[names[0]]:
            seconds = [c.seconds for c in climbs]  # by definition
        reached = [second for second in seconds if second is not None]
        rows.append(
            {
                "rung": name,
                "steps": climbs[0].steps,
                "nats": fmean(nats),
                "nats_spread": stdev(nats) if len(nats) > 1 else None,
                "milliseconds_per_step": 1000 * fmean(c.seconds for c in climbs) / climbs[0].steps,
                "seconds": seconds,
                "times_sooner": base / fmean(reached) if len(reached) == len(seconds) else None,
            }
        )
    return rows


def draw(rows: list[dict], name: str, path: Path) -> None:
    """A bar for each rung: seconds until the recipe's own loss, pale where not every seed reached it."""
    figure = Figure(figsize=(8, 0.45 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    for y, row in enumerate(rows):
        reached = [second for second in row["seconds"] if second is not None]
        if reached:
            colour = "#D55E00" if row["rung"] in (rows[0]["rung"], BFLOAT16_THEIRS) else "#0072B2"
            axes.barh(y, fmean(reached), color=colour, alpha=1 if len(reached) == len(row["seconds"]) else 0.3)
            axes.plot(reached, [y] * len(reached), "k|")
            label = f" {fmean(reached):.0f} s"
            label += f", {row['times_sooner']:.1f} times sooner" if row["times_sooner"] is not None and y else ""
            axes.text(max(reached), y, label, va="center", fontsize=8)
        else:
            axes.text(0, y, " not reached", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{row['rung']} ({row['steps']} steps)" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"processor seconds to {rows[0]['nats']:.3f} nats held out", loc="left")
    axes.set_xlim(right=1.35 * max(s for row in rows for s in row["seconds"] if s is not None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"{name}: marks are seeds, one thread", loc="left", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Climb each rung from each seed, print the table, write JSON and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ladder", choices=LADDERS)
    parser.add_argument("--corpus", default="builtin")
    parser.add_argument("--column", help="of text, in a table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="only rungs whose name holds one of these")
    parser.add_argument("--steps", type=int, help="instead of each rung's own")
    parser.add_argument("--rows", type=int, help="held-out blocks of an evaluation  (default: 256; Shakespeare: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/ladders"))
    parser.add_argument("--resume", action="store_true", help="keep the climbs of earlier runs that are in --out")
    parser.add_argument("--publish", action="store_true", help="also put figures and picture into the repository")
    args = parser.parse_args()
    if args.publish and (args.only or args.steps):
        parser.error("publish whole ladders: without --only and --steps")
    torch.set_num_threads(1)
    before, ladder = busy(), LADDERS[args.ladder]
    ladder = replace(ladder, rows=args.rows or ladder.rows)
    column = {"text_column": args.column} if args.column else {}
    corpus = load_corpus(args.corpus, split=ladder.split, **column)
    prepared = prepare(corpus, roles=ladder.objective.roles, **ladder.prepare)
    rungs = [rung for rung in ladder.rungs if not args.only or any(part in rung.name for part in args.only)]
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / f"{args.ladder}.jsonl"  # each climb as it ends: a ladder may take hours
    done = climbed(kept) if args.resume else {}
    climbs = []
    with flushed_denormals():
        for seed in args.seeds:  # all rungs of a seed together, so that a slow hour touches all of them
            for rung in rungs:
                rung = replace(rung, config=replace(rung.config, steps=args.steps or rung.config.steps))
                last = done.get((rung.name, seed, rung.config.steps))
                again = "" if last is None else "  (climbed before)"
                if last is None:
                    last = climb(ladder, rung, seed, prepared)
                    with kept.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(last)) + "\n")
                climbs.append(last)
                nats = f"{last.curve[-1][2]:.4f} nats in {last.seconds:.1f} s"
                print(f"seed {seed}  {rung.name}, {last.steps} steps: {nats}{again}", flush=True)
    rows = table(climbs)
    print(ladder_table(rows))
    stamp = provenance(before)
    if done:
        stamp.pop("others", None)  # what else ran beside the climbs of earlier processes was not kept
    record = {
        **stamp,
        "threads": 1,
        "ladder": args.ladder,
        "corpus": Path(args.corpus).name,
        "seeds": args.seeds,
        "heldout_blocks": heldout_blocks(ladder, rungs[0].config.length, prepared),
        "rows": rows,
        "climbs": [asdict(climb) for climb in climbs],
    }
    (args.out / f"{args.ladder}.json").write_text(json.dumps(record))
    draw(rows, args.ladder, args.out / f"{args.ladder}.png")
    if args.publish:
        publish(f"ladder-{args.ladder}", record, lambda path: draw(rows, args.ladder, path))


if __name__ == "__main__":
    main()
