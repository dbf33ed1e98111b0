# %% [markdown]
# # 04 Training task equals inference task
#
#     python examples/04_training_is_inference.py  # --fast: seconds, one seed, nothing is judged
#
# **The question.** To generate a whole text, a causal model continues from nothing, a masked model fills a text that is
# all masks, and a span model fills one long sentinel. Only the first was trained for its task. BERT's training hides
# 15% of a text and never all of it; T5's hides runs of three. Can such a model generate a text? And if not, does the
# family fail, or the share that was hidden?
#
# Before you run: a model that fills single blanks well is given 32 blanks and fills one after the other. How good is
# the text? And is it better to fill the blank of which the model is most certain first?
#
# ## What a good text is
#
# The language is a Markov source, so generated text can be judged exactly, by two figures:
#
# - **excess nats**: -ln p of a symbol of the text under the true source, less the entropy. Text above zero is nonsense.
#   Text below zero is *dull*, more probable than true texts are: a low value alone is no sign of quality;
# - **pairs of neighbours off**: the total variation distance between the pairs in the texts and their true
#   distribution, the share of pairs that would have to be changed. Both nonsense and dullness raise it. True texts have
#   a little, by chance; symbols drawn by their frequency alone are the baseline.

# %%
from collections.abc import Callable
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import (
    Exercise,
    Gate,
    Judgement,
    Lesson,
    Part,
    Result,
    Seeds,
    SpansAndBlanks,
    in_notebook,
    judge,
    level,
    share_learned,
)
from clozelab.data import IGNORED, Batch
from clozelab.generation import fill_masks, fill_spans, generate
from clozelab.languages import MarkovSource, gap_costs, masked_costs
from clozelab.models import eval_mode
from clozelab.objectives import CausalLM, MaskedLM, Objective, SpanCorruption
from clozelab.training import LossFn, TrainConfig, fit, training_flops

LESSON = Lesson(
    "04_training_is_inference.py",
    "Training task equals inference task",
    question="Can a model write a whole text if its training never hid a whole text?",
    claim="A model generates whole texts well only if its training hid whole texts, and then one blank at a time.",
    exercises=(
        Exercise(
            "Let a text repeat one symbol: `judge_texts(torch.zeros(400, LENGTH).long())`. What share of pairs is off?",
            answer=(0.9, 1.0),
            why="All pairs are the pair (0, 0), which a true text seldom has.",
        ),
        Exercise(
            "Draw symbols by their frequency, `judge_texts(by_frequency(400, 0))`. What share of the pairs is off?",
            answer=(0.3, 0.6),
            why="Every symbol is as frequent as it should be, and no pair is: this is the baseline of the picture.",
        ),
        Exercise(
            "Hide everything: in `any_share` let `count = len(free)`. What is then the least loss, in nats a symbol, "
            "`least_nats(one, *held_out(one, 0))` of `one = TRAINED['masked, any share']`?",
            answer=(1.4, 1.8),
            why="With nothing to read the frequencies are all that can be known, ln 6 = 1.79 nats at most: a model of "
            "100% masks learns no order of symbols at all, though its training task is its inference task.",
        ),
    ),
    literature="LLaDA, trained to fill any share of masks, reaches 65.9 on MMLU beside 65.4 of LLaMA 3, of equal "
    "size (Nie et al. 2025, table 1): filling blanks is no obstacle where training hid whole texts.",
    previous='0.1: "held" with three seeds; two of its five models may not have learned their own task: no gate asked.',
    first_seed=30,
)

# %%
SOURCE = MarkovSource.random(6, entropy=0.9, seed=0)
SPECIAL = SOURCE.special_ids()
LENGTH, BATCH = 32, 32
SHAPE = {"d_model": 32, "n_layers": 2, "n_heads": 2}

# %% [markdown]
# ## Two corruptions that include the whole text
#
# A masking scheme is a function. The first one below hides any number of tokens, from one to all, each number equally
# likely, as masked diffusion does (Uria et al. 2014, all orders in which a text could be filled; Austin et al. 2021),
# though without its weights. It hides half of a text on average, so a model that always hides half is its control. The
# second hides one run of any length. An end of text precedes every text and is never hidden, so that the model has
# something to begin from.


