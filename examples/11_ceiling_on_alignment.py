# %% [markdown]
# # The objective is a ceiling on alignment
#
#     python examples/11_ceiling_on_alignment.py            # --fast to see that it runs
#
# TIME
# FINDING
#
# Fine-tuning on a few thousand examples turns a model that goes on with text into one that does as it is asked. What
# does it do: teach, or bring out what pretraining has taught already? Zhou et al. 2023 (LIMA) put it as the
# *superficial alignment hypothesis*: knowledge and abilities come from pretraining, and alignment chooses the form in
# which they are shown. If that is so, the pretraining objective, and the text it was fed, are a ceiling.
#
# With a corpus that we make ourselves the question has an answer. Two worlds are alike but for one skill, translation
# into Swedish: one holds it, the other does not. Then both models are taught to answer a question about it, by the
# same few examples. Claim: **a skill that pretraining holds is surfaced by a few examples; one that it does not hold
# is not taught by them, not by a thousand.**

# %%
from copy import deepcopy
from statistics import fmean

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Lesson, Result, Seeds
from clozelab.data.skills import END, Exercise, World
from clozelab.objectives import CausalLM
from clozelab.training import TrainConfig, learn

LESSON = Lesson(
    "11_ceiling_on_alignment.py",
    "The objective is a ceiling on alignment",
    claim="A skill that pretraining holds is surfaced by a few examples; one that it does not hold is not taught by "
    "them, not by a thousand.",
)
CAUSAL = CausalLM()
NOT_NEEDED = ("agreement", "facts turned round", "strangers")
"""Skills that are left out of all worlds here, so that the others are learned sooner."""
SKILL = "translation"
EXAMPLES = (0, 10, 100, 1000)
WORLDS = {"present": (), "absent": (SKILL,)}

# %% [markdown]
# ## Present and absent
#
# The skill is `red cat sees dog in swedish : röd katt ser hund .`, word for word but for the adjective, which goes
# behind its noun. In the world without it these sentences, and the interviews in which somebody translates, are
# missing; other sentences stand in their place, so that both models see as many tokens, in as many steps. Both worlds
# hold
#
# - every English word, in many sentences;
# - every Swedish word, in Swedish sentences (`röd katt ser hund .`): so the words are known, and so is their order;
# - the questions, in lists that nobody answers: `how do swedes say red cat sees dog ?`
#
# What is absent is one thing, which word stands for which.


# %%
def pretrain(world: World, steps: int) -> nn.Module:
    """A causal model of the world's text: two layers of width 64."""
    torch.manual_seed(world.seed)
    model = CAUSAL.build_model(world.special.vocab_size, "tiny", width=64, layers=2, heads=2)

    def batch(step: int) -> dict[str, Tensor]:
        text = world.block(step, 16, 64)
        return {"input_ids": text, "labels": text}

    learn(CAUSAL, model, batch, TrainConfig(steps=steps, optimizer="muon", precision="float32"))
    return model


# %% [markdown]
# ## Fine-tuning
#
# The question as the prompt, the Swedish sentence and an end of text as the answer; nothing else is paid. The form is
# new to both models: in pretraining a bare question was followed by another question, an answer stood in an interview,
# behind `say`. For every number of examples the steps are the same, so what grows is the number of different examples
# and not the compute: 10 examples are seen 320 times each, 1000 are seen 3 times.


# %%
def asked(world: World, exercises: list[Exercise]) -> list[list[int]]:
    """The questions as prompts."""
    return [world.ids([END, *exercise.question]) for exercise in exercises]


def finetune(base: nn.Module, world: World, exercises: list[Exercise], steps: int) -> nn.Module:
    """A copy of the base model, taught to answer by these examples."""
    model = deepcopy(base)
    prompts, answers = asked(world, exercises), [world.ids(exercise.answer) for exercise in exercises]
    generator = torch.Generator().manual_seed(world.seed)

    def batch(step: int) -> dict[str, Tensor]:
        chosen = torch.randint(len(exercises), (16,), generator=generator).tolist()
        return CAUSAL.pairs([prompts[k] for k in chosen], [answers[k] for k in chosen], world.special)

    learn(CAUSAL, model, batch, TrainConfig(steps=steps, learning_rate=1e-3, weight_decay=0.0, precision="float32"))
    return model


# %% [markdown]
# Examined is an adjective with a noun that neither pretraining nor fine-tuning ever put together, so that nothing can
# have been memorised: the four words must be right, and then the answer must end. So that a translation that is nearly
# right can be told from none at all, the share of single words that are right in their places is measured as well.


# %%
def shares_right(model: nn.Module, world: World, exercises: list[Exercise]) -> tuple[float, float]:
    """Of whole answers, and of words."""
    answers = CAUSAL.answer(model, asked(world, exercises), world.special, tokens=8, greedy=True)
    said = [world.words(ids) for ids in answers]
    whole = fmean(exercise.right(words) for exercise, words in zip(exercises, said))
    words = [words[k : k + 1] == [right] for one, words in zip(exercises, said) for k, right in enumerate(one.answer)]
    return whole, fmean(words)


