"""The same measurements on a GPU, in one command and one table.

    python benchmarks/gpu.py --corpus tinyshakespeare.txt --publish    20 minutes on one GPU of 80 GB, by estimate
    python benchmarks/gpu.py --rows 4                                  training batches of 4 rows, for a smaller one
    python benchmarks/gpu.py --device cpu --quick                      seconds: only that it runs, nothing compiled

1. Training steps against `GPT2LMHeadModel`, `BertForMaskedLM` and `T5ForConditionalGeneration` at the shapes of GPT-2
   small, BERT-base and T5-base, both sides by `torch.compile`, bfloat16 autocast, fused AdamW, SDPA where the model has
   it; and what share of the best matrix product of the same rounds ours reaches.
2. Documents packed in a row: SDPA with the bool mask that our models make, against FlexAttention. Our models have no
   option for it; it is put in the place of `layers.attend` here, its block mask made once for a batch that does not
   change. FlexAttention has no backward on a processor, so this one is for a GPU alone.
3. The loss of 4096 positions, vocabulary 32768, against `cross_entropy` on full logits: memory and time.
4. Baby GPT by Muon, six layers of width 256: seconds of training until 1.4697 held-out nats, which nanoGPT's 10.6 M
   parameters reach. A model of that width learns the text by heart before it gets there.

Without a GPU it prints so and ends with code 2.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loss
import peers
import steps
import torch
from learning import BABY_GOAL
from measure import DTYPES, Spread, alternate, busy, product, provenance, ratio, resident_peak, settle
from report import publish
from results import Result, speed, table
from section_outcome import measured_on
from suite_page import gpu

from clozelab import load_corpus
from clozelab.evaluation import evaluate, fixed_batches
from clozelab.models import layers
from clozelab.objectives import OBJECTIVES, CausalLM, LossModule
from clozelab.objectives.cross_entropy import compiled_loss
from clozelab.training import Batches, TrainConfig, optimizer_of, prepare, seeded_model, train_step, training_flops
from clozelab.training.precision import uses_bfloat16

SHAPES = {
    "causal": ("GPT-2 small", {"vocabulary": 50304, "rows": 16, "length": 1024}),
    "masked": ("BERT-base", {"vocabulary": 30592, "rows": 32, "length": 512}),
    "span": ("T5-base", {"vocabulary": 32128, "rows": 32, "length": 512}),
}
"""Vocabularies are multiples of 64."""
BASE = {"d_model": 768, "n_layers": 12, "n_heads": 12}
DOCUMENTS = 8
"""Equally long ones in each row."""
BABY_SECONDS = 60.0


@dataclass(frozen=True)
class Device:
    """Where things run, how often, and how one knows that they are done."""

    name: str
    quick: bool
    rows: int | None = None
    """Of a training batch, instead of each shape's own."""

    @property
    def compiled(self) -> str:
        """Compiling takes longer than everything else in a quick run."""
        return "" if self.quick else "whole"

    def fast_loss(self) -> AbstractContextManager[None]:
        """Inside, our loss is compiled as well, as `train --compile` has it on a GPU."""
        return nullcontext() if self.quick or self.name == "cpu" else compiled_loss()

    def settled(self) -> None:
        """Wait for what was begun."""
        if self.name == "cuda":
            torch.cuda.synchronize()

    def times(self, sides: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
        """Wall seconds of each side, in turns; compiling is in calls that are not counted."""
        for work in sides.values():
            for _ in range(1 if self.quick else 3):
                work()
        rounds, least = (1, 0.0) if self.quick else (10, 0.3)
        spent = alternate(sides, rounds, least=least, settled=self.settled)
        return {name: times.wall for name, times in spent.items()}

    def peak(self, work: Callable[[], Any]) -> int:
        """Bytes allocated at most during `work`, on top of those before it."""
        if self.name == "cpu":
            return resident_peak(work)
        self.settled()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        self.settled()
        return torch.cuda.max_memory_allocated() - before

    def forget(self) -> None:
        """Give back what the measurement before has left."""
        torch._dynamo.reset()
        gc.collect()
        if self.name == "cuda":
            torch.cuda.empty_cache()


# --------------------------------------------------------------------------- training steps


def shape_of(device: Device, objective: str) -> tuple[str, dict[str, int], dict[str, int]]:
    """Its name, that of the batch, and that of the model."""
    name, batch = SHAPES[objective]
    if device.quick:
        return f"{name}, but tiny", dict(steps.SMALL), dict(steps.QUICK)
    return name, {**batch, "rows": device.rows or batch["rows"]}, dict(BASE)


def training(device: Device) -> list[Result]:
    """Ours beside theirs, and beside the best matrix product, by objective."""
    results = []
    for objective in SHAPES:
        with device.fast_loss():
            results += _trained(device, objective)
        device.forget()
    return results


def _trained(device: Device, objective: str) -> list[Result]:
    name, size, shape = shape_of(device, objective)
    vocabulary = size["vocabulary"]
    batch, tokens = steps._batch(objective, device=device.name, **size)
    operations = operations_of(objective, vocabulary, batch, shape)
    our_step, our_model = steps.ours(objective, vocabulary, batch, compiled=device.compiled, **shape)
    their_step, their_model, attention = peer(device, objective, vocabulary, batch, shape)
    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: our_step("bfloat16"),
        "theirs": lambda: their_step("bfloat16"),
    }
    products = {str(n): product("bfloat16", n, device.name) for n in ((64,) if device.quick else (4096, 8192))}
    spent = device.times({**sides, **{n: work for n, (work, _) in products.items()}})
    best = [max(products[n][1] / spent[n][r] for n in products) for r in range(len(spent["ours"]))]
    shares = [operations / seconds / peak for seconds, peak in zip(spent["ours"], best)]
    sizes = [peers.parameters(model) / 1e6 for model in (our_model, their_model)]
    return [
        Result(
            "gpu step",
            f"{objective}: training step, {name}, {size['rows']} x {size['length']}",
            steps.PEERS[objective],
            ratio(spent["theirs"], spent["ours"]),
            "x",
            None,
            ours=speed(tokens, spent["ours"]),
            theirs=speed(tokens, spent["theirs"]),
            memory=(device.peak(sides["ours"]), device.peak(sides["theirs"])),
            detail=f"parameters {sizes[0]:.1f} M and {sizes[1]:.1f} M; their attention {attention}; memory is on top "
            "of weights and optimiser",
        ),
        Result(
            "gpu utilisation",
            f"{objective}: model FLOPs of that step",
            "the best product",
            Spread.of(shares),
            "%",
            0.5,
            ours=f"{operations / Spread.of(spent['ours']).median / 1e12:.3g} TFLOP/s",
            theirs=f"{Spread.of(best).median / 1e12:.3g} TFLOP/s",
        ),
    ]


