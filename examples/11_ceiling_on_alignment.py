# %% [markdown]
# # The objective is a ceiling on alignment
#
#     python examples/11_ceiling_on_alignment.py            # --fast to see that it runs
#
# **Fine-tuning on a few thousand examples turns a model that continues text into one that follows instructions. Does
# it teach, or does it bring out what pretraining has taught already?**
#
# Zhou et al. 2023 (LIMA, section 2) suppose the latter: knowledge and abilities come from pretraining, and fine-tuning
# selects the form in which they are used. Then the pretraining objective, and its text, are a ceiling.
#
# Before you run: two models are fine-tuned on the same thousand translations. One met translations in pretraining, the
# other only words of both languages. After 10 steps, which share of the words of *new* translations does each get
# right? After 300 steps, when both know the thousand by heart?

# %%
from statistics import fmean

from matplotlib.figure import Figure

from clozelab.course import Exercise, Gate, Judgement, Lesson, Part, Result, Seeds, in_notebook, judge
from clozelab.course.worlds import BASE_STEPS, BROAD, NARROW, Bases, finetune, question, statement, words_right
from clozelab.languages.skills import COPIED, World

LESSON = Lesson(
    "11_ceiling_on_alignment.py",
    "The objective is a ceiling on alignment",
    claim="Fine-tuning brings out skills that pretraining held, and does not teach one that it never held.",
    question="Does fine-tuning teach a skill, or bring out what pretraining has taught?",
    exercises=(
        Exercise(
            "With twice as many adjectives, nouns and verbs: which share of the words of a translation would a guess "
            'of the right kind get, GUESS["translation"]?',
            answer=(0.055, 0.058),
            why="Each word is one of twice as many: half of the 11% of today.",
        ),
        Exercise(
            "Teach 20 examples instead of 2,000, `teach(base, world, 20, exam, (0, 300))`, where the skills were present: "
            "which share of copied words is right?",
            answer=(0.6, 1.0),
            why="Twenty examples are enough to bring out what is there; they show the form.",
        ),
        Exercise(
            "The same where they were absent: which share of translated words is right?",
            answer=(0.05, 0.3),
            why="Twenty examples hold a few of the pairs of words; the model learns those by heart, and guesses.",
        ),
    ),
    literature="Zhou et al. 2023 (LIMA, abstract): after 1,000 demonstrations and nothing else, answers of a 65B model "
    "are as good as GPT-4's or better in 43% of cases.",
    previous="Held in 0.1, whose rule never asked that the absent skill stays down, and whose teaching stopped after "
    "120 steps.",
)
SKILLS = ("copying", "translation")
WORLDS = {"present": BROAD, "absent": NARROW}
"""What the text of each of the two worlds is without."""
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
# A second world has neither. Its words are all there, in other sentences (Swedish ones among them, `röd
# katt ser hund .`), and so are the questions, in lists without answers: `can you copy cat anna oslo ?`, `how do swedes
# say red cat sees dog ?` What is absent is the skill and nothing else: for translation, which word corresponds to
# which; for copying, that a text repeats what stands before. A base model is pretrained on each, by the next word, for
# as many steps and tokens.


# %%
if in_notebook():
    for name, without in WORLDS.items():
        world = World(0, without)
        print(name, "|", *world.words(world.text(5, 40)))

# %% [markdown]
# ## Fine-tuning
#
# The question is the prompt; the answer and an end of text are in the loss. The form is new to both models: in
# pretraining a bare question was followed by another question, and an answer occurred in an interview, after `say`.
# Examples of both skills take turns: 20 of them, or 2,000.
#
# The test: lists that begin with two words, and translations of an adjective with a noun, that were never combined in
# pretraining or in fine-tuning. Single words are counted, each after the right words before it, so that a skill that is
# half there shows.


