# %% [markdown]
# # 03 The causal mask is what makes it honest
#
#     python examples/03_the_causal_mask.py  # --fast: a few seconds, nothing is judged
#
# **A decoder is trained without its causal mask, and its loss is excellent. Is it a good model?**
#
# A causal model predicts token t + 1 at every position t, in one pass over a text in which token t + 1 is visible, one
# position to the right. Nothing is hidden in the inputs. Only the mask inside the attention, one triangle of zeros,
# keeps the model from copying. Nothing in a training log shows whether the mask is there: without it the loss falls
# faster and further than with it.
#
# So we train the same decoder with its mask and without, on a language that is known exactly: a Markov chain, which is
# a table of the probability of each symbol given the one before (`MarkovSource`). We ask three questions: is the loss
# possible? What is the loss of the same weights once the answer is hidden, as it is in generation? And how probable is
# the text that they generate?
#
# Losses are in nats, as those of PyTorch's `cross_entropy`: -ln of the probability that the true token was given. Even
# a model that knows the table is left with a mean of 1.00 nats a token, the entropy rate of this language. No model can
# have less, so we call it the entropy floor.
#
# **Before you run: what do you expect?** Where does the loss end without a mask, and what does that model write?

# %%
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Exercise, Gate, Judgement, Lesson, Part, Result, Seeds, in_notebook, judge, share_learned
from clozelab.display import draw_leaks
from clozelab.evaluation import LeakReport, probe_objective
from clozelab.generation import generate, sample_token
from clozelab.languages import MarkovSource, chain_costs
from clozelab.models import DecoderOnly, EncoderOnly, eval_mode
from clozelab.objectives import CausalLM, Loss, MaskedLM, Objective, SpanCorruption
from clozelab.training import TrainConfig, fit

LESSON = Lesson(
    "03_the_causal_mask.py",
    "The causal mask is what makes it honest",
    claim="Without its causal mask a decoder's training loss falls below what is possible, and it generates worse "
    "text.",
    question="A decoder is trained without its causal mask, and its loss is excellent. Is it a good model?",
    exercises=(
        Exercise(
            "Let the mask be missing in one row of 32 and not in every other one: write `text[1:]` and `text[:1]` in "
            '`loss_fn`. What is the training loss at the end, `curve = train_one("with it in every other row", 10, '
            "200)[1]`, `sum(curve[-20:]) / 20`?",
            answer=(0.97, 1.04),
            why="As with the mask: so few rows do not teach copying in 200 steps. Nothing in the log shows the leak. "
            "The probe needs one such row.",
        ),
        Exercise(
            "Probe a text of 16 tokens, `name, report = leaks_of_the_three(length=16)[-1]`: how many leaks has the "
            "decoder without a mask, `len(report.leaks)`?",
            answer=(120, 120),
            why="Every pair of an output and a later input: 16 x 15 / 2.",
        ),
        Exercise(
            'Stop after 60 steps and restore the mask, `model, _ = train_one("without it", 10, 60)`: what is the loss, '
            "`float(loss_of(model, FRESH))`?",
            answer=(2.5, 3.6),
            why="Worse than a uniform guess already, ln 8 = 2.08, and 8.4 after 200 steps: the longer it copies, the "
            "more certain it is of wrong symbols.",
        ),
    ),
    literature="For scale: a GPT-2 of 124M reaches 2.85 nats a token on OpenWebText (nanoGPT's README); a loss near "
    "zero is a leak.",
    previous="Held; it is the same measurement, now over five seeds with a t-test.",
)

# %%
SYMBOLS, LENGTH, BATCH = 8, 32, 32
SOURCE = MarkovSource.random(SYMBOLS, entropy=1.0, seed=0)  # nats a token: the entropy floor
FRESH = SOURCE.sample(1000, LENGTH, seed=-1)
LEAST = float(chain_costs(SOURCE, FRESH)[:, 1:].mean())  # on the very texts that the models are evaluated on
CAUSAL = CausalLM()

# %% [markdown]
# ## Which outputs depend on which inputs
#
# A mask may be defined and yet not applied. `probe_objective` tests the model itself. It changes one input token at a
# time, finds bit for bit which outputs change, and compares them with those that the objective allows. The outputs of a
# decoder depend on what comes before, those of an encoder on both sides. An encoder-decoder has two inputs: its outputs
# depend on every token of the encoder's text, but only on the decoder's tokens so far. The upper row of the picture
# shows them all, and last the decoder without a mask, in which every cell above the diagonal is a leak.


