# %% [markdown]
# # 9. Choosing by the name, not by the use
#
#     python examples/09_choosing_by_the_name.py
#
# About 3.1 processor minutes on one core, for three seeds.
#
# The namesake is significantly the best in 2 of 4 uses (classify, compare). continue: causal -0.01 ± 0.01, next masked
# 0.10 ± 0.11; fill: masked 0.17 ± 0.06, not span 0.33 ± 0.06; classify: masked 69 ± 1, next causal 62 ± 1; compare:
# causal 100 ± 0, next masked 89 ± 1
#
# A BERT is chosen because it "understands", a GPT because it "writes", a T5 because it "fills in". The names come from
# what each model was trained to do; the use may be a different one. Here three models of one size are pretrained on one
# language with one budget, and each is put to four uses:
#
#     continue   a text                                    named for it: causal LM
#     fill       a gap in the middle of a text             named for it: span corruption
#     classify   texts, by a linear probe                  named for it: masked LM
#     compare    two texts: which is more probable?        named for it: causal LM
#
# The language is known exactly, so each use has a best possible score, and the distance from it is measured in nats or
# percent.

# %%
from collections.abc import Callable
from functools import cache

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Lesson, Result, Seeds, Visit
from clozelab.data import SpecialIds
from clozelab.evaluation import (
    bag_of_words,
    causal_log_prob,
    embed,
    infill_log_prob,
    linear_probe,
    pseudo_log_likelihood,
)
from clozelab.generation import fill_masks, generate, sample_token
from clozelab.languages import MarkovSource
from clozelab.models import eval_mode
from clozelab.objectives import CausalLM, MaskedLM, Objective, SpanCorruption
from clozelab.training import TrainConfig, fit, training_flops

LESSON = Lesson(
    "09_choosing_by_the_name.py",
    "Choosing by the name, not by the use",
    claim="With one budget on one language, each objective is the best at the use that it is named for",
)

# %% [markdown]
# ## A language that is known
#
# Five symbols, each of which depends on the one before it; none is ever impossible.

# %%
SYMBOLS = 5
LANGUAGE = MarkovSource(0.9 * MarkovSource.random(SYMBOLS, entropy=0.5, seed=0).transition + 0.1 / SYMBOLS)
SPECIAL = SpecialIds(vocab_size=20, pad=5, eos=6, mask=7, sentinels=range(19, 7, -1))
FIRST, SECOND = SPECIAL.sentinels[:2]

# %% [markdown]
# ## One budget
#
# Texts of 8 to 32 symbols, so that no model memorises one length. Masked LM hides 15%; span corruption 30% in runs of 2
# on average, because with T5's 15% in runs of 3 a short text has one run, always at its end, and the model would never
# see a gap in the middle. The models have three blocks each, the encoder-decoder two and one, which also attends to the
# encoder (11% more parameters). **The floating-point operations of the training are equal**: the encoder-decoder's step
# is cheaper, so it takes more of them.

# %%
OBJECTIVES = {
    "causal": CausalLM(),
    "masked": MaskedLM(mask_rate=0.15),
    "span": SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0),
}
COLOURS = {name: objective.colour for name, objective in OBJECTIVES.items()}
ROWS = 32


def batches(objective: Objective, seed: int) -> Callable[[int], dict]:
    """Fresh text in each step, of a length that all objectives share."""
    collate = objective.collator(SPECIAL, seed=seed)

    def batch(step: int) -> dict:
        length = int(torch.randint(8, 33, (), generator=torch.Generator().manual_seed(step)))
        text = LANGUAGE.sample(ROWS, length, seed=seed * 10**6 + step)
        return collate.block(text, range(step * ROWS, (step + 1) * ROWS))

    return batch


def build(objective: Objective, seed: int) -> nn.Module:
    """Three blocks."""
    torch.manual_seed(seed)
    layers = {"n_layers": 2, "n_decoder_layers": 1} if isinstance(objective, SpanCorruption) else {"n_layers": 3}
    return objective.build_model(SPECIAL.vocab_size, "tiny", d_model=32, n_heads=4, **layers)


@cache
def cost(name: str) -> float:
    """Operations of a step."""
    return training_flops(OBJECTIVES[name], build(OBJECTIVES[name], 0), map(batches(OBJECTIVES[name], 0), range(8)))


