"""What the exhibits of the museum of mistakes share: the language, small models of it, what is measured, the checks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from clozelab.data import Batch, Collator, Corruption
from clozelab.evaluation import evaluate
from clozelab.generation import sample_token
from clozelab.languages import MarkovSource
from clozelab.models import eval_mode
from clozelab.objectives import (
    CausalLM,
    Electra,
    FillInTheMiddle,
    MaskedDiffusion,
    MaskedLM,
    MaskedNextToken,
    MultiTokenPrediction,
    Objective,
    PrefixLM,
    SpanCorruption,
)
from clozelab.testing import check_collator, check_objective
from clozelab.testing.objective import CHECKS
from clozelab.training import TrainConfig, fit

ROWS, TEXTS = 2000, 300  # of held-out text, and generated
BATCH, LENGTH = 32, 24
# Two languages that are known exactly, and ids for models of both. Seeds draw weights, text and masks.
SOURCE, OTHER = (MarkovSource.random(6, entropy=0.7, seed=seed) for seed in (0, 1))
SPECIAL = SOURCE.special_ids(sentinels=120)
CAUSAL, MASKED, PREFIX, ELECTRA = CausalLM(), MaskedLM(), PrefixLM(), Electra()
DIFFUSION, AHEAD, FIM = MaskedDiffusion(), MultiTokenPrediction(), FillInTheMiddle(fim_rate=0.9, form="psm")
HYBRID = MaskedNextToken(causal_share=0.125)
# The last sentinels are the roles of fill-in-the-middle: a vocabulary of the same size has the same first weights.
ROLES = replace(SPECIAL, sentinels=SPECIAL.sentinels[:-4], roles=dict(zip(FIM.roles, SPECIAL.sentinels[-4:])))
SPAN = SpanCorruption(noise_density=0.2, mean_noise_span_length=1.0)  # spans of one token are learned fastest

Student = tuple[nn.Module, list[float]]
"""A trained model, and its training losses."""


@dataclass(frozen=True)
class Exhibit:
    """A mistake and its correct counterpart, of one seed. In all pairs the correct one comes first."""

    students: tuple[Student, Student]
    numbers: str
    """Numbers of a batch, or of a loss, in which the mistake shows."""
    checks: tuple[Callable[[], object], Callable[[], object]]
    """The same check on both."""
    costs: dict[str, Callable[[nn.Module], float]]
    """What is measured on both models after training."""
    floor: float | None = None
    """The least training loss that is possible without a leak, where it is known."""


def student(seed: int, steps: int, objective: Objective, batches: Callable, loss_fn: Callable | None = None) -> Student:
    """A small trained model. One seed means the same initial weights and the same text, correct or mistaken."""
    torch.manual_seed(seed)
    shape = {"d_model": 32, "n_layers": 2, "n_heads": 2, **({"n_decoder_layers": 1} if objective is SPAN else {})}
    model = objective.build_model(SPECIAL.vocab_size, "tiny", **shape)
    config = TrainConfig(
        steps=steps,
        optimizer="adamw",
        learning_rate=1e-2,
        weight_decay=0.0,
        decay=0.6,
        precision="float32",
        warmup=0.05,
    )
    return model, fit(loss_fn or objective, model, batches, config)


def fresh(seed: int, objective: Objective, corrupt: Corruption | None = None) -> Callable[[int], Batch]:
    """New text in each step, with the objective's corruption, or another."""
    special = ROLES if objective.roles == FIM.roles else SPECIAL
    collate, length = Collator(corrupt or objective.corrupt, special, seed=seed), objective.source_length(LENGTH)

    def batch(step: int, rows: int = BATCH) -> Batch:
        text = SOURCE.sample(rows, length, seed=seed * 10**6 + step)
        return collate.block(text, range(step * rows, (step + 1) * rows))

    return batch


@cache
def correct(seed: int, steps: int, objective: Objective) -> Student:
    """The correct counterpart of all exhibits that differ from it by their mistake alone."""
    return student(seed, steps, objective, fresh(seed, objective))


def unseen(seed: int, objective: Objective) -> Batch:
    """Text that no model was trained on, with the objective's corruption."""
    return fresh(seed, objective)(-1, ROWS)


def prompts(length: int) -> Tensor:
    """(TEXTS, length) beginnings of texts, for models to continue."""
    return SOURCE.sample(TEXTS, length, seed=-3)


def held_out(seed: int, objective: Objective) -> Callable[[nn.Module], float]:
    """Nats per loss position on unseen text with the correct corruption, whatever the model was trained on."""
    batch = unseen(seed, objective)
    return lambda model: evaluate(objective, model, [batch]).nats


def nats_of_next(seed: int, own: bool) -> Callable[[nn.Module], float]:
    """Nats a token given what came before and no more; `own`: of generated text, under the true language."""

    def measure(model: nn.Module) -> float:
        text, generator, nats = SOURCE.sample(TEXTS, LENGTH, seed=-2), torch.Generator().manual_seed(seed), 0.0
        with eval_mode(model):
            for t in range(1, LENGTH):
                logits = model.unembed(model(text[:, :t])[:, -1])[:, : SOURCE.symbols]
                if own:
                    text[:, t] = sample_token(logits, generator=generator)
                truth = SOURCE.transition.log()[text[:, t - 1]]
                nats -= float((truth if own else logits.log_softmax(-1)).gather(1, text[:, t : t + 1]).mean())
        return nats / (LENGTH - 1)

    return measure


def collators(objective: Objective, corrupt: Corruption, **settings: int) -> tuple[Callable, Callable]:
    """`check_collator` on the correct corruption and on another."""
    right, wrong = objective.collator(SPECIAL), Collator(corrupt, SPECIAL)
    return lambda: check_collator(right, workers=0, **settings), lambda: check_collator(wrong, workers=0, **settings)


def kit(pairs: Sequence[tuple[Objective, nn.Module]], *names: str) -> tuple[Callable, ...]:
    """The named checks of `check_objective` on the correct objective and on another one."""
    skip = CHECKS.keys() - set(names)
    return tuple(lambda pair=pair: check_objective(*pair, skip=skip) for pair in pairs)