# %%
def without_mask(decoder: DecoderOnly) -> EncoderOnly:
    """The very same weights, not a copy, in a model that reads both sides."""
    encoder = EncoderOnly(decoder.config)
    encoder.embedding, encoder.blocks = decoder.embedding, decoder.blocks
    return encoder


def at_random(objective: Objective, vocab_size: int) -> nn.Module:
    """A model with random weights: as they are initialised, our blocks are the identity and attend to nothing."""
    model = objective.build_model(vocab_size, d_model=32, n_layers=2, n_heads=2)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def leaks_of_the_three(length: int = 12) -> list[tuple[str, LeakReport]]:
    """(name, report) for each input of each objective's model, and for a decoder without its mask."""
    torch.manual_seed(0)
    special, text = SOURCE.special_ids(sentinels=8), SOURCE.sample(1, length)
    names = {"input_ids": "its text", "decoder_input_ids": "decoder, its own tokens"}
    reports = []
    for objective in (CAUSAL, MaskedLM(), SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0)):
        model, batch = at_random(objective, special.vocab_size), objective.collator(special).block(text, [0])
        for (_, key), report in probe_objective(objective, model, batch).items():
            what = "decoder, the encoder's text" if objective.name == "span" and key == "input_ids" else names[key]
            reports.append((f"{objective.name} ({objective.canonical}): {what}", report))
    unmasked, batch = without_mask(at_random(CAUSAL, special.vocab_size)), CAUSAL.collator(special).block(text, [0])
    return [*reports, ("causal, without its mask", probe_objective(CAUSAL, unmasked, batch)["logits", "input_ids"])]


if in_notebook():
    for name, report in leaks_of_the_three():
        print(f"{name:40} {report.verdict}")


# %% [markdown]
# ## Three ways to train one decoder
#
# The decoder is trained with the mask; without it; and without it in every other row of a batch, as by a bug that only
# some examples trigger. All three are the same `DecoderOnly` with the same initial weights on the same text. Only the
# forward pass of training differs, so **each can be evaluated both ways**, with the mask and without.

# %%
WAYS = {"with the mask": "#0072B2", "without it": "#CC79A7", "with it in every other row": "#E69F00"}
"""The ways of training, and their colours."""


def loss_of(model: DecoderOnly | EncoderOnly, text: Tensor) -> Loss:
    """Of the logits alone: `CAUSAL(model, batch)` sees that a model has no mask, and refuses it."""
    return CAUSAL(model.unembed(model(text)), text)


def train_one(way: str, seed: int, steps: int) -> tuple[DecoderOnly, list[float]]:
    """The decoder and its training losses. Its vocabulary holds the symbols of the language alone."""
    torch.manual_seed(seed)
    model = CAUSAL.build_model(SYMBOLS, d_model=32, n_layers=2, n_heads=2)
    unmasked = without_mask(model)

    def loss_fn(model: DecoderOnly, text: Tensor) -> Loss:
        if way == "with it in every other row":
            return loss_of(model, text[::2]) + loss_of(unmasked, text[1::2])
        return loss_of(model if way == "with the mask" else unmasked, text)

    def text_at(step: int) -> Tensor:
        return SOURCE.sample(BATCH, LENGTH, seed=seed * 10**6 + step)

    config = TrainConfig(steps, precision="float32", seed=seed)
    return model, fit(loss_fn, model, text_at, config)


if in_notebook():
    print("training loss at steps 10, 20, ..., 60, in nats a token; the floor is 1.00")
    for way in WAYS:
        print(f"{way:27}", *(f"{nats:.2f}" for nats in train_one(way, seed=0, steps=60)[1][9::10]))

# %% [markdown]
# ## The least possible loss, and how good a generated text is
#
# Given x[0..t], no model can have a lower expected loss on x[t+1] than the language's own uncertainty. That is the mean
# of `chain_costs`, computed on the same texts that the models are evaluated on.
#
# Text is scored by the language itself: -ln p of what was generated, in nats a token. Text of the language costs its
# entropy rate; symbols drawn by their frequency alone cost `by_frequency`.
#
# A model trained without a mask can generate in two ways. Restore the mask, as any decoder with a key-value cache does
# (`generate`). Or, at each token, reread all the text so far without a mask. Then every position attends to what it
# attended to in training, except the last one: it has nothing to its right, and it is the one that predicts.


