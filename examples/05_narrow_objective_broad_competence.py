# %% [markdown]
# # The narrow objective forces broad competence
#
#     python examples/05_narrow_objective_broad_competence.py            # --fast to see that it runs
#
# Takes 2.6 minutes of one core for three seeds. The claim held in part:
#
# 2 of 7 skills are right on more than 80% of combinations never seen; not: facts turned round (33%), arithmetic (20%),
# copying (67%), translation (12%), strangers (17%). Words late in a text cost 0.20 ± 0.03 nats less than early ones; a
# random sequence is predicted the second time at 1%.
#
# The loss of a causal model holds one thing, the next word. But the next word of `3 + 4 =` is 7, that of `the cat near
# the dogs` is a verb of the right number, and that of `red cat sees dog in swedish :` begins a translation: to predict
# the next word of any text *well*, a model must be able to do whatever the text does. The objective is narrow, and what
# it takes to minimise it is as broad as the corpus.
#
# Here is a corpus so small that this can be examined skill by skill. Claim: **predicting the next word, and nothing
# else, teaches every skill that the text holds, also in combinations that it never held.**

# %%
from statistics import fmean

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Lesson, Result, Seeds
from clozelab.evaluation import causal_log_prob
from clozelab.generation import generate_answers
from clozelab.languages.skills import COPIED, END, SKILLS, VOCABULARY, Exercise, World
from clozelab.models import eval_mode
from clozelab.objectives import CausalLM
from clozelab.training import TrainConfig, fit

LESSON = Lesson(
    "05_narrow_objective_broad_competence.py",
    "The narrow objective forces broad competence",
    claim="Predicting the next word, and nothing else, teaches every skill that the text holds, also in combinations "
    "that it never held.",
)
CAUSAL = CausalLM()
ROWS, LENGTH = 16, 64

# %% [markdown]
# ## The world
#
# `World(seed)` writes texts of 152 words: prose, lists of questions, and interviews. Prose is about two of seven
# skills at a time:
#
# | skill | the end (in brackets) follows from the beginning | never seen in training |
# |---|---|---|
# | agreement | the cat near the dogs [sees] the bird . | these two nouns, in these places |
# | facts | the home of anna is [oslo] . | this person in this form; "anna lives in oslo" was |
# | facts turned round | in oslo lives [anna] . | this person in this form; the other two were |
# | arithmetic | 3 + 4 = [7] . | these two numbers |
# | copying | copy cat anna oslo : [cat anna oslo] . | lists that begin with these two words |
# | translation | red cat sees dog in swedish : [röd katt ser hund] . | this adjective with this noun |
# | strangers | dax lives in rome . wug lives in lima . dax lives in [rome] . | this stranger in this city |
#
# A model that has memorised its text can do the combinations that it has seen. Those that are held out separate
# memorising from generalising. Strangers live somewhere else in each text: they cannot be memorised at all, only read
# from the context.


# %%
def share_right(model: nn.Module, world: World, exercises: list[Exercise]) -> float:
    """The model continues each prompt greedily; the whole answer must be right."""
    prompts = [world.ids([END, *exercise.prompt]) for exercise in exercises]
    lengths = [len(exercise.answer) for exercise in exercises]
    answers = generate_answers(model, prompts, world.special, tokens=lengths, greedy=True)
    return fmean(exercise.right(world.words(ids)) for exercise, ids in zip(exercises, answers))


GUESS = dict(zip(SKILLS, (1 / 2, 1 / 16, 1 / 16, 1 / 10, 0.0, 0.0, 1 / 2)))
"""Accuracy of a guess of the right kind: a verb, a city, a person, the most frequent sum, a city of this text."""

# %% [markdown]
# ## What is not in the text
#
# Two abilities are tested that no sentence of the corpus shows.
#
# **In-context learning**: is a word far into a text easier to predict than one at its beginning? (Early: words 1 to 16
# of long prose; late: words 48 to 63.)
#
# **Induction** (Olsson et al. 2022): random words, each at most once, and then the same again. The text has no sentence
# like it, and the first time nothing can be predicted; a model that looks up what followed this word the last time
# predicts the second time word by word. Once with any words of the language, and once with those that occur in lists to
# be copied, but here without "copy" before them.


# %%
def nats_by_position(model: nn.Module, world: World, texts: int = 200) -> Tensor:
    """(LENGTH - 1,): nats a word of long prose, by how many words came before."""
    long = torch.tensor([world.prose(-n, LENGTH) for n in range(1, texts + 1)])
    return -causal_log_prob(model, long).token_log_probs.mean(0)[1:]


def induction(model: nn.Module, world: World, known: tuple[str, ...] = VOCABULARY[2:]) -> tuple[float, float]:
    """Share of words predicted the first time, and the second: 100 texts of the same 12 words twice."""
    ids, rows, words = torch.tensor(world.ids(known)), 100, 12
    order = torch.rand(rows, len(ids), generator=torch.Generator().manual_seed(world.seed)).argsort(1)
    once = ids[order[:, :words]]  # (rows, words)
    text = torch.cat([torch.full((rows, 1), world.special.eos), once, once], 1)
    with eval_mode(model):
        right = model.unembed(model(text[:, :-1])).argmax(-1) == text[:, 1:]
    return float(right[:, :words].float().mean()), float(right[:, words + 1 :].float().mean())