def pretrained(name: str, seed: int, decoders: int) -> tuple[nn.Module, int]:
    """A model, and its steps: as many as cost as much as `decoders` steps of the decoder."""
    model, steps = build(OBJECTIVES[name], seed), round(decoders * cost("causal") / cost(name))
    config = TrainConfig(
        steps=steps,
        optimizer="adamw",
        learning_rate=1e-2,
        weight_decay=0.0,
        seed=seed,
        precision="float32",
        warmup=0.05,
        decay=0.4,
    )
    fit(OBJECTIVES[name], model, batches(OBJECTIVES[name], seed), config)
    return model, steps


# %% [markdown]
# ## Use 1: continue a text
#
# Twelve more symbols after twelve that are given, sampled one by one. The decoder does what it was trained for. The
# encoder is given a mask at the end, then another. The encoder-decoder is given a sentinel at the end, generates the
# first symbol of its span, and is given the next. What they generate is scored under the true language: nats a symbol,
# less what a true continuation costs. (Twelve masks at once, filled from the left, are another way to use an encoder:
# `at_once`.)

# %%


def continued(
    objective: Objective, model: nn.Module, text: Tensor, count: int, seed: int, at_once: bool = False
) -> Tensor:
    """(B, T) -> (B, T + count)."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(objective, CausalLM):
        return generate(model, text, max_new_tokens=count, suppressed=SPECIAL.all, generator=generator)
    given, settings = text.shape[1], {"suppressed": SPECIAL.all, "generator": generator}
    while text.shape[1] < given + count:
        if isinstance(objective, MaskedLM):
            masks = torch.full((len(text), count if at_once else 1), SPECIAL["mask"])
            text = fill_masks(model, torch.cat([text, masks], 1), SPECIAL["mask"], order="left_to_right", **settings)
        else:
            nothing = text[:, :0]
            symbol = sample_token(gap_logits(model, text, nothing, nothing)[:, -1], generator=generator)
            text = torch.cat([text, symbol[:, None]], 1)
    return text


def gap_logits(model: nn.Module, before: Tensor, generated: Tensor, after: Tensor) -> Tensor:
    """Logits (B, n + 1, K) of an encoder-decoder in a gap, of which it has generated (B, n).

    A second sentinel closes a text that continues after the gap: T5's spans always hide the end of a text.
    """

    def one(token: int) -> Tensor:
        return torch.full((len(before), 1), token)

    closed = [after, one(SECOND)] if after.shape[1] else []
    inputs = torch.cat([before, one(FIRST), *closed, one(SPECIAL.eos)], 1)
    with eval_mode(model):
        hidden = model(inputs, decoder_input_ids=torch.cat([one(SPECIAL["decoder_start"]), one(FIRST), generated], 1))
        return model.unembed(hidden[:, 1:])[..., :SYMBOLS]


def excess_nats(objective: Objective, model: nn.Module, seed: int, texts: int, at_once: bool = False) -> float:
    """Nats a symbol of what a model generates, under the true language, less those of a true continuation."""
    given, count = 12, 12
    truth = LANGUAGE.sample(20_000, given + count, seed=-1)

    def cost(text: Tensor) -> float:
        return float((LANGUAGE.log_prob(text[:, :given]) - LANGUAGE.log_prob(text)).mean()) / count

    return cost(continued(objective, model, truth[:texts, :given], count, seed, at_once)) - cost(truth)


# %% [markdown]
# ## Use 2: fill a gap
#
# Three symbols are missing between eight on the left and eight on the right. There are 125 fillings, and the exact
# posterior over them follows from Bayes' rule. How many nats a symbol is a model's distribution above it (their
# Kullback-Leibler divergence)? All are given the number of missing symbols. The decoder predicts them from the left
# side alone. The encoder fills from the left. The encoder-decoder generates what the sentinel stands for.
#
# There is another, more expensive way: score **each of the 125 whole texts** with the decoder, and apply Bayes' rule to
# its probabilities. The same can be done with the fillings of the encoder-decoder.

# %%
LEFT, GAP, RIGHT = 8, 3, 8
FILLINGS = torch.cartesian_prod(*[torch.arange(SYMBOLS)] * GAP)  # (125, 3)


def fill_log_prob(objective: Objective, model: nn.Module, text: Tensor) -> Tensor:
    """(B,): log p of the true gap, predicted symbol by symbol."""
    before, gap, after = text.split([LEFT, GAP, RIGHT], 1)
    if isinstance(objective, CausalLM):
        return causal_log_prob(model, text[:, : LEFT + GAP]).token_log_probs[:, LEFT:].sum(1)
    if isinstance(objective, SpanCorruption):
        logits = gap_logits(model, before, gap[:, :-1], after)
        return logits.log_softmax(-1).gather(2, gap[..., None]).sum((1, 2))
    total = torch.zeros(len(text))
    for t in range(LEFT, LEFT + GAP):  # each while those after it are still masked
        places = torch.arange(text.shape[1])
        unknown = text.masked_fill((places > t) & (places < LEFT + GAP), SPECIAL["mask"])
        scored = (places == t).expand_as(text)
        total += pseudo_log_likelihood(model, unknown, mask_id=SPECIAL["mask"], scored=scored).log_prob
    return total


def whole_log_prob(objective: Objective, model: nn.Module, text: Tensor) -> Tensor:
    """(N,): log p of a text with a filling, up to a constant that all fillings share."""
    if isinstance(objective, CausalLM):
        return causal_log_prob(model, text).token_log_probs[:, LEFT:].sum(1)
    before, gap, after = text.split([LEFT, GAP, RIGHT], 1)
    first, second, end = (torch.full((len(text), 1), token) for token in (FIRST, SECOND, SPECIAL.eos))
    inputs, labels = torch.cat([before, first, after, second, end], 1), torch.cat([first, gap, second], 1)
    return infill_log_prob(model, inputs, labels, start_id=SPECIAL["decoder_start"]).log_prob


def nats_above_posterior(objective: Objective, model: nn.Module, texts: int, every_filling: bool = False) -> float:
    """Nats a symbol of the model's distribution above the exact posterior."""
    text = LANGUAGE.sample(texts, LEFT + GAP + RIGHT, seed=-2)
    all_fillings = text[:, None].repeat(1, len(FILLINGS), 1)  # (B, 125, T)
    all_fillings[:, :, LEFT : LEFT + GAP] = FILLINGS
    true = (text[:, None, LEFT : LEFT + GAP] == FILLINGS).all(2)  # (B, 125)
    exact = LANGUAGE.log_prob(all_fillings).log_softmax(1)[true]
    if every_filling:
        scores = torch.cat([whole_log_prob(objective, model, part) for part in all_fillings.flatten(0, 1).split(2500)])
        ours = scores.unflatten(0, (texts, -1)).log_softmax(1)[true]
    else:
        ours = fill_log_prob(objective, model, text)
    return float((exact - ours).mean()) / GAP


