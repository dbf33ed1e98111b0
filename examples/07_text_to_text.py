# %% [markdown]
# # 7. Encoder-decoders shine where input maps to output; everything is text to text
#
#     python examples/07_text_to_text.py
#
# About 3.5 processor minutes on one core, for three seeds.
#
# Translate, reverse and summarise, exact match: at equal compute encoder-decoder 55% ± 4%, decoder 23% ± 8%, encoder 5%
# ± 1% (not told the length 2% ± 1%); on as many pairs as the decoder 13% ± 4%. Not pretrained: 75% ± 9%, 33% ± 10%, 5%
# ± 3%
#
# T5's idea was to make every task the same: some text goes in, some text comes out. Then one model, one loss and one
# way of answering do for all of them, and the prompt says which task is meant. Here each of the three objectives is
# fine-tuned in that way, on four tasks at once:
#
#     classify    which of three kinds is this text of?         a word for the kind
#     translate   the same text in another language             each word by a dictionary
#     reverse     the text from its end to its beginning
#     summarise   the first word of each run                    a a a b b a  ->  a b a
#
# Each has its own form of asking, the one that it was pretrained on (`Objective.pairs`): a decoder goes on after the
# prompt, an encoder fills masks behind it, an encoder-decoder says what stands behind a sentinel. The encoder is
# thereby **told how long the answer is**: it gets as many masks as the answer has words. What that is worth is measured
# by an encoder that is not told: its answers are filled up with full stops to the longest length, so that it must say
# itself where the answer ends.

# %%
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from itertools import groupby

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Lesson, Result, Seeds, Visit
from clozelab.data import SpecialIds
from clozelab.display.curves import COLOURS
from clozelab.languages import MixtureSource
from clozelab.languages.markov import MarkovSource
from clozelab.objectives import CausalLM, MaskedLM, Objective, SpanCorruption
from clozelab.training import TrainConfig, training_flops
from clozelab.training import fit as learn

LESSON = Lesson(
    "07_text_to_text.py",
    "Everything is text to text",
    claim="Everything is text to text, and where an input maps to an output the encoder-decoder answers best",
)

# %% [markdown]
# ## A language, and four things to do with it
#
# Eight words. A text is of one of three kinds, each a Markov chain of its own in which words are often said twice, so
# that there are runs. How well the kind can be told at all is known exactly: by Bayes' rule (`posterior`).

# %%
WORDS, SHORTEST, LONGEST = 8, 4, 7
KIND, TASK, END, STOP = range(8, 11), range(11, 15), 15, 16  # ids: kinds, tasks, end of prompt, full stop
SPECIAL = SpecialIds(vocab_size=30, pad=17, eos=18, mask=19, sentinels=range(29, 19, -1))
CHAINS = [MarkovSource.random(WORDS, entropy=1.2, seed=seed).transition for seed in range(3)]
LANGUAGE = MixtureSource([MarkovSource(0.3 * torch.eye(WORDS) + 0.7 * chain) for chain in CHAINS])
DICTIONARY = [3, 6, 0, 5, 7, 1, 4, 2]

TASKS: dict[str, Callable[[list[int], int], list[int]]] = {
    "classify": lambda text, kind: [KIND[kind]],
    "translate": lambda text, kind: [DICTIONARY[word] for word in text],
    "reverse": lambda text, kind: text[::-1],
    "summarise": lambda text, kind: [word for word, _ in groupby(text)],
}
MAPS = ("translate", "reverse", "summarise")  # what comes out is made of what went in

Pairs = tuple[list[list[int]], list[list[int]], list[int]]


def pairs_of(seed: int, count: int) -> Pairs:
    """Prompts and answers, and of each which task it is, all tasks in turn; texts of 4 to 7 words."""
    texts, kinds = LANGUAGE.sample(count, LONGEST, seed=seed)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count,), generator=torch.Generator().manual_seed(seed))
    cut = [text[:length] for text, length in zip(texts.tolist(), lengths.tolist())]
    tasks = [n % len(TASKS) for n in range(count)]
    answer = list(TASKS.values())
    prompts = [[TASK[task], *text, END] for task, text in zip(tasks, cut)]
    return prompts, [answer[task](text, kind) for task, text, kind in zip(tasks, cut, kinds.tolist())], tasks


# %% [markdown]
# ## The made text of pretraining
#
# Texts of the language, nothing of the tasks. Half of them say a phrase of 4 to 7 words again and again, as real text
# returns to its words: there is something to learn about copying. 25% of the words are hidden for masked LM and span
# corruption (the texts are short: at 15% there would be one span, and T5's spans always hide the end of a text).

# %%
OBJECTIVES = {
    "causal": CausalLM(),
    "masked": MaskedLM(mask_rate=0.25),
    "span": SpanCorruption(noise_density=0.25, mean_noise_span_length=3.0),
}
ROWS, LENGTH = 16, 24


