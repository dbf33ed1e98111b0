# %% [markdown]
# # 05 The narrow objective and broad competence
#
#     python examples/05_narrow_objective_broad_competence.py  # --fast: does it run? --full: four times the steps
#
# **The loss of a causal model asks for one thing, the next word. But the next word of `3 + 4 =` is 7, that of `the cat
# near the dogs` is a verb of the right number, and that of `red cat sees dog in swedish :` begins a translation. Which
# skills does a model learn by predicting only the next word, and in which order?**
#
# Radford et al. 2019 (GPT-2, section 2) argue that the loss on all text contains the loss on each task that the text
# shows. So to lower the former far enough, a model must learn the latter. Michaud et al. 2023 add an order: the skills
# that lower the loss most come first.
#
# Before you run: there are six skills, worth between 1 and 19 nats per hundred words of text. Which of them does the
# model have after 700 steps, even in combinations that the text never held? Does the most valuable one come first?

# %%
from math import inf, log
from statistics import fmean

from matplotlib.figure import Figure
from torch import nn

from clozelab.course import (
    Exercise,
    Gate,
    Judgement,
    Lesson,
    Part,
    Result,
    Seeds,
    bar,
    in_notebook,
    judge,
    level,
    rank_correlation,
)
from clozelab.course.worlds import Bases, pretrain, share_of_words, statement
from clozelab.languages.skills import ASKED, CITIES, COPIED, PEOPLE, SKILLS, World

LESSON = Lesson(
    "05_narrow_objective_broad_competence.py",
    "The narrow objective and broad competence",
    claim="Predicting the next word of broad text teaches the skills that the text holds, the ones worth most nats "
    "first.",
    question="Which skills does a model learn that only predicts the next word, and in which order?",
    exercises=(
        Exercise(
            'In `worth`, let all lists have two words instead of three on average: what is `worth("copying")` then?',
            answer=(12.6, 13.0),
            why="Two thirds of what it is with three: each copied word is worth the same ln 68 nats.",
        ),
        Exercise(
            "Train with `study(0, Bases(None), 100, 8, 60, (100,))`: how many of `SKILLS` have appeared by step 100?",
            answer=(1, 2),
            why="Agreement, and perhaps facts: what the words nearby or the weights can tell. Lookups take longer.",
        ),
        Exercise(
            "Import `untrained` from where `pretrain` is. What is `share_of_words(untrained(WORLD), WORLD, "
            'WORLD.exercises("agreement", 60), statement)`?',
            answer=(0.0, 0.2),
            why="A guess of the right kind is right in half. But an untrained model guesses among all 146 words: that "
            "a verb comes next must be learned, too.",
        ),
    ),
    literature="Radford et al. 2019 (GPT-2, abstract): without a training example 55 F1 on CoQA, as much as 3 of 4 "
    "trained baselines or more.",
    previous="Held in part in 0.1, 2 of 7 skills: its models learned less in more steps, and of the seventh "
    "skill (strangers) the right answers had probability zero in the text.",
    first_seed=20,
)

# %%
WORLD = World(0)

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
# The model reads all six in one world.

# %%
if in_notebook():
    for n in range(4):
        print(*WORLD.words(WORLD.text(n, 40)))

# %% [markdown]
# ## What a skill is worth
#
# A model that has every skill but one must guess where that skill determines a word. It guesses among words of the
# right kind: one of sixteen cities, or one of the words that lists are made of. The skill is worth the cost of these
# guesses, times how often they occur. Half of the texts are prose of 5.5 sentences on average, each of one of seven
# kinds with probability 1/7 (the seventh is Swedish by itself). A quarter are interviews, with four questions on
# average, of four kinds.


# %%
def worth(skill: str) -> float:
    """Nats that a skill saves in a hundred words of text, on average."""
    sums = [a + b for a in range(10) for b in range(10)]
    guesses = {
        "agreement": log(2),  # which verb it is, nobody can know; its number has one bit
        "facts": log(len(CITIES)),
        "facts turned round": log(len(PEOPLE)),
        "arithmetic": fmean(log(len(sums) / sums.count(one)) for one in sums),
        "copying": 3 * log(len(COPIED)),  # three words on average
        "translation": log(8) + log(10) + log(8) + log(9),
    }
    prose, interviews = 0.5 * 5.5 / 7, 0.25 * 4 / 4 * (skill in ASKED)
    ends = WORLD.text(0, 20_000).count(WORLD.special.eos)
    return 100 * ends / 20_000 * (prose + interviews) * guesses[skill]


