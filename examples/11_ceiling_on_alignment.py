# %% [markdown]
# # The objective is a ceiling on alignment
#
#     python examples/11_ceiling_on_alignment.py            # --fast to see that it runs
#
# Takes 3.6 minutes of one core for three seeds. The claim held:
#
# Words right after 10, 100, 1000 examples: copying 31%, 71%, 77% where pretraining held it, 3%, 5%, 3% where not;
# translation 64%, 85%, 86% where pretraining held it, 15%, 28%, 30% where not. Significantly more where it was present
# in 6 of 6 comparisons.
#
# Fine-tuning on a few thousand examples turns a model that continues text into one that follows instructions. What does
# it do: teach, or elicit what pretraining has taught already? Zhou et al. 2023 (LIMA) call it the *superficial
# alignment hypothesis*: knowledge and abilities come from pretraining, and alignment selects the format in which they
# are used. If that is so, the pretraining objective, and its text, are a ceiling.
#
# With a synthetic corpus the question has an answer. Two worlds are equal except for one skill: one holds it, the other
# does not. Then both models are fine-tuned to use it on request, by the same few examples. Claim: **a skill that
# pretraining holds is elicited by a few examples; one that it does not hold is not taught by them, not by a thousand.**

# %%
from copy import deepcopy
from statistics import fmean

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Lesson, Result, Seeds
from clozelab.course.worlds import pretrain
from clozelab.generation import causal_pairs, generate_answers
from clozelab.languages.skills import END, Exercise, World
from clozelab.objectives import CausalLM
from clozelab.training import TrainConfig, fit

LESSON = Lesson(
    "11_ceiling_on_alignment.py",
    "The objective is a ceiling on alignment",
    claim="A skill that pretraining holds is elicited by a few examples; one that it does not hold is not taught by "
    "them, not by a thousand.",
)
CAUSAL = CausalLM()
NOT_NEEDED = ("arithmetic", "facts turned round", "strangers")
"""Skills that are left out of all worlds here, so that the others are learned faster."""
SKILLS = ("copying", "translation")
EXAMPLES = (0, 10, 100, 1000)
WORLDS = ("present", "absent")

# %% [markdown]
# ## Present and absent
#
# Two skills, and three worlds: one that holds both, and for each skill one that holds all but this:
#
# - copying, `copy cat anna oslo : cat anna oslo .`
# - translation, `red cat sees dog in swedish : röd katt ser hund .`
#
# Where a skill is absent these sentences are missing, and so are the interviews that ask for it. Other sentences take
# their place, so that all models see as many tokens in as many steps. The words occur in all worlds, in other sentences
# (Swedish ones among them, `röd katt ser hund .`), and so do the questions, in lists without answers: `can you copy cat
# anna oslo ?`, `how do swedes say red cat sees dog ?` What is absent is the skill and nothing else: for translation,
# which word corresponds to which; for copying, that a text may repeat itself.
#
# `pretrain(world, steps)` is a causal model of a world's text: two layers of width 64.

# %% [markdown]
# ## Fine-tuning
#
# The question is the prompt, the answer and an end of text are in the loss. The form is new to all models: in
# pretraining a bare question was followed by another question, and an answer occurred in an interview, after `say`. The
# number of steps is the same for every number of examples, so what grows is the number of different examples and not
# the compute: 10 examples are seen 192 times each, 1000 twice.


# %%
def asked(world: World, exercises: list[Exercise]) -> list[list[int]]:
    """The questions as prompts."""
    return [world.ids([END, *exercise.question]) for exercise in exercises]


def finetune(base: nn.Module, world: World, exercises: list[Exercise], steps: int) -> nn.Module:
    """A copy of the base model, fine-tuned on these examples."""
    model = deepcopy(base)
    prompts, answers = asked(world, exercises), [world.ids(exercise.answer) for exercise in exercises]
    generator = torch.Generator().manual_seed(world.seed)

    def batch(step: int) -> dict[str, Tensor]:
        chosen = torch.randint(len(exercises), (16,), generator=generator).tolist()
        return causal_pairs([prompts[k] for k in chosen], [answers[k] for k in chosen], world.special)

    fit(
        CAUSAL,
        model,
        batch,
        TrainConfig(
            steps=steps,
            optimizer="adamw",
            learning_rate=1e-3,
            weight_decay=0.0,
            precision="float32",
            warmup=0.05,
            decay=0.4,
        ),
    )
    return model


# %% [markdown]
# The test uses lists that begin with two words, and translations of an adjective with a noun, that were never combined
# in pretraining or fine-tuning, so that nothing can have been memorised. Two shares are measured: of answers that are
# right as a whole, end included, and of single words that are right in their positions.


# %%
def shares(exercises: list[Exercise], generated: list[list[str]]) -> tuple[float, float]:
    """Of whole answers, and of words."""
    whole = fmean(exercise.right(words) for exercise, words in zip(exercises, generated))
    words = [
        words[k : k + 1] == [right] for one, words in zip(exercises, generated) for k, right in enumerate(one.answer)
    ]
    return whole, fmean(words)


def shares_right(model: nn.Module, world: World, exercises: list[Exercise]) -> tuple[float, float]:
    """Of the answers that a model generates to the questions."""
    answers = generate_answers(model, asked(world, exercises), world.special, tokens=8, greedy=True)
    return shares(exercises, [world.words(ids) for ids in answers])


def shares_known(model: nn.Module, world: World, exercises: list[Exercise]) -> tuple[float, float]:
    """The same for a base model in the form of pretraining: it continues "copy cat anna oslo :"."""
    prompts = [world.ids([END, *exercise.prompt]) for exercise in exercises]
    lengths = [len(exercise.answer) for exercise in exercises]
    answers = generate_answers(model, prompts, world.special, tokens=lengths, greedy=True)
    return shares(exercises, [world.words(ids) for ids in answers])


