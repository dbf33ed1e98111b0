# %% [markdown]
# # The narrow objective and broad competence
#
#     python examples/05_narrow_objective_broad_competence.py  # --fast to see that it runs
#
# **The loss of a causal model asks for one thing, the next word. But the next word of `3 + 4 =` is 7, that of `the cat
# near the dogs` is a verb of the right number, and that of `red cat sees dog in swedish :` begins a translation. Which
# skills does a model learn by predicting only the next word, and in which order?**
#
# Radford et al. 2019 (GPT-2, section 2) argue that the loss on all text contains the loss on each task that the text
# shows. So to lower the former far enough, a model must learn the latter. Michaud et al. 2023 add an order: the skills
# that lower the loss most come first.
#
# Before you run: there are six skills, worth between 1 and 30 nats per hundred words of text. Which of them does the
# model have after 400 steps, even in combinations that the text never held? Does the most valuable one come first?

# %%
from math import inf, log
from statistics import fmean

from matplotlib.figure import Figure
from torch import nn

from clozelab.course import Exercise, Gate, Judgement, Lesson, Part, Result, Seeds, in_notebook, judge
from clozelab.course.worlds import BROAD, NARROW, Bases, pretrain, share_right, statement
from clozelab.languages.skills import ASKED, CITIES, COPIED, World

LESSON = Lesson(
    "05_narrow_objective_broad_competence.py",
    "The narrow objective and broad competence",
    claim="Predicting the next word of broad text teaches the skills that the text holds, the ones worth most nats "
    "first.",
    question="Which skills does a model learn that only predicts the next word, and in which order?",
    exercises=(
        Exercise(
            'In `worth`, let all lists have two words instead of three on average: what is `worth("copying")` then?',
            answer=(16.0, 16.7),
            why="Two thirds of what it is with three: each copied word is worth the same ln 68 nats.",
        ),
        Exercise(
            "Train with `study(0, Bases(None), 100, 8, 60, (100,))`: how many of `SKILLS` have appeared by step 100?",
            answer=(1, 2),
            why="Agreement, and perhaps facts: what the words nearby or the weights can tell. Lookups take longer.",
        ),
        Exercise(
            "In `study`, examine `untrained(world)` in place of the narrow model: which share of translation is right?",
            answer=(0.0, 0.05),
            why="Four words in a row, of 146: nothing is right by chance, and 0% says no more than this.",
        ),
    ),
    literature="Radford et al. 2019 (GPT-2, abstract): without a training example 55 F1 on CoQA, as much as 3 of 4 "
    "trained baselines or more.",
    previous="Held in part in 0.1, 2 of 7 skills: its models learned less in four times the steps, and of the seventh "
    "skill (strangers) the right answers had probability zero in the text.",
)

# %%
SKILLS = ("agreement", "facts", "copying", "translation")
WORLD = World(0, BROAD)

# %% [markdown]
# ## The world
#
# `World(seed)` writes texts of 146 words: prose about two skills at a time, lists of questions, and interviews.
#
# | skill | the end (in brackets) follows from the beginning | never seen in training |
# |---|---|---|
# | agreement | the cat near the dogs [sees] the bird . | these two nouns, in these places |
# | facts | the home of anna is [oslo] . | this person in this form; "anna lives in oslo" was |
# | copying | copy cat anna oslo : [cat anna oslo] . | lists that begin with these two words |
# | translation | red cat sees dog in swedish : [röd katt ser hund] . | this adjective with this noun |
# | arithmetic | 3 + 4 = [7] . | these two numbers |
# | facts turned round | in oslo lives [anna] . | this person in this form; the other two were |
#
# A model that has memorised its text can complete the combinations that it has seen. Held-out combinations separate
# memorising from generalising.
#
# The first four skills share a world. Arithmetic and facts turned round have a separate world with only these two and
# plain facts, so that a model reads many of them. Models of that world are the *specialists*. (For all six in one
# world, see what came out.)

