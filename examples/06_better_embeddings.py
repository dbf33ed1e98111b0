# %% [markdown]
# # 06 Bidirectional encoders give the better embeddings
#
#     python examples/06_better_embeddings.py --corpus ag_news.csv
#
# About 4 processor minutes on one core for three seeds.
#
# Topics classified by linear probe / nearest neighbour, 0.41 TFLOP each: masked 46.8% ± 2.4% / 37.5% ± 3.8%, span 40.4%
# ± 1.3% / 31.3% ± 2.2%, causal 49.2% ± 1.4% / 42.6% ± 1.3%; bag of words 69.7% ± 0.2% / 66.0% ± 2.1%, untrained 45.2% ±
# 1.1% / 44.8% ± 1.4%. Of 4 comparisons with causal 0 are significantly better, 4 significantly worse.
#
# Picture and figures: `results/06_better_embeddings.png` and `.json`. The corpus is a CSV file without a header, its
# first column a label, the others text (here the 7,600 test articles of AG News: world, sports, business, science).
# Without `--corpus` the script makes a synthetic task.

# %%
import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Lesson, Result, Seeds
from clozelab.data import SpecialIds, train_bpe
from clozelab.evaluation import bag_of_words, embed, linear_probe, nearest_neighbours
from clozelab.languages import MarkovSource
from clozelab.objectives import CausalLM, MaskedLM, Objective, SpanCorruption
from clozelab.planning import flops, row_of
from clozelab.training import TrainConfig, fit

LESSON = Lesson(
    "06_better_embeddings.py",
    "Bidirectional encoders give the better embeddings",
    claim="Pretrained on the same text with the same compute, the vectors of an encoder that reads both sides hold "
    "more of what a text is about than those of a causal model.",
)
OBJECTIVES: tuple[Objective, ...] = (CausalLM(), MaskedLM(), SpanCorruption())
COLOURS = {objective.name: objective.colour for objective in OBJECTIVES}
BATCH = 32
MEASURES = {"probe": linear_probe, "neighbour": nearest_neighbours}

# %% [markdown]
# ## Texts with a label
#
# The models are pretrained on the texts alone. Afterwards each text becomes one vector, and two simple classifiers
# measure how much of the label it holds: a **linear probe** (logistic regression on the vectors of the pretraining
# texts, tested on a held-out fifth of all texts) and the **nearest neighbour** (does the closest of those vectors, by
# cosine, have the same label? Nothing is fitted, so directions that are unrelated to the label count as noise).
#
# The synthetic task is four languages of eight letters. All of them use every letter equally often, and differ in which
# letter follows which: counts of letters say nothing about the label.


