# %% [markdown]
# # 09 Choosing by the name, not by the use
#
#     python examples/09_choosing_by_the_name.py  # --fast to see that it runs
#
# **The question.** A BERT is chosen because it "understands", a GPT because it "writes", a T5 because it "fills in".
# These names come from what each was trained to do; the use may be different. Is one of them the best in all uses?
#
# **Before you run: what do you expect?** Three uses: continue a text, fill a gap in it, classify it. Which model wins
# each, and by how much?

# %%
from collections.abc import Callable
from functools import cache

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Exercise, Gate, Judgement, Lesson, Part, Result, Seeds, in_notebook, judge, level
from clozelab.course.span_model import SpansAndBlanks
from clozelab.data import SpecialIds
from clozelab.evaluation import bag_of_words, embed, evaluate, linear_probe, unigram_baseline
from clozelab.languages import MarkovSource, gap_costs
from clozelab.models import eval_mode
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption
from clozelab.training import TrainConfig, fit, training_flops

LESSON = Lesson(
    "09_choosing_by_the_name.py",
    "Choosing by the name, not by the use",
    claim="Match the objective to the use: causal LM to continue, one that reads both sides to fill and classify.",
    question="Is one of the three objectives the best in all uses?",
    exercises=(
        Exercise(
            "Put the gap at the end of the text: what is `lost_on_the_left(0, 1000, right=0)`?",
            answer=(-1e-9, 1e-9),
            why="With nothing to the right of it, filling a gap is continuing, and the left side is all there is.",
        ),
        Exercise(
            "Classify texts of 24 symbols: what percentage is predicted at best, `best_possible(0, 2000, length=24)`?",
            answer=(74.0, 78.5),
            why="One changed symbol is harder to find among more symbols that are improbable by chance.",
        ),
        Exercise(
            "Fill it by an untrained encoder: what is `nats_above_posterior('masked', build('masked', 0), 0, 1000)`?",
            answer=(0.8, 1.6),
            why="It gives each symbol the same probability: ln 5 = 1.6 nats, less those of the posterior itself.",
        ),
    ),
    literature="Wang 2022 (2204.05832, 5 billion parameters): causal decoders are best without fine-tuning, models "
    "that read both sides after multitask fine-tuning. Ettin 2025 (2507.11412), MNLI: an encoder of 150 M 89.2, a "
    "decoder of 400 M 88.2.",
    previous="0.1 claimed that each objective is the best at the use that it is named for, and its span model had not "
    "learned to read: held in part, in 2 of 4 uses.",
    first_seed=30,
)

# %% [markdown]
# ## A language that is known, and one budget
#
# The language has five symbols, each of which depends on the one before it; none is ever impossible. So the best
# possible score of each use is known. Texts have 8 to 24 symbols, of which masked LM and span corruption hide 30%, the
# latter in runs of 2. Span corruption alone learns to use its context only after a long plateau, so its encoder fills
# single blanks in the same step (`SpansAndBlanks`, lesson 13). The models have three blocks, the encoder-decoder two
# and one. **The floating-point operations of the training are equal**, including those for the blanks.

# %%
SYMBOLS, ROWS = 5, 32
LANGUAGE = MarkovSource(0.9 * MarkovSource.random(SYMBOLS, entropy=0.5, seed=0).transition + 0.1 / SYMBOLS)
SPECIAL = SpecialIds(vocab_size=20, pad=5, eos=6, mask=7, sentinels=range(19, 7, -1))
FIRST, SECOND = SPECIAL.sentinels[:2]
OBJECTIVES = {
    "causal": CausalLM(),
    "masked": MaskedLM(mask_rate=0.3, scheme="bernoulli"),
    "span": SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0),
}


