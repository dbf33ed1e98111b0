"""Several objectives on one corpus and one token budget, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..checks import check_int, check_type
from ..data import Batch
from ..errors import InputError
from ..evaluation.heldout import fixed_batches, heldout_blocks, uniform_baseline, unigram_baseline
from ..objectives import Objective
from .batches import Batches
from .config import TrainConfig
from .loop import TrainResult, train
from .prepare import Prepared
from .seeding import seeded_model

SEEN = 100
"""Training batches whose labels the unigram baseline counts."""


@dataclass(frozen=True)
class Compared:
    """One objective's row of the comparison."""

    objective: Objective
    parameters: int
    result: TrainResult
    heldout: float
    """Nats, on held-out text with fixed masks."""
    uniform: float
    """Nats of a model to which all ids are equally likely: ln V."""
    unigram: float
    """Nats of a model that knows how often each label is seen in training, and nothing else."""
    source_length: int
    """Tokens of text in an example."""
    batch_size: int
    sample: str
    """What the trained model makes of the prompt, its own tokens in brackets; empty where it completes no text."""

    @property
    def curve(self) -> list[tuple[int, float]]:
        """(tokens of text seen, held-out nats)."""
        return [(step * self.batch_size * self.source_length, nats) for step, nats in self.result.curve]


def compare(
    objectives: Sequence[Objective],
    prepared: Prepared,
    *,
    tokens: int,
    size: str = "tiny",
    config: TrainConfig | None = None,
    prompt: str | None = None,
    run: Path | None = None,
    progress: bool = False,
) -> list[Compared]:
    """Train each objective's own model on the same number of tokens of text.

    `config.steps` is set for each from the budget `tokens`; `prompt` is cut after a hundred words. `prepared` must have
    been made with the `roles` of all of them. The losses of different objectives answer different
    questions: compare each with its own baselines, not with one another.

    Raises `InputError` for objectives that this corpus cannot train, before any is trained, and what `train` raises.
    """
    config = config or TrainConfig()
    check_type(prepared, Prepared, "the prepared corpus", "prepare makes it")
    check_int(tokens, "tokens", 1)
    if not objectives:
        raise InputError("expected at least one objective to compare, got none")
    prompt = " ".join((prompt or _prompt(prepared)).split()[:100])
    prepared.tokenizer.encode(prompt)
    for objective in objectives:
        _batches(objective, prepared, config)
    rows = []
    for objective in objectives:
        length = objective.source_length(config.length)
        steps = max(1, round(tokens / (config.batch_size * length)))
        mine = replace(config, steps=steps, eval_every=-(-steps // 10), checkpoint_every=0)
        model = seeded_model(objective, prepared.tokenizer.vocab_size, size, config.seed)
        result = train(
            objective,
            model,
            prepared.tokenizer,
            prepared.text,
            prepared.heldout,
            mine,
            run=None if run is None else run / objective.name,
            progress=progress,
        )
        if not result.finished:
            raise KeyboardInterrupt
        assert result.heldout is not None
        batches, fixed = _batches(objective, prepared, mine)
        seen = (batches[n] for n in range(min(steps, SEEN)))
        sample = ""
        if objective.completes:
            generator = torch.Generator().manual_seed(config.seed)
            sample = objective.sample(model, prepared.tokenizer, prompt, temperature=0.7, generator=generator).marked()
        rows.append(
            Compared(
                objective,
                sum(p.numel() for p in model.parameters()),
                result,
                result.heldout.nats,
                uniform_baseline(objective, fixed, prepared.tokenizer.vocab_size),
                unigram_baseline(objective, seen, fixed, prepared.tokenizer.vocab_size),
                length,
                config.batch_size,
                sample,
            )
        )
    return rows


def _batches(objective: Objective, prepared: Prepared, config: TrainConfig) -> tuple[Batches, list[Batch]]:
    """The batches of an objective's run, and those of its evaluations."""
    collator = objective.collator(prepared.tokenizer.special, seed=config.seed)
    length = objective.source_length(config.length)
    batches = Batches(prepared.text.blocks(length), collator, config.batch_size, config.total_steps)
    return batches, fixed_batches(heldout_blocks(prepared.heldout, length), collator, rows=config.eval_rows)


def _prompt(prepared: Prepared) -> str:
    """The first words of the first held-out document that has enough of them."""
    for document in prepared.corpus.heldout:
        words = document.split()
        if len(words) >= 16:
            return " ".join(words[:16])
    return " ".join(prepared.tokenizer.decode(prepared.heldout.tokens[:24].tolist(), skip_special=True).split())
