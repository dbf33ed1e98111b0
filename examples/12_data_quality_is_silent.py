# %% [markdown]
# # 12 Data quality is silent
#
#     python examples/12_data_quality_is_silent.py
#
# About 2 processor minutes on one core for three seeds.
#
# On held-out clean text 6 of 6 kinds of dirt do harm: 0.039 to 0.226 nats a letter above the floor, the clean corpus
# 0.008 ± 0.001. The training loss falls for copies, boilerplate, zero bytes (copies: -0.69 ± 0.01) and rises for wrong
# code page, shuffled, noise.
#
# Picture and figures: `results/12_data_quality_is_silent.png` and `.json`.

# %%
from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Lesson, Result, Seeds
from clozelab.data import IGNORED
from clozelab.evaluation import evaluate
from clozelab.languages import MarkovSource, chain_costs
from clozelab.objectives import CausalLM
from clozelab.training import TrainConfig, fit

LESSON = Lesson(
    "12_data_quality_is_silent.py",
    "Data quality is silent",
    claim="The training loss does not distinguish dirty text from clean: the harm shows only on held-out clean text.",
)
OBJECTIVE, BATCH, LENGTH = CausalLM(), 32, 32
LOSSES = ("training", "same corpus", "clean", "clean, late")

# %% [markdown]
# ## A language, and what can happen to its texts
#
# The language has 26 letters, each drawn given the one before it, so the loss of the best possible model on clean text
# is known: its entropy rate, 1.5 nats a letter. Token 26 is not a letter but a zero byte, explained below.
#
# Each kind of dirt below takes **half of each batch** of 32 texts of 32 letters: half of the texts, or half of every
# text. The number of tokens is always the same. All of them occur in real corpora.

