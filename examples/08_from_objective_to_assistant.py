# %% [markdown]
# # 08 From objective to assistant
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

from clozelab.course import Exercise, Gate, Judgement, Lesson, Part, Result, Seeds, bar, in_notebook, judge, level
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
    thorough,
    untrained,
)
from clozelab.generation import generate_answers
from clozelab.languages.skills import World
from clozelab.training import TrainConfig

LESSON = Lesson(
    "08_from_objective_to_assistant.py",
    "From objective to assistant",
    claim="Demonstrations of some kinds of question make a base model answer questions of other kinds.",
    question="Do demonstrations of some kinds of question make a base model answer other kinds?",
    exercises=(
        Exercise(
            'Let the answers stand alone, `FORM = "{}"`: what is `right(teach(base, world, TWO, few), world, facts)`?',
            answer=(0.0, 0.3),
            why="No text of the corpus answers in that form: it is learned for the kinds that are taught alone.",
        ),
        Exercise(
            "Teach random weights as little as the base: how much of its own examples does the model know, "
            "`right(teach(untrained(world), world, TWO, few), world, examples_of(world, TWO))`?",
            answer=(0.0, 0.5),
            why="A few small steps bring out what a model knows. As a control they would say nothing.",
        ),
        Exercise(
            "The base model asks after each bare question. What is `asks(teach(base, world, TWO, few), world, facts)`?",
            answer=(0.0, 0.3),
            why="Demonstrations of the other two kinds end this also for facts, about which nothing was shown.",
        ),
    ),
    literature="Hewitt et al. 2024: tuned on answers without their questions, a model wins 43% of comparisons with "
    "full instruction tuning; tuned on poems alone, 24%.",
    previous="Contradicted in 0.1, where one kind was taught, sums, to base models that knew another, translation, at "
    "15%, 25% and 100%.",
    first_seed=30,
)

# %%
EXAMPLES, FORM = 64, "say {} ."
KINDS = ("facts", "copying", "translation")

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
# is fine-tuned on questions of the other two kinds, answered as in an interview, and then asked questions of the third.
# The examples are 64, or 56 where facts are among them, since there are only 28 of these.


# %%
def questions(world: World, kind: str, count: int, without: list) -> list:
    """Different questions of a kind, none of those `without`; the corpus states the answer to each."""
    excluded = {exercise.question for exercise in without}
    different = {exercise.question: exercise for exercise in world.exercises(kind, 200, held_out=False, draw=2)}
    return [exercise for asked, exercise in different.items() if asked not in excluded][:count]


def examples_of(world: World, kinds: tuple[str, ...], count: int = EXAMPLES) -> list:
    """Questions with their answers, the kinds taking turns: so many, or fewer where a kind has no more."""
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
# Beside it stand:
#
# - the base model, asked in the form of an interview, `ask where does anna live ? say`: does it know the answers at
#   all?
# - a model with random weights, taught the same examples until it knows them: what do they teach by themselves?
# - one kind taught instead of two: does the number of kinds matter?


# %%
def teach(base: nn.Module, world: World, kinds: tuple[str, ...], config: TrainConfig) -> nn.Module:
    """The model after demonstrations of these kinds."""
    return finetune(base, world, examples_of(world, kinds), config, say=FORM)


def right(model: nn.Module, world: World, exam: list) -> float:
    """Share of bare questions that are answered correctly."""
    return share_right(model, world, exam, question, say=FORM, ended=True)


def study(seed: int, bases: Bases, base_steps: int, steps: int, count: int) -> dict[str, float]:
    """Shares right, by what was taught and what is asked."""
    world, few = World(seed, BROAD), gentle(steps, 3e-4)
    base, found = bases(world, base_steps), {}
    for kind in KINDS:
        two = tuple(other for other in KINDS if other != kind)
        exam, examples = questions(world, kind, count, []), examples_of(world, two)
        found[f"asks, {kind}"] = asks(base, world, exam)
        found[f"base, {kind}"] = right(base, world, exam)
        found[f"interview, {kind}"] = share_right(base, world, exam, interview, say="{} .")
        taught = teach(base, world, two, few)
        found[f"two kinds, {kind}"] = right(taught, world, exam)
        new = [questions(world, other, count, examples) for other in two]
        found[f"taught, {kind}"] = fmean(right(taught, world, exam) for exam in new if exam)
        random = teach(untrained(world), world, two, thorough(steps))
        found[f"random weights, {kind}"] = right(random, world, exam)
        found[f"random weights, examples, {kind}"] = right(random, world, examples)
        one = teach(base, world, (kind,), few)
        for other in two:
            found[f"one kind, {kind}, {other}"] = right(one, world, questions(world, other, count, []))
    return found


# %% [markdown]
# ## How it is judged
#
# Fixed before the run. *Gates*: after more than 90% of the bare questions the base model's next word begins another
# question (in this corpus nothing else follows one); in the form of an interview it answers more than 90% of each kind
# correctly; of the kinds that are taught, more than 90% of new questions are answered correctly. *Control*: random
# weights that were taught the same know more than 90% of their own examples, and answer less than 10% of the third
# kind. *Parts of the claim*: for each kind left out, more than half of its questions are answered correctly.
#
# What was changed: a first run, on seeds 0 to 4 with base models of 400 steps, could not tell, since copying was right
# at 89% ± 18%. A second, on seeds 20 to 24 with 700 steps, gave "held in part": facts 82% ± 40%. There, random weights
# were taught too little to know their own examples, and that the base asks was a part of the claim. How to teach them
# more was chosen on seeds 10 and 11. The seeds are new, 30 to 34.


