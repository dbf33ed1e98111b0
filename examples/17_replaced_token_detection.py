# %% [markdown]
# # 17 Replaced token detection: does a loss on every token teach more?
#
#     python examples/17_replaced_token_detection.py  # --fast: some seconds, not judged
#
# Masked LM's loss covers 15% of the tokens. ELECTRA's covers all: a small masked model, the generator, fills the hidden
# tokens, and the encoder that is kept, the discriminator, says of *every* token whether it was replaced. Its authors
# report that it learns more from the same text, and from the same compute.
#
# **Before you run: what do you expect?** One bit about each token, or the word itself at 15% of them: which teaches an
# encoder more of what words mean? And how much is lost if the bit, too, is in the loss at 15% of the tokens only?

# %%
from collections.abc import Callable, Collection

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from clozelab.course import Exercise, Gate, Judgement, Lesson, Part, Result, Seeds, in_notebook, judge, share_learned
from clozelab.data import Batch
from clozelab.evaluation import linear_probe
from clozelab.languages import HiddenMarkovSource, MarkovSource, detection_costs, masked_posteriors
from clozelab.models import eval_mode
from clozelab.objectives import Electra, MaskedLM, Target, options
from clozelab.training import TrainConfig, fit, training_flops

LESSON = Lesson(
    "17_replaced_token_detection.py",
    "Replaced token detection: does a loss on every token teach more?",
    claim="With its loss on every token ELECTRA's encoder learns more than masked LM's, from equal text and compute.",
    question="Does an encoder learn more if its loss covers every token, from equal text and from equal compute?",
    exercises=(
        Exercise(
            "How many nats a word can be detected behind a perfect generator, `detectable(perfect=True)`?",
            answer=(0.015, 0.03),
            why="What it draws fits as well as the word that was there. Behind frequencies they are 0.25.",
        ),
        Exercise(
            "Write `RATE = 0.5`. How many nats is it then, `detectable(perfect=True)`?",
            answer=(0.07, 0.095),
            why="More words are drawn. But those that a perfect generator draws still fit.",
        ),
        Exercise(
            "Build ELECTRA with `generator_size=1.0`. How many steps of masked LM does its step cost, `step_cost()`?",
            answer=(1.9, 2.2),
            why="Two encoders of one size. A small generator saves compute, too.",
        ),
    ),
    literature="GLUE at base size: ELECTRA 85.0, its loss on 15% of the tokens 82.4, BERT 82.2; small models at equal "
    "compute: ELECTRA 79.9, BERT 75.1 (Clark et al. 2020, arXiv 2003.10555, tables 5 and 1).",
    previous="New in 0.2.",
)

# %% [markdown]
# ## A language whose words have senses
#
# Sixteen senses follow one another as a Markov chain of 0.6 nats. Each of eight words is said in two of them (and 2% of
# the words are any word), so a word leaves two senses, and the words around it say which. This is a hidden Markov
# model: the best prediction of a sense is known exactly, for a reader of the word alone, of what is left of it too, or
# of both sides. No model sees the senses in training. The language is one and the same for all seeds: they draw weights
# and texts.

# %%
LENGTH, ROWS, WORDS, QUARTERS = 32, 8, 8, (1, 2, 3, 4)
SAID = 0.02 / WORDS + 0.98 * torch.eye(WORDS).repeat(2, 1)  # senses w and w + 8 say the word w
SOURCE = HiddenMarkovSource(MarkovSource.random(2 * WORDS, entropy=0.6, seed=3), SAID)
SPECIAL = SOURCE.special_ids(sentinels=0)
READERS = {"the word alone": "token", "the left": "left", "both sides": "both"}

if in_notebook():
    text, senses = SOURCE.sample(1, LENGTH, seed=0)
    print("words ", *("abcdefgh"[word] for word in text[0]))
    print("senses", *("abcdefghABCDEFGH"[sense] for sense in senses[0]))

# %% [markdown]
# ## Four objectives
#
# - **Masked LM** hides 15% of the words, reads both sides and predicts the hidden words.
# - **ELECTRA**: a generator of a fifth of the width predicts them, and draws a word for each. The discriminator reads
#   the text with these, and says of each word whether it was replaced. A word that was hit counts as the text's own.
# - **ELECTRA 15%**, a control of the paper: the same, but the discriminator's loss covers the hidden words alone.
# - **Masked LM 5%**, a control of this experiment: masked LM with the loss of every third position alone.


