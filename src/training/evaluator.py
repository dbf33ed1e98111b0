"""The held-out losses of a run, which a signal may interrupt."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from torch import nn

from ..data import Batch
from ..device import autocast
from ..errors import NotFinite
from ..evaluation.heldout import BatchScore, HeldOut, add_scores, score_batch
from ..objectives import Loss, Objective
from .parallel import loss_module_of
from .processes import Processes
from .report import Report


class Evaluator:
    """Evaluates a model during its run. `interrupted` holds something once a signal asks to stop.

    The batches are divided among the processes. What they come to is added in the order of the batches, so that it is
    the same on any number of processes.

    >>> import torch
    >>> from clozelab import CausalLM
    >>> from clozelab.objectives import LossModule
    >>> from clozelab.training.evaluator import Evaluator
    >>> from clozelab.training.processes import SINGLE
    >>> from clozelab.training.report import Report
    >>> from clozelab.progress import Bar
    >>> text, objective = torch.arange(8)[None], CausalLM()
    >>> batch = {"input_ids": text, "attention_mask": torch.ones_like(text), "labels": text}
    >>> model = objective.build_model(8, "tiny", d_model=16, n_layers=1, n_heads=1)
    >>> report = Report("causal", None, Bar())
    >>> evaluator = Evaluator(LossModule(objective, model), [batch], 7, report, [], SINGLE)
    >>> evaluator.at(0), list(evaluator.curve)
    (True, [0])
    """

    def __init__(
        self,
        loss_module: nn.Module,
        batches: Sequence[Batch],
        scored_bytes: int | None,
        report: Report,
        interrupted: Sequence[str],
        processes: Processes,
        *,
        corpora: Sequence[str] = (),
        bfloat16: bool = False,
    ) -> None:
        self.loss_module, self.batches, self.scored_bytes, self.corpora = loss_module, batches, scored_bytes, corpora
        self.report, self.interrupted, self.processes, self.bfloat16 = report, interrupted, processes, bfloat16
        self.curve: dict[int, float] = processes.broadcast(lambda: dict(report.evaluated))
        """Held-out nats by step, those of a resumed run before it was stopped too."""
        self.last: HeldOut | None = None
        self.seconds = 0.0
        """Time of the last evaluation, of the slowest process."""

    def at(self, step: int) -> bool:
        """Evaluate after a step, once; False where a signal interrupted it.

        Raises `NotFinite` where the loss is.
        """
        if self.last is not None and step in self.curve:
            return True
        started = time.perf_counter()
        inner = loss_module_of(self.loss_module)
        device = next(inner.model.parameters()).device
        try:
            with autocast(device, bfloat16=self.bfloat16):
                mine = self._scores(inner.objective, inner.model)
        except _Interrupted:
            return False
        scores = self.processes.all_gather_dict(mine)
        result = add_scores(
            inner.objective,
            [scores[number] for number in sorted(scores)],
            scored_bytes=self.scored_bytes,
            corpora=self.corpora,
        )
        if not math.isfinite(result.nats):
            raise NotFinite(f"{inner.objective.name}, step {step}: the held-out loss is {result.nats}")
        self.curve[step], self.last = result.nats, result
        [self.seconds] = self.processes.all_max(time.perf_counter() - started)
        self.report.heldout(step, result)
        return True

    def _scores(self, objective: Objective, model: nn.Module) -> dict[int, BatchScore]:
        """Of this process's batches, by number; all processes stop at the same round where a signal asks to.

        Sharded processes exchange weights in each forward pass, so one for which the last round has no batch goes over
        the first one again, and does not count it.
        """
        scores = {}
        for first in range(0, len(self.batches), self.processes.world_size):
            number = first + self.processes.rank
            self.report.bar.doing(f"evaluating {first + 1} of {len(self.batches)}")
            if any(self.processes.all_max(bool(self.interrupted))):
                raise _Interrupted
            if number < len(self.batches):
                scores[number] = score_batch(objective, model, self.batches[number], self._loss)
            elif self.processes.sharded:
                score_batch(objective, model, self.batches[0], self._loss)
        return scores

    def _loss(self, batch: Batch) -> Loss:
        return self.loss_module(batch)[1]


class _Interrupted(Exception):
    """A signal asks to stop in the middle of an evaluation."""