# %%
def any_share(tokens: Tensor, maskable: Tensor, generator: torch.Generator) -> Tensor:
    """Any number of tokens, anywhere."""
    free = maskable.nonzero().flatten()
    count = int(torch.randint(1, len(free) + 1, (), generator=generator))
    mask = torch.zeros_like(maskable)
    mask[free[torch.randperm(len(free), generator=generator)[:count]]] = True
    return mask


def one_run(tokens: Tensor, maskable: Tensor, generator: torch.Generator) -> Tensor:
    """One run of any length, anywhere after the first token."""
    length = int(torch.randint(1, len(tokens), (), generator=generator))
    start = int(torch.randint(1, len(tokens) - length + 1, (), generator=generator))
    mask = torch.zeros_like(maskable)
    mask[start : start + length] = True
    return mask


MASKS_ONLY: dict[str, Any] = {"mask_replace_prob": 1.0, "random_replace_prob": 0.0}  # only the share differs
TRAINED: dict[str, Objective] = {
    "causal": CausalLM(),
    "masked, 15%": MaskedLM(mask_rate=0.15, **MASKS_ONLY),
    "masked, always 50%": MaskedLM(mask_rate=0.5, **MASKS_ONLY),
    "masked, any share": MaskedLM(scheme=any_share, **MASKS_ONLY),
    "span, 15% by threes": SpanCorruption(noise_density=0.15, mean_noise_span_length=3.0),
    "span, one run": SpanCorruption(scheme=one_run),
}

# %% [markdown]
# ## Equal texts, equal steps
#
# All models read the same number of texts in the same number of steps. Two encoder blocks and two decoder blocks have
# twice the parameters of two blocks, but a token passes through only one half (Raffel et al. 2020, section 3.2.2). The
# encoders of both span models are trained on a second task too (`SpansAndBlanks`). Without it models of this size do
# not learn to use their context in minutes. The table shows the cost of each, its second task included.


# %%
def framed(texts: Tensor) -> Tensor:
    """(B, 1 + T): an end of text before each."""
    return torch.cat((torch.full((len(texts), 1), SPECIAL.eos), texts), 1)


def task(objective: Objective, seed: int) -> tuple[LossFn, Callable[[int], Batch]]:
    """What a model is trained on, and its batches: new texts in each step."""
    both = SpansAndBlanks(objective, SPECIAL, seed=seed) if isinstance(objective, SpanCorruption) else None
    collate = both or objective.collator(SPECIAL, seed=seed)

    def batch(step: int) -> Batch:
        texts = SOURCE.sample(BATCH, LENGTH, seed=seed * 10**6 + step)
        return collate.block(framed(texts), range(step * BATCH, (step + 1) * BATCH))

    return both or objective, batch


def fresh(objective: Objective, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return objective.build_model(SPECIAL.vocab_size, "tiny", **SHAPE)


def megaflops(objective: Objective, steps: int) -> float:
    """Millions of floating-point operations of a training step, padding included."""
    loss_fn, batch = task(objective, 0)
    return training_flops(loss_fn, fresh(objective, 0), map(batch, range(steps))) / 1e6


def trained(objective: Objective, seed: int, steps: int) -> nn.Module:
    model, (loss_fn, batch) = fresh(objective, seed), task(objective, seed)
    fit(loss_fn, model, batch, TrainConfig(steps, precision="float32", weight_decay=0.0))
    return model


# %% [markdown]
# ## Has each model learned its own task?
#
# A model that has not learned to fill its own blanks is no evidence about whole texts. So the loss of each model on its
# own task, on new texts, is compared with the least possible one and with a guess by frequency. All three losses are
# nats per hidden symbol, among the symbols alone (so span models need not predict where a span ends).
#
# The least loss is exact. A model that predicts the hidden symbols one after the other can reach -ln p(hidden |
# visible), `gap_costs`. One that predicts each independently, as masked LM does, can reach the sum of
# -ln p(one | visible), `masked_costs`.


# %%
def hidden_in(objective: Objective, batch: Batch) -> Tensor:
    """(B, T) bool: which symbols of the texts are hidden."""
    if isinstance(objective, CausalLM):
        return torch.ones(len(batch["labels"]), LENGTH).bool()
    if isinstance(objective, MaskedLM):
        return batch["labels"][:, 1:] != IGNORED
    hidden = []
    for inputs, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist()):
        lengths, sentinel = dict.fromkeys(SPECIAL.sentinels, 0), labels[0]
        for label in labels:  # <X> a b <Y> c: two symbols behind <X>, one behind <Y>
            if label in lengths:
                sentinel = label
            lengths[sentinel] += 0 <= label < SOURCE.symbols
        row = []
        for one in inputs:
            row += [True] * lengths[one] if one in lengths else [False] * (one < SOURCE.symbols)
        hidden.append(row)
    return torch.tensor(hidden)