def made_text(seed: int, length: int) -> Tensor:
    """(ROWS, length): every second row a refrain."""
    text, _ = LANGUAGE.sample(ROWS, length, seed=seed)
    period = SHORTEST + seed % (LONGEST - SHORTEST + 1)
    text[1::2] = text[1::2, :period].repeat(1, length // period + 1)[:, :length]
    return text


def text_at(objective: Objective, seed: int) -> Callable[[int], dict]:
    """The batches of pretraining."""
    collate, length = objective.collator(SPECIAL, seed=seed), objective.source_length(LENGTH)
    return lambda step: collate.block(made_text(seed * 10**6 + step, length), range(step * ROWS, (step + 1) * ROWS))


def pairs_at(objective: Objective, seed: int, told: bool) -> Callable[[int], dict]:
    """The batches of fine-tuning: fresh pairs, all four tasks, in the form that the objective knows."""

    def batch(step: int) -> dict:
        prompts, answers, _ = pairs_of(seed * 10**6 + 500_000 + step, ROWS)
        return objective.pairs(prompts, answers if told else [filled_up(answer) for answer in answers], SPECIAL)

    return batch


def filled_up(answer: list[int]) -> list[int]:
    """With full stops, so that its length tells nothing."""
    return answer + [STOP] * (LONGEST - len(answer))


# %% [markdown]
# ## Equal compute
#
# All have four blocks of the same width: the encoder-decoder has two in its encoder and two in its decoder, which also
# read the encoder (11% more parameters). A word goes through only half of them, so a step of the encoder-decoder is
# cheap. **Equal is the number of floating-point operations, in pretraining and again in fine-tuning**; the
# encoder-decoder therefore takes more steps. It is also fine-tuned on as many pairs as the decoder, on about two
# thirds of the compute.

# %%


def build(objective: Objective, seed: int) -> nn.Module:
    """Four blocks."""
    torch.manual_seed(seed)
    layers = {"n_layers": 2, "n_decoder_layers": 2} if isinstance(objective, SpanCorruption) else {"n_layers": 4}
    return objective.build_model(SPECIAL.vocab_size, "tiny", d_model=32, n_heads=4, **layers)


def teach(objective: Objective, model: nn.Module, batch_at: Callable[[int], dict], steps: int, seed: int) -> None:
    """Pretraining and fine-tuning alike."""
    config = TrainConfig(steps=steps, learning_rate=6e-3, weight_decay=0.0, seed=seed, precision="float32")
    learn(objective, model, batch_at, config)


@cache
def cost(name: str, form: str) -> float:
    """Operations of a step on "text", on "pairs", or on pairs with the length "untold"."""
    objective = OBJECTIVES[name]
    batches = text_at(objective, 0) if form == "text" else pairs_at(objective, 0, told=form == "pairs")
    return training_flops(objective, build(objective, 0), map(batches, range(4)))


def equal_steps(name: str, form: str, decoders: int) -> int:
    """How many steps cost what so many steps of the decoder cost."""
    return round(decoders * cost("causal", "text" if form == "text" else "pairs") / cost(name, form))


# %% [markdown]
# ## The measure
#
# An answer counts if it is right from its first to its last word. The decoder and the encoder-decoder say the likeliest
# word until they end. The encoder fills all its masks at once, because it was never shown an answer half filled: filled
# one by one, the most certain first, as is usual for longer text, the same encoder was far worse (after 900 steps from
# scratch, one seed: 1% of translations right instead of 77%).

# %%


def exact(objective: Objective, model: nn.Module, pairs: Pairs, told: bool) -> dict[str, float]:
    """Share of answers that are right from beginning to end, by task."""
    prompts, answers, tasks = pairs
    if isinstance(objective, MaskedLM):
        room = [len(answer) for answer in answers] if told else [LONGEST] * len(answers)
        said = objective.answer(model, prompts, SPECIAL, tokens=room, greedy=True, order="all")
    else:
        said = objective.answer(model, prompts, SPECIAL, tokens=LONGEST + 1, greedy=True)
    if not told:
        said = [answer[: answer.index(STOP)] if STOP in answer else answer for answer in said]
    right = torch.tensor([ours == theirs for ours, theirs in zip(said, answers)]).float()
    return {name: float(right[torch.tensor(tasks) == task].mean()) for task, name in enumerate(TASKS)}


ROUTES = {  # name: (objective, pretrained, told the length, as many steps as the decoder instead of as much compute)
    "causal": ("causal", True, True, False),
    "causal, from scratch": ("causal", False, True, False),
    "masked": ("masked", True, True, False),
    "masked, from scratch": ("masked", False, True, False),
    "masked, length not told": ("masked", True, False, False),
    "span": ("span", True, True, False),
    "span, from scratch": ("span", False, True, False),
    "span, as many pairs": ("span", True, True, True),
}


def one_seed(seed: int, visit: Visit) -> dict[str, dict[str, float]]:
    """Every route, by task."""
    reading, asking = visit.choose((300, 450), fast=(6, 8))  # steps of the decoder
    test, pretrained, measured = pairs_of(-1 - seed, visit.choose(800, fast=80)), {}, {}
    for name, objective in OBJECTIVES.items():
        pretrained[name] = build(objective, seed)
        teach(objective, pretrained[name], text_at(objective, seed), equal_steps(name, "text", reading), seed)
    for route, (name, was_pretrained, told, as_many) in ROUTES.items():
        objective = OBJECTIVES[name]
        model = deepcopy(pretrained[name]) if was_pretrained else build(objective, seed)
        steps = asking if as_many else equal_steps(name, "pairs" if told else "untold", asking)
        teach(objective, model, pairs_at(objective, seed, told), steps, seed)
        measured[route] = {**exact(objective, model, test, told), "steps": steps}
        measured[route]["maps"] = sum(measured[route][task] for task in MAPS) / len(MAPS)
    return measured


# %% [markdown]
# ## The verdict, decided beforehand
#
# Judged is the mean over the three tasks in which the output is made of the input, the encoder being told the length.
# *Held*: the encoder-decoder is surely above both others, at equal compute and on as many pairs. *Contradicted*: it is
# surely above neither, either way. *Held in part*: anything between. (At first equal compute alone was judged; a first
# run showed that it is not the whole story, and the rule was made stricter.)
#
# ## What came out, and what was tried
#
# All three do everything in the one form, and tell the kind of a text equally well. In the rest, 450 steps of the
# decoder stand in the middle of a steep climb: the encoder-decoder, whose steps are cheap, is ahead because it takes
# half as many again, and on as many pairs it is not ahead. With twice the pairs (900 steps, not pretrained, one seed)
# the order on equal pairs was another: encoder-decoder 100%, 100%, 72% of translate, reverse and summarise, decoder
# 100%, 97%, 57%, encoder 77%, 8%, 52%.
#
# Pretraining on text that holds nothing of the tasks did not help; where a difference shows, it hurt. The length that
# the encoder is told cannot help where answers are as long as their texts; in `summarise` it gives away how many runs
# there are, and both encoders are too near to nothing there for the figure to say more.

# %%


def main(arguments: list[str] | None = None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    runs = [one_seed(seed, visit) for seed in visit.seeds]
    figures = {
        f"{route}: {what}": Seeds(tuple(run[route][what] for run in runs))
        for route in ROUTES
        for what in (*TASKS, "maps", "steps")
    }

    def maps(route: str) -> Seeds:
        return figures[f"{route}: maps"]

    ways = ("span", "span, as many pairs")
    above = [(maps(way) - maps(other)).above for way in ways for other in ("causal", "masked")]
    finding = (
        f"Translate, reverse and summarise, exact match: at equal compute encoder-decoder {maps('span'):.0%}, "
        f"decoder {maps('causal'):.0%}, encoder {maps('masked'):.0%} (not told the length "
        f"{maps('masked, length not told'):.0%}); on as many pairs as the decoder {maps('span, as many pairs'):.0%}. "
        f"Not pretrained: {maps('span, from scratch'):.0%}, {maps('causal, from scratch'):.0%}, "
        f"{maps('masked, from scratch'):.0%}"
    )
    return visit.conclude(
        verdict="held" if all(above) else "held in part" if any(above) else "contradicted",
        finding=finding,
        figures=figures,
        headings=["exact match", *TASKS, "the last three", "steps"],
        rows=[
            [route, *(f"{figures[f'{route}: {what}']:.0%}" for what in (*TASKS, "maps")), f"{runs[0][route]['steps']}"]
            for route in ROUTES
        ],
        picture=picture(figures),
    )


def picture(figures: dict[str, Seeds]) -> Figure:
    """For each task a bar for each route, and a dot for each seed."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    axes = figure.subplots()
    for place, (route, (name, pretrained, told, as_many)) in enumerate(ROUTES.items()):
        hatch = "" if told and not as_many else "//" if as_many else "xx"
        for at, task in enumerate(TASKS):
            seeds, x = figures[f"{route}: {task}"], at + (place - 3.5) * 0.11
            axes.bar(
                x,
                100 * seeds.mean,
                width=0.1,
                color=COLOURS[name] if pretrained and not hatch else "white",
                edgecolor=COLOURS[name],
                hatch=hatch,
                label=route if at == 0 else None,
            )
            axes.plot([x] * len(seeds.values), [100 * value for value in seeds.values], "k.", markersize=4)
    test = LANGUAGE.sample(4000, LONGEST, seed=-1)
    lengths = torch.arange(len(test[0])) % (LONGEST - SHORTEST + 1) + SHORTEST
    sure = torch.stack([LANGUAGE.posterior(text[:length]).argmax() for text, length in zip(test[0], lengths)])
    best = 100 * float((sure == test[1]).float().mean())
    axes.plot([-0.45, 0.45], [best, best], color="#555555", linestyle="--")
    axes.annotate(f"best possible {best:.0f}%", (-0.45, best), xytext=(0, 3), textcoords="offset points", fontsize=8)
    axes.set_xticks(range(len(TASKS)), list(TASKS))
    axes.set_ylabel("answers right from beginning to end (%)")
    axes.set_ylim(0, 112)
    axes.set_title("Text to text in four tasks, fine-tuned with equal compute; dots are seeds", loc="left")
    figure.legend(loc="outside right center", fontsize=9, frameon=False)
    return figure


if __name__ == "__main__":
    main()
