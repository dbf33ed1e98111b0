# %% [markdown]
# # 07 Everything is text to text
#
#     python examples/07_text_to_text.py  # --fast to see that it runs
#
# **The question.** Translate, reverse, summarise, classify: in each of these tasks text goes in and text comes out. T5
# was built for this form. Which answers best: a causal decoder, or T5's encoder-decoder?
#
# **Before you run: what do you expect?** A causal model can answer without fine-tuning, since it was trained to
# continue. An encoder-decoder reads the whole input on both sides before it answers. Which leads before fine-tuning,
# which after it, and by how much?

# %%
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from itertools import groupby

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Exercise, Gate, Judgement, Lesson, Part, Result, Seeds, bar, in_notebook, judge
from clozelab.data import SpecialIds
from clozelab.generation import answer_pairs, generate_answers
from clozelab.languages import MarkovSource, MixtureSource
from clozelab.objectives import CausalLM, SpanCorruption
from clozelab.training import TrainConfig, fit, training_flops

LESSON = Lesson(
    "07_text_to_text.py",
    "Everything is text to text",
    claim="Before fine-tuning a causal decoder answers better; after it, the encoder-decoder of span corruption "
    "answers at least as well.",
    question="Who answers better from text to text: a causal decoder, or T5's encoder-decoder?",
    exercises=(
        Exercise(
            "Let `best_possible` read phrases of 20 words. What share of the kinds can then be recognised?",
            answer=(0.95, 1.0),
            why="Each further word is evidence for one of the three chains, and by Bayes' rule it adds up.",
        ),
        Exercise(
            "What does `frequency_guess` get right in the answers of `classify` alone, task 3?",
            answer=(0.3, 0.4),
            why="There are three kinds, drawn equally often, so the most frequent one is right in about a third.",
        ),
        Exercise(
            "`equal_steps('span', pairs_at, 300)`: how many steps of fine-tuning does the encoder-decoder get for the "
            "compute of 300 steps of the decoder?",
            answer=(400, 480),
            why="A word passes through the encoder or through the decoder, not through both: a step is cheaper.",
        ),
    ),
    literature="Wang 2022 (2204.05832, 5 billion parameters): causal decoders are best without fine-tuning, models "
    "that read their input from both sides after multitask fine-tuning. T5 (Raffel 2020, table 2): the denoising "
    "encoder-decoder, 83.28 on GLUE, is ahead of every decoder.",
    previous="0.1: held in part; it measured in the middle of the climb, and its pretraining did not help. Two runs of "
    "0.2 could not tell: see the rule.",
    first_seed=30,
)

# %% [markdown]
# ## A language, and four things to do with it
#
# The language has eight words. A **phrase** has five of them and is of one of three kinds, each a Markov chain in which
# words are often repeated. Bayes' rule gives the best possible classification (`best_possible`).
#
#     translate   the same phrase in another language       each word by a dictionary
#     reverse     the phrase from its end to its beginning
#     summarise   the first word of each run                a a a b b a  ->  a b a
#     classify    which of the three kinds is it of?        a word for the kind
#
# There are few phrases of five words, so a model could know most of them by heart. A fifth of all phrases is therefore
# left out of all training, and only these are asked.

# %%
WORDS, PHRASE = 8, 5
KIND, TASK, MARK = range(8, 11), range(11, 15), range(15, 18)  # ids: kinds, tasks, marks
SPECIAL = SpecialIds(vocab_size=32, pad=18, eos=19, sentinels=range(31, 19, -1))
CHAINS = [MarkovSource.random(WORDS, entropy=1.2, seed=seed).transition for seed in range(3)]
LANGUAGE = MixtureSource([MarkovSource(0.3 * torch.eye(WORDS) + 0.7 * chain) for chain in CHAINS])
DICTIONARY = [3, 6, 0, 5, 7, 1, 4, 2]

TASKS: dict[str, Callable[[list[int], int], list[int]]] = {
    "translate": lambda phrase, kind: [DICTIONARY[word] for word in phrase],
    "reverse": lambda phrase, kind: phrase[::-1],
    "summarise": lambda phrase, kind: [word for word, _ in groupby(phrase)],
    "classify": lambda phrase, kind: [KIND[kind]],
}
MAPS = ("translate", "reverse", "summarise")  # the output is made of the input


