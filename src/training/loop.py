"""The one loop: any objective, any model that fits it, any packed text."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checks import check_path, check_type
from ..data import Noise, Packed, PackedShards, Stream, Tokenizer
from ..data.corpora.cache import read_json
from ..errors import InputError, NotFinite
from ..evaluation import HeldOut, evaluate, fixed_batches
from ..models import LanguageModel
from ..objectives import Loss, Objective
from .batches import Batches
from .checkpoint import latest_checkpoint, save_checkpoint, sha256_of, write_json
from .config import TrainConfig
from .optimizers import Optimizers, optimizer_of, step_with_mean
from .processes import SINGLE, Processes, local
from .report import Metrics, progress_bar
from .streamed import StreamedBatches


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    step: int
    """Optimiser steps done."""
    finished: bool
    """False where it was interrupted; the run folder then holds all that is needed to go on."""
    heldout: HeldOut | None
    """At the end; of a run that was interrupted the last one made, if any."""
    curve: list[tuple[int, float]] = field(default_factory=list)
    """(step, held-out nats) of each evaluation, in this process."""
    seconds: float = 0.0
    """Time of the steps, evaluations not counted."""
    tokens: int = 0
    """Tokens of raw text that the steps saw."""

    @property
    def tokens_per_second(self) -> float:
        """Tokens of raw text, in steps alone."""
        return self.tokens / max(self.seconds, 1e-9)


def train(
    objective: Objective,
    model: nn.Module,
    tokenizer: Tokenizer,
    text: Packed | PackedShards | Stream,
    heldout: Packed,
    config: TrainConfig | None = None,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
    description: Mapping[str, Any] | None = None,
    processes: Processes = SINGLE,
    workers: int = 0,
) -> TrainResult:
    """Train `model` on `text` by `objective`, evaluating on `heldout`.

    With a `run` folder, metrics, samples and checkpoints are written there, and `resume=True` goes on from its
    last checkpoint, bit for bit on the CPU as if it had never stopped: weights and optimiser are restored, and
    batch n is a function of (text, seed, n). Ctrl-C and SIGTERM finish the step, save, and return; an evaluation that
    they break off is made when the run goes on.

    Each step is one mean over everything that it saw: the losses of its micro-batches are summed, their counts
    are summed, and the gradient is divided once. With several `processes` (see `init_processes`), each of which calls this
    alike, that is the mean over all of them: the run is the same as in one process, but for rounding and dropout. The
    first writes.

    A `Stream` as `text` is tokenised as it comes, by `workers` processes ahead of the steps, or by this one where 0;
    where each of its files was last read is part of a checkpoint.

    `description` is kept in `run.json`. Raises `InputError` for a run folder that already holds a run, for a resumed
    run that is not this one, for text shorter than one example, and for examples in which nothing is to be said;
    `NotFinite` when the loss or a weight is no number any more, the last good checkpoint untouched; `OSError` when the
    disk is full or a worker dies.

    >>> from clozelab.data import load_corpus, pack, train_bpe
    >>> from clozelab.objectives import MaskedLM
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
    device = _fit_together(objective, model, tokenizer, text, heldout)
    special = tokenizer.special
    collator = objective.collator(special, seed=config.seed, within_documents=config.within_documents)
    length = objective.source_length(config.length)
    if isinstance(text, Stream):
        batches = StreamedBatches(text, length, collator, config.batch_size, workers)
    else:
        batches = Batches(text.blocks(length), collator, config.batch_size)
    fixed = fixed_batches(heldout.blocks(length), collator, rows=config.eval_rows, batch_size=config.batch_size)
    if not any(bool(objective.paid(batch).any()) for batch in fixed):
        raise InputError(
            f"examples of {config.length} input tokens leave the {objective.name} objective nothing to predict: "
            "choose a greater length"
        )
    identity = _identity(objective, model, text, heldout, config)  # before anything is wrapped around the model
    paying = processes.wrap(objective, model)
    optimizer = optimizer_of(model, config)
    store = _Store(check_path(run, "the run folder") if run is not None else None, identity, description, processes)
    step, seconds, positions = store.open(model, optimizer) if resume else store.create(tokenizer)
    if isinstance(batches, StreamedBatches):
        batches.go_to(step, positions)
    metrics = Metrics(store.run if processes.is_main else None, resume_at=step)
    bfloat16 = uses_bfloat16(config.precision, device)
    measured = heldout if isinstance(text, Stream) else text
    bytes_per_token = measured.bytes / max(len(measured), 1) if objective.is_likelihood else None
    first, started_with = step, seconds
    curve: list[tuple[int, float]] = []
    last_eval: tuple[int, HeldOut] | None = None
    # Begun with, and broken off the last time: what the first process knows of its metrics is told to all.
    eval_due = step == 0 or (
        is_due(step, config.eval_every) and not processes.broadcast(lambda: step in metrics.evaluated)
    )

    def pay(batch: Mapping[str, torch.Tensor]) -> Loss:
        return Loss(*paying(batch))

    def progress_of(done: float, spent: float) -> float:
        return done / config.steps if config.minutes is None else spent / (60 * config.minutes)

    def fixed_until_asked_to_stop() -> Iterator[Mapping[str, torch.Tensor]]:
        for batch in fixed:
            if any(processes.all_max(bool(interrupted))):
                raise _AskedToStop
            yield batch

    def evaluate_at(step: int) -> bool:
        """Whether it was done, not broken off."""
        nonlocal last_eval
        if last_eval is None or last_eval[0] != step:
            until_asked = fixed_until_asked_to_stop()
            try:
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                    result = evaluate(objective, model, until_asked, byte_lengths=tokenizer.byte_lengths, pay=pay)
            except _AskedToStop:
                return False
            last_eval = step, result
            if not math.isfinite(result.nats):
                raise NotFinite(f"{objective.name}, step {step}: the held-out loss is {result.nats}{store.kept}")
            curve.append((step, result.nats))
            metrics.write_heldout(step, result)
            per_byte = "" if result.bits_per_byte is None else f", {result.bits_per_byte:.3f} bits per byte"
            bar.say(f"step {step}: held-out loss {result.nats:.4f} nats{per_byte}")
        return True

    total_steps = config.steps if config.minutes is None else None
    with (
        progress_bar(objective.name, total_steps, step, progress and processes.is_main, bytes_per_token) as bar,
        _interruptions() as interrupted,
        flushed_denormals(),
        batches.reading() if isinstance(batches, StreamedBatches) else nullcontext(),
    ):
        model.train()
        stopping = eval_due and not evaluate_at(step)
        while progress_of(step, seconds) < 1 and not stopping:
            begun = time.perf_counter()
            share = config.schedule(progress_of(step + 0.5, seconds))
            optimizer.set_lr_scale(share)
            with seeded_rng(config.seed, step, device, processes.rank):
                parts = batches.micro_batches(step, config.micro_batch_size, processes)
                total = accumulate(paying, parts, device, bfloat16, processes)
            norm = step_with_mean(model, optimizer, total, config.clip)
            nats = float(total.mean)
            if not (math.isfinite(nats) and math.isfinite(norm)):
                raise NotFinite(_not_finite(objective, step, nats, norm, batches, store))
            step += 1
            # All processes must end with the same step, and by the same clock.
            seconds, stopping = processes.all_max(seconds + time.perf_counter() - begun, bool(interrupted))
            speed = (step - first) * config.batch_size * length / max(seconds - started_with, 1e-9)
            metrics.write(
                step,
                loss=nats,
                paid=int(total.count),
                lr=config.learning_rate * share,
                grad_norm=norm,
                seconds=round(seconds, 3),
            )
            bar.show(step, nats, speed)
            if is_due(step, config.eval_every):
                stopping = not evaluate_at(step) or stopping
            if is_due(step, config.sample_every):
                with processes.unsharded(paying):
                    sample = _sample(objective, model, tokenizer, heldout, config.seed + step)
                metrics.write(step, sample=sample)
                bar.say(f"step {step}: {sample}")
            if is_due(step, config.checkpoint_every):
                store.save(step, model, optimizer, seconds, batches, finished=progress_of(step, seconds) >= 1)
        finished = progress_of(step, seconds) >= 1
        store.save(step, model, optimizer, seconds, batches, finished=finished)
        finished = finished and evaluate_at(step)
    tokens = (step - first) * config.batch_size * length
    return TrainResult(step, finished, last_eval and last_eval[1], curve, seconds - started_with, tokens)