# %%
@torch.no_grad()
def generate_rereading(model: EncoderOnly, prompts: Tensor, generator: torch.Generator) -> Tensor:
    """(B, LENGTH): each token is predicted at the last position of a text that is read without a mask."""
    text = prompts
    with eval_mode(model):
        while text.shape[1] < LENGTH:
            token = sample_token(model.unembed(model(text)[:, -1]), generator=generator)
            text = torch.cat((text, token[:, None]), 1)
    return text


def cost(text: Tensor) -> float:
    """Nats a token under the language itself, given the first symbol."""
    return float(-SOURCE.transition.log()[text[:, :-1], text[:, 1:]].mean())


def by_frequency() -> float:
    """Nats a token of symbols that are drawn by their frequency alone."""
    often = SOURCE.stationary
    return float(-(often[:, None] * often * SOURCE.transition.log()).sum())


MEASURED = ("loss, read without a mask", "loss, read with it", "its text, rereading", "its text, with the mask")


def measure(way: str, seed: int, steps: int, texts: int) -> tuple[dict[str, float], list[float]]:
    """One decoder, trained one way, evaluated both ways; and its training losses."""
    model, curve = train_one(way, seed, steps)
    prompts = SOURCE.sample(texts, 1, seed=-2)
    unmasked, rng = without_mask(model), torch.Generator().manual_seed(seed)
    with eval_mode(model), eval_mode(unmasked):
        losses = [float(loss_of(one, FRESH)) for one in (unmasked, model)]
    rereading = generate_rereading(unmasked, prompts, rng)
    masked = generate(model, prompts, max_new_tokens=LENGTH - 1, generator=rng)
    return dict(zip(MEASURED, (*losses, cost(rereading), cost(masked)))), curve


# %% [markdown]
# ## The rule of judgement
#
# Fixed before the run. All have equal steps, tokens and compute. The claim is judged only if the correctly masked
# decoder, the control,
#
# - has learned 95% of its task (0: a guess by frequency, 1: the floor), with a loss that is *not* below the floor,
# - generates better text than symbols drawn by their frequency.
#
# The claim has three parts. Without a mask the loss on fresh text is below the floor. With the mask restored, the text
# of that model costs more under the language than the text of the correctly masked decoder. So does its text by
# rereading. The third way of training decides nothing; it shows whether a loss below the floor implies a bad model.


# %%
def verdict(f: dict[str, dict[str, Seeds]]) -> Judgement:
    seen, _, rereading, masked = (f["without it"][what] for what in MEASURED)
    honest, correct = (f["with the mask"][MEASURED[n]] for n in (1, 3))
    gates = [
        Gate("with the mask: share learned", share_learned(honest, SOURCE.entropy, LEAST), above=0.95),
        Gate("with the mask: loss less the floor, nats", honest - LEAST, above=0.0, control=True),
        Gate("with the mask: what its text costs, nats", correct, below=by_frequency()),
    ]
    parts = [
        Part("nats by which the loss without a mask is below the floor", Seeds((LEAST,) * len(seen.values)) - seen),
        Part("nats by which its text is worse, mask restored", masked - correct),
        Part("nats by which its text is worse, rereading", rereading - correct),
    ]
    return judge(gates, parts)


def main(arguments: Sequence[str] | None = None) -> Result:
    """Train, measure, judge, draw."""
    visit = LESSON.visit(arguments)
    steps, texts = visit.choose((200, 300), fast=(60, 60))
    runs = {way: [measure(way, seed, steps, texts) for seed in visit.seeds] for way in visit.track(WAYS, "ways")}
    f = {way: {what: Seeds(tuple(run[what] for run, _ in runs[way])) for what in MEASURED} for way in WAYS}
    judgement, correct = verdict(f), f["with the mask"][MEASURED[3]]
    seen, back, rereading, masked = (f["without it"][what] for what in MEASURED)
    finding = (
        f"Without the mask the loss ends at {seen:.3f} nats a token, the least possible being {LEAST:.2f}; the same "
        f"weights with the mask restored have a loss of {back:.2f}. Their text costs {masked:.2f} under the true "
        f"language, {rereading:.2f} by rereading; a correctly masked model's {correct:.2f}."
    )
    rows = [[f"trained {way}", *(f"{values:.3f}" for values in f[way].values())] for way in WAYS]
    rows += [["the language itself", "", f"{LEAST:.3f}", "", f"{SOURCE.entropy_rate:.3f}"]]
    rows += [["a guess by frequency alone", "", f"{SOURCE.entropy:.3f}", "", f"{by_frequency():.3f}"]]
    return visit.conclude(
        judgement,
        number=f"unmasked loss {seen:.3f} nats, least {LEAST:.2f}; its text costs {masked:.2f}, a masked model's "
        f"{correct:.2f}",
        finding=finding,
        figures={f"trained {way}: {what}": values for way in WAYS for what, values in f[way].items()},
        headings=["nats a token", *MEASURED],
        rows=rows,
        picture=picture({way: [curve for _, curve in runs[way]] for way in WAYS}, f, judgement),
    )