def phrases(seed: int, count: int, unseen: bool = False) -> tuple[list[list[int]], list[int]]:
    """Phrases of five words and their kinds, of those in the text or of those that no model is trained on."""
    rows, kinds = LANGUAGE.sample(20 * count, PHRASE, seed=seed)
    chosen = (rows @ torch.tensor([1, 7, 3, 11, 13]) % 5 == 0) == unseen
    return rows[chosen][:count].tolist(), kinds[chosen][:count].tolist()


def best_possible(length: int) -> float:
    """Share of kinds that Bayes' rule recognises in phrases of a length."""
    rows, kinds = LANGUAGE.sample(4000, length, seed=-1)
    return float((LANGUAGE.posterior(rows).argmax(1) == kinds).double().mean())


# %% [markdown]
# ## The text of pretraining holds the tasks, as the web holds translations
#
# Each text has twelve ids: phrase, mark, answer and end of text; after a summary, which is shorter, the next phrase
# begins. There are three marks, one for each task whose output is made from the input; nothing is classified. The text
# gives no instructions: a mark stands where "in Swedish:" would. Span corruption hides half of each text, in one run of
# six that may wrap around from the end to the beginning. With T5's 15% a text would have one short run, and such a
# model learns to use its context only after a long plateau (lesson 13).

# %%
OBJECTIVES = {
    "causal": CausalLM(),
    "span": SpanCorruption(noise_density=0.5, mean_noise_span_length=6.0, scheme="rolled-spans"),
}
ROWS, LENGTH, BATCHES = 32, 12, 3


def text_of(seed: int) -> Tensor:
    """(ROWS, LENGTH): phrases with their answers, one after another."""
    rows, (drawn, _) = [], phrases(seed, 2 * ROWS)
    for row, (first, second) in enumerate(zip(drawn[::2], drawn[1::2])):
        task = row % len(MAPS)
        rows.append([*first, MARK[task], *TASKS[MAPS[task]](first, 0), SPECIAL.eos, *second][:LENGTH])
    return torch.tensor(rows)


# %% [markdown]
# ## Pairs, in two forms
#
# A **pair** is a prompt and an answer. Each model gets it in the form of its pretraining (`answer_pairs`): a decoder
# continues the prompt, an encoder-decoder generates what a sentinel after the prompt stands for. Encoders are left out:
# they fill masks, so they would have to be given the length of the answer.
#
#     as in the text   phrase, mark   a case of each one's own task: to go on after six ids, to fill a run of six
#     as a task        phrase, task   what fine-tuning teaches: four new ids, one for each task

# %%
Pairs = tuple[list[list[int]], list[list[int]], list[int]]


def pairs_of(seed: int, count: int, form: str, unseen: bool = True) -> Pairs:
    """Prompts, answers and the number of each one's task, all tasks in turn."""
    drawn, kinds = phrases(seed, count, unseen)
    names = list(TASKS) if form == "as a task" else list(MAPS)
    tasks = [n % len(names) for n in range(count)]
    answers = [TASKS[names[task]](phrase, kind) for task, phrase, kind in zip(tasks, drawn, kinds)]
    asked = TASK if form == "as a task" else MARK
    return [[*phrase, asked[task]] for task, phrase in zip(tasks, drawn)], answers, tasks


def words_right(model: nn.Module, pairs: Pairs) -> dict[str, float]:
    """Share of the answers' words that are right and in their place, by task, and the mean of the first three."""
    prompts, answers, tasks = pairs
    generated = generate_answers(model, prompts, SPECIAL, tokens=PHRASE + 1, greedy=True)
    shares = torch.tensor(
        [sum(a == b for a, b in zip(ours, true)) / max(len(ours), len(true)) for ours, true in zip(generated, answers)]
    )
    by_task = {name: float(shares[torch.tensor(tasks) == n].mean()) for n, name in enumerate(TASKS) if n in tasks}
    return by_task | {"maps": sum(by_task[task] for task in MAPS) / len(MAPS)}