# %%
LANGUAGE = MarkovSource.random(26, entropy=1.5, seed=0)
ZERO, SYMBOLS = 26, 27
FIXED = torch.Generator().manual_seed(1)
NOTICE = LANGUAGE.sample(1, LENGTH // 2, seed=-1)[0]  # 16 letters
POOL = LANGUAGE.sample(16, LENGTH, seed=-2)  # texts that were crawled many times
OTHER_CODE = torch.randperm(26, generator=FIXED)  # the letter that replaces each under another code page


def copies(text: Tensor, draw: torch.Generator) -> Tensor:
    """Duplicates: half of the texts are copies of the same 16."""
    return half(text, POOL[torch.randint(len(POOL), (len(text) // 2,), generator=draw)])


def boilerplate(text: Tensor, draw: torch.Generator) -> Tensor:
    """Half of every text is the same notice, at a random position."""
    places = torch.randint(LENGTH - len(NOTICE) + 1, (len(text), 1), generator=draw) + torch.arange(len(NOTICE))
    return text.scatter(1, places, NOTICE.expand(len(text), -1))


def zero_bytes(text: Tensor, draw: torch.Generator) -> Tensor:
    """Half of the texts are UTF-16 read byte by byte: a zero after each letter (and so half as many letters)."""
    return half(text, torch.stack([text, torch.full_like(text, ZERO)], 2).flatten(1)[: len(text) // 2, :LENGTH])


def wrong_code_page(text: Tensor, draw: torch.Generator) -> Tensor:
    """Half of the texts were decoded with another table, as Cyrillic in KOI8-R: a fixed permutation of the letters."""
    return half(text, OTHER_CODE[text[: len(text) // 2]])


def shuffled(text: Tensor, draw: torch.Generator) -> Tensor:
    """Half of the texts have lost their order."""
    order = torch.rand(len(text) // 2, LENGTH, generator=draw).argsort(1)
    return half(text, text[: len(text) // 2].gather(1, order))


def noise(text: Tensor, draw: torch.Generator) -> Tensor:
    """In half of the texts three letters of ten are random: bad scans."""
    dirty = text[: len(text) // 2]
    hit = torch.rand(dirty.shape, generator=draw) < 0.3
    return half(text, torch.where(hit, torch.randint(26, dirty.shape, generator=draw), dirty))


def half(text: Tensor, dirty: Tensor) -> Tensor:
    """The first half of the rows replaced."""
    return torch.cat([dirty, text[len(dirty) :]])


DIRT: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "copies": copies,
    "boilerplate": boilerplate,
    "zero bytes": zero_bytes,
    "wrong code page": wrong_code_page,
    "shuffled": shuffled,
    "noise": noise,
}

# %% [markdown]
# One text of each, as the model sees it:


# %%
def spell(text: Tensor) -> str:
    """Letters, and a dot for a zero byte."""
    return "".join("abcdefghijklmnopqrstuvwxyz."[letter] for letter in text.tolist())


def corpus(kind: str, seed: int, step: int, rows: int = BATCH) -> dict[str, Tensor]:
    """A batch of text of one corpus, new in each step; labels are the text, which `CausalLM` shifts."""
    number = seed * 10**6 + step
    text = LANGUAGE.sample(rows, LENGTH, seed=number)
    if kind in DIRT:
        text = DIRT[kind](text, torch.Generator().manual_seed(number))
    return {"input_ids": text, "attention_mask": torch.ones_like(text), "labels": text}


# %% [markdown]
# ## Three losses
#
# One model, one objective, one number of steps; only the corpus differs. Three losses can be compared:
#
# - the **training loss**, its mean over the last tenth of the steps: always available;
# - the loss on **held-out text of the same corpus**: what a random split gives;
# - the loss on **held-out clean text**, less that of the best possible model on the same letters: what matters.
#
# A second clean run reads *half as many* clean texts in a step and nothing else: the other corpora with the dirt
# removed. Where a corpus ends above it, the dirt does more than take the place of text.
#
# The third loss mixes two kinds of harm. A model of a mixed corpus may predict the language less well; or it may be
# uncertain, at the beginning of a text, which kind of text it is. So the loss on the **last quarter** of the clean
# texts is shown, too: by then the letters have resolved that uncertainty, where they can.


# %%
def measure(kind: str, seed: int, steps: int, texts: int) -> dict[str, float]:
    """The losses of a model that was trained on one corpus; the held-out ones on `texts` texts."""
    torch.manual_seed(seed)
    model = OBJECTIVE.build_model(SYMBOLS, "tiny", d_model=32, n_layers=2, n_heads=2)
    rows = BATCH // 2 if kind == "clean, half as many" else BATCH
    config = TrainConfig(
        steps=steps,
        optimizer="adamw",
        learning_rate=1e-2,
        weight_decay=0.0,
        precision="float32",
        seed=seed,
        warmup=0.05,
        decay=0.4,
    )
    curve = fit(OBJECTIVE, model, lambda step: corpus(kind, seed, step, rows), config)
    clean, tail = corpus("clean", seed, 999_999, texts), curve[-max(1, steps // 10) :]
    return {
        "training": sum(tail) / len(tail),
        "same corpus": evaluate(OBJECTIVE, model, [corpus(kind, seed, 999_998, texts)]).nats,
        "clean": above_floor(model, clean, 1),
        "clean, late": above_floor(model, clean, LENGTH * 3 // 4),
    }


def above_floor(model: nn.Module, batch: dict[str, Tensor], start: int) -> float:
    """Nats a letter, from letter `start` on, above the loss of the best possible model on the same letters."""
    text, labels = batch["input_ids"], batch["labels"].clone()
    labels[:, :start] = IGNORED
    least = float(chain_costs(LANGUAGE, text)[:, start:].mean())
    return evaluate(OBJECTIVE, model, [{**batch, "labels": labels}]).nats - least


# %% [markdown]
# ## The judgement, fixed before the measurement
#
# A kind of dirt does **harm** if its held-out clean loss is significantly above that of the clean corpus (`Seeds`,
# paired by seed: more than two standard errors over seeds that agree). The training loss **detects** it if it, too, is
# significantly above. The claim has held if the training loss detects no harmful kind, and is contradicted if it
# detects all.
#
# ## What came out
#
# The claim held for half of the kinds. What repeats itself (copies, a notice, zero bytes) is easy to predict, so the
# training loss **falls**, although the model becomes several times worse on clean text. What has lost its order, or is
# of two kinds, is harder to predict, and the training loss rises. Even that shows only in comparison with the curve of
# a clean corpus, which is missing where nothing was cleaned: by itself, a loss of 1.56 says nothing about a code page.
#
# Held-out text *of the same corpus* agrees with the training loss each time, so a random split of a dirty corpus is no
# safeguard; text that is known to be clean is. And each corpus ends above the run without its dirt, although that run
# had half as much text. Lee et al. 2022 and Hernandez et al. 2022 found the same for repeated text in large models.
#
# In the last quarter of a text more than half of the harm of zero bytes, code page and shuffling is gone: that was
# uncertainty. Of copies more than half stays; of noise and of a notice all, since those may still follow.


# %%
def main(arguments: list[str] | None = None) -> Result:
    """Measure, judge, draw."""
    visit = LESSON.visit(arguments)
    steps, texts = visit.choose(400, fast=40), visit.choose(1000, fast=100)
    for kind in ("clean", *DIRT):
        print(f"{kind:16} {spell(corpus(kind, 0, 0)['input_ids'][0])}")
    kinds = ["clean", "clean, half as many", *DIRT]
    per_seed = [{kind: measure(kind, seed, steps, texts) for kind in kinds} for seed in visit.track(visit.seeds)]
    figures = {f"{loss}/{kind}": Seeds(tuple(one[kind][loss] for one in per_seed)) for loss in LOSSES for kind in kinds}
    more = {name: values - figures[f"{name.split('/')[0]}/clean"] for name, values in figures.items()}
    half_as_many = figures["clean/clean, half as many"]
    harmful = [kind for kind in DIRT if more[f"clean/{kind}"].above]
    detected = [kind for kind in harmful if more[f"training/{kind}"].above]
    lowered = [kind for kind in harmful if more[f"training/{kind}"].below]
    worse_than_removed = [kind for kind in DIRT if (figures[f"clean/{kind}"] - half_as_many).above]
    hidden = [kind for kind in harmful if more[f"same corpus/{kind}"].below]

    harm = [figures[f"clean/{kind}"].mean for kind in harmful] or [0.0]
    finding = (
        f"On held-out clean text {len(harmful)} of {len(DIRT)} kinds of dirt do harm: {min(harm):.3f} to "
        f"{max(harm):.3f} nats a letter above the floor, the clean corpus {figures['clean/clean']:.3f}. The training "
        f"loss falls for {listed(lowered)} (copies: {more['training/copies']:.2f}) and rises for {listed(detected)}."
    )
    print(f"worse than removing the dirt: {listed(worse_than_removed)}")
    print(f"lower loss on held-out text of the same corpus, too: {listed(hidden)}")
    return visit.conclude(
        verdict="contradicted"
        if harmful and detected == harmful
        else "held in part"
        if detected or not harmful
        else "held",
        finding=finding,
        figures=figures,
        headings=[
            "corpus",
            "training loss",
            "held out, same corpus",
            "clean, above floor",
            "its last quarter",
            "training loss is",
        ],
        rows=[
            [
                kind,
                *(f"{figures[f'{loss}/{kind}']:.3f}" for loss in LOSSES),
                "higher" if kind in detected else "lower" if kind in lowered else "",
            ]
            for kind in kinds
        ],
        picture=draw(more, figures, kinds),
    )


def listed(kinds: list[str]) -> str:
    """Names, separated by commas."""
    return ", ".join(kinds) or "none"


def draw(more: dict[str, Seeds], figures: dict[str, Seeds], kinds: list[str]) -> Figure:
    """Held-out clean loss over training loss, a dot for each corpus and seed."""
    picture = Figure(figsize=(9, 5.5), layout="constrained")
    axes = picture.subplots()
    for kind in kinds:
        across, up = more[f"training/{kind}"], figures[f"clean/{kind}"]
        colour = "#555555" if kind not in DIRT else "#D55E00" if across.below else "#0072B2"
        axes.plot(across.values, up.values, "o", color=colour, markersize=6, alpha=0.7)
        side, align = (-10, "right") if across.mean > 0.3 else (10, "left")
        axes.annotate(
            kind, (across.mean, up.mean), xytext=(side, 0), textcoords="offset points", color=colour, ha=align
        )
    axes.axvline(0, color="#555555", linewidth=1)
    axes.axhline(figures["clean/clean"].mean, color="#555555", linewidth=1, linestyle=":")
    axes.set_yscale("log")
    axes.set_xlabel("training loss, less that of the clean corpus (nats a letter)")
    axes.set_ylabel("held-out clean text: above the least possible (nats a letter)")
    axes.set_title("Up: harm. Left of the line: the training loss falls nevertheless", loc="left")
    return picture


if __name__ == "__main__":
    main()