def held_out(objective: Objective, seed: int, texts: int = 200) -> tuple[Tensor, Batch]:
    """New texts, and what the objective makes of them."""
    text = SOURCE.sample(texts, LENGTH, seed=-1000 - seed)
    return text, objective.collator(SPECIAL, seed=seed).block(framed(text), range(-texts, 0))


def least_nats(objective: Objective, texts: Tensor, batch: Batch) -> float:
    """Nats a hidden symbol of the best possible model."""
    hidden, symbols = hidden_in(objective, batch), SOURCE.symbols
    if not isinstance(objective, MaskedLM):
        return float(gap_costs(SOURCE, texts, hidden).sum() / hidden.sum())
    as_mask = torch.zeros(symbols, symbols + 1)  # p(symbol or, last, a mask is seen | symbol)
    as_mask[:, -1] = 1.0
    seen, labels = texts.masked_fill(hidden, symbols), texts.masked_fill(~hidden, IGNORED)
    costs = masked_costs(SOURCE, seen, labels, torch.eye(symbols, symbols + 1) + as_mask, as_mask)
    return float(costs.sum() / hidden.sum())


def own_nats(objective: Objective, model: nn.Module, batch: Batch) -> float:
    """Nats a hidden symbol of a model, among the symbols alone."""
    labels = objective.targets(batch)["logits"].labels
    symbols = (labels >= 0) & (labels < SOURCE.symbols)
    with eval_mode(model):
        states = model(**objective.model_inputs(model, batch))[symbols]  # (N, D)
        log_probs = model.unembed(states)[:, : SOURCE.symbols].log_softmax(-1)
    return -float(log_probs.gather(1, labels[symbols][:, None]).mean())


if in_notebook():  # ten seconds: a model of 15% learns its own task
    OBJECTIVE = TRAINED["masked, 15%"]
    text, batch = held_out(OBJECTIVE, 0)
    print("a guess by frequency", SOURCE.entropy, "the least", least_nats(OBJECTIVE, text, batch))
    print("after 100 steps", own_nats(OBJECTIVE, trained(OBJECTIVE, 0, 100), batch))

# %% [markdown]
# ## Three ways to generate a whole text
#
# The decoder continues. The encoder fills `[M] [M] ... [M]` in several rounds. Each round fills an equal share of the
# blanks, independently of one another; the `order` determines which are next. The encoder-decoder reads a single
# sentinel and generates what it stands for. All sample from the full distribution; none may end early.
#
# Generation costs compute, too. A decoder with its cache reads each symbol once; an encoder reads the whole text in
# every round. One round costs as much as a whole text costs the decoder. So at equal compute for generation, compare
# "all" with causal.