# %%
if in_notebook():
    for n in range(4):
        print(*WORLD.words(WORLD.text(n, 40)))

# %% [markdown]
# ## What a skill is worth
#
# A model that has every skill but one must guess where that skill determines a word. It guesses among words of the
# right kind: one of sixteen cities, or one of the words that lists are made of. The skill is worth the cost of these
# guesses, times how often they occur. Half of the texts are prose of 5.5 sentences on average, each of one of five
# kinds with probability 1/5 (the fifth is Swedish by itself). A quarter are interviews, with four questions on average,
# of three kinds.


# %%
def worth(skill: str) -> float:
    """Nats that a skill saves in a hundred words of text, on average."""
    guesses = {
        "agreement": log(2),  # which verb it is, nobody can know; its number has one bit
        "facts": log(len(CITIES)),
        "copying": 3 * log(len(COPIED)),  # three words on average
        "translation": log(8) + log(10) + log(8) + log(9),
    }
    prose, interviews = 0.5 * 5.5 / 5, 0.25 * 4 / 3 * (skill in ASKED)
    ends = WORLD.text(0, 20_000).count(WORLD.special.eos)
    return 100 * ends / 20_000 * (prose + interviews) * guesses[skill]


# %% [markdown]
# ## Training, with an examination now and then
#
# Two layers of width 64, 110 thousand weights, 1,024 words a step; the loss is that of the next word alone. A skill
# *appears* at the first examination at which it is more than half way from a guess to always right, on held-out
# combinations. At the end the same examination asks for combinations that the text held.
#
# A second model, the control, reads a narrower world, without copying and translation, though with all their words.
# What it can do of these two skills, their sentences did not teach.

# %%
GUESS = {"agreement": 1 / 2, "facts": 1 / 16, "copying": 0.0, "translation": 0.0}
"""Accuracy of a guess of the right kind: a verb, a city, words."""
LACKING = ("copying", "translation")
SPECIAL = ("arithmetic", "facts turned round")
ALL = (*SKILLS, *SPECIAL)


def study(seed: int, bases: Bases, steps: int, special: int, count: int, exams: tuple[int, ...]) -> dict:
    """The marks of each examination by step; of combinations seen; of the narrower world; of the specialists."""
    world = World(seed, BROAD)
    apart, seen = ({s: world.exercises(s, count, held_out=h) for s in (*SKILLS, *SPECIAL)} for h in (True, False))
    marks: dict[int, dict[str, float]] = {}

    def examine(model: nn.Module, step: int) -> None:
        if step in exams:
            marks[step] = {skill: share_right(model, world, apart[skill], statement) for skill in SKILLS}

    broad, narrow = bases(world, steps, callback=examine), bases(World(seed, NARROW), steps)
    specialist = pretrain(World(seed, ("agreement", *LACKING)), special)
    of = {**dict.fromkeys(SKILLS, broad), **dict.fromkeys(SPECIAL, specialist)}
    return {
        "exams": marks,
        "held out": {skill: share_right(model, world, apart[skill], statement) for skill, model in of.items()},
        "seen": {skill: share_right(model, world, seen[skill], statement) for skill, model in of.items()},
        "narrow": {skill: share_right(narrow, world, apart[skill], statement) for skill in SKILLS},
    }


def appears(exams: dict[int, dict[str, float]], skill: str) -> float:
    """The step of that examination, or infinity."""
    half = (1 + GUESS[skill]) / 2
    return next((step for step, marks in exams.items() if marks[skill] > half), inf)


# %% [markdown]
# ## How it is judged
#
# Fixed before the run. Gates: the model of the whole world has memorised its text, with more than 80% right for each
# skill where the combination was in the text (a model that fails even there has not read enough). The model of the
# narrower world has less than 10% right of the two skills that its world lacks. Parts of the claim:
#
# - for each skill: more than 80% right on combinations never seen;
# - the order: over the four skills of the shared world, the rank correlation (Spearman's) of what a skill is worth with
#   how early it appears is positive. Skills that never appear share the last rank.


