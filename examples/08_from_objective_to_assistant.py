# %% [markdown]
# # From objective to assistant
#
#     python examples/08_from_objective_to_assistant.py            # --fast to see that it runs
#
# Takes 3.4 minutes of one core for three seeds. The claim is contradicted:
#
# The base model continues 100% ± 0% of the questions with another one. After 64 sums it answers 38% ± 32% of the other
# kinds correctly in a form that the corpus has (such a prompt alone: 81% ± 17%), 1% ± 1% in a new form, 0% ± 0% where
# the corpus answers no question; after two kinds, 59% ± 39%.
#
# A base model predicts what comes next. Ask it "what is 3 + 4 ?", and if its corpus has lists of questions, then what
# comes next is another question: its loss is low, and it is of no use. Ouyang et al. 2022 (InstructGPT) turn such a
# model into one that answers, by fine-tuning on examples; and it then answers kinds of questions that were not among
# them. Claim: **a base model continues a question with more questions; a few examples of one kind of question make it
# answer other kinds, too, and correctly.**

# %%
from copy import deepcopy
from dataclasses import dataclass
from statistics import fmean

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Lesson, Result, Seeds
from clozelab.course.worlds import pretrain
from clozelab.generation import causal_pairs, generate_answers
from clozelab.languages.skills import ASKED, END, Exercise, World
from clozelab.objectives import CausalLM
from clozelab.training import TrainConfig, fit

LESSON = Lesson(
    "08_from_objective_to_assistant.py",
    "From objective to assistant",
    claim="A base model continues a question with more questions; a few examples of one kind of question make it "
    "answer other kinds, too, and correctly.",
)
CAUSAL = CausalLM()
NOT_NEEDED = ("agreement", "facts turned round", "strangers")
"""Skills that are left out of all worlds here, so that the others are learned faster."""
TAUGHT = "arithmetic"
EXAMPLES = (0, 4, 16, 64)

# %% [markdown]
# ## Where the answers are
#
# The corpus holds bare questions only in lists, without answers:
#
#     what is 3 + 4 ? where does anna live ? how do swedes say red cat sees dog ?
#
# The answers are elsewhere, in two other forms: as statements (`3 + 4 = 7 .`), and in interviews, in which a word
# before each question announces the form:
#
#     ask what is 3 + 4 ? say 7 . ask where does anna live ? say oslo .
#
# To see whether that matters, a second world has no interviews, but all the same statements.
#
# `pretrain(world, steps)` is a causal model of a world's text: two layers of width 64.

# %% [markdown]
# ## Four ways to fine-tune
#
# | | pretraining | fine-tuned on | its answers |
# |---|---|---|---|
# | known form | with interviews | sums | as in interviews: `say 7 .` |
# | two kinds | with interviews | half sums, half lists to copy | the same |
# | new form | with interviews | sums | `7` alone: the corpus has no answer like that |
# | never answered | without interviews | sums | `7` alone |
#
# The number of steps is the same for all ways and for 4, 16 and 64 examples; the learning rate of a way is the lower
# one of 3e-4 and 1e-3 with which a first model learned the sums at all. (With 1e-3 that model forgot half of the facts
# in the known form.)


# %%
@dataclass(frozen=True)
class Way:
    """What the corpus lacks, the kinds of question that are taught, the form of an answer, and the learning rate."""

    without: tuple[str, ...]
    taught: tuple[str, ...]
    form: str
    learning_rate: float

    @property
    def others(self) -> tuple[str, ...]:
        """The kinds of question that are not taught."""
        return tuple(kind for kind in ASKED if kind not in self.taught)


WAYS = {
    "known form": Way((), (TAUGHT,), "say {} .", 3e-4),
    "two kinds": Way((), (TAUGHT, "copying"), "say {} .", 3e-4),
    "new form": Way((), (TAUGHT,), "{}", 1e-3),
    "never answered": Way(("interviews",), (TAUGHT,), "{}", 1e-3),
}


def answer_of(exercise: Exercise, form: str) -> list[str]:
    """The words of an answer in a form."""
    return form.format(" ".join(exercise.answer)).split()


def finetune(base: nn.Module, world: World, way: Way, exercises: list[Exercise], steps: int) -> nn.Module:
    """A copy of the base model, taught to answer these questions in this way."""
    model = deepcopy(base)
    prompts = [world.ids([END, *exercise.question]) for exercise in exercises]
    answers = [world.ids(answer_of(exercise, way.form)) for exercise in exercises]
    generator = torch.Generator().manual_seed(world.seed)

    def batch(step: int) -> dict[str, Tensor]:
        chosen = torch.randint(len(exercises), (16,), generator=generator).tolist()
        return causal_pairs([prompts[k] for k in chosen], [answers[k] for k in chosen], world.special)

    config = TrainConfig(
        steps=steps,
        optimizer="adamw",
        learning_rate=way.learning_rate,
        weight_decay=0.0,
        precision="float32",
        warmup=0.05,
        decay=0.4,
    )
    fit(CAUSAL, model, batch, config)
    return model