# %%
@options
class OnlyHidden(Electra):
    """The discriminator's loss covers the hidden words alone."""

    name = "electra 15%"

    def targets(self, batch: Batch) -> dict[str, Target]:
        hidden, weight = super().targets(batch)["generator"], self.discriminator_weight
        return {"generator": hidden, "discriminator": Target(hidden.labels, detects_replaced=True, weight=weight)}


SETTINGS = {"scheme": "bernoulli", "mask_replace_prob": 1.0, "generator_size": 0.2}
MASKED, ELECTRA, RATE = MaskedLM(scheme="bernoulli"), Electra(**SETTINGS), 0.15
OBJECTIVES = {"masked LM": MASKED, "ELECTRA": ELECTRA, "ELECTRA 15%": OnlyHidden(**SETTINGS), "masked LM 5%": MASKED}
THIRD = torch.arange(LENGTH) % 3 == 0
LOSSES = OBJECTIVES | {"masked LM 5%": lambda model, b: MASKED(model, b | {"labels": b["labels"].where(THIRD, -100)})}
RATES = {"ELECTRA": {"learning_rate": 0.01, "matrix_learning_rate": 0.01}}  # of the others 0.03 and 0.02, the defaults
JUDGED, EQUAL_COMPUTE = ("masked LM", "ELECTRA", "ELECTRA 15%"), "masked LM, equal compute"


def untrained(name: str, seed: int) -> nn.Module:
    """An encoder of width 32 with two layers, and a generator if the objective has one."""
    torch.manual_seed(seed)
    return OBJECTIVES[name].build_model(SPECIAL.vocab_size, "tiny", d_model=32, n_layers=2, n_heads=2)


def batches(name: str, seed: int) -> Callable[[int], Batch]:
    """New texts in each step, the same for all objectives."""
    collate = OBJECTIVES[name].collator(SPECIAL, seed=seed)
    return lambda step: collate.block(
        SOURCE.sample(ROWS, LENGTH, seed=seed * 10**6 + step)[0], range(step * ROWS, (step + 1) * ROWS)
    )


def step_cost() -> float:
    """The operations of a step of ELECTRA, generator and discriminator, in steps of masked LM."""
    costs = [training_flops(OBJECTIVES[n], untrained(n, 0), map(batches(n, 0), range(8))) for n in JUDGED[:2]]
    return costs[1] / costs[0]


# %% [markdown]
# ## How much is there to detect?
#
# A good generator draws words that fit, so nobody can say of every word whether it was replaced. How much can be known
# has an exact bound (`detection_costs`): no discriminator has a lower loss than a reader who knows the language, all
# other words of the text, and how probably the generator draws each. The other end is a guess by the share replaced.


# %%
def guess(labels: Tensor) -> float:
    """Nats of a guess by the frequencies of the labels."""
    return float(torch.special.entr(labels.flatten().bincount() / labels.numel()).sum())


def detectable(perfect: bool) -> float:
    """Nats a word that a discriminator can learn at most, if words are drawn by their frequency, or by all others."""
    text, generator = SOURCE.sample(1000, LENGTH, seed=0)[0], torch.Generator().manual_seed(0)
    around = masked_posteriors(SOURCE, text, torch.eye(WORDS), torch.ones(WORDS, WORDS))  # p(word | all other words)
    draws = around if perfect else (SOURCE.states.stationary @ SOURCE.emission).expand_as(around)
    words = torch.multinomial(draws.flatten(0, 1), 1, generator=generator).view_as(text)
    seen = torch.where(torch.rand(text.shape, generator=generator) < RATE, words, text)
    fits, drawn = (one.gather(2, seen[..., None])[..., 0] for one in (around, draws))
    return guess((seen != text).long()) - float(detection_costs(fits, drawn, seen != text, RATE).mean())


def own_task(name: str, model: nn.Module, text: Tensor) -> dict[str, float]:
    """The loss on its own task, a guess by frequency, and the least possible one or its bound."""
    objective = OBJECTIVES[name]
    batch = objective.collator(SPECIAL).block(text, range(len(text)))
    with eval_mode(model):
        loss = [*objective(model, batch).values()][-1].mean
        if isinstance(objective, Electra):
            least = objective.detection_bound(SOURCE, model, batch, SPECIAL, 1.0 if name == "ELECTRA 15%" else None)
            here = objective.targets(batch)["discriminator"].loss_mask
            labels = (model(**objective.model_inputs(model, batch))["discriminator"].sampled != text).long()[here]
        else:
            least, here, labels = objective.posterior_costs(SOURCE, batch, SPECIAL), batch["labels"] >= 0, text
    return {"loss": float(loss), "guess": guess(labels), "least": float(least[here].mean())}