# %%
def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's: the correlation of ranks, equal values sharing their mean rank."""

    def ranks(values: list[float]) -> list[float]:
        below = [sum(other < value for other in values) for value in values]
        return [low + (values.count(value) - 1) / 2 - (len(values) - 1) / 2 for low, value in zip(below, values)]

    one, two = ranks(a), ranks(b)
    size = (sum(x * x for x in one) * sum(y * y for y in two)) ** 0.5
    return sum(x * y for x, y in zip(one, two)) / size if size else 0.0


def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    steps, special, count = visit.choose((400, 300, 60), fast=(24, 8, 8), full=(1600, 1600, 60))
    shares = (*(k / 20 for k in range(1, 20)), 1.0)
    exams = tuple(sorted({max(1, round(share * steps)) for share in shares}))
    bases = Bases(None) if visit.fast else Bases()
    studies = [study(seed, bases, steps, special, count, exams) for seed in visit.track(visit.seeds)]

    def seeds(take) -> Seeds:
        return Seeds(tuple(take(one) for one in studies))

    f = {
        (which, skill): seeds(lambda one, w=which, skill=skill: one[w][skill])
        for which in ("held out", "seen", "narrow")
        for skill in studies[0][which]
    }
    value = {skill: worth(skill) for skill in SKILLS}
    order = seeds(lambda one: rank_correlation([value[s] for s in SKILLS], [-appears(one["exams"], s) for s in SKILLS]))
    gates = [
        *(Gate(f"{s}, combinations seen, is right", f["seen", s], above=0.8) for s in ALL),
        *(Gate(f"a world without {s} does not teach it", f["narrow", s], below=0.1) for s in LACKING),
    ]
    parts = [
        *(Part(f"{s}, never seen, is right, less 80%", f["held out", s] - 0.8) for s in ALL),
        Part("the more nats a skill is worth, the earlier it appears", order),
    ]
    judgement = judge(gates, parts)
    learned = [skill for skill, part in zip(ALL, parts) if part.outcome == "held"]
    by_worth = [*sorted(SKILLS, key=lambda skill: -value[skill]), *SPECIAL]
    rows = [
        [
            skill,
            f"{value[skill]:.1f}" if skill in SKILLS else "",
            when(studies, skill) if skill in SKILLS else "(specialist)",
            *(f"{f[which, skill]:.0%}" if (which, skill) in f else "" for which in ("seen", "held out", "narrow")),
        ]
        for skill in by_worth
    ]
    return visit.conclude(
        judgement,
        number=f"{len(learned)} of {len(ALL)} skills above 80% on unseen combinations; worth against earliness: "
        f"rank correlation {order:.2f}",
        finding="Right on combinations never seen: "
        + ", ".join(f"{skill} {f['held out', skill]:.0%}" for skill in by_worth)
        + f". Rank correlation of what a skill is worth with how early it appears: {order:.2f}.",
        figures={", ".join(key): values for key, values in f.items()} | {"order": order},
        headings=["skill", "nats", "appears at step", "seen", "never seen", "the same, narrower world"],
        rows=rows,
        picture=draw(studies, f, value, judgement),
        seconds_before=bases.seconds,
    )


def when(studies: list[dict], skill: str) -> str:
    """From the earliest to the latest of the seeds."""
    steps = sorted(appears(one["exams"], skill) for one in studies)
    first, last = ("never" if step == inf else f"{step:.0f}" for step in (steps[0], steps[-1]))
    return first if first == last else f"{first} to {last}"


# %% [markdown]
# ## The picture
#
# Skills from the most to the least valuable. Left, when each appears; right, what is right at the end.