# %%
def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    base_steps, steps, count = visit.choose((BASE_STEPS, 60, 40), fast=(24, 8, 8))
    bases = Bases(None) if visit.fast else Bases()
    f = Seeds.by_name([study(seed, bases, base_steps, steps, count) for seed in visit.track(visit.seeds)])

    def of_all(way: str) -> Seeds:
        """Mean over the kinds."""
        return mean([f[f"{way}, {kind}"] for kind in KINDS])

    for kind in KINDS:
        f[f"one kind, {kind}"] = mean([f[f"one kind, {taught}, {kind}"] for taught in KINDS if taught != kind])
    examples, third = of_all("random weights, examples"), of_all("random weights")
    gates = [
        Gate("the base continues questions with questions", of_all("asks"), above=0.9),
        *(Gate(f"in an interview the base knows {kind}", f[f"interview, {kind}"], above=0.9) for kind in KINDS),
        Gate("new questions of the taught kinds are right", of_all("taught"), above=0.9),
        Gate("random weights know their own examples", examples, above=0.9, control=True),
        Gate("random weights answer the third kind", third, below=0.1, control=True),
    ]
    parts = [Part(f"{kind}, left out, is answered, less a half", f[f"two kinds, {kind}"] - 0.5) for kind in KINDS]
    ways = {
        "base model, bare question": "base",
        "base model, as in an interview": "interview",
        "taught the two other kinds": "two kinds",
        "the same, from random weights": "random weights",
    }
    rows = [[words, *(f"{f[f'{way}, {kind}']:.0%}" for kind in KINDS)] for words, way in ways.items()]
    for kind in KINDS:
        shares = (f"{f[f'one kind, {kind}, {asked}']:.0%}" if asked != kind else "taught" for asked in KINDS)
        rows.append([f"taught {kind} alone", *shares])
    judgement, whole, alone = judge(gates, parts), of_all("two kinds"), of_all("one kind")
    each = ", ".join(f"{kind} {f[f'two kinds, {kind}']:.0%}" for kind in KINDS)
    return visit.conclude(
        judgement,
        number=f"kinds left out: {whole:.0%} right; from random weights {third:.0%}",
        finding=f"After demonstrations of two kinds, {whole:.0%} of the third are right ({each}); after those of one, "
        f"{alone:.0%} of the others. Random weights, taught the same, answer {examples:.0%} of their examples and "
        f"{third:.0%} of the third kind.",
        figures=f,
        headings=["% right of a kind that was not taught", *KINDS],
        rows=rows,
        picture=draw(f, judgement),
        seconds_before=bases.seconds,
    )


def mean(several: list[Seeds]) -> Seeds:
    """Of several quantities, seed by seed."""
    return several[0].map(lambda *values: fmean(values), *several[1:])


# %% [markdown]
# ## The picture


# %%
def draw(f: dict[str, Seeds], judgement: Judgement) -> Figure:
    """A group of bars for each kind that was asked and not taught; a dot for each seed."""
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    axes = figure.subplots()
    ways = {
        "asked as in an interview, nothing taught": ("interview", "#BBBBBB"),
        "two other kinds taught": ("two kinds", "#0072B2"),
        "one other kind taught (mean of both)": ("one kind", "#56B4E9"),
        "random weights, two other kinds taught": ("random weights", "#D55E00"),
    }
    for k, kind in enumerate(KINDS):
        for w, (label, (way, colour)) in enumerate(ways.items()):
            place, label = k + 0.2 * (w - 1.5), None if k else label
            bar(axes, place, f[f"{way}, {kind}"], colour, width=0.18, label=label, number=".0%")
    level(axes, 0.5, "half:\nwhat is judged", style=":")
    axes.set_xticks(range(len(KINDS)), [f"{kind}\n(left out)" for kind in KINDS])
    axes.set(ylabel="questions answered correctly", xlim=(-0.5, 2.9), ylim=(0, 1.12))
    axes.yaxis.set_major_formatter("{x:.0%}")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    shares = ", ".join(f"{kind} {f[f'two kinds, {kind}'].mean:.0%}" for kind in KINDS)
    axes.set_title(f"{judgement.title}. Right of the kinds left out: {shares}")
    return figure


# %% [markdown]
# ## What came out
#
# Held in part: kinds left out are right at 92% (facts), 98% (copying) and 84% (translation). Translation, 84% ± 41%, is
# not significantly more than half: four models of five have 92% to 100% right, one 25%. On the seeds before it was the
# facts, 82% ± 40%. The five base models know all answers, for asked as in an interview they give 100% of them.
#
# Random weights, taught until they know 98% ± 1% of the same examples, give no right answer of the third kind: the
# answers come from pretraining. One kind gives 89% ± 27%, two kinds 91% ± 22%. The demonstrations select a form that
# the corpus already has. In a new form (exercise 1) three base models give no right answer of any kind left out.

# %% [markdown]
# ## Exercises
#
# `LESSON.check(1, your_number)` says whether a number is right, and why. They begin with a base model, which takes 40
# seconds, or less where the lesson has kept it:
#
#     world, TWO, few = World(30, BROAD), ("copying", "translation"), gentle(60, 3e-4)
#     base, facts = Bases()(world, BASE_STEPS), questions(world, "facts", 40, [])

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