# %% [markdown]
# **Beyond the training lengths**: copies of six words, where the text has none of more than four.


# %%
def longer_lists(world: World, count: int) -> list[Exercise]:
    """Lists of six words to be copied, made of two that the world would make."""
    lists = [exercise.answer for exercise in world.exercises("copying", 20 * count, draw=1)]
    pairs = [one + other for one, other in zip(lists[::2], lists[1::2])]
    six = [words for words in pairs if len(words) == 6 and len({*words}) == 6][:count]
    return [Exercise("copying", ("copy", *words, ":"), (words,)) for words in six]


# %% [markdown]
# ## Training, with an examination at some steps
#
# Two layers of width 64, 110 thousand weights; the loss is that of the next word alone. At some steps all skills are
# examined, on combinations that are held out.


# %%
def study(seed: int, steps: int, count: int) -> dict:
    """Train one model: its results at each examination, and at the end."""
    world = World(seed)
    exams = {skill: world.exercises(skill, count) for skill in SKILLS}
    held_out = world.block(-1, 100, LENGTH)
    torch.manual_seed(seed)
    model = CAUSAL.build_model(world.special.vocab_size, "tiny", d_model=64, n_layers=2, n_heads=2)
    shares = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0)
    taken: dict[int, dict[str, float]] = {}

    def examine(step: int, _: float) -> None:
        if step in {max(1, round(share * steps)) for share in shares}:
            nats = float(CAUSAL(model, {"input_ids": held_out, "labels": held_out}).mean.detach())
            marks = {skill: share_right(model, world, exercises) for skill, exercises in exams.items()}
            taken[step] = {**marks, "induction": induction(model, world)[1], "nats": nats}

    def batch(step: int) -> dict[str, Tensor]:
        text = world.block(step, ROWS, LENGTH)
        return {"input_ids": text, "labels": text}

    config = TrainConfig(steps, learning_rate=3e-3, warmup=0.05, decay=0.4, matrix_momentum=0.95, precision="float32")
    fit(CAUSAL, model, batch, config, callback=examine)
    seen = {skill: world.exercises(skill, count, held_out=False) for skill in SKILLS}
    return {
        "exams": taken,
        "seen": {skill: share_right(model, world, exercises) for skill, exercises in seen.items()},
        "by position": nats_by_position(model, world),
        "induction": induction(model, world),
        "induction in lists": induction(model, world, COPIED),
        "longer": share_right(model, world, longer_lists(world, count)),
    }


# %% [markdown]
# ## The verdict
#
# Decided beforehand: a skill is learned where the share of right answers on held-out combinations is significantly
# above 80% (`Seeds`: more than two standard errors over seeds that agree). The claim held if all seven are, in part if
# some are, and is contradicted if none is.
#
# A skill *appears* at the first examination at which it is more than half way from a guess to always right.


# %%
def appears(exams: dict[int, dict[str, float]], skill: str) -> float:
    """The step of that examination, or infinity."""
    half = (1 + GUESS.get(skill, 0.0)) / 2
    return next((step for step, marks in exams.items() if marks[skill] > half), float("inf"))


def when(studies: list[dict], skill: str) -> str:
    """From the earliest to the latest of the seeds."""
    steps = sorted(appears(one["exams"], skill) for one in studies)
    first, last = ("never" if step == float("inf") else f"{step:.0f}" for step in (steps[0], steps[-1]))
    return first if first == last else f"{first} to {last}"


def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    steps, count = visit.choose(1800, fast=60), visit.choose(64, fast=8)
    studies = [study(seed, steps, count) for seed in visit.track(visit.seeds)]

    def seeds(take) -> Seeds:
        return Seeds(tuple(take(one) for one in studies))

    apart = {skill: seeds(lambda one, skill=skill: one["exams"][steps][skill]) for skill in SKILLS}
    seen = {skill: seeds(lambda one, skill=skill: one["seen"][skill]) for skill in SKILLS}
    first, second = (seeds(lambda one, k=k: one["induction"][k]) for k in (0, 1))
    late, early = (seeds(lambda one, w=w: float(one["by position"][w].mean())) for w in (slice(47, 63), slice(0, 16)))
    listed = seeds(lambda one: one["induction in lists"][1])
    longer = seeds(lambda one: one["longer"])
    learned = [skill for skill in SKILLS if (apart[skill] - 0.8).above]
    not_learned = [skill for skill in SKILLS if skill not in learned]
    rows = [
        [skill, f"{GUESS[skill]:.0%}", f"{seen[skill]:.0%}", f"{apart[skill]:.0%}", when(studies, skill)]
        for skill in sorted(SKILLS, key=lambda skill: fmean(min(appears(one["exams"], skill), 1e9) for one in studies))
    ]
    rows += [
        ["induction: a random sequence again", f"{first:.0%}", "", f"{second:.0%}", when(studies, "induction")],
        ["the same, of words seen in lists", "", "", f"{listed:.0%}", ""],
        ["copying six words (text: at most four)", "0%", "", f"{longer:.0%}", ""],
        ["nats a word, early in a text; late", "", f"{early:.2f}", f"{late:.2f}", ""],
    ]
    missing = ", ".join(f"{skill} ({apart[skill].mean:.0%})" for skill in not_learned) or "none"
    return visit.conclude(
        verdict="held" if not not_learned else "held in part" if learned else "contradicted",
        finding=f"{len(learned)} of {len(SKILLS)} skills are right on more than 80% of combinations never seen; not: "
        f"{missing}. Words late in a text cost {early - late:.2f} nats less than early ones; a random sequence is "
        f"predicted the second time at {second.mean:.0%}.",
        figures={
            **{f"{skill}, seen": seen[skill] for skill in SKILLS},
            **{f"{skill}, held out": apart[skill] for skill in SKILLS},
            **{"induction, first time": first, "induction, second time": second},
            **{"induction, words seen in lists": listed, "six words copied": longer},
            **{"nats, early": early, "nats, late": late},
        },
        headings=["skill", "a guess", "right, seen", "right, held out", "appears at step"],
        rows=rows,
        picture=draw(studies, seen, apart),
    )