def operations_of(objective: str, vocabulary: int, batch: dict[str, torch.Tensor], shape: dict[str, int]) -> float:
    """Of one step, counted without the compiler: the counter does not see into its kernels."""
    _, model = steps.ours(objective, vocabulary, batch, **shape)
    return training_flops(OBJECTIVES[objective](), model, [batch])


def peer(device: Device, objective: str, vocabulary: int, batch: dict[str, torch.Tensor], shape: dict) -> Any:
    """Their step, their model, and which attention it has: SDPA but for a model that has none."""
    for attention in ("sdpa", "eager"):
        try:
            made = steps.theirs(objective, vocabulary, batch, attention, compiled=device.compiled, **shape)
        except ValueError:  # this model has no such kernel
            continue
        return *made, attention
    raise AssertionError("every model has an eager attention")


# --------------------------------------------------------------------------- documents


def flex_attend(documents: torch.Tensor) -> Callable[..., torch.Tensor]:
    """Takes the place of `layers.attend`: causal, within the documents (B, T) of one batch."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def causal_within_documents(b: Any, h: Any, query: Any, key: Any) -> Any:
        return (query >= key) & (documents[b, query] == documents[b, key])

    rows, length = documents.shape
    mask = create_block_mask(causal_within_documents, rows, None, length, length, device=documents.device.type)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _: Any) -> torch.Tensor:
        # Under autocast the norm has made float32 of q and k, while v is bfloat16.
        return flex_attention(q.to(v.dtype), k.to(v.dtype), v, block_mask=mask)  # pyright: ignore

    return attend


def documents(device: Device) -> list[Result]:
    """Packed documents at the shape of GPT-2 small, by either kernel; nothing where FlexAttention cannot train."""
    if device.name == "cpu":
        return []
    name, size, shape = shape_of(device, "causal")
    batch, tokens = steps._batch("causal", device=device.name, **size)
    ids = (torch.arange(size["length"], device=device.name) * DOCUMENTS // size["length"]).expand(size["rows"], -1)
    with_ids = {**batch, "document_ids": ids.contiguous()}
    by_mask, _ = steps.ours("causal", size["vocabulary"], with_ids, compiled=device.compiled, **shape)
    by_flex, _ = steps.ours("causal", size["vocabulary"], batch, compiled=device.compiled, **shape)
    fused, flex = layers.attend, flex_attend(with_ids["document_ids"])

    def with_flex() -> None:
        layers.attend = flex
        try:
            by_flex("bfloat16")
        finally:
            layers.attend = fused

    sides = {"ours": lambda: by_mask("bfloat16"), "flex": with_flex}
    with device.fast_loss():
        spent = device.times(sides)
    result = Result(
        "gpu documents",
        f"causal: training step, {name}, {DOCUMENTS} documents a row",
        "the same with FlexAttention",
        ratio(spent["flex"], spent["ours"]),
        "x",
        None,
        ours=speed(tokens, spent["ours"]),
        theirs=speed(tokens, spent["flex"]),
        memory=(device.peak(sides["ours"]), device.peak(sides["flex"])),
        detail="ours is SDPA with a bool mask (B, 1, T, T); below 1x FlexAttention is the faster one",
    )
    device.forget()
    return [result]


# --------------------------------------------------------------------------- the loss


def loss_memory(device: Device) -> list[Result]:
    """Value and gradients, by our chunks and by all logits at once, in both dtypes; each also compiled."""
    results = []
    for dtype in DTYPES:
        shape = {"positions": 4096, "vocabulary": 32768, "d_model": 768, "dtype": dtype}
        if device.quick:
            shape |= {"positions": 64, "vocabulary": 512, "d_model": 16}
        for compiled in (False, True) if device.compiled else (False,):
            results += _loss(device, shape, compiled)
            device.forget()
    return results


def _loss(device: Device, shape: dict[str, Any], compiled: bool) -> list[Result]:
    sides: dict[str, Callable[[], Any]] = dict(loss.sides(**shape, device=device.name, compiled=compiled))
    del sides["linear_cross_entropy"]
    with device.fast_loss() if compiled else nullcontext():
        spent = device.times(sides)
        peaks = {name: device.peak(work) for name, work in sides.items()}
    name = f"loss of {shape['positions']} positions, vocabulary {shape['vocabulary']}, {shape['dtype']}"
    name += ", both compiled" if compiled else ""
    milliseconds = {side: f"{1e3 * Spread.of(times).median:.3g} ms" for side, times in spent.items()}
    return [
        loss.peak_memory("gpu loss memory", name, peaks),
        Result(
            "gpu loss time",
            f"{name}: time",
            "the same",
            ratio(spent["ours"], spent["theirs"]),
            "times theirs",
            1.2,
            least=False,
            ours=milliseconds["ours"],
            theirs=milliseconds["theirs"],
        ),
    ]


# --------------------------------------------------------------------------- baby GPT


def baby_gpt(device: Device, corpus: str) -> list[Result]:
    """Seconds of training until nanoGPT's loss; compiling and evaluations, of all held-out text, come on top."""
    goal = BABY_GOAL["nats"]
    prepared = prepare(load_corpus(corpus, split="position"), tokenizer="characters", sentinels=0)
    objective, special = CausalLM(), prepared.tokenizer.special
    config = TrainConfig(
        steps=1200,
        length=256,
        batch_size=32,
        optimizer="muon",
        learning_rate=3e-3,
        warmup=0.02,
        decay=0.7,
        matrix_momentum=0.95,
    )
    every, shape, eval_rows = 25, {}, 10**6
    if device.quick:
        config = TrainConfig(steps=2, length=16, batch_size=2, optimizer="muon")
        every, shape, eval_rows = 1, steps.QUICK, 4
    vocabulary = prepared.tokenizer.vocab_size
    shape = {"d_model": 256, "n_layers": 6, "n_heads": 4, "dropout": 0.25, "tied": False, **shape}
    model = seeded_model(objective, vocabulary, "small", 0, **shape)
    model.to(device.name).train()
    network = torch.compile(model) if device.compiled else model
    batches = Batches(prepared.text.blocks(config.length), objective.collator(special), config.batch_size)
    heldout = prepared.heldout.blocks(config.length)
    rows = min(eval_rows, len(heldout))
    fixed = fixed_batches(heldout, objective.collator(special), rows=rows, batch_size=config.batch_size)
    optimizer, where = optimizer_of(model, config), torch.device(device.name)
    bfloat16 = uses_bfloat16("auto", where)

    module = LossModule(objective, network)

    def batch_at(step: int) -> dict[str, torch.Tensor]:
        batch = batches[step]
        del batch["attention_mask"]  # all ones: every block is full
        return batch

    torch.manual_seed(0)
    begun = time.perf_counter()
    with torch.autocast(device.name, torch.bfloat16, enabled=bfloat16):
        value, _ = module({key: tensor.to(where) for key, tensor in batch_at(0).items()})  # compiles
    value.backward()
    device.settled()
    for parameter in model.parameters():
        parameter.grad = None
    compiling = time.perf_counter() - begun
    seconds, curve = 0.0, []
    for step in range(config.steps):
        begun = time.perf_counter()
        optimizer.set_lr_scale(config.schedule((step + 0.5) / config.steps))
        settings = {"max_grad_norm": config.max_grad_norm, "device": where, "bfloat16": bfloat16}
        train_step(module, [batch_at(step)], optimizer, **settings)
        device.settled()
        seconds += time.perf_counter() - begun
        if (step + 1) % every == 0 and step + 1 >= config.steps // 4:
            with torch.autocast(device.name, torch.bfloat16, enabled=bfloat16):
                curve.append((step + 1, seconds, evaluate(objective, model, fixed).nats))
            if curve[-1][2] <= goal:
                break
    best = min(nats for _, _, nats in curve)
    detail = (
        f"{curve[-1][0]} steps of {config.batch_size} x {config.length} characters in {seconds:.1f} s, best {best:.4f} "
        f"nats; {compiling:.1f} s for the first pass, which compiles, come on top"
    )
    more: dict[str, Any] = {
        "ours": f"{model.parameter_count() / 1e6:.2f} M parameters",
        "least": False,
        "detail": detail,
    }
    if best <= goal:
        name, figure = f"baby GPT: training until {goal} held-out nats", Spread.of([seconds])
        return [Result("gpu baby GPT", name, "nanoGPT's figure", figure, "s", BABY_SECONDS, **more)]
    name, figure = f"baby GPT: best held-out nats, {goal} not reached", Spread.of([best])
    return [Result("gpu baby GPT", name, "nanoGPT's figure", figure, "nats", goal, **more)]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="tinyshakespeare.txt; without one baby GPT is left out")
    parser.add_argument("--rows", type=int, help="of a training batch, for a GPU with less memory")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="only see that it runs: tiny shapes, nothing compiled")
    parser.add_argument("--only", nargs="+", choices=("steps", "documents", "loss", "baby"), help="some of the four")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--publish", action="store_true", help="also put the figures into the repository")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device is present, so nothing is measured (--device cpu --quick shows that it runs)")
        sys.exit(2)
    if args.publish and (args.quick or args.only or args.device == "cpu" or args.corpus is None):
        parser.error("publish a whole run on a GPU: with --corpus, without --quick and --only")
    if args.only and "baby" in args.only and args.corpus is None:
        parser.error("baby GPT is trained on tinyshakespeare.txt: give its path by --corpus")
    device = Device(args.device, args.quick, args.rows)
    settle(torch.get_num_threads())
    measurements: dict[str, Callable[[], list[Result]]] = {
        "steps": lambda: training(device),
        "documents": lambda: documents(device),
        "loss": lambda: loss_memory(device),
    }
    if args.corpus is not None:
        measurements["baby"] = lambda: baby_gpt(device, args.corpus)
    args.out.mkdir(parents=True, exist_ok=True)
    before, results, record = busy(), [], {}
    for name in args.only or measurements:
        found = measurements[name]()
        results += found
        if found:
            print(f"{table(found)}\n", flush=True)
        record = {**provenance(before), "quick": args.quick, "results": [result.as_json() for result in results]}
        if args.device == "cuda":
            card = torch.cuda.get_device_properties(0)
            record["machine"]["gpu"] = f"{card.name}, {card.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"
        (args.out / "gpu.json").write_text(json.dumps(record, indent=1))  # at once: a lent GPU may be taken away
    (args.out / "gpu.md").write_text(f"{measured_on(record)}\n\n{gpu(record).body}\n")
    if args.publish:
        publish("gpu", record)


if __name__ == "__main__":
    main()