def task_of(name: str, seed: int) -> tuple[Callable, Callable[[int], dict]]:
    """Loss and batches: fresh text in each step, of a length that all objectives share."""
    objective = OBJECTIVES[name]
    blanks = SpansAndBlanks(objective, SPECIAL, seed=seed) if isinstance(objective, SpanCorruption) else None
    collate = blanks or objective.collator(SPECIAL, seed=seed)

    def batch(step: int) -> dict:
        length = int(torch.randint(8, 25, (), generator=torch.Generator().manual_seed(step)))
        text = LANGUAGE.sample(ROWS, length, seed=seed * 10**6 + step)
        return collate.block(text, range(step * ROWS, (step + 1) * ROWS))

    return blanks or objective, batch


def build(name: str, seed: int) -> nn.Module:
    """Three blocks."""
    torch.manual_seed(seed)
    layers = {"n_layers": 2, "n_decoder_layers": 1} if name == "span" else {"n_layers": 3}
    return OBJECTIVES[name].build_model(SPECIAL.vocab_size, "tiny", d_model=32, n_heads=4, **layers)


@cache
def flops(name: str) -> float:
    """Floating-point operations of a training step, on average."""
    task, batch = task_of(name, 0)
    return training_flops(task, build(name, 0), map(batch, range(8)))


def pretrained(name: str, seed: int, decoder_steps: int) -> nn.Module:
    """A model after as much compute as so many steps of the decoder."""
    model, (task, batch) = build(name, seed), task_of(name, seed)
    steps = round(decoder_steps * flops("causal") / flops(name))
    fit(task, model, batch, TrainConfig(steps, weight_decay=0.0, seed=seed, precision="float32"))
    return model


def new_text(seed: int, use: int, texts: int, length: int) -> Tensor:
    """Text that is in no training, other text for each seed and use."""
    return LANGUAGE.sample(texts, length, seed=-10 * seed - use)


def share_of_own_task(name: str, model: nn.Module, seed: int, texts: int) -> float:
    """How much of its own task a model has learned: 0 is a guess by frequency, 1 the least possible loss."""
    objective = OBJECTIVES[name]
    batch = objective.collator(SPECIAL, seed=seed).block(new_text(seed, 4, texts, 20), range(texts))
    floor = objective.entropy_floor(LANGUAGE, batch, SPECIAL)["logits"].sum() / objective.counts(batch)["logits"]
    guess = unigram_baseline(objective, [batch], [batch], SPECIAL.vocab_size)
    return (guess - evaluate(objective, model, [batch]).nats) / (guess - float(floor))


# %% [markdown]
# ## Use 1: continue a text
#
# The models predict one more symbol after 12, 13, ..., 23 given ones. The decoder does what it was trained for; the
# encoder is given a mask at the end, the encoder-decoder a sentinel. How many nats is the model's distribution of the
# next symbol above the true one? The sum over all positions is the Kullback-Leibler divergence of the model's text from
# the language.


# %%
def next_logits(name: str, model: nn.Module, before: Tensor, written: Tensor, gap: int, after: Tensor) -> Tensor:
    """Logits (B, K) of the next symbol in a gap, of which (B, n) are written and `gap` symbols are not."""

    def fill(token: int, count: int = 1) -> Tensor:
        return torch.full((len(before), count), token)

    with eval_mode(model):
        if name == "causal":
            state = model(torch.cat([before, written], 1))[:, -1]
        elif name == "masked":
            text = torch.cat([before, written, fill(SPECIAL["mask"], gap), after], 1)
            state = model(text)[:, before.shape[1] + written.shape[1]]
        else:  # a second sentinel closes a text that goes on: T5's spans always hide its end
            closed = [after, fill(SECOND)] if after.shape[1] else []
            inputs = torch.cat([before, fill(FIRST), *closed, fill(SPECIAL.eos)], 1)
            so_far = torch.cat([fill(SPECIAL["decoder_start"]), fill(FIRST), written], 1)
            state = model(inputs, decoder_input_ids=so_far)[:, -1]
        return model.unembed(state)[:, :SYMBOLS].double()