# %%
def picture(curves: dict[str, list[list[float]]], f: dict[str, dict[str, Seeds]], judgement: Judgement) -> Figure:
    """Above which outputs depend on which inputs, below the losses and the cost of the texts."""
    figure = Figure(figsize=(15, 7.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.3))
    reports = leaks_of_the_three()
    for axes, (name, report) in zip(above.subplots(1, len(reports)), reports):
        draw_leaks(axes, report).set_title(f"{name}\n{report.verdict.split(':')[0]}", fontsize=9)
        axes.get_legend().remove()
        axes.set(xlabel="input that is changed", ylabel="output")
    seen, text = (f["without it"][MEASURED[n]].mean for n in (0, 3))
    figure.suptitle(
        f"{judgement.title}: without its mask the loss ends at {seen:.2f} nats, the least possible is {LEAST:.2f}, "
        f"and its text costs {text:.2f}"
    )
    above.suptitle("blue: the output depends on the input, and may; cross: it does, and must not\n", fontsize=11)
    left, right = below.subplots(1, 2, width_ratios=(1.2, 1))
    for m, (way, colour) in enumerate(WAYS.items()):
        lines = torch.tensor(curves[way])  # (seeds, steps)
        lines = lines[:, : lines.shape[1] // 10 * 10].unflatten(1, (-1, 10)).mean(2)
        at = torch.arange(lines.shape[1]) * 10 + 5
        left.fill_between(at, lines.amin(0), lines.amax(0), color=colour, alpha=0.25, linewidth=0)
        left.plot(at, lines.mean(0), color=colour, linewidth=2, label=f"trained {way}")
        for place, what, hatch in ((m - 0.2, MEASURED[2], "//"), (m + 0.2, MEASURED[3], "")):
            values = f[way][what]
            right.bar(place, values.mean, 0.36, color=colour, hatch=hatch, edgecolor="white")
            right.plot([place] * len(values.values), values.values, "o", color="black", markersize=3)
            top = (place, max(values.values))
            right.annotate(f"{values.mean:.2f}", top, (0, 4), textcoords="offset points", ha="center")
    left.axhline(SOURCE.entropy_rate, color="black", linestyle=":")
    place = {"textcoords": "offset points", "ha": "right"}
    left.annotate("the least possible", (lines.shape[1] * 10, SOURCE.entropy_rate), (0, 9), **place)
    left.set(xlabel="step", ylabel="training loss (nats a token)", ylim=(0, None))
    left.legend(loc="upper right")
    right.axhline(by_frequency(), color="black", linestyle="--", label="drawn by frequency alone")
    right.axhline(SOURCE.entropy_rate, color="black", linestyle=":", label="text of the language itself")
    right.set_ylim(0, 1.15 * max(f["without it"][MEASURED[2]].values))
    right.legend(loc="upper right")
    right.set_xticks(range(3), [f"trained\n{way}" for way in WAYS])
    right.set_ylabel("what it generates, under the true language\n(nats a token)")
    right.set_title("hatched: rereading without a mask; plain: with the mask (restored); dots: seeds", fontsize=9)
    return figure


# %%
if __name__ == "__main__":
    main()

# %% [markdown]
# ## What came out
#
# Held. The loss without a mask looks excellent: below the floor from step 25 on, almost zero by step 100. The model
# copies. With the mask restored, the loss of the same weights is 8.4 ± 0.5 nats, while a uniform guess has 2.08: the
# model is confident of wrong symbols. Its text costs 4.51 ± 0.10 nats per token under the language, more than symbols
# drawn by their frequency (2.94). The correctly masked model's text costs 1.00 ± 0.02, as the language's own does.
# Rereading does not help: there is nothing to the right of the last position, and nothing but copying was learned.
#
# The third model is a warning. Its training loss ends halfway between zero and the floor, so the number is as
# meaningless. Yet with the mask the model is nearly as good as the correctly masked one (loss 1.011 against 1.006,
# higher in each seed); by rereading without a mask it generates bad text. So a loss below the floor proves that the
# answer was visible, not that the model is useless: that depends on how it is used.
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
# With the mask, training and generation are the same task. Lesson 04 asks what happens to objectives for which they are
# not.
