# %% [markdown]
# # 19 Preference optimisation moves probability
#
#     python examples/19_preference_optimisation.py  # --fast to see that it runs
#
# **After pretraining and a few demonstrations comes learning from preferences: a judge prefers one of two answers that
# the model sampled. Does the model learn anything that it could not do before?**
#
# Rafailov et al. 2023 (DPO) optimise preferences directly: no reward model, no sampling during training, only a loss on
# the probabilities of two answers. Such a loss can only compare answers that have been sampled. So it should make good
# answers more frequent, and nothing else.
#
# Before you run: two models are trained on the preferences of the same judge. One samples right translations now and
# then; the other never saw a translation. After training, how often is one sample right, and at least one of 256?

# %%
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Exercise, Gate, Judgement, Lesson, Part, Result, Seeds, bar, in_notebook, judge
from clozelab.course.worlds import BASE_STEPS, BROAD, NARROW, Bases, finetune, gentle, pretrain, question
from clozelab.generation import causal_pairs, generate_answers
from clozelab.languages.skills import ADJECTIVES, NOUNS, VERBS, World
from clozelab.models import eval_mode
from clozelab.objectives import Loss
from clozelab.training import TrainConfig, fit

LESSON = Lesson(
    "19_preference_optimisation.py",
    "Preference optimisation moves probability",
    claim="Preference optimisation makes right answers that samples contain more frequent; it adds no skill that they "
    "lack.",
    question="Does a model learn from preferences among its own answers what it could not do before?",
    exercises=(
        Exercise(
            "One sample is right with probability 0.01: what is pass@256, `1 - (1 - 0.01) ** 256`?",
            answer=(0.9, 0.93),
            why="A model that is right once in a hundred samples has the answer nearly always among 256.",
        ),
        Exercise(
            "Train without beta and without the likelihood: `none = optimise(short, world, pairs, 20, beta=0.0, "
            "likelihood=0.0)`. For which share of the pairs has the chosen answer gained, `preferred(none, "
            "short, world, pairs)`?",
            answer=(0.0, 0.1),
            why="The loss is ln 2 whatever the model does. No preference has a gradient, and no answer gains.",
        ),
        Exercise(
            "Let the judge know right and wrong alone: how many pairs has `preferences(short, world, asked, "
            "lambda exercise, words: 2 * exercise.right(words))`?",
            answer=(0, 0),
            why="All samples are wrong and so alike: there is nothing to prefer, and nothing to learn.",
        ),
    ),
    literature="Yue et al. 2025: reinforcement learning raises pass@1, but at large k, such as 256, the base model is "
    "ahead; distillation raises both.",
    previous="New in 0.2.",
    first_seed=40,
)

# %%
SKILL = "translation"
WORLDS = {"present": BROAD, "absent": NARROW}
"""What the text of each of the two worlds is without: the base models of lesson 11."""
DEMONSTRATIONS, ENOUGH = 20, 0.5
KS = (1, 4, 16, 64, 256)
JUDGED, MARGIN = {"present": KS[0], "absent": KS[-1]}, 0.05
LEARNED, CONTROL = "new pairs, the chosen gained", "right answers chosen"

# %% [markdown]
# ## pass@k, exactly
#
# How often is at least one of k samples right? Usually this is estimated by sampling. Here a question has one right
# answer, and its probability p is a product of the model's conditionals. So pass@k = 1 - (1 - p)^k, exactly and for any
# k. pass@1 shows how frequent right answers are; pass@k with a large k shows whether they occur at all.


