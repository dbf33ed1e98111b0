"""The one loop: any objective, any model that fits it, any packed text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checks import check_type
from ..data import Mixture, Packed, PackedShards, Stream, Tokenizer
from ..errors import InputError, NotFinite
from ..escape import counted
from ..evaluation.heldout import HeldOut
from ..evaluation.heldout_batches import HeldOutBatches, heldout_batches
from ..models import LanguageModel
from ..objectives import Objective
from ..progress import duration
from .batches import Batches
from .compiled import compilable_blocks, compiled_blocks
from .config import TrainConfig
from .estimate import Estimate
from .evaluations import evaluations_of
from .evaluator import Evaluator
from .initial_weights import load_initial_weights
from .interruptions import interruptions
from .optimizers import optimizer_of
from .order import Drawn
from .parallel import unsharded, wrap
from .precision import flushed_denormals, uses_bfloat16
from .processes import SINGLE, Processes
from .recompute import recomputed
from .report import run_report
from .run_description import identity_of
from .run_folder import Position, RunFolder
from .seeding import seeded_rng
from .step import StepResult, train_step
from .streamed import StreamedBatches
from .tensorboard import check_tensorboard

PROMPT = 24
"""Tokens of held-out text that a sample along the way begins with."""


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run."""

    step: int
    """Optimiser steps done."""
    finished: bool
    """False where it was interrupted; the run folder then holds all that is needed to continue."""
    heldout: HeldOut | None
    """The last evaluation; of a finished run, that at its end."""
    curve: list[tuple[int, float]] = field(default_factory=list)
    """(step, held-out nats) of each evaluation; those before it was stopped and resumed too."""
    seconds: float = 0.0
    """Time of all steps, evaluations not counted."""
    tokens: int = 0
    """Tokens of text in the examples of all steps."""
    drawn: dict[str, Drawn] = field(default_factory=dict)
    """What the examples of all steps were of each corpus of a mixture."""
    interrupted: bool = False
    """Whether a signal asked to stop, even where the run was finished by then."""

    @property
    def tokens_per_second(self) -> float:
        """Tokens of text, in steps alone."""
        return self.tokens / max(self.seconds, 1e-9)