# %%
@dataclass(frozen=True)
class Task:
    """Texts (N, T) of token ids and their labels (N,)."""

    texts: Tensor
    labels: Tensor
    special: SpecialIds

    def split(self, seed: int) -> tuple[Tensor, Tensor]:
        """Numbers of the training texts, and of the held-out fifth."""
        order = torch.randperm(len(self.texts), generator=torch.Generator().manual_seed(seed))
        return order[len(order) // 5 :], order[: len(order) // 5]


def from_file(path: Path, length: int = 48, vocab_size: int = 1024) -> Task:
    """The first tokens of each text that has as many, so that no row is padded."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    documents = [" ".join(row[1:]).replace("\\", " ") for row in rows]
    tokenizer = train_bpe(documents, vocab_size=vocab_size)
    ids, names = tokenizer.encode_batch(documents), sorted({row[0] for row in rows})
    kept = [(text[:length], names.index(row[0])) for text, row in zip(ids, rows) if len(text) >= length]
    texts, labels = zip(*kept)
    return Task(torch.tensor(texts), torch.tensor(labels), tokenizer.special)


def synthetic(texts: int, length: int = 32, letters: int = 8, languages: int = 4) -> Task:
    """Each language has its own probabilities of stepping 0, 1, 2, ... letters on in a cyclic alphabet."""
    steps = (1.5 * torch.randn(languages, letters, generator=torch.Generator().manual_seed(0))).softmax(1)
    sources = [MarkovSource(torch.stack([p.roll(a) for a in range(letters)])) for p in steps]
    samples = [source.sample(texts // languages, length, seed=seed) for seed, source in enumerate(sources)]
    labels = torch.arange(languages).repeat_interleave(texts // languages)
    return Task(torch.cat(samples), labels, sources[0].special_ids(sentinels=20))


# %% [markdown]
# ## Equal compute
#
# The three models have the same two blocks (the span model's decoder has one more); what differs is what a step costs.
# A causal model projects every position onto the vocabulary, masked LM only the 15% that it hides, and span corruption
# reads a shorter text but has a decoder. `clozelab.planning.flops` counts the operations of a step, and each objective
# takes as many steps as the causal model's total allows: **equal FLOPs**. As a check on that choice, the other two are
# also trained on as many texts as the causal model: **equal texts**.


# %%
def pretrain(objective: Objective, task: Task, numbers: Tensor, steps: int, width: int, seed: int) -> nn.Module:
    """A small model trained on the texts `numbers` for some steps, in a new order in each epoch."""
    torch.manual_seed(seed)
    model = new_model(objective, task, width)
    collate, per_epoch = objective.collator(task.special, seed=seed), len(numbers) // BATCH

    def batch_at(step: int) -> dict[str, Tensor]:
        epoch, place = divmod(step, per_epoch)
        order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        ids = numbers[order[place * BATCH : (place + 1) * BATCH]]
        return collate.block(task.texts[ids], ids, epoch=epoch)

    config = TrainConfig(
        steps=steps,
        optimizer="muon",
        learning_rate=1e-2,
        precision="float32",
        seed=seed,
        warmup=0.05,
        decay=0.4,
        matrix_momentum=0.95,
    )
    fit(objective, model, batch_at, config)
    return model


def new_model(objective: Objective, task: Task, width: int) -> nn.Module:
    """Two blocks."""
    more = {"n_decoder_layers": 1} if isinstance(objective, SpanCorruption) else {}
    return objective.build_model(task.special.vocab_size, "tiny", d_model=width, n_layers=2, n_heads=4, **more)


def flops_of_step(objective: Objective, task: Task, width: int) -> int:
    """Of one batch: `length` is what the encoder reads of a text, for the span model less than the text."""
    length = next(n for n in range(8, 100) if objective.source_length(n) == task.texts.shape[1])
    model = new_model(objective, task, width)
    return flops(objective, model.config, row_of(objective, length), BATCH).total


# %% [markdown]
# ## What is compared
#
# Beside the three trained models there are two baselines: the **bag of words**, which counts the tokens of a text, and
# **untrained weights**. Our blocks are the identity at initialisation, so an untrained model of any kind is the mean of
# a random vector for each token: a random projection of the bag of words.
#
# The vector of a text is the mean over its tokens. In a causal model only the last token has read the whole text, so
# the better of mean and last token counts.


# %%
def vectors(task: Task, steps: int, width: int, seed: int) -> dict[str, Tensor]:
    """The vectors (N, D) of all texts, by the name of the representation."""
    train, _ = task.split(seed)
    torch.manual_seed(seed)
    seen = {
        "bag of words": bag_of_words(task.texts, None, task.special.vocab_size),
        "untrained weights": embed(new_model(OBJECTIVES[0], task, width), task.texts),
    }
    budget = steps * flops_of_step(OBJECTIVES[0], task, width)
    for objective in OBJECTIVES:
        affordable = round(budget / flops_of_step(objective, task, width))
        model = pretrain(objective, task, train, affordable, width, seed)
        seen[objective.name] = embed(model, task.texts)
        if objective.name == "causal":
            seen["causal, last token"] = embed(model, task.texts, pool="last")
    for objective in OBJECTIVES[1:]:
        model = pretrain(objective, task, train, steps, width, seed)
        seen[f"{objective.name}, equal texts"] = embed(model, task.texts)
    return seen


def scores(task: Task, steps: int, width: int, seed: int) -> dict[str, float]:
    """Share of right answers, by "measure/representation"."""
    train, test = task.split(seed)
    return {
        f"{name}/{way}": measure(seen[train], task.labels[train], seen[test], task.labels[test])
        for way, seen in vectors(task, steps, width, seed).items()
        for name, measure in MEASURES.items()
    }


# %% [markdown]
# ## The judgement, fixed before the measurement
#
# Four comparisons at equal FLOPs: {masked, span} x {probe, nearest neighbour}, each against the causal model with its
# better pooling. The claim has held if all four differences are significantly above zero (`Seeds`: more than two
# standard errors over seeds that agree), and is contradicted if none is.
#
# ## What was tried, and what it suggests
#
# On the news all four go the other way: the causal model is ahead, also where the encoders have read as many texts (the
# rows "equal texts"). A likely reason is that every position is in its loss and 15% of them in masked LM's; but hiding
# more did not close the gap on the news. None of the three comes near the bag of words, and by nearest neighbour none
# is better than untrained weights: 8,000 short texts teach such a model little about what words mean.
#
# - *A higher mask rate*, `MaskedLM(mask_rate=0.4)` in `OBJECTIVES`, one seed, 320 steps on the news: 47% / 41%, hardly
#   more.
# - *A task where counting is useless*, the script without `--corpus`, one seed: bag of words 32% / 42%, causal
#   87% / 78%, masked 85% / 64%, span 45% / 42%. Here the trained models are better than a bag of words, and the causal
#   one still leads.
# - *More steps there*: the masked model reaches 90% / 83% after 1,600 (one seed), so it is slow rather than unable.
#
# A few minutes on a processor cannot show what happens with more training. The claim comes from models such as BERT,
# with a hundred million times this compute; the measurement only shows that it does not hold at every scale.


# %%
def main(arguments: list[str] | None = None) -> Result:
    """Measure, judge, draw."""
    visit = LESSON.visit(arguments, corpus=True)
    steps, width = visit.choose(250, fast=30), visit.choose(64, fast=32)
    task = from_file(visit.corpus) if visit.corpus else synthetic(visit.choose(6000, fast=800))
    per_seed = [scores(task, steps, width, seed) for seed in visit.track(visit.seeds)]
    figures = {name: Seeds(tuple(one[name] for one in per_seed)) for name in per_seed[0]}
    ways = list(dict.fromkeys(name.split("/")[1] for name in figures))

    best = {}
    for measure in MEASURES:
        pools = figures[f"{measure}/causal"], figures[f"{measure}/causal, last token"]
        best[measure] = max(pools, key=lambda values: values.mean)
    ahead = {(way, m): figures[f"{m}/{way}"] - best[m] for way in ("masked", "span") for m in MEASURES}
    better = [f"{way} by {m}" for (way, m), gap in ahead.items() if gap.above]
    worse = [f"{way} by {m}" for (way, m), gap in ahead.items() if gap.below]

    cost = {objective.name: flops_of_step(objective, task, width) for objective in OBJECTIVES}
    budget = steps * cost["causal"]

    def shown(*ways: Seeds) -> str:
        return " / ".join(f"{way:.1%}" for way in ways)

    def both(way: str) -> list[Seeds]:
        return [figures[f"{m}/{way}"] for m in MEASURES]

    finding = (
        f"Topics classified by linear probe / nearest neighbour, {budget / 1e12:.2f} TFLOP each: masked "
        f"{shown(*both('masked'))}, span {shown(*both('span'))}, causal {shown(*best.values())}; bag of words "
        f"{shown(*both('bag of words'))}, untrained {shown(*both('untrained weights'))}. "
        f"Of {len(ahead)} comparisons with causal {len(better)} are significantly better"
        f"{f' ({listed(better)})' if better else ''}, {len(worse)} significantly worse."
    )
    rows = []
    for way in ways:
        name = way.split(",")[0]
        read = 0 if name not in cost else steps if way.endswith("equal texts") else round(budget / cost[name])
        spent = f"{read * BATCH / 1000:.1f}", f"{read * cost.get(name, 0) / 1e12:.2f}"
        rows.append([way, *(spent if read else ("", "")), *(f"{figures[f'{m}/{way}']:.1%}" for m in MEASURES)])
    return visit.conclude(
        verdict="held" if len(better) == len(ahead) else "held in part" if better else "contradicted",
        finding=finding,
        figures=figures,
        headings=["vector of a text", "texts read (thousands)", "TFLOP", "linear probe", "nearest neighbour"],
        rows=rows,
        picture=draw(figures, ways),
    )


def listed(names: list[str]) -> str:
    """Names, separated by commas."""
    return ", ".join(names)


def draw(figures: dict[str, Seeds], ways: list[str]) -> Figure:
    """A bar for each mean, a dot for each seed, and a line for the bag of words."""
    picture = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, measure in zip(picture.subplots(1, 2, sharey=True), MEASURES):
        for y, way in enumerate(ways):
            values, colour = figures[f"{measure}/{way}"], COLOURS.get(way.split(",")[0], "#777777")
            axes.barh(y, 100 * values.mean, color=colour, alpha=0.45 if "," in way else 0.85, height=0.7)
            axes.plot([100 * v for v in values.values], [y] * len(values.values), "o", color="black", markersize=3)
            axes.annotate(f"{values.mean:.1%}", (1, y), color="white" if "," not in way else "black", va="center")
        axes.axvline(100 * figures[f"{measure}/bag of words"].mean, color="#555555", linestyle="--", linewidth=1)
        axes.set_yticks(range(len(ways)), ways)
        axes.set_xlim(0, 100)
        axes.set_xlabel("texts classified correctly (%)")
        axes.set_title({"probe": "linear probe", "neighbour": "nearest neighbour"}[measure], loc="left")
    picture.axes[0].invert_yaxis()
    return picture


if __name__ == "__main__":
    main()
