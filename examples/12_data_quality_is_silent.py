# %% [markdown]
# # 12 Data quality is silent
#
#     python examples/12_data_quality_is_silent.py
#
# About 2 processor minutes on one core for three seeds.
#
# On held-out clean text 6 of 6 kinds of dirt cost: 0.039 to 0.226 nats a letter above the floor, the clean heap 0.008
# ± 0.001. The training loss falls for copies, boilerplate, zero bytes (copies: -0.69 ± 0.01) and rises for wrong code
# page, shuffled, noise.
#
# Picture and figures: `results/12_data_quality_is_silent.png` and `.json`.

# %%
from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Lesson, Result, Seeds
from clozelab.data import IGNORED
from clozelab.evaluation import causal_floor, evaluate
from clozelab.languages.markov import MarkovSource
from clozelab.objectives import CausalLM
from clozelab.training import TrainConfig
from clozelab.training import fit as learn

LESSON = Lesson(
    "12_data_quality_is_silent.py",
    "Data quality is silent",
    claim="The training loss does not tell dirty text from clean: what dirt costs shows only on held-out clean text.",
)
OBJECTIVE, BATCH, LENGTH = CausalLM(), 32, 32
LOSSES = ("training", "same heap", "clean", "clean, late")

# %% [markdown]
# ## A language, and what can happen to its texts
#
# The language has 26 letters, each drawn given the one before it, so we know what the best possible model pays for
# clean text: its entropy rate, 1.5 nats a letter. Token 26 is no letter but a zero byte, of which more below.
#
# Each kind of dirt below takes **half of each batch** of 32 texts of 32 letters: half of the texts, or half of every
# text. The number of tokens is always the same. All of them are accidents that real corpora have had.