def share_known(model: nn.Module, world: World, exercises: list[Exercise]) -> float:
    """The same in the form of pretraining: the model goes on behind "in swedish :"."""
    prompts = [world.ids([END, *exercise.prompt]) for exercise in exercises]
    said = CAUSAL.answer(model, prompts, world.special, tokens=4, greedy=True)
    return fmean(exercise.right(world.words(ids)) for exercise, ids in zip(exercises, said))


# %% [markdown]
# ## The verdict
#
# Decided beforehand: the claim held if the model in whose pretraining the skill was present is surely better than the
# other with 10, with 100 and with 1000 examples, in part if it is with some of these, and is contradicted if with
# none.


# %%
def study(seed: int, steps: int, tuning: int, count: int) -> dict:
    """[name of the world, number of examples] -> shares of whole answers and of words."""
    marks = {}
    for name, without in WORLDS.items():
        world = World(seed, (*NOT_NEEDED, *without))  # exercises depend on the seed alone: both are taught the same
        exam = world.exercises(SKILL, count)
        base = pretrain(world, steps)
        marks[name, "known"] = share_known(base, world, exam), 0.0
        for n in EXAMPLES:
            examples = world.exercises(SKILL, n, held_out=False, draw=1)
            model = finetune(base, world, examples, tuning) if n else base
            marks[name, n] = shares_right(model, world, exam)
    return marks


def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    steps, tuning, count = visit.choose(1000, fast=40), visit.choose(200, fast=10), visit.choose(100, fast=10)
    studies = [study(seed, steps, tuning, count) for seed in visit.seeds]
    right, words = ({key: Seeds(tuple(one[key][which] for one in studies)) for key in studies[0]} for which in (0, 1))
    less = {n: right["present", n] - right["absent", n] for n in EXAMPLES}
    better = [less[n].above for n in EXAMPLES[1:]]
    few, some, many = EXAMPLES[1:]
    return visit.conclude(
        verdict="held" if all(better) else "held in part" if any(better) else "contradicted",
        finding=f"Translations right after 10, 100, 1000 examples: {right['present', few].mean:.0%}, "
        f"{right['present', some].mean:.0%}, {right['present', many].mean:.0%} where pretraining held translation, "
        f"{right['absent', few].mean:.0%}, {right['absent', some].mean:.0%}, {right['absent', many].mean:.0%} where it "
        f"did not; the difference at 1000 is {less[many]:.0%}.",
        figures={
            **{f"{name}, {n} examples": right[name, n] for name in WORLDS for n in EXAMPLES},
            **{f"{name}, {n} examples, words": words[name, n] for name in WORLDS for n in EXAMPLES},
            **{f"{name}, asked as in pretraining": right[name, "known"] for name in WORLDS},
        },
        headings=["examples", *WORLDS, "present less absent", *(f"words: {name}" for name in WORLDS)],
        rows=[
            ["0, asked as in pretraining", *(f"{right[name, 'known']:.0%}" for name in WORLDS), "", "", ""],
            *(
                [str(n), *(f"{right[name, n]:.0%}" for name in WORLDS), f"{less[n]:.0%}"]
                + [f"{words[name, n]:.0%}" for name in WORLDS]
                for n in EXAMPLES
            ),
        ],
        picture=draw(right, words),
    )


# %% [markdown]
# ## The picture


# %%
def draw(right: dict[tuple, Seeds], words: dict[tuple, Seeds]) -> Figure:
    """Shares over the number of examples: whole answers (full) and words (dashed), a dot for each seed."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    known = 100 * right["present", "known"].mean
    axes.axhline(known, color="#555555", linestyle=":", linewidth=1)
    axes.annotate("present, before fine-tuning, asked as in pretraining", (3, known + 1.5), fontsize=8, ha="right")
    for name, colour in (("present", "#0072B2"), ("absent", "#D55E00")):
        for shares, style, what in ((right, "-", "whole answers"), (words, "--", "words")):
            label = f"{what}, translation {name} in pretraining"
            values = [shares[name, n] for n in EXAMPLES]
            axes.plot([100 * value.mean for value in values], style, color=colour, label=label)
            for place, value in enumerate(values):
                dots = [100 * share for share in value.values]
                axes.plot([place] * len(dots), dots, "o", color=colour, alpha=0.4, markersize=4)
    axes.set_xticks(range(len(EXAMPLES)), EXAMPLES)
    axes.set(xlabel="examples of fine-tuning (the same steps for all)", ylabel="% of held-out translations right")
    axes.set_ylim(-3, 108)
    axes.legend(loc="upper left", fontsize=8)
    return figure


if __name__ == "__main__":
    main()