# %% [markdown]
# ## Use 3: classify
#
# In half of some texts of twelve symbols one symbol has been changed into another. In which? A linear classifier
# predicts it from the mean of the model's last hidden states (of the encoder, where there is one). The best possible
# classifier knows the language, and compares the likelihood of a text with that of all texts that it may come from.

# %%
CORRUPTED = 12


def half_corrupted(texts: int) -> tuple[Tensor, Tensor]:
    """Texts (texts, 12), and for each whether a symbol was changed."""
    generator = torch.Generator().manual_seed(0)
    text, rows = LANGUAGE.sample(texts, CORRUPTED, seed=-3), torch.arange(texts)
    places = torch.randint(CORRUPTED, (texts,), generator=generator)
    text[rows, places] += torch.randint(1, SYMBOLS, (texts,), generator=generator) * (rows % 2)
    return text % SYMBOLS, rows % 2


def probed(read: Callable[[Tensor], Tensor], texts: int) -> float:
    """Percent classified correctly."""
    text, corrupted = half_corrupted(2 * texts)
    vectors = read(text)
    return 100 * linear_probe(vectors[:texts], corrupted[:texts], vectors[texts:], corrupted[texts:])


def best_possible(texts: int) -> float:
    """Percent classified correctly by Bayes' rule."""
    text, corrupted = half_corrupted(texts)
    origins = text[:, None, None].repeat(
        1, CORRUPTED, SYMBOLS - 1, 1
    )  # (B, 12, 4, 12): all texts that it may come from
    for place in range(CORRUPTED):
        for other in range(1, SYMBOLS):
            origins[:, place, other - 1, place] += other
    log_probs = LANGUAGE.log_prob(origins % SYMBOLS).flatten(1)
    changed = log_probs.logsumexp(1) - torch.tensor(float(log_probs.shape[1])).log()
    return 100 * float(((changed > LANGUAGE.log_prob(text)).long() == corrupted).float().mean())


