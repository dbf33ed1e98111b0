# %% [markdown]
# # 11 The objective is a ceiling on alignment
#
#     python examples/11_ceiling_on_alignment.py  # --fast to see that it runs
#
# **Fine-tuning on a few thousand examples turns a model that continues text into one that follows instructions. Does it
# teach new skills, or does it bring out what pretraining has already taught?**
#
# Zhou et al. 2023 (LIMA, section 2) suppose the latter: knowledge and abilities come from pretraining, and fine-tuning
# selects the form in which they are used. Then the pretraining objective, and its text, are a ceiling.
#
# Before you run: two models are fine-tuned on the same ten translations. One met translations in pretraining, the other
# only words of both languages. When both know the ten by heart, what share of the words of *new* translations does each
# get right? And the second model, after it has been taught a thousand?

# %%
from statistics import fmean

from matplotlib.figure import Figure

from clozelab.course import Exercise, Gate, Judgement, Lesson, Part, Result, Seeds, in_notebook, judge
from clozelab.course.worlds import (
    BASE_STEPS,
    BROAD,
    NARROW,
    Bases,
    finetune,
    gentle,
    question,
    share_of_words,
    statement,
    thorough,
)
from clozelab.languages.skills import COPIED, World

LESSON = Lesson(
    "11_ceiling_on_alignment.py",
    "The objective is a ceiling on alignment",
    claim="A few examples bring out skills that pretraining held; neither few nor thousands teach one that it never "
    "held.",
    question="Does fine-tuning teach a skill, or bring out what pretraining has taught?",
    exercises=(
        Exercise(
            "With twice as many adjectives, nouns and verbs: which share of the words of a translation would a guess "
            'of the right kind get, `GUESS["translation"]`?',
            answer=(0.055, 0.058),
            why="Each word is one of twice as many: half of the 11% of today.",
        ),
        Exercise(
            'Without fine-tuning: `world = World(30, BROAD)`, `exam = world.exercises("translation", 100)`, `base = '
            "Bases()(world, BASE_STEPS)`. Asked by `question`, it has 40% of the words right. How many if asked as in "
            "its text, `share_of_words(base, world, exam, statement)`?",
            answer=(0.95, 1.0),
            why="The skill is there: only the form of a bare question is new to it.",
        ),
        Exercise(
            "The same of `base = Bases()(World(30, NARROW), BASE_STEPS)`, whose text held no translation?",
            answer=(0.0, 0.11),
            why="Here the form was not what is missing: less is right than a guess of the right kind gets.",
        ),
    ),
    literature="Zhou et al. 2023 (LIMA, abstract): after 1,000 demonstrations and nothing else, answers of a 65B model "
    "are as good as GPT-4's or better in 43% of cases.",
    previous="Held in 0.1, whose rule never asked that the absent skill stays down, and whose teaching stopped after "
    "120 steps.",
    first_seed=30,
)

# %%
SKILLS = ("copying", "translation")
WORLDS = {"present": BROAD, "absent": NARROW}
"""What the text of each of the two worlds is without."""
FEW_AT_MOST = 50
GUESS = {"copying": 1 / len(COPIED), "translation": fmean((1 / 8, 1 / 10, 1 / 8, 1 / 10))}
"""Share of words that a guess of the right kind gets right: a word that occurs in lists; a Swedish adjective, noun,
verb, noun."""

# %% [markdown]
# ## Present and absent
#
# A world writes text of 146 words (lesson 05). Two of its skills are under test:
#
#     copy cat anna oslo : cat anna oslo .
#     red cat sees dog in swedish : röd katt ser hund .
#
# A second world has neither. It has all their words, in other sentences (Swedish ones among them, `röd katt ser hund
# .`), and the questions, in lists without answers: `can you copy cat anna oslo ?`, `how do swedes say red cat sees dog
# ?` Only the skill itself is absent: for translation, which word corresponds to which; for copying, that a text repeats
# what came before. One base model is pretrained on each world by next-word prediction, for equal steps and tokens.


# %%
if in_notebook():
    for name, without in WORLDS.items():
        world = World(0, without)
        print(name, "|", *world.words(world.text(5, 40)))

# %% [markdown]
# ## Fine-tuning
#
# The question is the prompt; the answer and an end of text are in the loss. The form is new to both models: in
# pretraining a bare question was followed by another question, and an answer came only in interviews, after `say`.
# Examples of both skills alternate. Each model gets 20 of them, with a learning rate that changes little, until it
# knows them by heart. The model without the skills then gets 2,000, with stronger training: Muon, a high rate, twice as
# many steps of twice as many rows.
#
# The test has lists that begin with two words, and translations of an adjective with a noun, that were never combined
# in pretraining or in fine-tuning. Single words are counted, each after the right words before it, so that a
# half-learned skill shows.