def train(
    objective: Objective,
    model: nn.Module,
    tokenizer: Tokenizer,
    text: Packed | PackedShards | Mixture | Stream,
    heldout: Packed | Mixture,
    config: TrainConfig | None = None,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    init_from: str | Path | None = None,
    progress: bool = False,
    say_rest: Callable[[float], str] | None = None,
    description: Mapping[str, Any] | None = None,
    processes: Processes = SINGLE,
    workers: int = 0,
    compiled: bool = False,
    tensorboard: bool = False,
) -> TrainResult:
    """Train `model` on `text` by `objective`, evaluating on `heldout`.

    Each step is one mean over everything that its micro-batches, of all `processes`, predict (see `train_step`). Batch
    n is a function of (text, seed, n) alone, so the run is the same on any number of processes, but for rounding and
    dropout; each process calls this alike (see `init_processes`).

    With a `run` folder, metrics, samples and checkpoints are written there, and `resume=True` continues from its last
    checkpoint, on a CPU bit for bit as if it had never stopped. Ctrl-C and SIGTERM finish the step, save, and return;
    an evaluation that they interrupt is made when the run is resumed. `description` is kept in `run.json`.

    A finished run goes on where it is resumed with `config.extend(steps)`, the settings that it was finished with and
    so many steps more (see `TrainConfig.extend`). `init_from` is the folder of another run, of any objective, whose
    last weights the model begins with, with a fresh optimiser and the schedule of its own run; `run.json` records it.

    With `tensorboard` the metrics are written to `tensorboard/` in the run folder as well, for TensorBoard to show.

    With `progress`, standard error shows a bar, or lines in a log file, and after the first steps how long the rest
    will take: in the words of `say_rest(seconds)`, where it is given.

    Of a `Mixture` as `text` each corpus has its share of the examples, and of those that are evaluated. A `Stream` is
    tokenised as it is read, by `workers` processes ahead of the steps, or by this one where 0.

    `compiled` steps run the blocks by torch.compile (see `compiled_blocks`). They round otherwise, so "bit for bit"
    holds where a run is resumed as it began; it may be resumed either way.

    Raises `InputError` for arguments that do not belong together, a run folder that already holds a run, a resumed run
    that is not this one, a run that is extended before it is finished, weights of another architecture, shape or
    tokenizer, text shorter than one example, and examples with nothing to predict; `NotFinite` when the loss
    or a weight is infinite or NaN, the last checkpoint untouched; `OSError` when the disk is full or a worker dies.

    >>> from clozelab import MaskedLM, load_corpus
    >>> from clozelab.data import pack, train_bpe
    >>> from clozelab.training import TrainConfig, train
    >>> corpus = load_corpus([f"The number {n} comes before {n + 1}." for n in range(400)])
    >>> tokenizer = train_bpe(corpus.train, vocab_size=400)
    >>> text, heldout = pack(corpus.train, tokenizer), pack(corpus.heldout, tokenizer)
    >>> objective = MaskedLM()
    >>> model = objective.build_model(tokenizer.vocab_size, "tiny", d_model=32, n_layers=1, n_heads=1)
    >>> result = train(objective, model, tokenizer, text, heldout, TrainConfig(steps=5, length=32))
    >>> result.finished, result.step
    (True, 5)
    """
    config = TrainConfig() if config is None else check_type(config, TrainConfig, "the settings")
    processes.together(lambda: _check_fit(objective, model, tokenizer, text, heldout, config))
    if compiled:
        processes.together(lambda: compilable_blocks(model))
    if tensorboard:
        processes.together(lambda: check_tensorboard(None if run is None else Path(run)))
    identity = identity_of(objective, model, text, heldout, config)
    folder = RunFolder(run, identity, processes, in_background=config.async_checkpoints)
    folder.check_same(tokenizer, resume=resume)
    processes.check_batch_size(config.batch_size, config.micro_batch_size)
    batches, fixed, in_text = processes.together(lambda: _batches(objective, tokenizer, text, heldout, config, workers))
    origin = None
    if init_from is not None:
        if resume:
            raise InputError("a resumed run continues from its own checkpoint: leave init_from out")
        start = init_from
        origin = processes.together(lambda: load_initial_weights(start, objective, model, tokenizer))
    device = next(model.parameters()).device
    bfloat16 = uses_bfloat16(config.precision, device)
    loss_module = wrap(objective, model, processes, bfloat16=bfloat16)
    optimizer = optimizer_of(model, config)
    if resume:
        begin = folder.resume(model, optimizer)
    else:
        begin = folder.create(tokenizer, description, origin)
        if origin is not None:
            folder.save(begin, model, optimizer)  # so that the run can be resumed without the other one
    batches.go_to(begin.step, begin.stream)
    tokens_per_step = config.batch_size * objective.source_length(config.length)
    due, step = evaluations_of(config), begin.step
    seconds = evaluated_at = begin.seconds

    with (
        folder,
        run_report(
            objective.name,
            folder.path if processes.is_main else None,
            config.total_steps,
            step,
            visible=progress and processes.is_main,
            tensorboard=tensorboard,
        ) as report,
        interruptions() as interrupted,
        flushed_denormals(),
        compiled_blocks(model) if compiled else nullcontext(),
        recomputed(model) if config.recompute else nullcontext(),
        batches.reading(),
    ):
        evaluator = Evaluator(
            loss_module,
            fixed.batches,
            in_text,
            report,
            interrupted,
            processes,
            corpora=fixed.corpora,
            bfloat16=bfloat16,
        )
        estimate = Estimate(config)
        model.train()
        # The evaluation of this step is due where the run begins, or was interrupted when it stopped.
        eval_due = due.is_due(step, 0.0, 0.0) if step else due.at_start or folder.has_initial_weights
        stop = eval_due and step not in evaluator.curve and not evaluator.at(step)
        while config.progress(step, seconds) < 1 and not stop:
            started = time.perf_counter()
            lr_scale = config.lr_scale(step + 0.5, seconds)
            optimizer.set_lr_scale(lr_scale)
            with seeded_rng(config.seed, step, device, processes.rank):
                result = train_step(
                    loss_module,
                    batches.micro_batches(step, config.micro_batch_size, processes),
                    optimizer,
                    max_grad_norm=config.max_grad_norm,
                    device=device,
                    bfloat16=bfloat16,
                    processes=processes,
                )
            if not result.is_finite:
                folder.wait()  # the message names the last checkpoint
                raise NotFinite(_not_finite(objective, step + 1, result, batches.examples(step)[0], folder))
            step += 1
            # All processes must stop at the same step, and by the same clock.
            flags = bool(interrupted), folder.failed
            seconds, stop, failed = processes.all_max(seconds + time.perf_counter() - started, *flags)
            if failed:
                folder.wait()
            speed = (step - begin.step) * tokens_per_step / max(seconds - begin.seconds, 1e-9)
            report.step(step, result, lr=config.learning_rate * lr_scale, seconds=seconds, tokens_per_second=speed)
            if (rest := estimate.after(step, seconds, evaluator.seconds)) is not None:
                report.bar.print_line(say_rest(rest) if say_rest else f"{duration(rest)} left on this machine")
                if line := estimate.crowded(device):
                    report.bar.print_line(line)
            if due.is_due(step, seconds - evaluated_at, evaluator.seconds):
                stop, evaluated_at = not evaluator.at(step) or stop, seconds
            if is_due(step, config.sample_every):
                with unsharded(loss_module, processes, bfloat16=bfloat16):
                    report.sample(step, _sample(objective, model, tokenizer, heldout, config.seed + step))
            if is_due(step, config.checkpoint_every):
                finished = config.progress(step, seconds) >= 1
                folder.save(Position(step, seconds, batches.positions), model, optimizer, finished=finished)
        finished = config.progress(step, seconds) >= 1
        folder.save(Position(step, seconds, batches.positions), model, optimizer, finished=finished)
        finished = finished and evaluator.at(step)
        folder.wait()
    curve = sorted(evaluator.curve.items())
    tokens, drawn = step * tokens_per_step, batches.drawn(step)
    return TrainResult(step, finished, evaluator.last, curve, seconds, tokens, drawn, bool(interrupted))