# %% [markdown]
# ## Use 4: compare
#
# Two texts of 16 symbols: which is more probable, given its first symbol? The decoder's log-probability is an answer.
# The encoder's usual score hides each symbol in turn (the pseudo-log-likelihood, which is not a probability). The
# encoder-decoder predicts the text three symbols at a time, each three given all that came before.

# %%


def score(objective: Objective, model: nn.Module, text: Tensor) -> Tensor:
    """(B,): the model's score of all but the first symbol, nats."""
    if isinstance(objective, CausalLM):
        return causal_log_prob(model, text).log_prob
    if isinstance(objective, MaskedLM):
        scored = (torch.arange(text.shape[1]) > 0).expand_as(text)
        return pseudo_log_likelihood(model, text, mask_id=SPECIAL["mask"], scored=scored, batch_size=512).log_prob
    total = torch.zeros(len(text))
    for start in range(1, text.shape[1], 3):
        three = text[:, start : start + 3]
        logits = gap_logits(model, text[:, :start], three[:, :-1], text[:, :0])
        total += logits.log_softmax(-1).gather(2, three[..., None]).sum((1, 2))
    return total


def compared(objective: Objective, model: nn.Module, pairs: int) -> float:
    """Percent of pairs in which the more probable text is found, without pairs of equal probability."""
    text = LANGUAGE.sample(2 * pairs, 16, seed=-4)

    def lead(scores: Tensor) -> Tensor:
        return scores[:pairs] - scores[pairs:]

    truth, ours = lead(LANGUAGE.log_prob(text) - LANGUAGE.log_prob(text[:, :1])), lead(score(objective, model, text))
    apart = truth.abs() > 1e-3
    return 100 * float(((truth > 0) == (ours > 0))[apart].float().mean())


# %% [markdown]
# ## The verdict, decided beforehand
#
# In each column the objective that is named for the use must be significantly better than both others (`Seeds`: more
# than two standard errors over seeds that agree). *Held*: in all four columns. *Held in part*: in some. *Contradicted*:
# in none. Every filling scored is another way of use, at 125 times the cost, and is not judged.
#
# What came out beside the verdict: gaps are filled best not by any of the three as they are, but by the causal model
# when every filling is scored, which is at the exact posterior; span corruption is far from it, however its fillings
# are scored. A bag of words classifies corrupted texts better than two of the three models.
#
# What was tried: half of this budget, one seed, with the same leaders except for `fill`, where the causal model was
# first (0.19 nats, masked LM 0.30); and a harder language of three kinds of text, whose kind was to be classified, in
# which the causal model was the best in all four uses, `classify` included (89% of kinds; masked LM 72%, span
# corruption 37%; one seed), because the other two had not learned the language when the budget was spent: 15% and 30%
# of what they read are in their loss. The encoder-decoder may have a second reason: it was not trained on a single
# sentinel after a long text (T5 itself had to be trained further before it could continue a text: Lester et al. 2021,
# section 3.1).

# %%
NAMED = {"continue": "causal", "fill": "span", "classify": "masked", "compare": "causal"}
BETTER = {"continue": -1, "fill": -1, "classify": 1, "compare": 1}  # lower or higher
UNITS = {
    "continue": "excess nats a symbol",
    "fill": "nats a symbol above\nthe exact posterior",
    "classify": "corrupted texts found (%)",
    "compare": "more probable text found (%)",
}
SHORT = {"continue": "excess nats", "fill": "nats above posterior", "classify": "%", "compare": "%"}
EXTRA = ("continue, all masks at once", "fill, every filling scored")