class _AskedToStop(Exception):
    """Breaks off an evaluation, in all processes at the same batch."""


def is_due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0


def _fit_together(
    objective: Objective, model: nn.Module, tokenizer: Tokenizer, text: Packed | PackedShards | Stream, heldout: Packed
) -> torch.device:
    """The device of the model, once what is to be trained together is known to belong together."""
    check_type(objective, Objective, "the objective")
    check_type(model, nn.Module, "the model")
    check_type(tokenizer, Tokenizer, "the tokenizer")
    for name, packed in (("text", text), ("held-out text", heldout)):
        check_type(packed, (Packed, PackedShards, Stream), f"the {name}", "pack makes it")
        theirs = packed.tokenizer.fingerprint if isinstance(packed, Stream) else packed.tokenizer
        if theirs != tokenizer.fingerprint:
            raise InputError(f"the {name} was packed with another tokenizer than the one that is given: pack it again")
    if isinstance(model, LanguageModel):
        if model.config.vocab_size < tokenizer.vocab_size:
            raise InputError(
                f"the model has {model.config.vocab_size} ids, the tokenizer {tokenizer.vocab_size}: build it larger"
            )
        # A decoder can be given masked tokens, though it sees only one side; nothing else makes sense.
        if model.architecture not in (objective.architecture, *_ALSO.get(objective.architecture, ())):
            raise InputError(
                f"{objective.name} needs a {objective.architecture} model, got a {model.architecture} one: it would "
                "read what it must not, or cannot read what it must"
            )
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError(f"this {type(model).__name__} has no parameter that could be trained")
    return trained[0].device