# %%
def examples_of(world: World, count: int) -> list:
    """So many exercises, the skills taking turns, of combinations that pretraining may have met."""
    lists = [world.exercises(skill, count // len(SKILLS), held_out=False, draw=1) for skill in SKILLS]
    return [exercise for some in zip(*lists) for exercise in some]


def teach(base, world: World, count: int, exam: dict[str, list], at: tuple[int, ...]) -> dict[tuple[str, int], float]:
    """[skill, step] -> share of words right, and ["taught", last step] -> share of the words of the examples."""
    examples, marks = examples_of(world, count), {}

    def examine(model, step: int) -> None:
        if step in at:
            marks.update({(skill, step): share_of_words(model, world, exam[skill], question) for skill in SKILLS})

    examine(base, 0)
    if count < FEW_AT_MOST:
        model = finetune(base, world, examples, gentle(at[-1]), callback=examine)
    else:
        model = finetune(base, world, examples, thorough(at[-1]), rows=32, callback=examine)
    marks["taught", at[-1]] = share_of_words(model, world, examples[:200], question)
    return marks


# %% [markdown]
# ## How it is judged
#
# Fixed before the run. Gates, without which there is no verdict:
#
# - where a skill was present, the base model continues its sentences with 95% of the words right (the positive control,
#   called so after the first recording: this examination finds a skill that is there); where it was absent, at most 5
#   points above a guess of the right kind;
# - teaching has converged: at its end a model has 90% of the words of its examples right. A model that could not even
#   learn the examples would not show what they teach.
#
# Parts of the claim, for each skill, at the last step:
#
# - *brought out*: after 20 examples more words are right where it was present than where it was absent;
# - *not taught by few*, *not taught by thousands*: where it was absent, as many words are right as a guess of the right
#   kind gets, within 10 points.
#
# Two earlier runs could not tell. On seeds 0 to 4 a gate was below what a guess gets, and the 20 examples were taught
# at a rate that brought copying out by step 10 (51%) and undid it by step 100 (10%). On seeds 20 to 24 they were taught
# for 100 steps, in which the model without the skills learned 84% of their words. Now it is 200 steps, on new seeds.


# %%
Way = tuple[str, int, tuple[int, ...]]
"""The world of the base model, how many examples are taught, and the steps at which the model is examined."""


def study(seed: int, bases: Bases, steps: int, ways: list[Way], size: int) -> dict[tuple, float]:
    """[world, examples, skill, step] -> share of words right; ["known", world, skill], asked as in pretraining."""
    full, found = World(seed, WORLDS["present"]), {}
    exam = {skill: full.exercises(skill, size) for skill in SKILLS}
    for name, without in WORLDS.items():
        base = bases(World(seed, without), steps)
        for skill in SKILLS:
            found["known", name, skill] = share_of_words(base, full, exam[skill], statement)
        for count, at in [(count, at) for world, count, at in ways if world == name]:
            marks = teach(base, full, count, exam, at)
            found |= {(name, count, skill, step): share for (skill, step), share in marks.items()}
    return found


def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    steps, size = visit.choose((BASE_STEPS, 100), fast=(24, 16))
    few, many = 20, visit.choose(2000, fast=64)
    short, long = visit.choose(((0, 3, 10, 30, 100, 200), (0, 3, 10, 30, 100, 200, 400)), fast=((0, 4, 8), (0, 4, 8)))
    ways = [("present", few, short), ("absent", few, short), ("absent", many, long)]
    bases = Bases(None) if visit.fast else Bases()
    studies = [study(seed, bases, steps, ways, size) for seed in visit.track(visit.seeds)]
    f = Seeds.by_name(studies)
    present, absent, taught = ({s: f[name, count, s, at[-1]] for s in SKILLS} for name, count, at in ways)
    gates = [
        *(
            Gate(f"the base knows {s} where it was present", f["known", "present", s], above=0.95, control=True)
            for s in SKILLS
        ),
        *(
            Gate(f"the base does not where it was absent ({s})", f["known", "absent", s], below=GUESS[s] + 0.05)
            for s in SKILLS
        ),
        *(
            Gate(f"{count:,} examples are learned, {name}", f[name, count, "taught", at[-1]], above=0.9)
            for name, count, at in ways
        ),
    ]
    parts = [
        *(Part(f"{few} examples bring {s} out", present[s] - absent[s]) for s in SKILLS),
        *(Part(f"{few} do not teach {s}", absent[s] - GUESS[s], within=0.1) for s in SKILLS),
        *(Part(f"{many:,} do not teach {s}", taught[s] - GUESS[s], within=0.1) for s in SKILLS),
    ]
    judgement = judge(gates, parts)
    rows = [
        [skill, f"{count:,}", name, *(f"{f[name, count, skill, step]:.0%}" if step in at else "" for step in long)]
        for skill in SKILLS
        for name, count, at in ways
    ]
    rows += [[skill, "a guess", "", *[f"{GUESS[skill]:.0%}"] * len(long)] for skill in SKILLS]
    both = {s: f"{present[s]:.0%} where pretraining held it, {absent[s]:.0%} where not" for s in SKILLS}
    return visit.conclude(
        judgement,
        number=f"absent translation, words right: {absent['translation']:.0%} after {few} examples, "
        f"{taught['translation']:.0%} after {many:,}; a guess {GUESS['translation']:.0%}",
        finding=f"Words right after {few} examples: copying {both['copying']}; translation {both['translation']}. "
        f"After {many:,} examples the model without them copies {taught['copying']:.0%} and translates "
        f"{taught['translation']:.0%} (a guess: {GUESS['copying']:.0%}, {GUESS['translation']:.0%}).",
        figures={", ".join(map(str, key)): values for key, values in f.items()},
        headings=["skill", "examples", "in pretraining", *(f"step {step}" for step in long)],
        rows=rows,
        picture=draw(f, ways, judgement),
        seconds_before=bases.seconds,
    )


# %% [markdown]
# ## The picture
#
# One skill in each panel: words right of new combinations over the steps of fine-tuning.

# %%
COLOURS = {"present": "#0072B2", "absent": "#D55E00"}


def draw(f: dict[tuple, Seeds], ways: list[Way], judgement: Judgement) -> Figure:
    """Means with their 95% intervals; dotted where the examples are few."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    *_, longest = ways[-1]
    for axes, skill in zip(figure.subplots(1, 2, sharey=True), SKILLS):
        for name, count, at in ways:
            values, places = [f[name, count, skill, step] for step in at], range(len(at))
            style = "-" if at is longest else ":"
            label = f"{name} in pretraining, {count:,} examples"
            axes.plot(places, [100 * v.mean for v in values], style, color=COLOURS[name], linewidth=2.5, label=label)
            if len(values[0].values) > 1:
                low, high = ([100 * value.interval[k] for value in values] for k in (0, 1))
                axes.fill_between(places, low, high, color=COLOURS[name], alpha=0.15, linewidth=0)
        axes.axhline(100 * GUESS[skill], color="#555555", linestyle="--", linewidth=1, label="a guess")
        axes.set_xticks(range(len(longest)), longest)
        axes.set(title=skill, xlabel="steps of fine-tuning", ylim=(-3, 103))
    figure.axes[0].set(ylabel="% of words right, new combinations")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    outcomes = [part.outcome for part in judgement.parts]
    few = "bring a skill out" if outcomes[:2] == ["held"] * 2 else "need not bring a skill out"
    many = "teach an absent one" if outcomes[4:] == ["contradicted"] * 2 else "need not teach an absent one"
    figure.suptitle(f"{judgement.title}: {ways[0][1]} examples {few}, {ways[-1][1]:,} {many}")
    return figure


# %% [markdown]
# ## What came out
#
# Held in part: few examples behave as the account says, thousands do not.
#
# Twenty examples bring out what pretraining held: of new combinations 75% ± 12% of the words are copied and 94% ± 7%
# translated. What it did not hold they hardly teach: a few words, from 0% to 2% ± 1% of those copied and from 6% ± 1%
# to 15% ± 5% of those translated. That is within 10 points of guesses of the right kind (1% and 11%), although this
# model, too, knows its twenty examples by heart.
#
# Two thousand examples do teach it: after 400 steps 99% ± 3% of the words are copied and all translated. So the
# objective is not a ceiling but a head start: thirty steps on twenty examples, against two hundred on two thousand.
# Here teaching is cheap, since a skill is small: a table of 26 words, or looking up what came before. This says nothing
# about skills that take trillions of tokens.
#
# In version 0.1 copying stayed at 3% after 1,000 examples. It had 120 steps at a low rate, in which learning had not
# yet begun (3% after 200 such steps on seed 10, 20% after 500).

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
# Here the examples show the skills that they bring out. Lesson 08 leaves kinds out of the examples: does the model
# answer those, too? Lesson 19 continues with preferences instead of demonstrations.

# %%
if __name__ == "__main__":
    main()