# %% [markdown]
# ## What it does with a question
#
# Greedy decoding, up to an end of text or to the twelfth word. *Asks*: there is a question in it. *Answers*: there is
# none, and it ended. *Right*: it is the answer, in the form that was taught, and nothing else. Of the kinds that are
# taught, the test questions were not among the examples; the answer to every question was stated in the corpus, so that
# a wrong answer is no lack of knowledge.


# %%
def examine(model: nn.Module, world: World, form: str, exercises: list[Exercise]) -> dict[str, float]:
    """Shares of the questions that the model continues with a question, answers, and answers correctly."""
    prompts = [world.ids([END, *exercise.question]) for exercise in exercises]
    answers = generate_answers(model, prompts, world.special, tokens=12, greedy=True)
    generated = [world.words(ids) for ids in answers]
    asks = [bool({"?", "ask", "where", "what", "how", "can"} & {*words}) for words in generated]
    return {
        "asks": fmean(asks),
        "answers": fmean(not a and 0 < len(words) < 12 for a, words in zip(asks, generated)),
        "right": fmean(words == answer_of(exercise, form) for words, exercise in zip(generated, exercises)),
    }


def interviewed(model: nn.Module, world: World, exercises: list[Exercise]) -> float:
    """Share right where nothing is taught and the prompt is an interview's: "ask what is 3 + 4 ?"."""
    prompts = [world.ids([END, "ask", *exercise.question]) for exercise in exercises]
    answers = [answer_of(exercise, "say {} .") for exercise in exercises]
    lengths = [len(answer) for answer in answers]
    generated = generate_answers(model, prompts, world.special, tokens=lengths, greedy=True)
    return fmean(world.words(ids) == answer for ids, answer in zip(generated, answers))


def questions(world: World, kind: str, count: int, without: list[Exercise]) -> list[Exercise]:
    """Different questions of a kind, none of those `without`."""
    excluded = {exercise.question for exercise in without}
    different = {exercise.question: exercise for exercise in world.exercises(kind, 200, held_out=False, draw=2)}
    return [exercise for question, exercise in different.items() if question not in excluded][:count]


# %% [markdown]
# ## The verdict
#
# Decided beforehand, on the kinds of question that were not taught:
#
# - the base model continues more than half of the questions with another one;
# - with 64 examples in the known form it answers more than half of them correctly;
# - with 64 examples in the new form as well.
#
# The claim held if all three are significant (`Seeds`: more than two standard errors over seeds that agree), in part if
# the first and one of the others are, and is contradicted otherwise. The other two ways are not part of the claim: one
# shows whether more kinds among as many examples help (it was added after a first run of the other three, whose figures
# it does not change), one what the interviews contribute.


# %%
def study(seed: int, steps: int, tuning: int, count: int) -> dict:
    """[name of the way, examples, kind] -> what the model did."""
    found, bases = {}, {}
    for name, way in WAYS.items():
        world = World(seed, (*NOT_NEEDED, *way.without))
        if way.without not in bases:
            bases[way.without] = pretrain(world, steps)
        of_each = EXAMPLES[-1] // len(way.taught)
        lists = [world.exercises(kind, of_each, held_out=False, draw=1) for kind in way.taught]
        taught = [exercise for some in zip(*lists) for exercise in some]  # kinds take turns
        exams = {kind: questions(world, kind, count, taught) for kind in ASKED}
        for n in EXAMPLES:
            base = bases[way.without]
            model = finetune(base, world, way, taught[:n], tuning) if n else base
            for kind, exam in exams.items():
                found[name, n, kind] = examine(model, world, way.form, exam)
                if n == 0:
                    found[name, n, kind]["interviewed"] = interviewed(model, world, exam)
    return found


