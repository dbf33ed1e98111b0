# %% [markdown]
# # From objective to assistant
#
#     python examples/08_from_objective_to_assistant.py  # --fast to see that it runs
#
# **A base model predicts what comes next. Ask it "where does anna live ?", and if its corpus has lists of questions, it
# continues with another question. Do a few demonstrations make it answer, even questions of kinds that they do not
# show?**
#
# Ouyang et al. 2022 (InstructGPT) fine-tune such a model on demonstrations, and it then follows instructions that were
# not among them. The usual account: the answers were in the model, and demonstrations bring them out.
#
# Before you run: a model is taught to copy lists and to translate on request, with 64 examples in all. Then it is asked
# where anna lives, a kind of question that it was not taught to answer. How often is it right?

# %%
from statistics import fmean

from matplotlib.figure import Figure
from torch import nn

from clozelab.course import Exercise, Gate, Judgement, Lesson, Part, Result, Seeds, in_notebook, judge
from clozelab.course.worlds import (
    BASE_STEPS,
    BROAD,
    Bases,
    finetune,
    gentle,
    interview,
    pretrain,
    question,
    share_right,
    untrained,
)
from clozelab.generation import generate_answers
from clozelab.languages.skills import World

LESSON = Lesson(
    "08_from_objective_to_assistant.py",
    "From objective to assistant",
    claim="A base model continues questions with questions; demonstrations of some kinds of question make it answer "
    "other kinds.",
    question="Do demonstrations of some kinds of question make a base model answer other kinds?",
    exercises=(
        Exercise(
            'Let the answers stand alone, `FORM = "{}"`, and leave out facts: which share of them is right?',
            answer=(0.0, 0.3),
            why="No text of the corpus answers in that form: it is learned for the kinds that are taught alone.",
        ),
        Exercise(
            "Teach from random weights for 200 steps instead of 60, facts left out: which share of facts is right?",
            answer=(0.0, 0.1),
            why="The demonstrations never say who lives where. More of them cannot bring out what is not there.",
        ),
        Exercise(
            "Ask before anything is taught: which share of `asks(base, world, exam)` is it for facts?",
            answer=(0.9, 1.0),
            why="After a bare question the corpus has another question, so that is what the objective asks for.",
        ),
    ),
    literature="Hewitt et al. 2024: tuned on answers without their questions, a model wins 43% of comparisons with "
    "full instruction tuning; tuned on poems alone, 24%.",
    previous="Contradicted in 0.1, where one kind was taught, sums, to base models that knew another, translation, at "
    "15%, 25% and 100%.",
)

# %%
EXAMPLES, FORM = 64, "say {} ."
KINDS = ("facts", "copying", "translation")
FIRST_SEED = 20

# %% [markdown]
# ## Where the answers are
#
# The corpus (`World`, lesson 05) holds bare questions only in lists, without answers:
#
#     where does anna live ? can you copy cat oslo ? how do swedes say red cat sees dog ?
#
# The answers are elsewhere, in two other forms: as statements (`anna lives in oslo .`), and in interviews, where a word
# before each question announces the form:
#
#     ask where does anna live ? say oslo . ask can you copy cat oslo ? say cat oslo .
#
# Three kinds of question have answers in this corpus: facts, copying, translation. Each is left out in turn. The model
# is fine-tuned on 64 questions of the other two kinds, answered as in an interview, and then asked questions of the
# third.


# %%
def questions(world: World, kind: str, count: int, without: list) -> list:
    """Different questions of a kind, none of those `without`; the corpus states the answer to each."""
    excluded = {exercise.question for exercise in without}
    different = {exercise.question: exercise for exercise in world.exercises(kind, 200, held_out=False, draw=2)}
    return [exercise for asked, exercise in different.items() if asked not in excluded][:count]