# %%
def draw(studies: list[dict], f: dict[tuple, Seeds], value: dict[str, float], judgement: Judgement) -> Figure:
    """Dots are seeds."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    names, steps = sorted(SKILLS, key=lambda skill: -value[skill]), max(studies[0]["exams"])
    never = 1.6 * steps
    for k, skill in enumerate(names):
        at = [min(never, appears(one["exams"], skill)) for one in studies]
        left.plot(at, [k + 0.1 * (n - (len(at) - 1) / 2) for n in range(len(at))], "o", color="#0072B2", markersize=6)
    left.set_xscale("log")
    ticks = [step for step in (20, 40, 80, 160, 400, 1600) if step <= steps]
    left.set_xticks([*ticks, never], [*map(str, ticks), "never"])
    left.minorticks_off()
    left.axvline(1.25 * steps, color="#999999", linewidth=1)
    left.set_yticks(range(len(names)), [f"{skill}\n{value[skill]:.1f} nats" for skill in names])
    left.invert_yaxis()
    left.set(xlabel="step at which it appears (a dot a seed)", title="worth most at the top: is the top the first?")
    every = [*names, *SPECIAL]
    bars = (
        ("held out", -0.2, "#0072B2", every, "never seen in the text"),
        ("narrow", 0.2, "#D55E00", LACKING, "never seen, and the text without this skill"),
    )
    for which, where, colour, skills, label in bars:
        for skill in skills:
            values, place = [100 * v for v in f[which, skill].values], every.index(skill) + where
            right.barh(place, fmean(values), 0.38, color=colour, label=label if skill == skills[0] else None)
            right.plot(values, [place] * len(values), ".", color="#333333", markersize=5)
    for skill in every:
        seen = 100 * f["seen", skill].mean
        right.plot(seen, every.index(skill) - 0.2, "|", color="black", markersize=14, markeredgewidth=2, clip_on=False)
    right.plot([], [], "|", color="black", markersize=10, markeredgewidth=2, label="combinations seen in the text")
    right.set_yticks(range(len(every)), [f"{s}\n(specialist)" if s in SPECIAL else s for s in every])
    right.invert_yaxis()
    right.axvline(80, color="#555555", linestyle=":", linewidth=1)
    right.set(xlabel="% right at the end", xlim=(0, 103), title="which skills reach combinations never seen?")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"The next word teaches the skills of the text, the most valuable first: {judgement.verdict}")
    return figure


# %% [markdown]
# ## What came out
#
# Held in part. Four skills of six carry over to combinations that the text never held: agreement and facts 100%,
# translation 99% ± 1%, copying 95% ± 10%. Without its sentences neither copying nor translation is there at all.
#
# Two do not. Specialists, whose text is half sums or facts, get every sum and every fact right that they have read. Of
# the others they get 4% ± 9% of the sums and none of the facts. A table of eighty sums is easier to store than to
# generalise from, and "the home of anna is oslo" does not tell such a model who lives in oslo. (Berglund et al. 2023
# found the same in large models.)
#
# The order is the reverse of the claim's: rank correlation -0.92 ± 0.14. Agreement is worth least and comes first,
# after 60 to 100 steps; copying is worth thirty times as much and comes last. Presumably the order depends on how hard
# a skill is to find for two layers of attention, not on what it saves.
#
# With all six skills in one world, 800 steps and one seed (10) gave agreement and facts, translation 98%, copying 83%,
# sums 5% and facts turned round 0%: the two memorised skills seem to slow the others down.

# %% [markdown]
# ## Exercises
#
# `LESSON.check(1, your_number)` says whether a number is right, and why.

# %%
if in_notebook():
    LESSON.print_exercises()

# %% [markdown]
# ## Next
#
# A model learns only what its text holds. Lesson 12 shows that the loss does not tell good text from bad. Lesson 11
# asks whether a skill that the text did not hold can be taught afterwards.

# %%
if __name__ == "__main__":
    main()