def frequency_guess(tasks: list[int]) -> float:
    """Share of words right if each is the most frequent one of its task."""
    _, answers, asked = pairs_of(-1, 2000, "as a task")
    by_task = [torch.tensor([w for a, n in zip(answers, asked) if n == task for w in a]) for task in tasks]
    return sum(float(words.bincount().max()) / len(words) for words in by_task) / len(tasks)


# %% [markdown]
# ## Equal compute
#
# All models have three blocks of one width; the encoder-decoder has two in its encoder and one in its decoder. **The
# floating-point operations are equal, in pretraining and again in fine-tuning**. The encoder-decoder is also fine-tuned
# on as many pairs as the decoder, which costs it less. There are only 96 pairs, seen many times, since pretraining
# helps most where pairs are few.
#
# The ids of tasks and kinds never occur in the text. Pretraining pushes their vectors away at every step, all in the
# same direction: in the end they are one vector, twice as long as the others. So they get new vectors before
# fine-tuning, as is usual where a vocabulary is extended, with the mean and the spread of those that occur. Fine-tuning
# keeps the learning rate of the table, since the new vectors have far to go. The matrices, which hold what pretraining
# taught, get a third of theirs.


# %%
def build(name: str, seed: int) -> nn.Module:
    """Three blocks."""
    torch.manual_seed(seed)
    layers = {"n_layers": 2, "n_decoder_layers": 1} if name == "span" else {"n_layers": 3}
    return OBJECTIVES[name].build_model(SPECIAL.vocab_size, "tiny", d_model=32, n_heads=4, **layers)


def text_at(name: str, seed: int) -> Callable[[int], dict]:
    """The batches of pretraining."""
    collate = OBJECTIVES[name].collator(SPECIAL, seed=seed)
    return lambda step: collate.block(text_of(seed * 10**6 + step), range(step * ROWS, (step + 1) * ROWS))


def pairs_at(name: str, seed: int) -> Callable[[int], dict]:
    """The batches of fine-tuning: 96 pairs of all four tasks, again and again."""

    def batch(step: int) -> dict:
        prompts, answers, _ = pairs_of(seed * 10**6 + 500_000 + step % BATCHES, ROWS, "as a task", unseen=False)
        return answer_pairs(OBJECTIVES[name].architecture, prompts, answers, SPECIAL)

    return batch


@cache
def equal_steps(name: str, batches: Callable, decoders: int) -> int:
    """The number of steps that cost as much as `decoders` steps of the decoder."""
    costs = [training_flops(OBJECTIVES[n], build(n, 0), map(batches(n, 0), range(4))) for n in ("causal", name)]
    return round(decoders * costs[0] / costs[1])


def train(
    name: str, model: nn.Module, batches: Callable, steps: int, seed: int, matrix_rate: float = 0.02
) -> nn.Module:
    """Train with the usual learning rates, or another one for the matrices of the blocks."""
    config = TrainConfig(
        steps, learning_rate=0.03, matrix_learning_rate=matrix_rate, weight_decay=0.0, seed=seed, precision="float32"
    )
    fit(OBJECTIVES[name], model, batches(name, seed), config)
    return model


def with_new_ids(model: nn.Module, seed: int) -> nn.Module:
    """A copy with new vectors for the ids of tasks and kinds, with the mean and the spread of those in the text."""
    model, new = deepcopy(model), [*KIND, *TASK]
    table = model.embedding.weight.data  # (V, D)
    known = table[[*range(WORDS), *MARK]]
    drawn = torch.randn(len(new), table.shape[1], generator=torch.Generator().manual_seed(seed))
    table[new] = known.mean(0) + known.std(0) * drawn
    return model


if in_notebook():
    prompts, answers, _ = pairs_of(0, 3, "as in the text")
    print("pairs:", *zip(prompts, answers), sep="\n")
    quick = train("causal", build("causal", 0), text_at, steps=100, seed=0)
    print("words right after 100 steps:", words_right(quick, pairs_of(-1, 90, "as in the text")))