def excess_nats(name: str, model: nn.Module, seed: int, texts: int) -> float:
    """Nats a symbol of the next symbol's distribution above the true one."""
    text, total = new_text(seed, 1, texts, 23), 0.0
    for given in range(12, 24):
        true, nothing = LANGUAGE.transition[text[:, given - 1]], text[:, :0]
        ours = next_logits(name, model, text[:, :given], nothing, 1, nothing).log_softmax(1)
        total += float((true * (true.log() - ours)).sum(1).mean()) / 12
    return total


# %% [markdown]
# ## Use 2: fill a gap
#
# Three symbols are missing between eight on the left and eight on the right. How many nats per symbol is a model above
# the exact posterior? All models are given the number of missing symbols, and fill from the left. The decoder reads
# only the left side; the best possible result with that is `lost_on_the_left`.

# %%
LEFT, GAP, RIGHT = 8, 3, 8


def in_gap(text: Tensor) -> Tensor:
    """(B, T) bool: the missing symbols."""
    places = torch.arange(text.shape[1])
    return ((places >= LEFT) & (places < LEFT + GAP)).expand_as(text)


def lost_on_the_left(seed: int, texts: int, right: int = RIGHT) -> float:
    """Nats a symbol that the best possible reader of the left side is above the posterior."""
    text = new_text(seed, 2, texts, LEFT + GAP + right)
    left, both = (gap_costs(LANGUAGE, part, in_gap(part)).mean() for part in (text[:, : LEFT + GAP], text))
    return float(left - both) / GAP


def nats_above_posterior(name: str, model: nn.Module, seed: int, texts: int) -> float:
    """Nats a symbol of the model above the posterior."""
    text = new_text(seed, 2, texts, LEFT + GAP + RIGHT)
    before, gap, after = text.split([LEFT, GAP, RIGHT], 1)
    total = -gap_costs(LANGUAGE, text, in_gap(text))
    for n in range(GAP):
        ours = next_logits(name, model, before, gap[:, :n], GAP - n, after).log_softmax(1)
        total = total - ours.gather(1, gap[:, n, None])[:, 0]
    return float(total.mean()) / GAP


# %% [markdown]
# ## Use 3: classify
#
# In half of the texts, of twelve symbols each, one symbol has been changed into another. In which texts? A linear
# classifier predicts this from the mean of the model's last hidden states (of the encoder, where there is one). It is
# fitted to half of the texts and tested on the others. The best possible classifier compares the likelihood of a text
# with that of all texts that it may come from.
#
# Two things are known in advance. In this language a perfect causal model has to keep only the last symbol, and then
# the mean of its states holds no more than counts of the symbols do. And masked LM is close to this use, since its own
# corruption also replaces some symbols by random ones.


# %%
def half_changed(seed: int, texts: int, length: int = 12) -> tuple[Tensor, Tensor]:
    """Texts (texts, length), and for each whether a symbol was changed."""
    generator = torch.Generator().manual_seed(seed)
    text, rows = new_text(seed, 3, texts, length), torch.arange(texts)
    places = torch.randint(length, (texts,), generator=generator)
    text[rows, places] += torch.randint(1, SYMBOLS, (texts,), generator=generator) * (rows % 2)
    return text % SYMBOLS, rows % 2


def probed(model: nn.Module | None, seed: int, texts: int) -> float:
    """Percentage predicted by a linear classifier of hidden states or, without a model, of counts of symbols."""
    text, changed = half_changed(seed, 2 * texts)
    states = bag_of_words(text, None, SPECIAL.vocab_size) if model is None else embed(model, text, batch_size=500)
    return 100 * linear_probe(states[:texts], changed[:texts], states[texts:], changed[texts:])