def examples_of(world: World, kinds: tuple[str, ...], count: int = EXAMPLES) -> list:
    """About so many questions with their answers, the kinds taking turns."""
    lists = [world.exercises(kind, -(-count // len(kinds)), held_out=False, draw=1) for kind in kinds]
    return [exercise for some in zip(*lists) for exercise in some][:count]


def asks(model: nn.Module, world: World, exercises: list) -> float:
    """Share of the bare questions after which the most probable word begins another question."""
    prompts = [world.ids(question(exercise)) for exercise in exercises]
    generated = generate_answers(model, prompts, world.special, tokens=1, greedy=True)
    begins = {"where", "what", "how", "can"}
    return fmean(bool(ids) and world.words(ids)[0] in begins for ids in generated)


# %%
if in_notebook():  # ten seconds of pretraining: how it goes on after a bare question, and as in an interview
    world = World(0, BROAD)
    early = pretrain(world, 200)
    for ask in (question, interview):
        prompt = world.ids(ask(questions(world, "facts", 1, [])[0]))
        print(*world.words(prompt), "|", *world.words(generate_answers(early, [prompt], world.special, tokens=9)[0]))

# %% [markdown]
# ## What is measured
#
# An answer is *right* if greedy decoding after the bare question gives it in the form that was taught, and then ends.
# Controls:
#
# - the base model, asked in the form of an interview, `ask where does anna live ? say`: does it know the answers at
#   all?
# - a model with random weights, fine-tuned on the same examples: what do the examples teach by themselves?
# - one kind taught instead of two: does the number of kinds matter?


# %%
def teach(base: nn.Module, world: World, kinds: tuple[str, ...], steps: int) -> nn.Module:
    """The model after demonstrations of these kinds."""
    return finetune(base, world, examples_of(world, kinds), gentle(steps, 3e-4), say=FORM)


def right(model: nn.Module, world: World, exam: list) -> float:
    """Share of bare questions that are answered correctly."""
    return share_right(model, world, exam, question, say=FORM, ended=True)


def study(seed: int, bases: Bases, base_steps: int, steps: int, count: int) -> dict[tuple[str, ...], float]:
    """["one kind", taught, asked] and [way, left out] -> share right."""
    world = World(seed, BROAD)
    base, random = bases(world, base_steps), untrained(world)
    found = {}
    for kind in KINDS:
        others = tuple(other for other in KINDS if other != kind)
        exam = questions(world, kind, count, [])
        found["asks", kind] = asks(base, world, exam)
        found["base", kind] = right(base, world, exam)
        found["interview", kind] = share_right(base, world, exam, interview, say="{} .")
        taught = teach(base, world, others, steps)
        found["two kinds", kind] = right(taught, world, exam)
        found["two kinds, random weights", kind] = right(teach(random, world, others, steps), world, exam)
        new = [questions(world, other, count, examples_of(world, others)) for other in others]
        found["taught", kind] = fmean(right(taught, world, exam) for exam in new if exam)
        one = teach(base, world, (kind,), steps)
        for other in others:
            found["one kind", kind, other] = right(one, world, questions(world, other, count, []))
    return found


# %% [markdown]
# ## How it is judged
#
# Fixed before the run. Gates: in the form of an interview the base model answers more than 90% of each kind correctly;
# of the kinds that are taught, more than 90% of new questions are answered correctly. (A first run, on seeds 0 to 4
# with base models of 400 steps, could not tell, since copying was right at 89% ± 18%. These have 700 steps, and new
# seeds.) Parts of the claim:
#
# - the base model continues more than half of the bare questions with another question;
# - for each kind left out: more than half of its questions are answered correctly.


# %%
def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    base_steps, steps, count = visit.choose((BASE_STEPS, 60, 40), fast=(24, 8, 8))
    bases = Bases(None) if visit.fast else Bases()
    studies = [study(FIRST_SEED + seed, bases, base_steps, steps, count) for seed in visit.track(visit.seeds)]
    f = {key: Seeds(tuple(one[key] for one in studies)) for key in studies[0]}
    one = {kind: mean([f["one kind", taught, kind] for taught in KINDS if taught != kind]) for kind in KINDS}
    two, prompted = ({kind: f[way, kind] for kind in KINDS} for way in ("two kinds", "interview"))
    asking = mean([f["asks", kind] for kind in KINDS])
    gates = [
        *(Gate(f"in an interview the base knows {kind}", prompted[kind], above=0.9) for kind in KINDS),
        Gate(
            "new questions of the taught kinds are right",
            mean([f["taught", k] for k in KINDS]),
            above=0.9,
            control=True,
        ),
    ]
    parts = [
        Part("the base continues with questions, less a half", asking - 0.5),
        *(Part(f"{kind}, left out, is answered, less a half", two[kind] - 0.5) for kind in KINDS),
    ]
    judgement = judge(gates, parts)
    whole, alone, chance = (
        mean(list(values))
        for values in (two.values(), one.values(), [f["two kinds, random weights", k] for k in KINDS])
    )
    rows = [
        ["base model, bare question", *(f"{f['base', kind]:.0%}" for kind in KINDS)],
        ["base model, as in an interview", *(f"{prompted[kind]:.0%}" for kind in KINDS)],
        ["taught the two other kinds", *(f"{two[kind]:.0%}" for kind in KINDS)],
        ["the same, from random weights", *(f"{f['two kinds, random weights', kind]:.0%}" for kind in KINDS)],
        *(
            [f"taught {t} alone", *("taught" if t == kind else f"{f['one kind', t, kind]:.0%}" for kind in KINDS)]
            for t in KINDS
        ),
    ]
    return visit.conclude(
        judgement,
        number=f"kinds left out: {whole:.0%} right; from random weights {chance:.0%}; prompted "
        f"{mean(list(prompted.values())):.0%}",
        finding=f"The base model continues {asking:.0%} of the questions with another one. After {EXAMPLES} "
        f"demonstrations of two kinds it answers {whole:.0%} of the third correctly ("
        + ", ".join(f"{kind} {two[kind]:.0%}" for kind in KINDS)
        + f"), after as many of one kind {alone:.0%} of the others; random weights, taught the same, {chance:.0%}.",
        figures={", ".join(key): values for key, values in f.items()},
        headings=["% right of a kind that was not taught", *KINDS],
        rows=rows,
        picture=draw(prompted, two, one, {k: f["two kinds, random weights", k] for k in KINDS}, judgement),
        seconds_before=bases.seconds,
    )


def mean(several: list[Seeds]) -> Seeds:
    """Of several quantities, seed by seed."""
    return Seeds(tuple(fmean(values) for values in zip(*(one.values for one in several))))


# %% [markdown]
# ## The picture


# %%
def draw(
    prompted: dict[str, Seeds],
    two: dict[str, Seeds],
    one: dict[str, Seeds],
    random: dict[str, Seeds],
    judgement: Judgement,
) -> Figure:
    """A group of bars for each kind that was asked and not taught; a dot for each seed."""
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    axes = figure.subplots()
    ways = (
        ("asked as in an interview, nothing taught", prompted, "#BBBBBB"),
        ("two other kinds taught", two, "#0072B2"),
        ("one other kind taught (mean of both)", one, "#56B4E9"),
        ("random weights, two other kinds taught", random, "#D55E00"),
    )
    for w, (label, values, colour) in enumerate(ways):
        for k, kind in enumerate(KINDS):
            place = k + 0.2 * (w - 1.5)
            axes.bar(place, 100 * values[kind].mean, 0.18, color=colour, label=label if k == 0 else None)
            dots = [100 * value for value in values[kind].values]
            axes.plot([place] * len(dots), dots, ".", color="#333333", markersize=5)
    axes.axhline(50, color="#555555", linestyle=":", linewidth=1)
    axes.set_xticks(range(len(KINDS)), [f"{kind}\n(left out)" for kind in KINDS])
    axes.set(ylabel="% of bare questions answered correctly", ylim=(0, 105))
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    axes.set_title(f"Demonstrations of other kinds make a base model answer: {judgement.verdict}")
    return figure


# %% [markdown]
# ## What came out
#
# Held in part. The base model continues every bare question with another one, and yet it knows the answers: asked as in
# an interview it gives 98% to 100% of them. Demonstrations of other kinds are enough to make it answer: translation is
# right at 99% ± 3% though none was shown, copying at 88% ± 20%. Facts are right at 82% ± 40%, which is not
# significantly more than half: four models of five answer 87% to 100% correctly, and one 25%.
#
# None of these models was shown that bare questions of the third kind should be answered. With random weights the same
# demonstrations give 0%. One kind of demonstration does as well as two, 90%. The demonstrations teach the model to
# answer, and in which form; the answer itself comes from pretraining.

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
# Demonstrations are the first step to an assistant. The second is learning from preferences: lesson 19.

# %%
if __name__ == "__main__":
    main()