def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    steps, tuning, count = visit.choose(1000, fast=30), visit.choose(60, fast=8), visit.choose(40, fast=6)
    studies = [study(seed, steps, tuning, count) for seed in visit.track(visit.seeds)]

    def share(way: str, n: int, what: str, kinds: tuple[str, ...]) -> Seeds:
        """Mean over the kinds of question, a value for each seed."""
        return Seeds(tuple(fmean(one[way, n, kind][what] for kind in kinds) for one in studies))

    most, others = EXAMPLES[-1], WAYS["known form"].others
    asks = share("known form", 0, "asks", others)
    right = {name: share(name, most, "right", way.others) for name, way in WAYS.items()}
    base_asks, parts = (asks - 0.5).above, [(right[name] - 0.5).above for name in ("known form", "new form")]
    prompted = share("known form", 0, "interviewed", others)
    each = [f"{share('known form', 0, 'interviewed', (kind,)):.0%}" for kind in ASKED]
    rows = [["asked as in an interview", "0", *each, "", f"{prompted:.0%}"]]
    for name, way in WAYS.items():
        for n in EXAMPLES:
            each = [f"{share(name, n, 'right', (kind,)):.0%}{'*' * (kind in way.taught)}" for kind in ASKED]
            rows.append(
                [name, str(n), *each, *(f"{share(name, n, what, way.others):.0%}" for what in ("asks", "right"))]
            )
    return visit.conclude(
        verdict="held" if base_asks and all(parts) else "held in part" if base_asks and any(parts) else "contradicted",
        finding=f"The base model continues {asks:.0%} of the questions with another one. After {most} sums it answers "
        f"{right['known form']:.0%} of the other kinds correctly in a form that the corpus has (such a prompt alone: "
        f"{prompted:.0%}), {right['new form']:.0%} in a new form, {right['never answered']:.0%} where the corpus "
        f"answers no question; after two kinds, {right['two kinds']:.0%}.",
        figures={
            f"{way}, {n} examples, {kind}: {what}": share(way, n, what, (kind,))
            for way in WAYS
            for n in EXAMPLES
            for kind in ASKED
            for what in WHAT
        }
        | {f"asked as in an interview, {kind}": share("known form", 0, "interviewed", (kind,)) for kind in ASKED},
        headings=["way", "examples", *ASKED, "not taught (no *): asks", "right"],
        rows=rows,
        picture=draw(share),
    )


# %% [markdown]
# ## What came out
#
# - The base model always continues with a question; and yet it can answer: with one word before the question, "ask" as
#   in an interview, it does. The ability was there, and a prompt is enough to elicit it.
# - Four sums make it answer sums, and sixty-four do no more. What is taught is to answer, and how; not sums.
# - Whether that generalises to other kinds of question depends on the seed, so that the claim, by the rule, is
#   contradicted: two seeds answer facts and translations as well as the prompt does, one answers neither. Lists to be
#   copied, the kind least like a sum, are mostly continued with a question. With lists among the examples the model
#   continues no kind with a question any longer, though over the two kinds that neither way taught no more can be shown
#   to be right (53% with sums alone, 59% with both, and spreads of about 40).
# - A new form is learned for sums, slowly, and for nothing else: asked where anna lives, the model answers a number.
#   The form of the fine-tuning examples has to be one that the corpus associates with all of these questions.
#
# What was tried: the same with a learning rate of 1e-3 for the known form, on one model (fewer facts right), and 20
# steps of it (about the same as 60 of 3e-4). Where the base model itself cannot translate (two seeds, see the first
# row), no prompt helps.

# %% [markdown]
# ## The picture
#
# One way in each panel.

# %%
WHAT = ("asks", "answers", "right")
COLOURS = {"arithmetic": "#000000", "facts": "#0072B2", "copying": "#E69F00", "translation": "#009E73"}


def draw(share) -> Figure:
    """For each way, the share of questions of each kind that are answered (dashed), and correctly (full)."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    for axes, way in zip(figure.subplots(1, len(WAYS), sharey=True), WAYS):
        for shift, (kind, colour) in zip((-0.09, -0.03, 0.03, 0.09), COLOURS.items()):
            places = [place + shift for place in range(len(EXAMPLES))]
            for what, style in (("answers", "--"), ("right", "-")):
                values = [share(way, n, what, (kind,)) for n in EXAMPLES]
                means = [100 * value.mean for value in values]
                label = f"{kind}: {'answered' if what == 'answers' else 'answered correctly'}"
                axes.plot(places, means, style, color=colour, label=label, linewidth=1.8)
            for place, value in zip(places, values):  # those that are right, a dot for each seed
                axes.plot([place] * len(value.values), [100 * v for v in value.values], "o", color=colour, alpha=0.5)
        axes.set_xticks(range(len(EXAMPLES)), EXAMPLES)
        axes.set(title=f"{way}: {WAYS[way].form.format('7')}", xlabel=f"examples of {' and '.join(WAYS[way].taught)}")
    figure.axes[0].set(ylabel="% of questions (dots: seeds)")
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return figure


if __name__ == "__main__":
    main()