def best_possible(seed: int, texts: int, length: int = 12) -> float:
    """Percentage of the same texts that Bayes' rule predicts."""
    text, changed = (part[texts:] for part in half_changed(seed, 2 * texts, length))
    steps = torch.eye(length, dtype=torch.int64)[:, None] * torch.arange(1, SYMBOLS)[:, None]  # (T, K - 1, T)
    likelihood = LANGUAGE.log_prob((text[:, None, None] + steps) % SYMBOLS).exp().mean((1, 2))  # of all origins
    return 100 * float(((likelihood > LANGUAGE.log_prob(text).exp()).long() == changed).double().mean())


if in_notebook():
    quick = pretrained("causal", 0, decoder_steps=100)
    print(f"after 100 steps {excess_nats('causal', quick, 0, 200):.3f} nats a symbol above the language")
    print(
        f"the best left reader loses {lost_on_the_left(0, 400):.3f} nats, Bayes' rule has {best_possible(0, 2000):.0f}%"
    )


# %%
USES = {  # the unit, and what stands beside the models
    "continue": ("nats a symbol above the language, lower is better", ["frequencies"]),
    "fill": ("nats a symbol above the posterior, lower is better", ["best left reader"]),
    "classify": ("% of texts predicted, higher is better", ["counts of symbols", "best possible"]),
}


