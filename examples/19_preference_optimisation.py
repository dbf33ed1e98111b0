# %% [markdown]
# # Preference optimisation moves probability
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
from copy import deepcopy
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.course import Exercise, Gate, Judgement, Lesson, Part, Result, Seeds, in_notebook, judge
from clozelab.course.worlds import BASE_STEPS, BROAD, NARROW, Bases, finetune, gentle, pretrain, question, thorough
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
            "A right answer has probability 0.01: what is pass@256?",
            answer=(0.9, 0.93),
            why="1 - 0.99^256. A model that is right once in a hundred samples has the answer nearly always among 256.",
        ),
        Exercise(
            "Optimise with `beta=0.0`: by how much does pass@1 change?",
            answer=(-1e-6, 1e-6),
            why="The loss is ln 2 whatever the model does: without beta no preference has a gradient.",
        ),
        Exercise(
            "Let the judge know right and wrong alone (in `mark`, 0 for whatever is wrong): for which share of the "
            "questions does it find a pair, where translation was absent?",
            answer=(0.0, 0.05),
            why="All samples are wrong and so alike: there is nothing to prefer, and nothing to learn.",
        ),
    ),
    literature="Yue et al. 2025: reinforcement learning raises pass@1, but at k = 256 the base model is ahead; "
    "distillation raises both.",
    previous="New in 0.2.",
)

# %%
SKILL = "translation"
WORLDS = {"present": BROAD, "absent": NARROW}
"""What the text of each of the two worlds is without: the base models of lesson 11."""
DEMONSTRATIONS, ENOUGH, FIRST_SEED = 20, 0.5, 30
KS = (1, 4, 16, 64, 256)

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


def preferences(model: nn.Module, world: World, exercises: list, samples: int = 16) -> list[Preference]:
    """Pairs of the model's own answers, at temperature 1, and which of the two the judge prefers."""
    generator = torch.Generator().manual_seed(world.seed)
    prompts = [world.ids(question(one)) for one in exercises]
    answers = generate_answers(
        model, [prompt for prompt in prompts for _ in range(samples)], world.special, tokens=8, generator=generator
    )
    pairs = []
    for k, (exercise, prompt) in enumerate(zip(exercises, prompts)):
        own = answers[k * samples : (k + 1) * samples]
        marks = [mark(exercise, world.words(ids)) for ids in own]
        if max(marks) > min(marks):
            best, worst = own[marks.index(max(marks))], own[marks.index(min(marks))]
            pairs.append(Preference(prompt, best, worst, right=max(marks) == 2))
    return pairs


# %%
if in_notebook():  # ten seconds: a short pretraining, some demonstrations, and what the judge prefers
    world = World(0, BROAD)
    known = world.exercises(SKILL, DEMONSTRATIONS, held_out=False)
    for one in preferences(finetune(pretrain(world, 150), world, known, gentle(60)), world, known[:5]):
        print(*world.words(one.prompt), "|", *world.words(one.chosen), "| rather than |", *world.words(one.rejected))

# %% [markdown]
# ## The DPO step
#
# Rafailov et al. 2023, section 4, equation 7: with the model before this training as the reference,
#
#     loss = -log sigmoid(beta x ((log p(chosen) - log p_ref(chosen)) - (log p(rejected) - log p_ref(rejected))))
#
# The loss falls when the chosen answer gains against the rejected one. It depends on nothing else.


# %%
def optimise(model: nn.Module, world: World, pairs: list[Preference], steps: int, beta: float = 0.5) -> nn.Module:
    """A copy of the model after DPO on these pairs, 16 of them a step; an unchanged copy where there are none."""
    policy = deepcopy(model)
    if not pairs:
        return policy
    answers = [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]
    both = causal_pairs([pair.prompt for pair in pairs] * 2, answers, world.special)
    with eval_mode(model):
        reference = log_probs(model, both)
    generator = torch.Generator().manual_seed(world.seed)

    def batch(step: int) -> Tensor:
        return torch.randint(len(pairs), (16,), generator=generator)

    def dpo(policy: nn.Module, chosen: Tensor) -> Loss:
        rows = torch.cat([chosen, chosen + len(pairs)])
        gain = log_probs(policy, {key: value[rows] for key, value in both.items()}) - reference[rows]
        margin = gain[: len(chosen)] - gain[len(chosen) :]
        return Loss.single(-nn.functional.logsigmoid(beta * margin).sum(), torch.tensor(len(chosen)))

    config = TrainConfig(steps, optimizer="adamw", learning_rate=1e-4, weight_decay=0.0, precision="float32")
    fit(dpo, policy, batch, config)
    return policy


