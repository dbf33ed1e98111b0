"""The main job: every objective on one corpus and one token budget, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..checks import check_int, check_type
from ..errors import InputError
from ..evaluation import fixed_batches, label_counts, unigram_loss
from ..objectives import Objective
from .batches import Batches
from .config import TrainConfig
from .loop import TrainResult, train
from .run import Prepared, seeded_model


@dataclass(frozen=True)
class Compared:
    """One objective's row of the comparison."""

    objective: Objective
    parameters: int
    result: TrainResult
    heldout: float
    """Nats per paid position, on held-out text with fixed masks."""
    uniform: float
    """The same of a guess among all ids: ln V."""
    unigram: float
    """The same of a guess by the frequency of the labels in the training text."""
    share_paid: float
    """Paid positions among those that the model computes on."""
    source_length: int
    """Tokens of text in an example."""
    batch_size: int
    sample: str
    """What the trained model does with the same prompt; in brackets what it said."""

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
    """Train each objective's paired model on the same number of tokens of text, and say what came of it.

    `config.steps` is set for each from the budget `tokens`; `prompt` is cut off after a hundred words. The losses of
    different objectives answer different questions and are not to be compared with one another, each only with its own
    baselines.
    """
    config = config or TrainConfig()
    check_type(prepared, Prepared, "the prepared corpus", "prepare makes it")
    check_int(tokens, "tokens", 1)
    if not objectives:
        raise InputError("expected at least one objective to compare, got none")
    tokenizer, special = prepared.tokenizer, prepared.tokenizer.special
    prompt = " ".join((prompt or _prompt(prepared)).split()[:100])
    for objective in objectives:  # whatever one of them refuses is said before any of them is trained
        length = objective.source_length(config.length)
        prepared.text.blocks(length)
        collator = objective.collator(special, seed=config.seed)
        fixed_batches(prepared.heldout.blocks(length), collator, rows=1)
        tokenizer.encode(prompt)
    rows = []
    for objective in objectives:
        length = objective.source_length(config.length)
        steps = max(1, round(tokens / (config.batch_size * length)))
        mine = replace(config, steps=steps, eval_every=-(-steps // 10), checkpoint_every=0)
        model = seeded_model(objective, tokenizer.vocab_size, size, config.seed)
        result = train(
            objective,
            model,
            tokenizer,
            prepared.text,
            prepared.heldout,
            mine,
            run=None if run is None else run / objective.name,
            progress=progress,
        )
        if not result.finished:
            raise KeyboardInterrupt
        assert result.heldout is not None
        collator = objective.collator(special, seed=config.seed)
        batches = Batches(prepared.text.blocks(length), collator, config.batch_size)
        seen = label_counts(objective, (batches[n] for n in range(min(steps, 100))), tokenizer.vocab_size)
        fixed = fixed_batches(prepared.heldout.blocks(length), collator, rows=config.eval_rows)
        generator = torch.Generator().manual_seed(config.seed)
        rows.append(
            Compared(
                objective,
                sum(p.numel() for p in model.parameters()),
                result,
                result.heldout.nats,
                math.log(tokenizer.vocab_size),
                unigram_loss(seen, label_counts(objective, fixed, tokenizer.vocab_size)),
                result.heldout.share_paid,
                length,
                config.batch_size,
                objective.sample(model, tokenizer, prompt, temperature=0.7, generator=generator).marked(),
            )
        )
    return rows


def _prompt(prepared: Prepared) -> str:
    """The first words of the first held-out document that has enough of them."""
    for document in prepared.corpus.heldout:
        words = document.split()
        if len(words) >= 16:
            return " ".join(words[:16])
    return " ".join(prepared.tokenizer.decode(prepared.heldout.tokens[:24].tolist()).split())