# %%
def one_seed(seed: int, reading: int, tuning: int, count: int) -> dict[str, float]:
    """The share of words right of every model, in every form; reading and tuning are steps of the decoder."""
    tests = {form: pairs_of(-2 - seed, count, form) for form in ("as in the text", "as a task")}
    found: dict[str, float] = {}
    for name in OBJECTIVES:
        equal = equal_steps(name, pairs_at, tuning)
        pretrained = train(name, build(name, seed), text_at, equal_steps(name, text_at, reading), seed)
        measured = {"as in the text": words_right(pretrained, tests["as in the text"])}
        ways = {"tuned": equal, "tuned on as many pairs": tuning} if name == "span" else {"tuned": tuning}
        for way, steps in ways.items():
            tuned = train(name, with_new_ids(pretrained, seed), pairs_at, steps, seed, matrix_rate=0.02 / 3)
            measured[way] = words_right(tuned, tests["as a task"])
        scratch = train(name, build(name, seed), pairs_at, equal, seed)
        measured["scratch"] = words_right(scratch, tests["as a task"])
        found |= {f"{name}, {way}: {task}": share for way, by in measured.items() for task, share in by.items()}
    return found


# %% [markdown]
# ## The rule, fixed before the run
#
# The measure is the share of words right in the three tasks whose output is made from the input. *Gates*: each model
# has learned 80% of its own task (answers as in the text; 0 is a guess by frequency, 1 always right). Pretraining helps
# each of them: the same fine-tuning from scratch ends lower. Each classifies better than a guess.
#
# *Parts of the claim*: before fine-tuning the decoder is above the encoder-decoder. After fine-tuning the decoder is
# less than 2 points above the encoder-decoder, or below it: with equal compute, and on as many pairs.
#
# Two runs before this one could not tell, and after each of them settings were changed, with seeds 10 to 12. In the
# first, on seeds 0 to 4, phrases had 3 to 5 words, so few runs of six hid exactly an answer; the gate measured the last
# word of an answer, which no such run hides alone; and 320 pairs taught almost as much from scratch. The second, on
# seeds 20 to 24, had 160 pairs, a third of all learning rates in fine-tuning and no new vectors, so the matrices forgot
# how to reverse before the ids of the tasks differed. In both, most of the tested phrases had been in the text. The
# recorded run uses seeds 30 to 34, with which no choice was made. The rule is that of the second run.

# %%
MARGIN = 0.02


def rule(figures: dict[str, Seeds], maps: dict[str, Seeds], guess: float) -> Judgement:
    """The verdict; `maps` are the words right in the first three tasks by stage, `guess` those of a guess."""
    gates = []
    for name in OBJECTIVES:
        own, kinds = (maps[f"{name}, as in the text"] - guess) / (1 - guess), figures[f"{name}, tuned: classify"]
        tuned, scratch = maps[f"{name}, tuned"], maps[f"{name}, scratch"]
        gates.append(Gate(f"{name}: share learned of its own task", own, above=0.8))
        gates.append(Gate(f"{name}: words right with pretraining, and without", tuned, above=scratch))
        gates.append(Gate(f"{name}: kinds recognised after fine-tuning", kinds, above=frequency_guess([3])))
    before, causal = maps["causal, as in the text"] - maps["span, as in the text"], maps["causal, tuned"]
    parts = [Part("before fine-tuning, causal above span", before)]
    for way in ("tuned", "tuned on as many pairs"):
        parts.append(Part(f"{way}, span above causal less 2 points", maps[f"span, {way}"] - (causal - MARGIN)))
    return judge(gates, parts)