# %% [markdown]
# ## Training, with an examination now and then
#
# Two layers of width 64, 110 thousand weights, 1,024 words a step; the loss is that of the next word alone. Words of
# the answers are counted, each after the right words before it. A skill *appears* at the first examination at which
# its share of right words is more than half way from a guess to always right, on held-out combinations. At the end the
# same examination asks for combinations that the text held.
#
# Two other models are controls. One reads a world without copying and translation, though with all their words. What
# it can do of these two skills, their sentences did not teach. The other, the *specialist*, reads a world with only
# sums and facts. Has the first model merely read too few of those?

# %%
GUESS = {
    **{"agreement": 1 / 2, "facts": 1 / len(CITIES), "facts turned round": 1 / len(PEOPLE), "arithmetic": 1 / 10},
    **{"copying": 1 / len(COPIED), "translation": fmean((1 / 8, 1 / 10, 1 / 8, 1 / 9))},
}
"""Share of words that a guess of the right kind gets right: a verb, a city, a person, the sum 9, words."""
LACKING = ("copying", "translation")
SPECIAL = ("arithmetic", "facts turned round")


def study(seed: int, bases: Bases, steps: int, special: int, count: int, exams: tuple[int, ...]) -> dict:
    """The marks of each examination by step; of combinations seen; of the narrower world; of the specialist."""
    world = World(seed)
    apart, seen = ({s: world.exercises(s, count, held_out=h) for s in SKILLS} for h in (True, False))
    marks: dict[int, dict[str, float]] = {}

    def mark(model: nn.Module, exercises: dict[str, list]) -> dict[str, float]:
        return {skill: share_of_words(model, world, some, statement) for skill, some in exercises.items()}

    def examine(model: nn.Module, step: int) -> None:
        if step in exams:
            marks[step] = mark(model, apart)

    broad, narrow = bases(world, steps, callback=examine), bases(World(seed, LACKING), steps)
    specialist = pretrain(World(seed, ("agreement", *LACKING)), special)
    return {
        "exams": marks,
        "held out": mark(broad, apart),
        "seen": mark(broad, seen),
        "without it": mark(narrow, {skill: apart[skill] for skill in LACKING}),
        "specialist, held out": mark(specialist, {skill: apart[skill] for skill in SPECIAL}),
        "specialist, seen": mark(specialist, {skill: seen[skill] for skill in SPECIAL}),
    }


def appears(exams: dict[int, dict[str, float]], skill: str) -> float:
    """The step of that examination, or infinity."""
    half = (1 + GUESS[skill]) / 2
    return next((step for step, marks in exams.items() if marks[skill] > half), inf)


# %% [markdown]
# ## How it is judged
#
# Fixed before the run. Gates: the model has memorised its text, with more than 80% of the words right in combinations
# that the text held (a model that fails even there has not read enough). A world without copying and translation
# teaches them to less than 5 points above a guess. Positive control: the specialist has more than 80% of what it has
# read. Parts of the claim:
#
# - for each skill: more than 80% of the words right in combinations never seen;
# - the order: the rank correlation (Spearman's) of what a skill is worth with how early it appears is positive. Skills
#   that never appear share the last rank.
#
# A first run (seeds 0 to 4, 400 steps) counted whole answers, which makes long answers appear late. It judged sums and
# facts turned round by the specialist, although the claim is about broad text. Now single words are counted, all six
# skills share a world, and the specialist is a control. With these changes seed 10 chose 700 steps, by which copying
# was above 80%. The recorded seeds are new.


# %%
def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments, full=True)
    steps, special, count = visit.choose((700, 300, 60), fast=(24, 8, 8), full=(2800, 1200, 60))
    exams = tuple(sorted({max(1, round(k / 40 * steps)) for k in range(1, 41)}))
    bases = Bases(None) if visit.fast else Bases()
    studies = [study(seed, bases, steps, special, count, exams) for seed in visit.track(visit.seeds)]
    f = {
        (which, skill): Seeds(tuple(one[which][skill] for one in studies))
        for which, marks in studies[0].items()
        if which != "exams"
        for skill in marks
    }
    value = {skill: worth(skill) for skill in sorted(SKILLS, key=worth, reverse=True)}
    order = Seeds(
        tuple(rank_correlation(list(value.values()), [-appears(one["exams"], s) for s in value]) for one in studies)
    )
    gates = [
        *(Gate(f"{s}, combinations seen, is right", f["seen", s], above=0.8) for s in SKILLS),
        *(Gate(f"a world without {s} does not teach it", f["without it", s], below=GUESS[s] + 0.05) for s in LACKING),
        *(Gate(f"specialist, {s} that it read", f["specialist, seen", s], above=0.8, control=True) for s in SPECIAL),
    ]
    parts = [
        *(Part(f"{s}, never seen, is right, less 80%", f["held out", s] - 0.8) for s in SKILLS),
        Part("the more nats a skill is worth, the earlier it appears", order),
    ]
    judgement = judge(gates, parts)
    learned = sum(part.outcome == "held" for part in parts[:-1])
    columns = [which for which in studies[0] if which != "exams"]
    return visit.conclude(
        judgement,
        number=f"{learned} of {len(SKILLS)} skills above 80% on unseen combinations; worth against earliness: "
        f"rank correlation {order:.2f}",
        finding="Words right in combinations never seen: "
        + ", ".join(f"{skill} {f['held out', skill]:.0%}" for skill in value)
        + f". Rank correlation of what a skill is worth with how early it appears: {order:.2f}.",
        figures={", ".join(key): values for key, values in f.items()} | {"order": order},
        headings=["skill", "nats", "appears at step", *columns],
        rows=[
            [
                skill,
                f"{value[skill]:.1f}",
                when(studies, skill),
                *(f"{f[which, skill]:.0%}" if (which, skill) in f else "" for which in columns),
            ]
            for skill in value
        ],
        picture=draw(studies, f, value, judgement, learned),
        seconds_before=bases.seconds,
    )