# %% [markdown]
# ## What is compared
#
# 1. **Base models**: two worlds, one with translations, one without (lesson 11).
# 2. **Demonstrations**: each model sees 20 right answers in the form of the test, so that it answers at all. Where
#    translation was present, this stops when half of the samples for other questions are right. (In the other world it
#    takes as many steps.)
# 3. **Preferences**: 300 questions, 16 answers of its own to each, DPO on the pairs.
#
# Everything is measured on new combinations of adjective and noun. As a control, the model of the world without
# translations is taught 1,000 right answers instead of preferences. If that does not raise pass@k either, the skill
# cannot be taught to this model at all, and the result for preferences would show nothing.


# %%
def demonstrate(base: nn.Module, world: World, known: list, others: list, steps: int) -> tuple[nn.Module, int]:
    """The model when so many samples to `others` are right for the first time, and the step; that of the last if never.

    More demonstrations would leave preferences nothing to do.
    """
    kept: list[tuple[nn.Module, int]] = []

    def watch(model: nn.Module, step: int) -> None:
        if not kept and (step == steps or pass_at_k(model, world, others)[1] >= ENOUGH):
            kept.append((deepcopy(model), step))

    finetune(base, world, known[:DEMONSTRATIONS], gentle(steps), callback=watch)
    return kept[0]


def study(seed: int, bases: Bases, sizes: dict[str, int]) -> dict[tuple[str, str, int], float]:
    """[world, stage, k] -> pass@k, and [world, "pairs", which] -> share of the questions with such a pair."""
    found = {}
    full = World(seed, WORLDS["present"])
    exam = full.exercises(SKILL, sizes["exam"])
    known = full.exercises(SKILL, 1000, held_out=False, draw=1)
    asked = full.exercises(SKILL, sizes["asked"], held_out=False, draw=2)
    steps = 0
    for name, without in WORLDS.items():
        base = bases(World(seed, without), sizes["base"])
        if name == "present":
            before, steps = demonstrate(base, full, known, asked[:50], sizes["demonstrate"])
        else:
            before = finetune(base, full, known[:DEMONSTRATIONS], gentle(steps))
        pairs = preferences(before, full, asked)
        found[name, "pairs", 0] = len(pairs) / len(asked)
        found[name, "pairs, the chosen right", 0] = sum(pair.right for pair in pairs) / len(asked)
        stages = {"before": before, "preferences": optimise(before, full, pairs, sizes["optimise"])}
        if name == "absent":
            stages["taught"] = finetune(before, full, known, thorough(sizes["teach"]))
        for stage, model in stages.items():
            found |= {(name, stage, k): share for k, share in pass_at_k(model, full, exam).items()}
    return found


# %% [markdown]
# ## How it is judged
#
# Fixed before the run. Gates:
#
# - where translation was present, between 2% and 90% of samples are right before the preferences, so that their number
#   can grow, and 256 samples contain a right one for more than 90% of the questions; where it was absent, for less than
#   10%;
# - the judge finds pairs for more than half of the questions to each model;
# - positive control: supervised teaching does raise pass@256 where translation was absent.
#
# Parts of the claim:
#
# - *more frequent*: where the skill is present, pass@1 rises;
# - *nothing new there*: pass@256 stays within 5 points of what it was;
# - *no new skill*: where it is absent, pass@256 stays within 5 points.
#
# Earlier runs: on seeds 0 to 4, with beta = 0.1 and a rate of 3e-4, pass@1 went from 71% to 76% ± 24%. Four models
# gained, and one moved so far from its reference that it lost. On seeds 20 to 24, with better base models, the
# demonstrations alone brought pass@1 to 91%, which left the judge little to prefer: gates were not passed. Hence
# demonstrations now stop at half, with a larger beta, a lower rate (found on seeds 10 and 20 to 24), new seeds, and one
# more gate.