# %% [markdown]
# ## What is measured
#
# How many senses a linear probe predicts from the encoder's vectors, fitted on some texts, scored on others. It reads
# the states behind both blocks: the last one alone serves the objective's own head, and one bit needs little. It is
# fitted at each quarter of the run, and the mean of the four says how much is learned from little text.
#
# **Equal text**: the same texts, as many steps. **Equal compute**: at each quarter masked LM has more steps, as many
# operations as ELECTRA. The learning rate stays level and the weights are averaged over the last steps, so that each
# point of a run is the end of a shorter one. ELECTRA has the lower of two rates, the others the higher: for each the
# better one, on seeds that are not recorded. The language (`seed=3`), the vectors of two blocks and the averaging were
# also fixed before the recorded seeds. What else had been tried was not written down, so count on some luck in them.


# %%
def vectors(model: nn.Module, text: Tensor) -> Tensor:
    """(B T, 2 D): the states behind the first and the second block of the encoder, of a pair the discriminator."""
    encoder, behind = getattr(model, "discriminator", model), list[Tensor]()
    first, both = encoder.blocks[:1], encoder.blocks
    with eval_mode(encoder):
        for encoder.blocks in (first, both):
            behind.append(encoder(text))
    return torch.cat(behind, 2).flatten(0, 1)


def train(name: str, seed: int, looks: Collection[int], look: Callable[[nn.Module], float]) -> tuple[nn.Module, dict]:
    """The averaged model after the last of these steps, and what was found after each."""
    model, found = untrained(name, seed), {}
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.95))

    def callback(step: int, _: float) -> None:
        averaged.update_parameters(model)
        if step in looks:
            found[step] = look(averaged.module)

    config = TrainConfig(max(looks), decay=0.0, precision="float32", **RATES.get(name, {}))
    fit(LOSSES[name], model, batches(name, seed), config, callback=callback)
    return averaged.module, found


def measure(seed: int, steps: int, texts: int) -> dict[str, float]:
    """% of senses predicted by "name, quarter" and "name" (their mean); "name: loss", "name: guess", "name: least"."""
    fitted, test = (SOURCE.sample(texts, LENGTH, seed=n * 10**9 + seed) for n in (1, 2))

    def look(model: nn.Module) -> float:
        sides = [vectors(model, fitted[0]), fitted[1].flatten(), vectors(model, test[0]), test[1].flatten()]
        return 100 * linear_probe(*sides)

    f = {"step cost": step_cost(), "untrained": look(untrained("masked LM", seed))}
    for name, reads in READERS.items():
        f[name] = 100 * float((SOURCE.posterior(test[0], reads).argmax(2) == test[1]).float().mean())
    for name in OBJECTIVES:
        times = {name: 1.0} | ({EQUAL_COMPUTE: f["step cost"]} if name == "masked LM" else {})
        looks = {f"{who}, {k}": round(more * steps * k / 4) for who, more in times.items() for k in QUARTERS}
        model, found = train(name, seed, looks.values(), look)
        f |= {one: found[step] for one, step in looks.items()}
        if name in JUDGED:
            f |= {f"{name}: {what}": nats for what, nats in own_task(name, model, test[0][:100]).items()}
    return f | {name: sum(f[f"{name}, {k}"] for k in QUARTERS) / len(QUARTERS) for name in (*OBJECTIVES, EQUAL_COMPUTE)}


# %% [markdown]
# ## The rule of judgement
#
# It is judged only if
#
# - masked LM has learned more than 60% of its own task and the discriminators more than 40% of theirs (0: a guess by
#   frequency; 1: the least possible loss, or its bound, so that the discriminators' true share is larger);
# - from the vectors of each more is predicted than from the word alone, and than from untrained ones;
# - controls, or a loss on more words could not matter here: masked LM is ahead of masked LM 5%, ELECTRA of ELECTRA 15%.
#
# The two parts: ELECTRA is ahead of masked LM from equal text, and from equal compute.
#
# All was fixed before the recorded run, but that ELECTRA is ahead of ELECTRA 15% was a third part, which the claim does
# not name. By it alone the verdict was "held in part". It became a control afterwards.