# %%
def log_probs(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """(B,): log p(answer, end of text | prompt) of each row of a batch of pairs, with its gradient."""
    hidden = model(batch["input_ids"], attention_mask=batch["attention_mask"])
    terms = nn.functional.cross_entropy(
        model.unembed(hidden[:, :-1]).transpose(1, 2), batch["labels"][:, 1:], ignore_index=-100, reduction="none"
    )
    return -terms.sum(1)


def pass_at_k(model: nn.Module, world: World, exercises: list) -> dict[int, float]:
    """Mean over the exercises, at temperature 1."""
    prompts = [world.ids(question(one)) for one in exercises]
    with eval_mode(model):
        p = log_probs(model, causal_pairs(prompts, [world.ids(one.answer) for one in exercises], world.special)).exp()
    return {k: float((1 - (1 - p.double()) ** k).mean()) for k in KS}


# %% [markdown]
# ## Preferences
#
# The model answers each question 16 times. The judge knows the answer: a right one is better than a wrong one of four
# Swedish words, and that is better than anything else. For each question a best and a worst sample make a pair; where
# all are equally good there is no pair.


# %%
@dataclass(frozen=True)
class Preference:
    """A prompt, the ids of two of its answers, and whether the chosen one is right."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    right: bool


SWEDISH = {form for group in (NOUNS, VERBS, ADJECTIVES) for *_, form in group}


def mark(exercise, words: list[str]) -> int:
    """2 for a right answer, 1 for as many Swedish words as it has, 0 for anything else."""
    formed = len(words) == len(exercise.answer) and {*words} <= SWEDISH
    return 2 if exercise.right(words) else int(formed)


def preferences(model: nn.Module, world: World, exercises: list, value: Callable = mark) -> list[Preference]:
    """Pairs of the model's own answers, at temperature 1, and which of the two the judge prefers."""
    generator, samples = torch.Generator().manual_seed(world.seed), 16
    prompts = [world.ids(question(one)) for one in exercises]
    answers = generate_answers(
        model, [prompt for prompt in prompts for _ in range(samples)], world.special, tokens=8, generator=generator
    )
    pairs = []
    for k, (exercise, prompt) in enumerate(zip(exercises, prompts)):
        own = answers[k * samples : (k + 1) * samples]
        marks = [value(exercise, world.words(ids)) for ids in own]
        if max(marks) > min(marks):
            best, worst = own[marks.index(max(marks))], own[marks.index(min(marks))]
            pairs.append(Preference(prompt, best, worst, right=max(marks) == 2))
    return pairs


# %%
if in_notebook():  # ten seconds: a short pretraining without translations, some demonstrations, what the judge prefers
    world = World(0, BROAD)
    known, asked = (world.exercises(SKILL, n, held_out=False, draw=n) for n in (DEMONSTRATIONS, 50))
    short = finetune(pretrain(World(0, NARROW), 150), world, known, gentle(60))
    pairs = preferences(short, world, asked)
    for one in pairs[:5]:
        print(*world.words(one.prompt), "|", *world.words(one.chosen), "| rather than |", *world.words(one.rejected))

# %% [markdown]
# ## The DPO step
#
# Rafailov et al. 2023, section 4, equation 7: with the model before this training as the reference,
#
#     loss = -log sigmoid(beta x ((log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected))))
#
# This loss falls also where both answers become rarer, if only the rejected one falls more. Pang et al. 2024 therefore
# add the negative log-likelihood of the chosen answer, and find it crucial. So does this lesson, with a weight of 0.2,
# which is 1 a token of an answer of four words and an end.


# %%
def pair_batch(world: World, pairs: list[Preference]) -> dict[str, Tensor]:
    """A batch of all prompts with their chosen answers, then with their rejected ones."""
    both = [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]
    return causal_pairs([pair.prompt for pair in pairs] * 2, both, world.special)


def optimise(
    model: nn.Module, world: World, pairs: list[Preference], steps: int, beta: float = 0.5, likelihood: float = 0.2
) -> nn.Module:
    """A copy of the model after DPO on these pairs, 16 of them a step; an unchanged copy where there are none."""
    policy = deepcopy(model)
    if not pairs:
        return policy
    both = pair_batch(world, pairs)
    with eval_mode(model):
        reference = log_probs(model, both)
    generator = torch.Generator().manual_seed(world.seed)

    def batch(step: int) -> Tensor:
        return torch.randint(len(pairs), (16,), generator=generator)

    def dpo(policy: nn.Module, picked: Tensor) -> Loss:
        rows = torch.cat([picked, picked + len(pairs)])
        log_p = log_probs(policy, {key: value[rows] for key, value in both.items()})
        chosen, rejected = (log_p - reference[rows]).chunk(2)
        terms = -nn.functional.logsigmoid(beta * (chosen - rejected)) - likelihood * log_p[: len(picked)]
        return Loss.single(terms.sum(), torch.tensor(len(picked)))

    config = TrainConfig(steps, optimizer="adamw", learning_rate=1e-3, weight_decay=0.0, precision="float32")
    fit(dpo, policy, batch, config)
    return policy


def preferred(policy: nn.Module, reference: nn.Module, world: World, pairs: list[Preference]) -> float:
    """Share of the pairs in which the chosen answer has gained against the rejected one; 0 where there are none."""
    if not pairs:
        return 0.0
    both = pair_batch(world, pairs)
    with eval_mode(policy), eval_mode(reference):
        chosen, rejected = (log_probs(policy, both) - log_probs(reference, both)).chunk(2)
    return float((chosen > rejected).float().mean())


# %% [markdown]
# ## What is compared
#
# 1. **Base models**: two worlds, one with translations, one without (lesson 11).
# 2. **Demonstrations**: each model sees 20 right answers in the form of the test, so that it answers at all. Where
#    translation was present, this stops when half of the samples for other questions are right. (In the other world it
#    takes as many steps.)
# 3. **Preferences**: 300 questions, 16 answers of its own to each, DPO on the pairs.
#
# Everything is measured on new combinations of adjective and noun. The control, where translation was absent, is the
# same DPO on the same pairs, with one change: the chosen answer is the right one. If that does not raise pass@256
# either, such a training is too weak to teach the skill, and that preferences do not teach it would show nothing.


# %%
def demonstrate(base: nn.Module, world: World, known: list, others: list, steps: int) -> tuple[nn.Module, int]:
    """The model when so many samples to `others` are right for the first time, and the step; that of the last if never.

    More demonstrations would leave preferences nothing to do.
    """
    kept: list[tuple[nn.Module, int]] = []

    def watch(model: nn.Module, step: int) -> None:
        if not kept and (step == steps or pass_at_k(model, world, others)[1] >= ENOUGH):
            kept.append((deepcopy(model), step))

    finetune(base, world, known, gentle(steps), callback=watch)
    return kept[0]


def study(seed: int, bases: Bases, sizes: dict[str, int]) -> dict[tuple[str, str, int], float]:
    """[world, stage, k] -> pass@k, and [world, what, 0] -> a share, of the questions or of pairs."""
    found = {}
    full = World(seed, WORLDS["present"])
    exam = full.exercises(SKILL, sizes["exam"])
    known = full.exercises(SKILL, DEMONSTRATIONS, held_out=False, draw=1)
    drawn = full.exercises(SKILL, sizes["asked"] + sizes["exam"], held_out=False, draw=2)
    asked, others = drawn[: sizes["asked"]], drawn[sizes["asked"] :]
    right = {question(one): full.ids(one.answer) for one in asked}
    steps = 0
    for name, without in WORLDS.items():
        base = bases(World(seed, without), sizes["base"])
        if name == "present":
            before, steps = demonstrate(base, full, known, asked[:50], sizes["demonstrate"])
        else:
            before = finetune(base, full, known, gentle(steps))
        pairs = preferences(before, full, asked)
        stages = {"before": before, "preferences": optimise(before, full, pairs, sizes["optimise"])}
        if name == "absent":
            corrected = [replace(pair, chosen=right[tuple(full.words(pair.prompt))]) for pair in pairs]
            stages[CONTROL] = optimise(before, full, corrected, sizes["optimise"])
        for stage, model in stages.items():
            found |= {(name, stage, k): share for k, share in pass_at_k(model, full, exam).items()}
        found[name, "pairs", 0] = len(pairs) / len(asked)
        found[name, "pairs, the chosen right", 0] = sum(pair.right for pair in pairs) / len(asked)
        new = preferences(before, full, others)
        found[name, LEARNED, 0] = preferred(stages["preferences"], before, full, new)
    return found


# %% [markdown]
# ## How it is judged
#
# Fixed before the run. Gates:
#
# - where translation was present, between 2% and 90% of samples are right before the preferences, so that their number
#   can grow; where it was absent, 256 samples contain a right one for less than 10% of the questions;
# - the preferences are learned: in more than 75% of *new* pairs, answers to questions that were not asked, the chosen
#   one gains against the rejected one;
# - control: with the right answers chosen, pass@256 rises by more than 5 points where translation was absent.
#
# Parts of the claim:
#
# - *more frequent*: where the skill is present, pass@1 rises;
# - *no new skill*: where it is absent, pass@256 stays within 5 points.
#
# pass@256 where the skill is present is in the table and not judged, as it was in earlier runs: it begins near 100%.
#
# Earlier runs, each with other seeds: on 0 to 4, with beta = 0.1 and a rate of 3e-4, four models gained and one lost.
# On 20 to 24 the demonstrations brought pass@1 to 91%, so they now stop at half. On 30 to 34 (beta = 0.5, 50 steps at
# 1e-4, no likelihood) the verdict was "held", but the control was another training: this DPO taught nothing from right
# answers either. Hence the new control, new gates and a stronger training. It was chosen on seed 10, where DPO without
# the likelihood taught next to nothing from these pairs even with the right answers chosen (pass@256 of 0.5% after 300
# steps at 1e-3 with beta = 3), or made most answers malformed.


# %%
def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    whole = {"base": BASE_STEPS, "demonstrate": 40, "optimise": 200, "exam": 100, "asked": 300}
    fast = {"base": 24, "demonstrate": 8, "optimise": 8, "exam": 16, "asked": 16}
    sizes = {name: visit.choose(whole[name], fast=fast[name]) for name in whole}
    bases = Bases(None) if visit.fast else Bases()
    f = Seeds.by_name([study(seed, bases, sizes) for seed in visit.track(visit.seeds)])
    many, before = KS[-1], {name: f[name, "before", k] for name, k in JUDGED.items()}
    gates = [
        Gate("pass@1 before, present", before["present"], above=0.02),
        Gate("the same, so that it can rise", before["present"], below=0.9),
        Gate(f"pass@{many} before, absent", before["absent"], below=0.1),
        *(Gate(f"new pairs whose chosen answer gained, {name}", f[name, LEARNED, 0], above=0.75) for name in WORLDS),
        Gate(
            f"pass@{many}, {CONTROL} less before", f["absent", CONTROL, many] - before["absent"], MARGIN, control=True
        ),
    ]
    change = {name: f[name, "preferences", k] - before[name] for name, k in JUDGED.items()}
    stays = Part(f"pass@{many} stays, absent", change["absent"], within=MARGIN)
    judgement = judge(gates, [Part("pass@1 rises, present", change["present"]), stays])
    stages = [(n, s) for n in WORLDS for s in ("before", "preferences", CONTROL) if (n, s, 1) in f]
    return visit.conclude(
        judgement,
        number="; ".join(f"{name}, pass@{k}: {moved(f, name, k)}" for name, k in JUDGED.items()),
        finding=f"Where pretraining held translation, preferences move pass@1 from {moved(f, 'present', 1)}, "
        f"pass@{many} from {moved(f, 'present', many)}. Where it did not, pass@{many} from "
        f"{moved(f, 'absent', many)}; the same training with the right answers chosen brings it to "
        f"{f['absent', CONTROL, many]:.0%}.",
        figures={", ".join(map(str, key)): values for key, values in f.items()},
        headings=["translation", "stage", *(f"pass@{k}" for k in KS)],
        rows=[[name, stage, *(f"{f[name, stage, k]:.1%}" for k in KS)] for name, stage in stages],
        picture=draw(f, judgement),
        seconds_before=bases.seconds,
    )


def moved(f: dict[tuple, Seeds], name: str, k: int) -> str:
    """Mean pass@k before, and pass@k after the preferences."""
    return f"{f[name, 'before', k].mean:.1%} to {f[name, 'preferences', k]:.1%}"


# %% [markdown]
# ## The picture

# %%
COLOURS = {"before": "#999999", "preferences": "#0072B2", CONTROL: "#D55E00"}
LABELS = {"before": "before", "preferences": "after preferences", CONTROL: "right answers\nchosen (control)"}


def draw(f: dict[tuple, Seeds], judgement: Judgement) -> Figure:
    """What is judged, a bar for each stage and a dot for each seed."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    for axes, (name, k) in zip(figure.subplots(1, 2, width_ratios=(2, 3)), JUDGED.items()):
        stages = [stage for stage in COLOURS if (name, stage, k) in f]
        for place, stage in enumerate(stages):
            bar(axes, place, f[name, stage, k].map(lambda share: 100 * share), COLOURS[stage], number=".1f")
        axes.set_xticks(range(len(stages)), [LABELS[stage] for stage in stages])
        axes.set(title=f"translation {name} in pretraining", ylabel=f"pass@{k}, % of new translations", ylim=(0, 108))
    figure.suptitle(
        f"{judgement.title}: where the skill is present pass@1 goes from {moved(f, 'present', 1)},\n"
        f"where it is absent pass@{KS[-1]} from {moved(f, 'absent', KS[-1])}"
    )
    return figure


# %% [markdown]
# ## What came out
#
# Held. Where the model had seen translations, preferences among its own answers bring pass@1 from 47% to 91% ± 10%.
#
# Where it had not, the judge finds pairs for 74% of the questions, nearly all of two wrong answers, one of which at
# least has the right form. This preference is learned: the chosen answer gains in 99% of new pairs. But right answers
# stay as rare as they were: pass@256 is 0.2% before and after. The training is not too weak for more. With the right
# answers chosen in the same pairs, the same steps bring pass@256 to 95% ± 12%. So the skill is learned from what the
# chosen answers hold, and the model's own do not hold it.
#
# Two limits. On seed 10 it was the likelihood of right answers that taught, not the comparison. And where the skill is
# present, preferences may reach further than 256 samples did: pass@256 rose from 88% to 100% in one model, by 3 ± 7
# points in the mean. By the rule of earlier runs (it stays within 5 points) this part would be "cannot tell".

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
# This is the last lesson on what comes after pretraining. Lesson 02 shows why a product of conditionals gives an answer
# its exact probability. Lesson 20 asks in which order two objectives of pretraining should come.

# %%
if __name__ == "__main__":
    main()