# %%
def main(arguments=None) -> Result:
    """Run the lesson."""
    visit = LESSON.visit(arguments)
    whole = {"base": BASE_STEPS, "demonstrate": 40, "optimise": 50, "teach": 150, "exam": 100, "asked": 300}
    fast = {"base": 24, "demonstrate": 8, "optimise": 8, "teach": 8, "exam": 16, "asked": 16}
    sizes = {name: visit.choose(whole[name], fast=fast[name]) for name in whole}
    bases = Bases(None) if visit.fast else Bases()
    studies = [study(FIRST_SEED + seed, bases, sizes) for seed in visit.track(visit.seeds)]
    f = {key: Seeds(tuple(one[key] for one in studies)) for key in studies[0]}
    many = KS[-1]
    change = {(name, k): f[name, "preferences", k] - f[name, "before", k] for name in WORLDS for k in (KS[0], KS[-1])}
    taught = f["absent", "taught", many] - f["absent", "before", many]
    gates = [
        Gate("samples are right now and then, present", f["present", "before", 1], above=0.02),
        Gate("they can become more", f["present", "before", 1], below=0.9),
        Gate(f"{many} samples hold a right one, present", f["present", "before", many], above=0.9),
        Gate(f"{many} samples hold nothing right, absent", f["absent", "before", many], below=0.1),
        *(Gate(f"the judge prefers, {name}", f[name, "pairs", 0], above=0.5) for name in WORLDS),
        Gate(f"supervised teaching raises pass@{many}, absent", taught, above=0.0, control=True),
    ]
    parts = [
        Part("pass@1 rises, present", change["present", 1]),
        Part(f"pass@{many} stays, present", change["present", many], within=0.05),
        Part(f"pass@{many} stays, absent", change["absent", many], within=0.05),
    ]
    judgement = judge(gates, parts)
    stages = [(n, s) for n in WORLDS for s in ("before", "preferences", "taught") if (n, s, 1) in f]
    rows = [[name, stage, *(f"{f[name, stage, k]:.1%}" for k in KS)] for name, stage in stages]

    def moved(name: str, k: int) -> str:
        return f"{f[name, 'before', k].mean:.0%} to {f[name, 'preferences', k]:.0%}"

    return visit.conclude(
        judgement,
        number=f"absent skill, pass@{many}: {f['absent', 'preferences', many]:.1%} after preferences, "
        f"{f['absent', 'taught', many]:.0%} after supervised teaching",
        finding=f"Where pretraining held translation, preferences move pass@1 from {moved('present', 1)}, pass@{many} "
        f"from {moved('present', many)}. Where it did not, pass@{many} from {moved('absent', many)}; supervised "
        f"teaching brings it to {f['absent', 'taught', many]:.0%}.",
        figures={", ".join(map(str, key)): values for key, values in f.items()},
        headings=["translation", "stage", *(f"pass@{k}" for k in KS)],
        rows=rows,
        picture=draw(f, judgement),
        seconds_before=bases.seconds,
    )


# %% [markdown]
# ## The picture

# %%
COLOURS = {"present": "#0072B2", "absent": "#D55E00"}
STYLES = {"before": ":", "preferences": "-", "taught": "--"}


def draw(f: dict[tuple, Seeds], judgement: Judgement) -> Figure:
    """pass@k over k, with 95% intervals."""
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    for name, colour in COLOURS.items():
        for stage, style in STYLES.items():
            if (name, stage, 1) not in f:
                continue
            values = [f[name, stage, k] for k in KS]
            what = {"before": "before", "preferences": "after preferences", "taught": "after supervised teaching"}[
                stage
            ]
            axes.plot(KS, [100 * v.mean for v in values], style, color=colour, linewidth=2, label=f"{name}: {what}")
            if len(values[0].values) > 1 and stage != "before":
                low, high = ([100 * v.interval[end] for v in values] for end in (0, 1))
                axes.fill_between(KS, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=4)
    axes.set_xticks(KS, [str(k) for k in KS])
    axes.set(xlabel="k samples", ylabel="pass@k, % of new translations", ylim=(-3, 103))
    axes.legend(title="translation in pretraining", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    axes.set_title(f"Preferences make present answers frequent, and add none: {judgement.verdict}")
    return figure


# %% [markdown]
# ## What came out
#
# Held. Where the model had seen translations, preferences among its own answers bring pass@1 from 60% to 84% ± 14%.
# pass@256 was 99.8% before and is 100% after: almost everything that is right now was among 256 samples before.
#
# Where it had not, the judge finds pairs for 67% of the questions. Nearly all are two wrong answers, one of which at
# least has the right form. For 0.5% of the questions one of 256 samples is right, about as before (0.4%). The same
# model learns the skill from 1,000 right answers (99.8% at the first sample). So the model can learn it; these
# preferences do not contain it.
#
# A judge who gave points for each right word could teach more, since right words are in the samples. It also matters
# how far DPO may move from its reference: the earlier run in which a model lost had a larger rate and a smaller beta.

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
# This is the last lesson on what comes after pretraining. Lesson 05 shows how pretraining teaches skills, and lesson 02
# why a product of conditionals gives an answer its exact probability. Lesson 20 goes back to pretraining and asks in
# which order two objectives should come.

# %%
if __name__ == "__main__":
    main()