# %%
def verdict(f: dict[str, Seeds]) -> Judgement:
    """From the figures by name."""
    gates = [
        Gate(f"{name}: % of senses, against {less}", f[name], above=f[less], control=True)
        for name, less in (("masked LM", "masked LM 5%"), ("ELECTRA", "ELECTRA 15%"))
    ]
    for name, share in zip(JUDGED, (0.6, 0.4, 0.4)):
        learned = share_learned(*(f[f"{name}: {what}"] for what in ("loss", "guess", "least")))
        gates.append(Gate(f"{name}: share of its own task that it has learned", learned, above=share))
        gates += [
            Gate(f"{name}: % of senses, against {b}", f[name], above=f[b]) for b in ("the word alone", "untrained")
        ]
    others = ("masked LM", EQUAL_COMPUTE)
    return judge(gates, [Part(f"points, ELECTRA less {other}", f["ELECTRA"] - f[other]) for other in others])


def main(arguments: list[str] | None = None) -> Result:
    """Train, probe, judge, draw."""
    visit = LESSON.visit(arguments)
    steps, texts = visit.choose((300, 160), fast=(60, 60))
    f = Seeds.by_name([measure(seed, steps, texts) for seed in visit.track(visit.seeds)])
    judgement = verdict(f)
    share = {name: f"{f[name]:.1f}%" for name in (*OBJECTIVES, "the word alone", "both sides")}
    text, compute = (f"{part.difference:+.1f}" for part in judgement.parts)
    return visit.conclude(
        judgement,
        number=f"senses predicted: ELECTRA {share['ELECTRA']}, masked LM {share['masked LM']}, from the word alone "
        f"{share['the word alone']}",
        finding=f"From ELECTRA's vectors {share['ELECTRA']} of the senses are predicted along the run, with a loss on "
        f"15% {share['ELECTRA 15%']}. Less masked LM, that is {text} points from equal text and {compute} from equal "
        f"compute ({f['step cost'].mean:.2f} times the steps). The best reader of both sides predicts "
        f"{share['both sides']}.",
        figures=f,
        headings=["encoder", "senses predicted along the run (%)", "at its end (%)"],
        rows=[[name, f"{f[name]:.1f}", f"{f[f'{name}, 4']:.1f}"] for name in (*OBJECTIVES, EQUAL_COMPUTE)],
        picture=draw(f, judgement, steps),
    )


COLOURS = {"masked LM": MASKED.colour, EQUAL_COMPUTE: "#EE99AA", "ELECTRA": ELECTRA.colour, "ELECTRA 15%": "#DDCC77"}


def draw(f: dict[str, Seeds], judgement: Judgement, steps: int) -> Figure:
    """What is predicted from the vectors along the run, with 95% intervals, below what the best readers predict."""
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    axes = figure.subplots()
    for name, colour in COLOURS.items():
        values = [f[f"{name}, {k}"] for k in QUARTERS]
        more = f["step cost"].mean if name == EQUAL_COMPUTE else 1.02 if name == "ELECTRA" else 1.0  # 1.02: beside it
        words, error = [more * steps * k / 4 * ROWS * LENGTH / 1000 for k in QUARTERS], [one.error for one in values]
        axes.errorbar(words, [one.mean for one in values], error, color=colour, marker="o", capsize=3, label=name)
    for reader in READERS:
        axes.axhline(f[reader].mean, color="0.4", linestyle="--", linewidth=1)
        axes.annotate(f"best possible: {reader}", (0.01, f[reader].mean + 0.2), xycoords=("axes fraction", "data"))
    axes.set(xlabel="text that was read (thousand words)", ylabel="senses predicted (%)", ylim=(77, 101))
    axes.legend(loc="lower right", ncols=2, bbox_to_anchor=(1, 0.06))
    text, compute = (f"{part.difference:+.1f}" for part in judgement.parts)
    axes.set_title(f"{judgement.title}: ELECTRA less masked LM {text} points, {compute} from equal compute")
    return figure


# %%
if __name__ == "__main__":
    main()

# %% [markdown]
# ## What came out
#
# Cannot tell. ELECTRA needs its loss on every token: 91.5 ± 1.4% of the senses are predicted along the run, against
# 82.8 ± 2.4% with a loss on 15%. Against masked LM (92.2 ± 1.1%) the difference is -0.7 ± 1.1 points from equal text
# and -0.9 ± 1.1 from equal compute: not significant. The intervals leave ELECTRA a lead of half a point at most.
#
# A word offers 0.20 nats by detection, 0.17 by masked LM (1.14 at 15%), 0.08 by detection at 15%. So a loss on more
# positions need not hold more to learn. This is one language of eight words and a small model; Clark et al. measured
# English and larger ones.
#
# ## Exercises
#
# `LESSON.check(1, your_number)` says whether a number is right, and why.

# %%
if in_notebook():
    LESSON.print_exercises()

# %% [markdown]
# ## Next
#
# Another way to learn more from each position is to predict several tokens at it: lesson 18.