def is_due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps, 0 for never, happens after this one."""
    return every > 0 and step % every == 0


def _check_fit(
    objective: Objective,
    model: nn.Module,
    tokenizer: Tokenizer,
    text: Packed | PackedShards | Mixture | Stream,
    heldout: Packed | Mixture,
    config: TrainConfig,
) -> None:
    """Raises `InputError` for arguments of `train` that do not belong together."""
    check_type(objective, Objective, "the objective")
    check_type(model, nn.Module, "the model")
    check_type(tokenizer, Tokenizer, "the tokenizer")
    for name, packed in (("text", text), ("held-out text", heldout)):
        check_type(packed, (Packed, PackedShards, Mixture, Stream), f"the {name}", "pack makes it")
        theirs = packed.tokenizer.fingerprint if isinstance(packed, Stream) else packed.tokenizer
        if theirs != tokenizer.fingerprint:
            raise InputError(f"the {name} was packed with another tokenizer than the one that is given: pack it again")
    if isinstance(model, LanguageModel):
        if model.config.vocab_size < tokenizer.vocab_size:
            raise InputError(
                f"the model has {model.config.vocab_size} ids, the tokenizer {tokenizer.vocab_size}: build it larger"
            )
        # A decoder can be given masked tokens, though it reads one side only; no other combination makes sense.
        if (model.architecture, objective.architecture) != ("decoder-only", "encoder-only") and (
            model.architecture != objective.architecture
        ):
            raise InputError(
                f"{objective.name} needs a model that is {objective.architecture}, got one that is "
                f"{model.architecture}: it would read what it must not, or cannot read what it must"
            )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"this {type(model).__name__} has no parameter that could be trained")
    if objective.schedule and config.total_steps is None:
        raise InputError(
            f"{objective.name} changes with the progress of the run ({objective.schedule}), and a run by the clock "
            "does not know its number of steps: give steps instead of minutes"
        )
    if config.sample_every and not objective.completes:
        raise InputError(f"a model of the {objective.name} objective completes no text: leave sample_every out")


def _batches(
    objective: Objective,
    tokenizer: Tokenizer,
    text: Packed | PackedShards | Mixture | Stream,
    heldout: Packed | Mixture,
    config: TrainConfig,
    workers: int,
) -> tuple[Batches | StreamedBatches, HeldOutBatches, int | None]:
    """The batches of the steps, those of every evaluation, and the bytes of text that these score."""
    collator = objective.collator(tokenizer.special, seed=config.seed, within_documents=config.within_documents)
    length, size = objective.source_length(config.length), config.batch_size
    if isinstance(text, Stream):
        batches = StreamedBatches(text, length, collator, size, workers, config.first_steps)
    else:
        batches = Batches(text.blocks(length), collator, size, config.first_steps)
    fixed = heldout_batches(heldout, collator, length, rows=evaluations_of(config).rows, batch_size=size)
    if not any(bool(count) for batch in fixed.batches for count in objective.counts(batch).values()):
        tokens = f"examples of {counted(config.length, 'input token')}"
        raise InputError(f"{tokens} leave the {objective.name} objective nothing to predict: {_cure(heldout)}")
    return batches, fixed, fixed.scored_bytes(objective, tokenizer, collator)


def _cure(heldout: Packed | Mixture) -> str:
    """What to do where there is nothing to predict: rows are too short, or the tokenizer is that of other text."""
    parts = [packed for packed in heldout.parts if isinstance(packed, Packed)]
    unknown, tokens = sum(packed.unknown for packed in parts), sum(map(len, parts))
    if 2 * unknown <= tokens:
        return "choose a greater length"
    return f"{unknown / tokens:.0%} of the held-out tokens are unknown to the tokenizer, so choose another tokenizer"


def _sample(objective: Objective, model: nn.Module, tokenizer: Tokenizer, heldout: Packed | Mixture, seed: int) -> str:
    """What the model generates from the beginning of the held-out text."""
    beginning = tokenizer.decode(heldout.parts[0].tokens[:PROMPT].tolist())
    generator = torch.Generator().manual_seed(seed)
    return objective.sample(model, tokenizer, beginning, generator=generator).marked()


def _not_finite(
    objective: Objective, step: int, result: StepResult, example_ids: list[int] | list[str], folder: RunFolder
) -> str:
    """The message of a step that moved no weight."""
    return (
        f"{objective.name}, step {step}: the loss is {float(result.loss.mean)} and the gradient's norm "
        f"{result.grad_norm}, on the examples {example_ids[:8]}{', ...' if len(example_ids) > 8 else ''}; this step "
        f"changed no weight{folder.kept}; a lower learning rate is the usual cure"
    )