# %%
def write(model: nn.Module, how: str, rounds: int, count: int, seed: int) -> Tensor:
    """(count, LENGTH) texts, from nothing."""
    settings: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed), "suppressed": SPECIAL.all}
    if how == "continues":
        return generate(model, framed(torch.zeros(count, 0).long()), max_new_tokens=LENGTH, **settings)[:, 1:]
    if how != "one span":
        blanks = framed(torch.full((count, LENGTH), SPECIAL["mask"]))
        settings["rounds"] = None if how == "all" else rounds
        return fill_masks(model, blanks, SPECIAL["mask"], order=how, **settings)[:, 1:]
    sentinel = SPECIAL.sentinels[0]
    inputs = torch.tensor([[SPECIAL.eos, sentinel, SPECIAL.eos]]).repeat(count, 1)
    settings |= {"suppressed": [one for one in SPECIAL.all if one != sentinel], "max_new_tokens": 2 * LENGTH}
    targets = fill_spans(model, inputs, start_id=SPECIAL["decoder_start"], eos=SPECIAL.eos, **settings)
    return torch.stack([row[row != sentinel][:LENGTH] for row in targets])  # the sentinel comes first, as in training


def by_frequency(count: int, seed: int) -> Tensor:
    """(count, LENGTH) texts of symbols drawn by their frequency alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(SOURCE.stationary, count * LENGTH, replacement=True, generator=generator).view(count, -1)


def judge_texts(texts: Tensor) -> tuple[float, float]:
    """(pairs off, excess nats a symbol), exact up to the number of texts."""
    pairs = (texts[:, :-1] * SOURCE.symbols + texts[:, 1:]).flatten().bincount(minlength=SOURCE.symbols**2)
    true = (SOURCE.stationary[:, None] * SOURCE.transition).flatten()
    entropy = SOURCE.entropy + (LENGTH - 1) * SOURCE.entropy_rate
    off, excess = (pairs / pairs.sum() - true).abs().sum() / 2, -SOURCE.log_prob(texts).mean() - entropy
    return float(off), float(excess) / LENGTH


Way = tuple[str, str, int]
"""(what it was trained on, how it generates, rounds in which it reads the text)"""
ORDERS = ("left_to_right", "random", "confidence")
TRUE: Way = ("the source itself", "", 0)
BASELINE: Way = ("symbols by frequency", "", 0)


def ways(rounds: list[int]) -> list[Way]:
    """How each model generates; the masked controls in all rounds alone."""
    found: list[Way] = [("causal", "continues", LENGTH)]
    for name in (name for name in TRAINED if name.startswith("masked")):
        found.append((name, "all", 1))
        found += [(name, order, n) for order in ORDERS for n in (rounds if name == "masked, any share" else [LENGTH])]
    return found + [(name, "one span", LENGTH) for name in TRAINED if name.startswith("span")]


def measure(seed: int, steps: int, texts: int, rounds: list[int]) -> dict[str, float]:
    """All figures of one seed, by name."""
    models = {name: trained(objective, seed, steps) for name, objective in TRAINED.items()}
    found: dict[str, float] = {}
    for name, model in models.items():
        text, batch = held_out(TRAINED[name], seed)
        found[f"own nats, {name}"] = own_nats(TRAINED[name], model, batch)
        found[f"least nats, {name}"] = least_nats(TRAINED[name], text, batch)
    written = {TRUE: SOURCE.sample(texts, LENGTH, seed=-1 - seed), BASELINE: by_frequency(texts, seed)}
    written |= {way: write(models[way[0]], *way[1:], texts, seed) for way in ways(rounds)}
    for way, some in written.items():
        found[f"pairs off, {label(way)}"], found[f"excess nats, {label(way)}"] = judge_texts(some)
    return found


def label(way: Way) -> str:
    """A way in words."""
    return " ".join(map(str, way)).replace("_", " ") if way[1] else way[0]


if in_notebook():  # texts of a model that has been trained for ten seconds, and of the source
    print(SOURCE.sample(3, LENGTH), write(trained(TRAINED["causal"], 0, 100), "continues", LENGTH, 3, 0), sep="\n")

# %% [markdown]
# ## The rule
#
# Fixed before the recorded run. Texts are judged by the pairs, which show both nonsense and dullness. Masked models
# fill one blank at a time, each in the order that suits it best. The claim has four parts: any share beats 15%; it
# beats 50%, so that the whole texts count and not the larger share; one run beats short spans; and, for the model of
# any share, one blank at a time beats all at once.
#
# Gates: each of the six models has learned 80% of its own task, from the guess by frequency (0) to the least loss (1);
# and the models that were trained on whole texts generate better ones than symbols drawn by frequency. The causal model
# is the positive control: if anything writes well here, it must.
#
# Earlier runs: 150 steps, seeds 0 to 4, missed a gate (short spans had learned 82 ± 3% of their task). Then 200 steps,
# seeds 20 to 24, held in part: any share was 8.8 ± 9.3 points better than 15%, just not significant. There was no model
# of 50%. Three of these seeds were trained with it, to see that it learns; so the recorded seeds are new.

# %%
COLOURS = {"causal": CausalLM.colour, "masked, 15%": "#E69F00", "masked, any share": MaskedLM.colour}
COLOURS |= {"masked, always 50%": "#CC79A7", "span, 15% by threes": "#56B4E9", "span, one run": SpanCorruption.colour}


def main(arguments: list[str] | None = None) -> Result:
    visit = LESSON.visit(arguments)
    steps, texts = visit.choose((200, 200), fast=(20, 20))
    rounds = visit.choose([8, LENGTH], fast=[LENGTH])
    cost = {name: megaflops(objective, visit.choose(4, fast=1)) for name, objective in TRAINED.items()}
    found = [measure(seed, steps, texts, rounds) for seed in visit.track(visit.seeds)]
    f = Seeds.by_name(found)

    def off(*way: Any) -> Seeds:
        return f[f"pairs off, {label(way)}"]

    best = {
        name: min((off(*way) for way in ways(rounds) if way[0] == name and way[2] == LENGTH), key=lambda one: one.mean)
        for name in TRAINED
    }
    _, few, half, many, short, run = best.values()
    at_once, confident = off("masked, any share", "all", 1), off("masked, any share", "confidence", LENGTH)
    learned = {
        name: share_learned(f[f"own nats, {name}"], SOURCE.entropy, f[f"least nats, {name}"]) for name in TRAINED
    }
    gates = [Gate(f"{name} has learned its own task", one, above=0.8) for name, one in learned.items()]
    gates += [
        Gate(f"{name} writes better than frequencies", best[name], below=off(*BASELINE), control=name == "causal")
        for name in ("causal", "masked, any share", "span, one run")
    ]
    parts = [
        Part("15% less any share", few - many),
        Part("always 50% less any share", half - many),
        Part("by threes less one run", short - run),
        Part("at once less one by one", at_once - many),
    ]
    judgement = judge(gates, parts)
    rows = [
        ["", "", label(way), "", f"{off(*way):.1%}", f"{f[f'excess nats, {label(way)}']:.2f}"]
        for way in (TRUE, BASELINE)
    ]
    for way in ways(rounds):
        name = way[0]
        seen = [f"{cost[name] * steps / 1e6:.2f}", f"{learned[name]:.0%}"]
        rows.append([*seen, name, label(("", *way[1:])), f"{off(*way):.1%}", f"{f[f'excess nats, {label(way)}']:.2f}"])
    return visit.conclude(
        judgement,
        number=f"pairs off: masks 15% {few:.0%}, 50% {half:.0%}, any share {many:.0%}, causal {best['causal']:.0%}",
        finding=f"Pairs of neighbours off, at best: masks at 15% {few:.1%}, 50% {half:.1%}, any share {many:.1%} (all "
        f"at once {at_once:.1%}, most certain first {confident:.1%}); short spans {short:.1%}, one run {run:.1%}; "
        f"causal {best['causal']:.1%}, true texts {off(*TRUE):.1%}, symbols by frequency {off(*BASELINE):.1%}.",
        figures=f | {f"learned, {name}": one for name, one in learned.items()},
        headings=["TFLOP", "learned", "trained on", "generates, rounds", "pairs off", "excess nats"],
        rows=rows,
        picture=draw(f, best, rounds, judgement),
    )


def draw(f: dict[str, Seeds], best: dict[str, Seeds], rounds: list[int], judgement: Judgement) -> Figure:
    """Left the six models, each generating as suits it best; right the model of any share, by order and rounds."""
    figure = Figure(figsize=(13, 5), layout="constrained")
    outcomes = dict(zip(("15%", "50%", "short spans", "all at once"), (part.outcome for part in judgement.parts)))
    worse, others = ([name for name in outcomes if (outcomes[name] == "held") == held] for held in (True, False))
    sentence = f"worse texts from {', '.join(worse) or 'none'}; not shown of {', '.join(others) or 'none'}"
    figure.suptitle(f"{judgement.title}: {sentence}", fontsize=14, weight="bold")
    left, right = figure.subplots(1, 2)
    for n, (name, one) in enumerate(best.items()):
        left.barh(n, one.mean, color=COLOURS[name])
        left.errorbar(one.mean, n, xerr=one.error, color="black", capsize=4)
        left.annotate(f"{one.mean:.0%}", (one.mean + one.error, n), (5, -4), textcoords="offset points")
    left.set_yticks(range(len(best)), best)
    left.invert_yaxis()
    left.set(xlabel="share of pairs of neighbours that are off, one blank at a time", xlim=(0, 0.6))
    for order, style in zip(ORDERS, ("-o", "--s", ":^")):
        names = ["masked, any share all 1", *(label(("masked, any share", order, n)) for n in rounds)]
        line = [f[f"pairs off, {name}"] for name in names]
        means, errors = [one.mean for one in line], [one.error for one in line]
        words = order.replace("_", " ")
        right.errorbar([1, *rounds], means, errors, fmt=style, color=MaskedLM.colour, capsize=3, label=words)
    right.set_xscale("log", base=2)
    right.set_xticks([1, *rounds], [f"{n}" for n in (1, *rounds)])
    right.set(xlabel=f"rounds in which {LENGTH} blanks are filled (1: all at once)", ylim=(0, None))
    right.set_title("masked, any share: the order in which blanks are filled", fontsize=10)
    for way, word, at in ((TRUE, "true texts", 0.04), (BASELINE, "symbols by frequency", 1.0)):
        off = f[f"pairs off, {label(way)}"].mean
        left.axvline(off, color="#555555", linestyle=":")
        left.text(off, 1.01, word, transform=left.get_xaxis_transform(), ha="center")
        level(right, off, word, style=":", at=at)
    right.legend(loc="lower left", bbox_to_anchor=(0.02, 0.12))
    return figure


# %%
if __name__ == "__main__":
    main()

# %% [markdown]
# ## What came out
#
# Held in part. Every model has learned its own task, so none of what follows is due to a lack of training alone.
#
# - **Spans.** The model of one run of any length generates nearly true texts (5.0 ± 2.7% of pairs off, true texts
#   2.1%); the model of short spans does not (36.6 ± 11.4%). This part held.
# - **Masks at 15%** have 24.1 ± 11.5% off, any share 6.8 ± 1.6%. This part held, too; on seeds 20 to 24 it did not. The
#   model of 15% differs much between seeds.
# - **Whole texts or a larger share?** The model that always hides half never had a whole text hidden. It has 8.2 ± 7.2%
#   off, 1.4 ± 6.8 points more than any share: cannot tell. So it is not shown for masks that training must hide whole
#   texts; a larger share may be enough.
# - **One blank at a time** beats all at once by far (6.8% against 41.4%, hardly better than symbols by frequency): the
#   blanks of one round are filled independently of one another.
#
# "The most certain first", the usual order, is the worst when tokens are sampled: its texts are dull. A probable sample
# is kept and an improbable one is sampled again, until nearly every symbol is the most frequent one.
#
# The causal model (2.7 ± 1.2% of pairs off) has learned 100% of its task in the same steps, the model of any share 90%.
# The latter learns all orders at once, though one would have been enough.
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
# The causal model generates as it was trained, with one difference: in training it reads true texts, in generation its
# own. Do its errors compound? Lesson 10.