def one_seed(seed: int, steps: int, texts: int) -> dict[str, float]:
    """Every model in every use, what stands beside it on the same texts, and the share of its own task learned."""
    found = {
        "frequencies: continue": LANGUAGE.entropy - LANGUAGE.entropy_rate,
        "best left reader: fill": lost_on_the_left(seed, texts),
        "counts of symbols: classify": probed(None, seed, texts),
        "best possible: classify": best_possible(seed, texts),
    }
    for name in OBJECTIVES:
        model = pretrained(name, seed, steps)
        found[f"{name}: share learned"] = share_of_own_task(name, model, seed, texts // 2)
        found[f"{name}: continue"] = excess_nats(name, model, seed, texts)
        found[f"{name}: fill"] = nats_above_posterior(name, model, seed, texts)
        found[f"{name}: classify"] = probed(model, seed, texts)
    return found


# %% [markdown]
# ## The rule, fixed before the run
#
# *Gates*: each model has learned 80% of its own task (0: a guess by frequency, 1: the entropy floor) and continues
# better than the frequencies of the symbols do; masked LM and span corruption classify better than counts of symbols.
# Causal LM has no such gate: the claim is that it is worse here, and counts may be all that its states hold.
# *Control*: the right side of a gap must matter: the best left reader loses 0.1 nats a symbol or more.
# *Parts*: causal LM is better than both others at continuing, and worse than both at filling and at classifying.
#
# A run of 500 steps with the seeds 0 to 4 could not tell: the span model had learned 0.82 ± 0.06 of its own task. 700
# steps, chosen with seed 10, gave "held in part" on the seeds 20 to 24, but all seeds shared their 1,000 test texts, so
# no interval held the error of the texts. Now each seed, 30 to 34, draws 2,000 of its own; nothing else was changed.


# %%
def rule(f: dict[str, Seeds]) -> Judgement:
    """The verdict, from the figures by name."""
    lost = "nats that the best left reader loses in a gap"
    gates = [Gate(lost, f["best left reader: fill"], above=0.1, control=True)]
    for name in OBJECTIVES:
        nats, guess = f[f"{name}: continue"], f["frequencies: continue"]
        gates.append(Gate(f"{name}: share learned of its own task", f[f"{name}: share learned"], above=0.8))
        gates.append(Gate(f"{name}: nats in continuing, below frequencies", nats, below=guess))
    parts = []
    for name in ("masked", "span"):
        predicted, counts = f[f"{name}: classify"], f["counts of symbols: classify"]
        gates.append(Gate(f"{name}: % classified, above counts of symbols", predicted, above=counts))
        parts += [
            Part(f"causal continues better than {name}", f[f"{name}: continue"] - f["causal: continue"]),
            Part(f"{name} fills better than causal", f["causal: fill"] - f[f"{name}: fill"]),
            Part(f"{name} classifies better than causal", predicted - f["causal: classify"]),
        ]
    return judge(gates, parts)


def main(arguments: list[str] | None = None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    steps, texts = visit.choose((700, 2000), fast=(12, 100))
    f = Seeds.by_name([one_seed(seed, steps, texts) for seed in visit.track(visit.seeds)])
    judgement = rule(f)

    def shown(who: str, use: str) -> str:
        return format(f[f"{who}: {use}"], ".1f" if use == "classify" else ".3f")

    rows = []
    for use, (unit, beside) in USES.items():
        others = "; ".join(f"{words} {shown(words, use)}" for words in beside)
        rows.append([f"{use}, {unit}", *(shown(name, use) for name in OBJECTIVES), others])
    causal, masked, _ = rows[1][1:4]
    return visit.conclude(
        judgement,
        number=f"fill a gap: causal {causal} nats above the posterior, masked {masked}",
        finding="; ".join(f"{use}: causal {a}, masked {b}, span {c} ({others})" for use, a, b, c, others in rows) + ".",
        figures=f,
        headings=["", *OBJECTIVES, "beside it"],
        rows=rows,
        picture=picture(f, judgement),
    )


def picture(f: dict[str, Seeds], judgement: Judgement) -> Figure:
    """A panel for each use: a dot for each seed, a stroke at their mean, and lines for what stands beside it."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, (use, (unit, beside)) in zip(figure.subplots(1, 3), USES.items()):
        for x, (name, objective) in enumerate(OBJECTIVES.items()):
            seeds = f[f"{name}: {use}"]
            axes.plot([x] * len(seeds.values), seeds.values, "o", color=objective.colour, markersize=5, alpha=0.6)
            axes.hlines(seeds.mean, x - 0.3, x + 0.3, color=objective.colour, linewidth=3)
        for words in beside:
            level(axes, f[f"{words}: {use}"].mean, words, below=words != "counts of symbols")
        axes.set_xticks(range(3), list(OBJECTIVES))
        axes.set_title(f"{use}\n{unit}", loc="left", fontsize=9)
        axes.set(xlim=(-0.6, 3.8), yscale="log" if use == "continue" else "linear")
        axes.set_ylim(0 if use == "fill" else None)  # in a gap the posterior, the best possible, is zero
    missed = ", ".join(part.what for part in judgement.parts if part.outcome != "held")
    best = ": causal LM continues best, the models that read both sides fill and classify better"
    figure.suptitle(judgement.title + (f". Not shown: {missed}" if missed else best), fontsize=11)
    return figure


# %%
if __name__ == "__main__":
    main()

# %% [markdown]
# ## What came out
#
# Held in part: all gates were passed, and the advice holds in four of six comparisons.
#
#     use        unit                         causal            masked           span
#     continue   nats above the language      0.0005 ± 0.0001   0.034 ± 0.008    0.064 ± 0.079
#     fill       nats above the posterior     0.203 ± 0.006     0.039 ± 0.011    0.182 ± 0.044
#     classify   % (counts 61.3, best 79.3)   63.1 ± 2.7        69.7 ± 2.2       66.6 ± 1.6
#
# For masked LM the advice is right in all three uses. Span corruption classifies 3.5 ± 3.2 points better than causal
# LM. It continues worse in each seed and fills better in four of five, but by so different amounts that neither is
# significant. On the seeds 20 to 24, with shared texts, its filling was significant and its classifying was not. Causal
# LM fills as well as the best left reader, within 0.001 nats, and classifies 1.8 ± 1.5 points better than counts.
#
# ## Exercises
#
# `LESSON.check(1, your_number)` says whether a number is right, and why.

# %%
if in_notebook():
    LESSON.print_exercises()

# %% [markdown]
# ## Next
#
# Lesson 16 trains one model with several objectives. Lesson 06 compares vectors of tokens and of whole texts.