_ALSO = {"encoder-only": ("decoder-only",)}


def accumulate(
    paying: nn.Module,
    micro_batches: Iterable[Mapping[str, torch.Tensor]],
    device: torch.device,
    bfloat16: bool = False,
    processes: Processes = SINGLE,
) -> Loss:
    """Back-propagate the *sum* of each micro-batch; returns what all came to, in all processes: one sum, one count.

    `paying` is what `Processes.wrap` made of objective and model.
    """
    total = Loss(torch.zeros((), device=device), torch.tensor(0, device=device))
    parts = list(micro_batches)
    for place, batch in enumerate(parts, 1):
        with nullcontext() if place == len(parts) else processes.no_sync(paying):
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                nats, count, terms = paying({key: value.to(device) for key, value in batch.items()})
            (
                nats * processes.world_size
            ).backward()  # of which the wrapped backward takes the mean over processes: the sum
        total = total + Loss(nats.detach(), count, terms)
    return processes.total(total)


@contextmanager
def seeded_rng(seed: int, step: int, device: torch.device, rank: int = 0) -> Iterator[None]:
    """What a model draws inside, as for its dropout, depends on (seed, step, process); the state outside stays."""
    whose = f" in process {rank}" if rank else ""
    [generator] = Noise.of(seed, step, [f"what the model draws{whose}"]).generators(0)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(generator.initial_seed())
        yield


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether "auto" means bfloat16 here: where the processor multiplies in it (elsewhere it is many times slower)."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    ways = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, way, bool)() for way in ways)