def when(studies: list[dict], skill: str) -> str:
    """From the earliest to the latest of the seeds."""
    steps = sorted(appears(one["exams"], skill) for one in studies)
    first, last = ("never" if step == inf else f"{step:.0f}" for step in (steps[0], steps[-1]))
    return first if first == last else f"{first} to {last}"


# %%
def draw(
    studies: list[dict], f: dict[tuple, Seeds], value: dict[str, float], judgement: Judgement, learned: int
) -> Figure:
    """Skills by worth. Left, when each appears; right, what is right at the end. Dots are seeds."""
    figure = Figure(figsize=(13, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    steps = max(studies[0]["exams"])
    never = 1.6 * steps
    for k, skill in enumerate(value):
        at = [min(never, appears(one["exams"], skill)) for one in studies]
        left.plot(at, [k + 0.1 * (n - (len(at) - 1) / 2) for n in range(len(at))], "o", color="#0072B2", markersize=6)
        shift = 0.2 * (skill in LACKING)
        bar(right, k - shift, f["held out", skill], "#0072B2", width=0.38, number=".0%")
        if skill in LACKING:
            bar(right, k + shift, f["without it", skill], "#D55E00", width=0.38, number=".0%")
    for colour, label in (("#0072B2", "broad text"), ("#D55E00", "text without this skill")):
        right.bar(0, 0, color=colour, label=label)
    left.set_xscale("log")
    ticks = [step for step in (20, 50, 100, 200, 400, 700, 2800) if step <= steps]
    left.set_xticks([*ticks, never], [*map(str, ticks), "never"])
    left.minorticks_off()
    left.axvline(1.25 * steps, color="#999999", linewidth=1)
    left.set_yticks(range(len(value)), [f"{skill}\n{nats:.1f} nats" for skill, nats in value.items()])
    left.invert_yaxis()
    left.set(xlabel="step at which it appears (a dot a seed)", title="worth most at the top: is the top the first?")
    level(right, 0.8, "80%", style=":")
    right.set_xticks(range(len(value)), [skill.replace(" ", "\n", 1) for skill in value])
    right.set(ylabel="share of words right at the end", xlim=(-0.6, 5.8), ylim=(0, 1.25))
    right.set_title("combinations never seen in the text")
    right.legend(loc="upper center", ncols=2, frameon=False)
    come = {"held": "come", "contradicted": "do not come"}.get(judgement.parts[-1].outcome, "need not come")
    reach = f"{learned} of {len(value)} skills reach new combinations; the skills worth most {come} first"
    figure.suptitle(f"{judgement.title}: {reach}")
    return figure


# %% [markdown]
# ## What came out
#
# Held in part. Four skills of six carry over to combinations that the text never held: agreement, facts, translation
# and copying have 100% of the words right (copying ± 1%). Without its sentences neither copying (0%) nor translation
# (7% ± 1%, less than a guess of the right kind) is there.
#
# Two do not. The model has all sums and all facts turned round that it has read. Of the others it has 3% ± 8% and 5% ±
# 14%. It has not merely read too few: the specialist has 3% ± 6% and none. A table of eighty sums is easier to store
# than to generalise from, and "the home of anna is oslo" does not tell such a model who lives in oslo. (Berglund et al.
# 2023 found the same in large models.)
#
# The order is not that of the claim: rank correlation -0.23 ± 0.06. Agreement is worth least and comes first, after 70
# to 88 steps. Copying is worth thirty times as much and comes last of the four that appear, after 228 to 350.
# Presumably the order depends on how hard a skill is to find for two layers of attention, not on what it saves.
#
# A second budget, four times the steps, moves the border a little (`--full --seeds 1`: one seed, not judged). Half of
# the facts turned round are then right, after 2170 steps. Of the sums that it has not read the model still has none.
# The rank correlation is -0.14.

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