# %% [markdown]
# ## The verdict
#
# Decided before this run, on single words: the claim held if for both skills the model that was pretrained on the skill
# is significantly better than the one that was not, with 10, with 100 and with 1000 examples (`Seeds`: more than two
# standard errors over seeds that agree); in part if it is in some of these six comparisons; contradicted if in none.
#
# What was tried before: translation alone, judged by whole answers, with 1000 steps of pretraining and 200 of
# fine-tuning. There the claim was contradicted: whole answers right with 10, 100, 1000 examples were 23%, 61%, 40%
# where translation was present and 0%, 23%, 25% where it was absent, and no difference was significant. In two of three
# seeds the verb, one word in four, had not been learned in pretraining either, so that the skill was present in part;
# hence single words, and a second skill. But by single words (74%, 90%, 85% and 24%, 62%, 67%) the difference of that
# run is significant with 10 examples alone.
#
# So the ceiling depends on the skill. Which word corresponds to which is a table of 26 words, and longer fine-tuning
# begins to teach it to a model that never saw it, above all with 100 examples or more. Copying is not a table but a
# lookup in the context, and a thousand examples taught nothing of it.


# %%
def study(seed: int, steps: int, tuning: int, count: int) -> dict:
    """[skill, present or absent, number of examples] -> shares of whole answers and of words."""
    marks = {}
    full = World(seed, NOT_NEEDED)  # exercises depend on the seed alone: all models get the same
    both = pretrain(full, steps)
    for skill in SKILLS:
        lacking = World(seed, (*NOT_NEEDED, skill))
        exam = full.exercises(skill, count)
        for name, base in zip(WORLDS, (both, pretrain(lacking, steps))):
            marks[skill, name, "known"] = shares_known(base, full, exam)
            for n in EXAMPLES:
                examples = full.exercises(skill, n, held_out=False, draw=1)
                model = finetune(base, full, examples, tuning) if n else base
                marks[skill, name, n] = shares_right(model, full, exam)
    return marks


def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    steps, tuning, count = visit.choose(700, fast=10), visit.choose(120, fast=4), visit.choose(100, fast=6)
    studies = [study(seed, steps, tuning, count) for seed in visit.track(visit.seeds)]
    whole, words = ({key: Seeds(tuple(one[key][which] for one in studies)) for key in studies[0]} for which in (0, 1))
    less = {(skill, n): words[skill, "present", n] - words[skill, "absent", n] for skill in SKILLS for n in EXAMPLES}
    better = [less[skill, n].above for skill in SKILLS for n in EXAMPLES[1:]]

    def shown(skill: str) -> str:
        present, absent = (", ".join(f"{words[skill, name, n].mean:.0%}" for n in EXAMPLES[1:]) for name in WORLDS)
        return f"{skill} {present} where pretraining held it, {absent} where not"

    rows = []
    for skill in SKILLS:
        for n in ("known", *EXAMPLES):
            pairs = [[f"{share[skill, name, n]:.0%}" for name in WORLDS] for share in (words, whole)]
            gap = f"{less[skill, n]:.0%}" if n != "known" else ""
            rows.append([skill, "0, as in pretraining" if n == "known" else str(n), *pairs[0], gap, *pairs[1]])
    return visit.conclude(
        verdict="held" if all(better) else "held in part" if any(better) else "contradicted",
        finding=f"Words right after 10, 100, 1000 examples: {'; '.join(map(shown, SKILLS))}. Significantly more where "
        f"it was present in {sum(better)} of {len(better)} comparisons.",
        figures={
            f"{skill} {name}, {'asked as in pretraining' if n == 'known' else f'{n} examples'}, {what}": share[key]
            for what, share in (("words", words), ("whole", whole))
            for key in studies[0]
            for skill, name, n in [key]
        },
        headings=["skill", "examples", *(f"words: {n}" for n in WORLDS), "less", *(f"whole: {n}" for n in WORLDS)],
        rows=rows,
        picture=draw(words, whole),
    )


# %% [markdown]
# ## The picture
#
# Words right over the number of examples, a panel for each skill; whole answers are fainter.


# %%
def draw(words: dict[tuple, Seeds], whole: dict[tuple, Seeds]) -> Figure:
    """Means as lines, a dot for each seed."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    for axes, skill in zip(figure.subplots(1, 2, sharey=True), SKILLS):
        known = 100 * words[skill, "present", "known"].mean
        axes.axhline(known, color="#555555", linestyle=":", linewidth=1)
        axes.annotate("base model, asked as in pretraining", (0, known + 1.5), fontsize=8, color="#555555")
        for name, colour in (("present", "#0072B2"), ("absent", "#D55E00")):
            for shares, style, what in ((words, "-", "words"), (whole, "--", "whole answers")):
                values, strong = [shares[skill, name, n] for n in EXAMPLES], shares is words
                label = f"{what}, skill {name} in pretraining"
                means = [100 * value.mean for value in values]
                axes.plot(means, style, color=colour, alpha=1.0 if strong else 0.45, label=label)
                for place, value in enumerate(values if strong else []):
                    dots = [100 * share for share in value.values]
                    axes.plot([place] * len(dots), dots, "o", color=colour, alpha=0.5, markersize=5)
        axes.set_xticks(range(len(EXAMPLES)), EXAMPLES)
        axes.set(title=skill, xlabel="examples of fine-tuning (the same steps for all)", ylim=(-3, 108))
    figure.axes[0].set(ylabel="% right, held-out combinations")
    figure.axes[0].legend(loc="upper left", fontsize=8)
    return figure


if __name__ == "__main__":
    main()