# %% [markdown]
# ## What was learned, and what was not
#
# One objective, one loss curve, and behind it skills that appear one after another, each rather suddenly: first what
# nearby words determine (agreement), then what weights can store (facts, and every sum that was seen), then what must
# be looked up elsewhere in the text (copying). The loss shows little of it.
#
# Not learned, in this much training:
#
# - **addition**: every sum that was seen is right, most others are wrong: 80 sums are easier to memorise than to
#   generalise from;
# - **strangers**: no seed does better than to choose between the two cities that the text has named (50%). And those
#   pairs of stranger and city that never occur are worse in two seeds: that they never occur can itself be learned from
#   the text, and lowers the loss;
# - **turning facts round**: all in one seed and none in the others, although three people in four were seen both ways;
# - **anything that the text gives no reason to learn**: the copying that it knows begins with "copy" and ends after
#   four words. A random sequence without that word is not predicted the second time, not even of words seen in lists,
#   and six words are never copied correctly. Induction needs text that repeats itself in many ways; here one form of
#   sentence does.
#
# What was tried: more steps, 4000 on seed 0 (`study(0, steps=4000, count=64)`). Copying and translation then appear,
# right for all combinations, seen or not (at steps 2400 and 4000); addition (0%), facts turned round (0%), strangers
# (27%; seen 62%), induction (1%) and six words (0%) do not. So some of what is missing takes more training, and some
# takes more than that. At 12% for translation, one in eight, only the verb is guessed: lesson 11 counts single words.
# In an earlier world with four verbs instead of eight, which did not occur in the lists, 1800 steps sufficed for
# copying with all seeds, and for translation with one of three.

# %% [markdown]
# ## The picture
#
# Left, which skill appears when; right, combinations that were seen beside those that were not.

# %%
COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#009E73", "#56B4E9", "#CC79A7", "#8C6D1F", "#000000")


def draw(studies: list[dict], seen: dict[str, Seeds], apart: dict[str, Seeds]) -> Figure:
    """Shares over steps, the band from least to most of the seeds; bars with each seed as a dot."""
    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    steps = list(studies[0]["exams"])
    for skill, colour in zip((*SKILLS, "induction"), COLOURS):
        lines = torch.tensor([[100 * marks[skill] for marks in one["exams"].values()] for one in studies])
        left.fill_between(steps, lines.amin(0), lines.amax(0), color=colour, alpha=0.12, linewidth=0)
        style = "--" if skill == "induction" else "-"
        left.plot(steps, lines.mean(0), color=colour, marker="o", markersize=4, linestyle=style, label=skill)
    loss = left.twinx()
    nats = torch.tensor([[marks["nats"] for marks in one["exams"].values()] for one in studies]).mean(0)
    loss.plot(steps, nats, color="#999999", linestyle=":", linewidth=2, label="held-out loss")
    loss.set(ylabel="held-out loss, nats a word (dotted)", ylim=(0, None))
    left.set(xscale="log", xlabel="steps", ylabel="% right, held-out combinations", title="which skill appears when")
    left.set_xticks(steps, steps)
    left.minorticks_off()
    left.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=4, frameon=False)
    for k, skill in enumerate(SKILLS):
        for values, shift, shade in ((seen, 0.2, 0.35), (apart, -0.2, 1.0)):
            label = ("seen in training" if shift > 0 else "never seen") if k == 0 else None
            right.barh(k + shift, 100 * values[skill].mean, 0.38, color=COLOURS[k], alpha=shade, label=label)
            dots = [100 * value for value in values[skill].values]
            right.plot(dots, [k + shift] * len(dots), ".", color="#333333", markersize=5)
    right.set_yticks(range(len(SKILLS)), SKILLS)
    right.invert_yaxis()
    right.set(xlabel="% right in the end (dots: seeds)", title="pale: combinations seen; full: never seen")
    return figure


if __name__ == "__main__":
    main()