def main(arguments: list[str] | None = None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    sizes = visit.choose((600, 150, 400), fast=(16, 8, 48))
    runs = [one_seed(seed, *sizes) for seed in visit.track(visit.seeds)]
    figures = Seeds.by_name(runs)
    guess = frequency_guess([0, 1, 2])
    maps = {key.removesuffix(": maps"): seeds for key, seeds in figures.items() if key.endswith(": maps")}
    causal, judgement = maps["causal, tuned"], rule(figures, maps, guess)
    finding = f"Words right in translate, reverse and summarise (a guess {guess:.2f}). " + "; ".join(
        f"{name}: before fine-tuning {maps[f'{name}, as in the text']:.2f}, after it {maps[f'{name}, tuned']:.2f}, "
        f"without pretraining {maps[f'{name}, scratch']:.2f}"
        for name in OBJECTIVES
    )
    shown = {key: f"{seeds:.2f}" for key, seeds in figures.items()}
    return visit.conclude(
        judgement,
        number=f"words right, fine-tuned: span {maps['span, tuned']:.2f}, causal {causal:.2f}, a guess {guess:.2f}",
        finding=f"{finding}; span on as many pairs as causal {maps['span, tuned on as many pairs']:.2f}.",
        figures=figures,
        headings=["words right", "first three", *TASKS],
        rows=[[stage, *(shown.get(f"{stage}: {what}", "") for what in ("maps", *TASKS))] for stage in maps],
        picture=picture(figures, guess, judgement),
    )


def picture(figures: dict[str, Seeds], guess: float, judgement: Judgement) -> Figure:
    """Left: before and after fine-tuning, and after it without pretraining. Right: each task after it."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
    stages = {
        "as in the text: maps": "before\nfine-tuning",
        "tuned: maps": "after",
        "scratch: maps": "after, without\npretraining",
    }
    for axes, columns in ((left, list(stages)), (right, [f"tuned: {task}" for task in TASKS])):
        for n, (name, objective) in enumerate(OBJECTIVES.items()):
            for x, column in enumerate(columns):
                seeds, at = figures[f"{name}, {column}"], x + 0.36 * (n - 0.5)
                bar(axes, at, seeds, objective.colour, width=0.34, label=None if x else name)
        axes.set_ylim(0, 1.05)
    best = best_possible(PHRASE)
    left.axhline(guess, color="#555555", linestyle="--", linewidth=1, label="a guess by frequency")
    right.plot([2.6, 3.4], [best, best], color="#555555", linestyle=":", label="best possible")
    left.set_xticks(range(3), list(stages.values()))
    left.set_ylabel("words right in the first three tasks")
    right.set_xticks(range(4), list(TASKS))
    right.set_ylabel("words right after fine-tuning")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=3, bbox_to_anchor=(1, 1.1))
    held = "the decoder leads before fine-tuning, the encoder-decoder has caught up after it"
    kept = "; ".join(part.what for part in judgement.parts if part.outcome == "held")
    passed = all(gate.passed for gate in judgement.gates)
    titles = {"held": held, "not judged": "one seed", "cannot tell": kept if passed else "not all gates were passed"}
    figure.suptitle(f"{judgement.title}: {titles.get(judgement.verdict, kept) or 'no part is significant'}")
    return figure


# %%
if __name__ == "__main__":
    main()

# %% [markdown]
# ## What came out
#
# Held in part. Before fine-tuning the decoder leads by 0.06 ± 0.01 of the words. After it the encoder-decoder has 0.86
# ± 0.03 of them and the decoder 0.77 ± 0.12, but the difference is not significant: by the rule it cannot be told. What
# differs is one task. In three of five seeds the decoder reverses no more than 41% of the words, though all of its
# models reversed without a fault before; in the other two it does as well as the encoder-decoder. The decoder is better
# at summarising, 0.77 ± 0.04 against 0.62 ± 0.08.
#
# All gates were passed. From 96 pairs alone both models learn half of the words (0.50 ± 0.02 and 0.51 ± 0.14), so a
# quarter (causal) and a third (span) of them are due to pretraining.
#
# What was tried, on seeds 10 and 11: without new vectors, a tenth of the rate for the matrices gave the decoder 0.79
# and 0.60 of the words; 0.53 and 0.57 were learned from scratch. With new vectors a tenth and a third of the rate gave
# 0.69 and 0.71 on seed 11. Before the tested phrases were kept out of the text, AdamW at 0.001 or 0.003 gave 0.27 (64
# pairs, 150 steps, seed 10).
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
# Here every use was text to text. Lesson 09 compares other uses: to continue a text, to fill a gap, to classify.