def _sample(objective: Objective, model: nn.Module, tokenizer: Tokenizer, heldout: Packed, seed: int) -> str:
    beginning = tokenizer.decode(torch.from_numpy(heldout.tokens[:24].astype("int64")).tolist())
    generator = torch.Generator().manual_seed(seed)
    return objective.sample(model, tokenizer, beginning, generator=generator).marked()


def _identity(
    objective: Objective,
    model: nn.Module,
    text: Packed | PackedShards | Stream,
    heldout: Packed,
    config: TrainConfig,
) -> dict[str, Any]:
    """What must be the same for a run to be the same run."""
    shape = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    model_config = getattr(model, "config", None)
    size = {"files": text.documents.files} if isinstance(text, Stream) else {"tokens": len(text)}
    return {
        "objective": objective.name,
        "objective_settings": objective.settings,
        "model": asdict(model_config) if model_config is not None and hasattr(model_config, "layers") else shape,
        "corpus": {"fingerprint": text.fingerprint, **size, "heldout": heldout.fingerprint},
        "train": json.loads(json.dumps(asdict(config))),
    }


@dataclass
class _Store:
    """The run folder, or nothing at all where `run` is None."""

    run: Path | None
    identity: dict[str, Any]
    description: Mapping[str, Any] | None
    processes: Processes
    saved: int = -1

    @property
    def kept(self) -> str:
        """What a message can say of the last checkpoint."""
        return f"; the checkpoint of step {self.saved} is kept" if self.saved >= 0 else ""

    def create(self, tokenizer: Tokenizer) -> tuple[int, float, dict[str, Any]]:
        """Begin a run: (steps done, seconds spent, positions in the stream), which are none."""
        self.processes.broadcast(lambda: self._create(tokenizer))
        return 0, 0.0, {}

    def _create(self, tokenizer: Tokenizer) -> None:
        if self.run is None:
            return
        if self.run.exists() and not self.run.is_dir():
            raise InputError(f"expected a folder for the run, but {self.run} is a file")
        self._inside()
        if (self.run / "run.json").exists() or (self.run / "checkpoints").exists():
            raise InputError(
                f"{self.run} already holds a run: resume it, or choose another folder; nothing there was changed"
            )
        for name, mine in (("tokenizer.json", tokenizer.to_json()), ("metrics.jsonl", None)):
            # A run that was stopped as it began has left its tokenizer there, and nothing else.
            if (self.run / name).exists() and (self.run / name).read_bytes() != mine:
                raise InputError(
                    f"{self.run} holds a {name} that is of no run: choose another folder; nothing there was changed"
                )
        self.run.mkdir(parents=True, exist_ok=True)
        tokenizer.save(self.run / "tokenizer.json")
        told = {
            "format": 1,
            **self.identity,
            "tokenizer_sha256": sha256_of(self.run / "tokenizer.json"),
            "versions": {"torch": torch.__version__},
            "description": dict(self.description or {}),
        }
        write_json(self.run / "run.json", told)

    def open(self, model: nn.Module, optimizer: Optimizers) -> tuple[int, float, dict[str, Any]]:
        """Go on with a run: (steps done, seconds spent, positions in the stream) of its last checkpoint."""
        if self.run is None:
            raise InputError("resume=True needs the run folder to resume from")
        described = read_run(self.run)
        for key, mine in self.identity.items():
            theirs = described.get(key)
            if theirs != mine and key == "corpus":
                raise InputError(
                    f"{self.run} was begun on another text, or with another tokenizer: bring those back, or begin "
                    "another run in a folder of its own"
                )
            if theirs != mine:
                raise InputError(f"{self.run} is another run: its {key} is {_difference(theirs, mine)}")
        self._inside()
        if not any((self.run / "checkpoints").glob("step-*")):
            return 0, 0.0, {}  # stopped before its first checkpoint: begin again
        checkpoint = latest_checkpoint(self.run, self.identity["objective"])
        if checkpoint.sharded != self.processes.sharded:
            how = ("in shards", "whole")
            raise InputError(
                f"{checkpoint.path} was written {how[not checkpoint.sharded]}, and this run holds its weights "
                f"{how[checkpoint.sharded]}: go on as it began, {'with' if checkpoint.sharded else 'without'} --sharded"
            )
        if checkpoint.sharded:
            from .shards import load_shards

            load_shards(checkpoint, model, optimizer)
        else:
            checkpoint.load_model(model)
            checkpoint.load_optimizer(optimizer)
        self.saved = checkpoint.step
        return checkpoint.step, checkpoint.seconds, checkpoint.positions

    def _inside(self) -> None:
        """Nothing is written outside of the run folder, wherever a folder that somebody sent points to."""
        if self.run is not None and (self.run / "checkpoints").is_symlink():
            raise InputError(
                f"{self.run / 'checkpoints'} is a link, and what is written there would lie elsewhere: to keep a run "
                "on another disk, make the run folder itself the link"
            )

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: Optimizers,
        seconds: float,
        batches: Batches | StreamedBatches,
        *,
        finished: bool = False,
    ) -> None:
        if self.run is None or self.saved == step:
            return
        if not all(bool(local(parameter).isfinite().all()) for parameter in model.parameters()):
            raise NotFinite(
                f"{self.identity['objective']}, step {step}: some weights are infinite or NaN, so they were not "
                f"saved{self.kept}; a lower learning rate is the usual cure"
            )
        state: dict[str, Any] = {"objective": self.identity["objective"], "seconds": seconds}
        if isinstance(batches, StreamedBatches):
            state["positions"] = self.processes.all_gather_dict(batches.positions)
        if self.processes.sharded:
            from .shards import save_shards

            save_shards(self.run, step, model, optimizer, self.processes, whole=finished, **state)
        else:
            run = self.run
            self.processes.broadcast(lambda: str(save_checkpoint(run, step, model, optimizer, **state)))
        self.saved = step