# %%
LANGUAGE = MarkovSource.random(26, entropy=1.5, seed=0)
ZERO, SYMBOLS = 26, 27
FIXED = torch.Generator().manual_seed(1)
NOTICE = LANGUAGE.sample(1, LENGTH // 2, seed=-1)[0]  # 16 letters, as good as any other
POOL = LANGUAGE.sample(16, LENGTH, seed=-2)  # texts that the crawler met again and again
OTHER_CODE = torch.randperm(26, generator=FIXED)  # which letter stands for which under another code page


def copies(text: Tensor, draw: torch.Generator) -> Tensor:
    """Duplicates: half of the texts are copies of the same 16."""
    return half(text, POOL[torch.randint(len(POOL), (len(text) // 2,), generator=draw)])


def boilerplate(text: Tensor, draw: torch.Generator) -> Tensor:
    """Half of every text is the same notice, at a random place."""
    places = torch.randint(LENGTH - len(NOTICE) + 1, (len(text), 1), generator=draw) + torch.arange(len(NOTICE))
    return text.scatter(1, places, NOTICE.expand(len(text), -1))


def zero_bytes(text: Tensor, draw: torch.Generator) -> Tensor:
    """Half of the texts are UTF-16 read byte by byte: a zero behind each letter (and so half as many letters)."""
    return half(text, torch.stack([text, torch.full_like(text, ZERO)], 2).flatten(1)[: len(text) // 2, :LENGTH])


def wrong_code_page(text: Tensor, draw: torch.Generator) -> Tensor:
    """Half of the texts were read with another table: each letter is always another one, as Cyrillic in KOI8-R is."""
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
# Read them: what would a loss think of these?


# %%
def spell(text: Tensor) -> str:
    """Letters, and a dot for a zero byte."""
    return "".join("abcdefghijklmnopqrstuvwxyz."[letter] for letter in text.tolist())


def heap(kind: str, seed: int, step: int, rows: int = BATCH) -> dict[str, Tensor]:
    """A batch of text as it lies in the heap, new in each step; labels are the text, which `CausalLM` shifts."""
    number = seed * 10**6 + step
    text = LANGUAGE.sample(rows, LENGTH, seed=number)
    if kind in DIRT:
        text = DIRT[kind](text, torch.Generator().manual_seed(number))
    return {"input_ids": text, "attention_mask": torch.ones_like(text), "labels": text}


# %% [markdown]
# ## Three losses
#
# One model, one objective, one number of steps; only the heap differs. Three losses can be looked at:
#
# - the **training loss**, its mean over the last tenth of the steps: what everybody has;
# - the loss on **held-out text of the same heap**: what a random split of the corpus gives;
# - the loss on **held-out clean text**, less what the best possible model pays on the same letters: what was wanted.
#
# A second clean run reads *half as many* clean texts in a step and nothing else: what the other heaps would be if the
# dirt were thrown away. A heap that ends above it has dirt that does more than take the place of text.
#
# Two harms can hide in the third loss. A model of a mixed heap may speak the language less well; or it may be in doubt,
# at the beginning of a text, which kind of text this will be. So the loss on the **last quarter** of the clean texts is
# shown beside it: doubt has been resolved by then, where the letters can resolve it.


# %%
def measure(kind: str, seed: int, steps: int, texts: int) -> dict[str, float]:
    """The losses of a model that was trained on one heap; the held-out ones on `texts` texts."""
    torch.manual_seed(seed)
    model = OBJECTIVE.build_model(SYMBOLS, "tiny", d_model=32, n_layers=2, n_heads=2)
    rows = BATCH // 2 if kind == "clean, half as many" else BATCH
    config = TrainConfig(steps=steps, learning_rate=1e-2, weight_decay=0.0, precision="float32", seed=seed)
    curve = learn(OBJECTIVE, model, lambda step: heap(kind, seed, step, rows), config)
    clean, tail = heap("clean", seed, 999_999, texts), curve[-max(1, steps // 10) :]
    return {
        "training": sum(tail) / len(tail),
        "same heap": evaluate(OBJECTIVE, model, [heap(kind, seed, 999_998, texts)]).nats,
        "clean": above_floor(model, clean, 1),
        "clean, late": above_floor(model, clean, LENGTH * 3 // 4),
    }


def above_floor(model: nn.Module, batch: dict[str, Tensor], start: int) -> float:
    """Nats a letter, from letter `start` on, more than the best possible model pays on the same letters."""
    text, labels = batch["input_ids"], batch["labels"].clone()
    labels[:, :start] = IGNORED
    least = causal_floor(LANGUAGE, text[:, start - 1 :]).mean  # it needs no more than the letter before
    return evaluate(OBJECTIVE, model, [{**batch, "labels": labels}]).nats - least


# %% [markdown]
# ## The judgement, fixed before the measurement
#
# A kind of dirt does **harm** if its held-out clean loss is surely above that of the clean heap (paired by seed). The
# training loss **tells** of it if it, too, is surely above. The claim has held if the training loss tells of no harmful
# kind, and is contradicted if it tells of all.
#
# ## What came out
#
# The claim held for half of the kinds. What repeats itself (copies, a notice, zero bytes) is easy to say, so the
# training loss **falls**, and calls an improvement what makes the model several times worse on clean text. What has
# lost its order, or is of two kinds, is harder to say, and the training loss rises. Even that is told only beside the
# curve of a clean heap, which nobody has who has not cleaned: by itself, a loss of 1.56 says nothing of a code page.
#
# Held-out text *of the same heap* sides with the training loss each time, so a random split of a dirty corpus is no
# safeguard; text that is known to be clean is. And each heap ends above the run that threw its dirt away, half as much
# text as that was. Lee et al. 2022 and Hernandez et al. 2022 found the like for repeated text in large models.
#
# In the last quarter of a text more than half of the harm of zero bytes, code page and shuffling is gone: that was
# doubt. Of copies more than half stays; of noise and of a notice all, for those can still come.


# %%
def main(arguments: list[str] | None = None) -> Result:
    """Measure, judge, draw."""
    visit = LESSON.visit(arguments)
    steps, texts = visit.choose(400, fast=60), visit.choose(1000, fast=200)
    for kind in ("clean", *DIRT):
        print(f"{kind:16} {spell(heap(kind, 0, 0)['input_ids'][0])}")
    kinds = ["clean", "clean, half as many", *DIRT]
    per_seed = [{kind: measure(kind, seed, steps, texts) for kind in kinds} for seed in visit.seeds]
    figures = {f"{loss}/{kind}": Seeds(tuple(one[kind][loss] for one in per_seed)) for loss in LOSSES for kind in kinds}
    more = {name: values - figures[f"{name.split('/')[0]}/clean"] for name, values in figures.items()}
    half_as_many = figures["clean/clean, half as many"]
    harmful = [kind for kind in DIRT if more[f"clean/{kind}"].above]
    told = [kind for kind in harmful if more[f"training/{kind}"].above]
    praised = [kind for kind in harmful if more[f"training/{kind}"].below]
    worse_than_nothing = [kind for kind in DIRT if (figures[f"clean/{kind}"] - half_as_many).above]
    fooled = [kind for kind in harmful if more[f"same heap/{kind}"].below]

    harm = [figures[f"clean/{kind}"].mean for kind in harmful] or [0.0]
    finding = (
        f"On held-out clean text {len(harmful)} of {len(DIRT)} kinds of dirt cost: {min(harm):.3f} to {max(harm):.3f} "
        f"nats a letter above the floor, the clean heap {figures['clean/clean']:.3f}. The training loss falls for "
        f"{listed(praised)} (copies: {more['training/copies']:.2f}) and rises for {listed(told)}."
    )
    print(f"worse than throwing the dirt away: {listed(worse_than_nothing)}")
    print(f"praised by held-out text of the same heap, too: {listed(fooled)}")
    return visit.conclude(
        verdict="contradicted" if harmful and told == harmful else "held in part" if told or not harmful else "held",
        finding=finding,
        figures=figures,
        headings=[
            "heap",
            "training loss",
            "held out, same heap",
            "clean, above floor",
            "its last quarter",
            "training says",
        ],
        rows=[
            [
                kind,
                *(f"{figures[f'{loss}/{kind}']:.3f}" for loss in LOSSES),
                "worse" if kind in told else "better" if kind in praised else "",
            ]
            for kind in kinds
        ],
        picture=draw(more, figures, kinds),
    )


def listed(kinds: list[str]) -> str:
    """Names in a row."""
    return ", ".join(kinds) or "none"


def draw(more: dict[str, Seeds], figures: dict[str, Seeds], kinds: list[str]) -> Figure:
    """Each heap where its training loss (across) and its held-out clean loss (up) put it; a dot for each seed."""
    picture = Figure(figsize=(9, 5.5), layout="constrained")
    axes = picture.subplots()
    for kind in kinds:
        across, up = more[f"training/{kind}"], figures[f"clean/{kind}"]
        colour = "#555555" if kind not in DIRT else "#D55E00" if across.below else "#0072B2"
        axes.plot(across.values, up.values, "o", color=colour, markersize=6, alpha=0.7)
        side, words = (-10, "right") if across.mean > 0.3 else (10, "left")
        axes.annotate(
            kind, (across.mean, up.mean), xytext=(side, 0), textcoords="offset points", color=colour, ha=words
        )
    axes.axvline(0, color="#555555", linewidth=1)
    axes.axhline(figures["clean/clean"].mean, color="#555555", linewidth=1, linestyle=":")
    axes.set_yscale("log")
    axes.set_xlabel("training loss, less that of the clean heap (nats a letter)")
    axes.set_ylabel("held-out clean text: above the least possible (nats a letter)")
    axes.set_title("Up is harm. To the left of the line the training loss calls it an improvement", loc="left")
    return picture


if __name__ == "__main__":
    main()