# %%
def examples_of(world: World, count: int) -> list:
    """So many exercises, the skills taking turns, of combinations that pretraining may have met."""
    lists = [world.exercises(skill, count // len(SKILLS), held_out=False, draw=1) for skill in SKILLS]
    return [exercise for some in zip(*lists) for exercise in some]


def share_of_words(model, world: World, exercises: list, ask) -> float:
    """Words of the answers that are right."""
    return fmean(word for row in words_right(model, world, exercises, ask) for word in row)


def teach(base, world: World, count: int, exam: dict[str, list], at: tuple[int, ...]) -> dict[tuple[str, int], float]:
    """[skill, step] -> share of words right, and ["taught", last step] -> share of the words of the examples."""
    examples, marks = examples_of(world, count), {}

    def examine(model, step: int) -> None:
        if step in at:
            marks.update({(skill, step): share_of_words(model, world, exam[skill], question) for skill in SKILLS})

    examine(base, 0)
    model = finetune(base, world, examples, at[-1], callback=examine)
    marks["taught", at[-1]] = share_of_words(model, world, examples[:200], question)
    return marks


# %% [markdown]
# ## How it is judged
#
# Fixed before the run. Gates, without which there is no verdict:
#
# - where a skill was present, the base model continues its sentences with 95% of the words right; where it was absent,
#   with no more than 5%;
# - teaching has converged: at its end each model gets 95% of the words of its 2,000 examples right. A model that could
#   not even learn the examples would show nothing about what they teach.
#
# Parts of the claim, for each skill, at the last step with 2,000 examples:
#
# - *brought out*: more words right where it was present than where it was absent;
# - *not taught*: where it was absent, as many words right as a guess of the right kind, within 10 points.


# %%
def study(seed: int, bases: Bases, steps: int, at: tuple[int, ...], counts: tuple[int, ...], size: int) -> dict:
    """[world, examples, skill, step] -> share of words right; ["known", world, skill], asked as in pretraining."""
    full, found = World(seed, WORLDS["present"]), {}
    exam = {skill: full.exercises(skill, size) for skill in SKILLS}
    for name, without in WORLDS.items():
        base = bases(World(seed, without), steps)
        for skill in SKILLS:
            found["known", name, skill] = share_of_words(base, full, exam[skill], statement)
        for count in counts:
            for (skill, step), share in teach(base, full, count, exam, at).items():
                found[name, count, skill, step] = share
    return found


def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    steps, size = visit.choose((BASE_STEPS, 100), fast=(24, 16))
    at, counts = visit.choose((0, 3, 10, 30, 100, 300), fast=(0, 4, 8)), (20, visit.choose(2000, fast=64))
    bases = Bases(None) if visit.fast else Bases()
    studies = [study(seed, bases, steps, at, counts, size) for seed in visit.track(visit.seeds)]
    f = {key: Seeds(tuple(one[key] for one in studies)) for key in studies[0]}
    many, end = counts[-1], at[-1]
    gates = [
        *(Gate(f"the base knows {s} where it was present", f["known", "present", s], above=0.95) for s in SKILLS),
        *(Gate(f"the base does not where it was absent ({s})", f["known", "absent", s], below=0.05) for s in SKILLS),
        *(Gate(f"the examples are learned, {w}", f[w, many, "taught", end], above=0.95) for w in WORLDS),
    ]
    ends = {(name, skill): f[name, many, skill, end] for name in WORLDS for skill in SKILLS}
    parts = [
        *(Part(f"{s} is brought out", ends["present", s] - ends["absent", s]) for s in SKILLS),
        *(Part(f"{s} is not taught", ends["absent", s] - GUESS[s], within=0.1) for s in SKILLS),
    ]
    judgement = judge(gates, parts)
    rows = [
        [skill, f"{count:,}", name, *(f"{f[name, count, skill, step]:.0%}" for step in at)]
        for skill in SKILLS
        for count in counts
        for name in WORLDS
    ]
    rows += [[skill, "a guess", "", *[f"{GUESS[skill]:.0%}"] * len(at)] for skill in SKILLS]
    said = {s: f"{ends['absent', s]:.0%} of the words, {ends['present', s]:.0%} where it was present" for s in SKILLS}
    return visit.conclude(
        judgement,
        number=f"{ends['absent', 'copying']:.0%} of words copied where absent, {ends['present', 'copying']:.0%} where "
        f"present; translated {ends['absent', 'translation']:.0%}, {ends['present', 'translation']:.0%}",
        finding=f"After {end} steps on {many:,} examples a model whose pretraining lacked copying copies "
        f"{said['copying']} (a guess {GUESS['copying']:.0%}); one without translation translates "
        f"{said['translation']} (a guess {GUESS['translation']:.0%}).",
        figures={", ".join(map(str, key)): values for key, values in f.items()},
        headings=["skill", "examples", "in pretraining", *(f"step {step}" for step in at)],
        rows=rows,
        picture=draw(f, at, counts, judgement),
        seconds_before=bases.seconds,
    )


# %% [markdown]
# ## The picture
#
# One skill in each panel: words right of new combinations over the steps of fine-tuning.

# %%
COLOURS = {"present": "#0072B2", "absent": "#D55E00"}


def draw(f: dict[tuple, Seeds], at: tuple[int, ...], counts: tuple[int, ...], judgement: Judgement) -> Figure:
    """Means with their 95% intervals; dotted where the examples are few."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    places = range(len(at))
    for axes, skill in zip(figure.subplots(1, 2, sharey=True), SKILLS):
        for name, colour in COLOURS.items():
            for count, style in zip(counts, (":", "-")):
                values = [f[name, count, skill, step] for step in at]
                means = [100 * value.mean for value in values]
                axes.plot(places, means, style, color=colour, linewidth=2, label=f"{name}; {count:,} examples")
                if style == "-" and len(values[0].values) > 1:
                    low, high = ([100 * value.interval[k] for value in values] for k in (0, 1))
                    axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.axhline(
            100 * GUESS[skill], color="#555555", linestyle="--", linewidth=1, label="a guess of the right kind"
        )
        axes.set_xticks(places, at)
        axes.set(title=skill, xlabel="steps of fine-tuning", ylim=(-3, 103))
    figure.axes[0].set(ylabel="% of words right, new combinations")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(f"Fine-tuning brings out what pretraining held, and teaches nothing else: {judgement.verdict}")
    return figure


if __name__ == "__main__":
    main()