def read_run(run: str | Path) -> dict[str, Any]:
    """`run.json`, or an `InputError` that says what is missing."""
    path = check_path(run, "the run folder") / "run.json"
    if not path.is_file():
        raise InputError(f"{run} holds no run: {path} is missing; is the path right?")
    described = read_json(path)
    if not isinstance(described, dict) or described.get("format") != 1:
        raise InputError(f"{path} is of a format that this version does not read (it reads format 1)")
    return described


def _difference(theirs: Any, mine: Any) -> str:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        keys = [key for key in {**theirs, **mine} if theirs.get(key) != mine.get(key)]
        return "; ".join(f"{key} = {theirs.get(key)!r} there, {mine.get(key)!r} here" for key in keys[:3])
    return f"{theirs!r} there, {mine!r} here"


def _not_finite(
    objective: Objective, step: int, nats: float, norm: float, batches: Batches | StreamedBatches, store: _Store
) -> str:
    example_ids, _ = batches.examples(step)
    return (
        f"{objective.name}, step {step + 1}: the loss is {nats} and the gradient's norm {norm}, on the examples "
        f"{example_ids[:8]}{', ...' if len(example_ids) > 8 else ''}; this step changed no weight{store.kept}; "
        "a lower learning rate is the usual cure"
    )


@contextmanager
def _interruptions() -> Iterator[list[str]]:
    """Collects the signals that ask to stop, so that a step ends before the run does; a second Ctrl-C stops at once.

    A second SIGTERM says nothing new: a scheduler sends it to all processes, and torchrun hands it on to its own.
    """
    caught: list[str] = []
    before: dict[int, Any] = {}

    def catch(number: int, frame: Any) -> None:
        caught.append(signal.Signals(number).name)
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):  # no SIGHUP on Windows
                number = getattr(signal, name)
                before[number] = signal.signal(number, catch)
    except ValueError:  # not in the main thread: leave the signals to whoever is
        before.clear()
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers too small for a float's full precision become zero: AdamW is many times slower on them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