def one_seed(seed: int, name: str, visit: Visit) -> dict[str, float]:
    """All uses of one model."""
    objective, texts = OBJECTIVES[name], visit.choose(1000, fast=100)
    model, steps = pretrained(name, seed, visit.choose(1000, fast=12))
    measured = {
        "continue": excess_nats(objective, model, seed, texts),
        "fill": nats_above_posterior(objective, model, texts),
        "classify": probed(lambda text: embed(model, text), texts),
        "compare": compared(objective, model, texts // 2),
        "steps": float(steps),
    }
    if name == "masked":
        measured[EXTRA[0]] = excess_nats(objective, model, seed, texts, at_once=True)
    else:
        measured[EXTRA[1]] = nats_above_posterior(objective, model, visit.choose(200, fast=20), every_filling=True)
    return measured


def main(arguments: list[str] | None = None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    runs = {
        name: [one_seed(seed, name, visit) for seed in visit.seeds] for name in visit.track(OBJECTIVES, "objectives")
    }
    figures = {
        f"{name}: {what}": Seeds(tuple(run[what] for run in runs[name]))
        for name in OBJECTIVES
        for what in runs[name][0]
    }
    best = {
        "continue": 0.0,
        "fill": 0.0,
        "classify": best_possible(visit.choose(4000, fast=200)),
        "compare": 100.0,
    }
    bag = probed(lambda text: bag_of_words(text, None, SPECIAL.vocab_size), visit.choose(1000, fast=100))

    def better(use: str, name: str, other: str) -> bool:
        difference = figures[f"{name}: {use}"] - figures[f"{other}: {use}"]
        return difference.above if BETTER[use] > 0 else difference.below

    won = [use for use, name in NAMED.items() if all(better(use, name, o) for o in OBJECTIVES if o != name)]

    def shown(use: str, name: str) -> str:
        return f"{figures[f'{name}: {use}']:{'.2f' if BETTER[use] < 0 else '.0f'}}"

    leaders = []
    for use, name in NAMED.items():
        order = sorted(OBJECTIVES, key=lambda one, use=use: -BETTER[use] * figures[f"{one}: {use}"].mean)
        first, beside = order[0], name if order[0] != name else order[1]
        leaders.append(
            f"{use}: {first} {shown(use, first)}, {'next' if first == name else 'not'} {beside} {shown(use, beside)}"
        )
    finding = f"The namesake is significantly the best in {len(won)} of 4 uses ({', '.join(won) or 'none'}). "
    finding += "; ".join(leaders)
    headings = ["", *(f"{use} ({NAMED[use]}), {SHORT[use]}" for use in NAMED), EXTRA[1], "steps"]
    rows = [
        [
            name,
            *(shown(use, name) for use in NAMED),
            _shown(figures, f"{name}: {EXTRA[1]}"),
            f"{runs[name][0]['steps']:.0f}",
        ]
        for name in OBJECTIVES
    ]
    rows.append(["masked, all masks at once", _shown(figures, f"masked: {EXTRA[0]}"), "", "", "", "", ""])
    rows.append(["bag of words", "", "", f"{bag:.0f}", "", "", ""])
    rows.append(["best possible", *(f"{best[use]:.0f}" for use in NAMED), "0", ""])
    return visit.conclude(
        verdict="held" if len(won) == len(NAMED) else "held in part" if won else "contradicted",
        finding=finding,
        figures=figures,
        headings=headings,
        rows=rows,
        picture=picture(figures, best, bag),
    )


def _shown(figures: dict[str, Seeds], key: str) -> str:
    return f"{figures[key]:.2f}" if key in figures else ""


def picture(figures: dict[str, Seeds], best: dict[str, float], bag: float) -> Figure:
    """A panel for each use: a bar for each objective, the namesake's filled, a dot for each seed."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for axes, use in zip(figure.subplots(1, 4), NAMED):
        for x, name in enumerate(OBJECTIVES):
            seeds, named = figures[f"{name}: {use}"], NAMED[use] == name
            axes.bar(x, seeds.mean, color=COLOURS[name] if named else "white", edgecolor=COLOURS[name], linewidth=1.5)
            axes.plot([x] * len(seeds.values), seeds.values, "k.", markersize=5)
            extra = figures.get(f"{name}: {EXTRA[1]}") if use == "fill" else None
            if extra is not None:
                line = "every filling scored" if x == 0 else None
                axes.plot([x - 0.3, x + 0.3], [extra.mean] * 2, color="black", linewidth=2, label=line)
                axes.legend(fontsize=8, loc="upper left")
        axes.axhline(best[use], color="#555555", linestyle="--", linewidth=1)
        if use == "classify":
            axes.axhline(bag, color="#555555", linestyle=":", linewidth=1)
            axes.annotate("bag of words", (2.4, bag), fontsize=8, ha="right", va="bottom")
        axes.set_xticks(range(3), list(OBJECTIVES))
        axes.set_ylabel(UNITS[use])
        axes.set_title(f"{use}\n{'lower' if BETTER[use] < 0 else 'higher'} is better", loc="left", fontsize=10)
    figure.suptitle("Equal compute. Filled: the objective named for the use. Dashed: best possible. Dots: seeds")
    return figure


if __name__ == "__main__":
    main()
