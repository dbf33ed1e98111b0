"""Several objectives on one corpus and one budget of tokens or of compute, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checks import check_int, check_type
from ..device import find_device
from ..errors import InputError
from ..generation import BLANK
from ..objectives import Objective
from ..progress import duration
from .config import TrainConfig
from .evaluations import evaluations_of
from .guesses import guesses_of, run_batches
from .loop import TrainResult, train
from .prepare import Prepared
from .seeding import seeded_model

EQUAL = ("tokens", "compute")
"""What each objective of a comparison can get as much of."""
NEW_TOKENS = 24
"""Of a text that is continued."""


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
    length: int
    """Input tokens of an example."""
    batch_size: int
    flops: int | None
    """Of all training steps; None where they were not counted."""
    completions: Mapping[str, str]
    """What the trained model makes of the prompt, its own tokens in brackets: by "continue" and "fill"."""
    cannot: Mapping[str, str]
    """Why it makes nothing of it, for those of the two that are no completion."""

    @property
    def curve(self) -> list[tuple[int, float]]:
        """(tokens of text seen, held-out nats)."""
        return [(step * self.batch_size * self.source_length, nats) for step, nats in self.result.curve]


def compare(
    objectives: Sequence[Objective],
    prepared: Prepared,
    *,
    tokens: int,
    flops_of_step: Callable[[Objective], int] | None = None,
    equal: str = "tokens",
    size: str = "tiny",
    config: TrainConfig | None = None,
    prompt: str | None = None,
    run: Path | None = None,
    resume: bool = False,
    progress: bool = False,
    say_rest: Callable[[float, int], str] | None = None,
    description: Mapping[str, Any] | None = None,
    device: str | None = None,
    compiled: bool = False,
) -> list[Compared]:
    """Train each objective's own model on the same number of tokens of text, or for the same training FLOPs.

    `config.steps` is set for each from the budget, and with it the length of its learning rate schedule:

    - `equal="tokens"`: each sees `tokens` of text;
    - `equal="compute"`: each gets the FLOPs that the first objective takes for `tokens`, to the nearest step.

    `flops_of_step(objective)` says what a step of `config.batch_size` rows costs (`clozelab.planning.step_flops`). All
    are evaluated on as many held-out examples: `config.eval_rows`, or those of the shortest run (see `evaluations_of`).

    With `prompt`, cut after a hundred words, each continues the text and fills a blank in it, or the row says why not
    (see `blanked`). `prepared` must have been made with the `roles` of all objectives. Their losses answer different
    questions: compare each with its own baselines, not with one another.

    Each is written to a folder of its name in the folder `run`. Ctrl-C and SIGTERM save and raise `KeyboardInterrupt`;
    with `resume=True`, the same call uses what was saved, bit for bit as if it had not been stopped. With `progress`,
    `say_rest(seconds, objectives)` makes the line about the time that is left for so many objectives. `description` is
    kept in each `run.json`. All train on `device`, as `find_device` takes it, and
    `compiled` as `train` does.

    Raises `InputError` for objectives that this corpus cannot train, and a device that is not there, before any is
    trained, and what `train` raises.
    """
    config, place = config or TrainConfig(), find_device(device)
    if equal not in EQUAL:
        raise InputError(f"equal must be one of {', '.join(EQUAL)}, got {equal!r}")
    if equal == "compute" and flops_of_step is None:
        raise InputError("equal compute needs flops_of_step, what a step costs: clozelab.planning.step_flops counts it")
    check_type(prepared, Prepared, "the prepared corpus", "prepare makes it")
    check_int(tokens, "tokens", 1)
    if not objectives:
        raise InputError("expected at least one objective to compare, got none")
    prompt = " ".join((prompt or _prompt(prepared)).split()[:100])
    prepared.tokenizer.encode(prompt)
    for objective in objectives:
        run_batches(objective, prepared, config)
    flops = [None if flops_of_step is None else flops_of_step(objective) for objective in objectives]
    steps = [steps_for_tokens(objective, tokens, config) for objective in objectives]
    if equal == "compute":
        steps = steps_for_compute(steps[0], [one for one in flops if one is not None])
    config = replace(config, eval_rows=min(evaluations_of(replace(config, steps=count)).rows for count in steps))
    compared = []
    for number, objective in enumerate(objectives):
        left = len(objectives) - number
        mine = replace(config, steps=steps[number])
        folder = None if run is None else run / objective.name
        model = seeded_model(objective, prepared.tokenizer.vocab_size, size, config.seed).to(place)
        result = train(
            objective,
            model,
            prepared.tokenizer,
            prepared.text,
            prepared.heldout,
            mine,
            run=folder,
            resume=resume and folder is not None and (folder / "run.json").exists(),
            progress=progress,
            say_rest=partial(_say_rest, left, say_rest or _rest),
            description=description,
            compiled=compiled,
        )
        if result.interrupted:
            raise KeyboardInterrupt
        spent, cost = None, flops[number]
        if cost is not None:
            spent = cost * steps[number]
        compared.append(_compared(objective, model, prepared, mine, result, prompt, spent))
    return compared


def steps_for_tokens(objective: Objective, tokens: int, config: TrainConfig) -> int:
    """The number of steps that see about so many tokens of text, at least one."""
    return max(1, round(tokens / (config.batch_size * objective.source_length(config.length))))


def steps_for_compute(first: int, flops: Sequence[int]) -> list[int]:
    """For each cost of a step, the number of steps that spend what `first` steps of the first cost, at least one.

    >>> from clozelab.training.compare import steps_for_compute
    >>> steps_for_compute(100, [6, 4, 9])
    [100, 150, 67]
    """
    return [max(1, round(first * flops[0] / cost)) for cost in flops]


def blanked(prompt: str) -> str:
    """The prompt with the word in its middle left out, or as it is where it has a blank (`___`); "" where it is short.

    >>> from clozelab.training.compare import blanked
    >>> blanked("the cat sat on the mat"), blanked("the ___ sat"), blanked("cat")
    ('the cat sat ___ the mat', 'the ___ sat', '')
    """
    if BLANK in prompt:
        return prompt
    words = prompt.split()
    middle = len(words) // 2
    return " ".join([*words[:middle], BLANK, *words[middle + 1 :]]) if len(words) > 2 else ""


def _compared(
    objective: Objective,
    model: nn.Module,
    prepared: Prepared,
    config: TrainConfig,
    result: TrainResult,
    prompt: str,
    flops: int | None,
) -> Compared:
    """The row of a model that was trained."""
    assert result.heldout is not None
    guesses = guesses_of(objective, prepared, config, result.step)
    assert guesses.unigram is not None  # a comparison's text is no stream
    completions, cannot = _completions(objective, model, prepared, prompt, config.seed)
    return Compared(
        objective,
        sum(p.numel() for p in model.parameters()),
        result,
        result.heldout.nats,
        guesses.uniform,
        guesses.unigram,
        objective.source_length(config.length),
        config.length,
        config.batch_size,
        flops,
        completions,
        cannot,
    )


def _completions(
    objective: Objective, model: nn.Module, prepared: Prepared, prompt: str, seed: int
) -> tuple[dict[str, str], dict[str, str]]:
    """What a model makes of the prompt, and why it makes nothing of it, each by "continue" and "fill"."""
    completions, cannot = {}, {}
    texts = {"continue": prompt.partition(BLANK)[0].strip(), "fill": blanked(prompt)}
    for way, text in texts.items():
        if way not in objective.completes:
            cannot[way] = f"reads {objective.attends_to}; predicts {objective.predicts}"
        elif not text:
            cannot[way] = "the prompt has no three words"
        else:
            settings = {"max_new_tokens": NEW_TOKENS} if way == "continue" else {}
            generator = torch.Generator().manual_seed(seed)
            settings |= {"temperature": 0.7, "generator": generator}
            try:
                completions[way] = objective.complete(model, prepared.tokenizer, text, **settings).marked()
            except InputError as error:  # as for two blanks where one can be filled
                cannot[way] = str(error)
    return completions, cannot


def _say_rest(objectives: int, say: Callable[[float, int], str], seconds: float) -> str:
    """The line about the time that is left for so many objectives, the first of which takes so many seconds."""
    return say(seconds * objectives, objectives)


def _rest(seconds: float, objectives: int) -> str:
    others = f" for {objectives} objectives, if the others are as fast" if objectives > 1 else ""
    return f"{duration(seconds)} left on this machine{others}"


def _prompt(prepared: Prepared) -> str:
    """The first words of the first held-out document that has enough of them."""
    if prepared.corpus.special is None:
        for document in prepared.corpus.heldout:
            words = document.split()
            if len(words) >= 16:
                return " ".join(words[:16])
    beginning = prepared.heldout.parts[0].tokens[:24].tolist()
    return " ".join(prepared.tokenizer.decode(beginning, skip_special=True).split())
