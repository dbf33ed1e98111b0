"""An objective in the Hugging Face Trainer, for their models and ours.

    objective = MaskedLM()
    collate = objective.collator(load_tokenizer(their_tokenizer).special)
    trainer = ObjectiveTrainer(
        model=BertForMaskedLM(config),
        args=TrainingArguments(...),
        objective=objective,
        data_collator=collate,
        train_dataset=dataset,                           # rows with `input_ids`
        eval_dataset=heldout,
    )
    trainer.train()

The Trainer removes from a dataset every column that the model's `forward` does not name, before the collator sees it;
here those that the collator reads, `example_id`, `word_ids`, `loss_mask` and others, stay as well.

This file needs `transformers`; nothing else in this folder does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..checks import check_type
from ..data.collator import OWN_KEYS, Collator
from ..errors import InputError
from ..evaluation.heldout import cross_entropy_only
from ..objectives import Counts, Loss, Objective, Part, total_counts
from ..objectives.model_calls import unwrapped

try:
    from transformers import Trainer, TrainerCallback
    from transformers.trainer_utils import EvalLoopOutput
except ImportError as error:
    raise InputError(f"this needs transformers 5 (pip install 'transformers>=5'): {error}") from error

__all__ = ["ObjectiveTrainer"]

ROUTER = "router"
"""The part of the loss that balances the routers of a mixture of experts."""


class ObjectiveTrainer(Trainer):
    """`transformers.Trainer` with the loss of an objective: one mean a step, however the step is cut.

    The counts of all micro-batches of a step are known, and added up over the processes, before the first forward pass;
    each micro-batch then back-propagates its share of the whole step's mean, part by part. The Trainer's own count is
    one number, and too large for GPT-2, whose shift it does not know; the losses of BERT and T5 in `transformers` 5.23
    ignore it (`examples/faults_elsewhere.py`).

    `data_collator` is the objective's `Collator`. Training sees other masks in each epoch; evaluation keeps those that
    the collator has when it is given here, so that its losses can be compared. `eval_loss` is one mean over the whole
    dataset, of the cross-entropy alone, in nats; where there are several parts, `eval_<part>_loss` is the mean of each.

    A mixture of experts with `config.output_router_logits` is trained on the `aux_loss` of its routers as well, as its
    own loss is, with the weight `config.router_aux_loss_coef`: the part "router", a mean of the micro-batches' by their
    tokens. (The Trainer itself adds it once for each micro-batch.)

    Raises `InputError` for a collator that is not ours, for what would be ignored: `compute_loss_func`,
    `label_smoothing_factor`, and `compute_metrics`, which would need all logits; for an objective that changes with the
    progress of the run, which the Trainer tells no collator; and where processes share one model (tensor, context or
    sequence parallelism). Our own models train in one process here; over several, `clozelab train` takes them.
    """

    def __init__(
        self, model: nn.Module, args: Any = None, *, objective: Objective, data_collator: Collator, **more: Any
    ) -> None:
        self.objective = check_type(objective, Objective, "the objective")
        collator = check_type(data_collator, Collator, "data_collator", "objective.collator(special) makes it")
        for name in ("compute_loss_func", "compute_metrics", "preprocess_logits_for_metrics"):
            if more.get(name) is not None:
                raise InputError(f"{name} would be ignored: the loss is the objective's, and no logits are kept")
        if getattr(args, "label_smoothing_factor", 0):
            raise InputError(
                "label_smoothing_factor would be ignored: smooth the labels by "
                f"{type(objective).__name__}(label_smoothing=...)"
            )
        if objective.schedule:
            raise InputError(
                f"{type(objective).__name__} changes with the progress of the run, which the Trainer does not tell the "
                "collator: train it with clozelab.training.fit"
            )
        super().__init__(model, args, data_collator=collator, **more)
        self._check_processes()
        self.loss_is_scaled_for_ga = True
        self._fixed_collator = _copy(collator)
        self._router_loss_coef = _router_loss_coef(unwrapped(model))
        self._evaluated: list[Loss] = []
        self.add_callback(_FreshMasks(collator))

    def _check_processes(self) -> None:
        if self.args.n_gpu > 1:
            raise InputError(
                f"{self.args.n_gpu} devices in one process would each divide by the counts of all: start the script "
                "with torchrun, one process a device"
            )
        sharing = self.get_tp_size() * self.get_cp_size() * self.get_sp_size()
        if sharing > 1:
            raise InputError(
                f"{sharing} processes share each batch (tensor, context or sequence parallelism), whose loss positions "
                "would be counted more than once: use DDP or FSDP alone"
            )

    def _set_signature_columns_if_needed(self) -> None:
        """Also the columns that the collator reads stay in the dataset."""
        super()._set_signature_columns_if_needed()
        collator = self._fixed_collator
        self._signature_columns = [*self._signature_columns, *sorted(OWN_KEYS | collator.keep | collator.extra)]

    # ------------------------------------------------------------------ training

    def _get_num_items_in_batch(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, batch_samples: list[dict[str, Tensor]], device: torch.device
    ) -> Counts:
        """The counts of a whole step over all processes, before any forward pass."""
        if not batch_samples:
            return {}
        rows = [self._row_counts(batch) for batch in batch_samples]
        counts = total_counts({name: count.sum() for name, count in one.items()} for one in rows)
        return {name: self.accelerator.reduce(count.to(device), "sum") for name, count in counts.items()}  # type: ignore[misc]

    def compute_loss(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Counts | None = None,
    ) -> Any:
        """The share of a micro-batch in the mean of its step: scalar, nats."""
        loss = self._loss(model, inputs)
        if num_items_in_batch is None:
            value = loss.mean
        else:  # the wrapped backward takes the mean over processes, and what is wanted is the sum
            value = loss.over(num_items_in_batch) * self.accelerator.num_processes
        return (value, {"loss": value}) if return_outputs else value

    def _loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Loss:
        """The loss of the objective, and of the routers where the model has some."""
        if self._router_loss_coef is None:
            return self.objective(model, batch)
        model = _WithoutRouterLoss(model)
        loss = self.objective(model, batch)
        tokens = self._row_counts(batch)[ROUTER]
        costs = model.aux_loss * tokens  # (B,)
        return Loss(
            {**loss, ROUTER: Part(costs.sum(), tokens.sum(), self._router_loss_coef, costs=costs.detach()[:, None])}
        )

    def _row_counts(self, batch: Mapping[str, Tensor]) -> Counts:
        """What each row adds to the counts: {part: (B,)}."""
        counts = {name: target.row_counts for name, target in self.objective.targets(batch).items()}  # type: ignore[arg-type]
        if self._router_loss_coef is not None:
            counts[ROUTER] = batch["attention_mask"].sum(1)
        return counts

    # ------------------------------------------------------------------ evaluation

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Batches with the same masks in every epoch."""
        with self._fixed_masks():
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """Batches with the same masks in every epoch."""
        with self._fixed_masks():
            return super().get_test_dataloader(test_dataset)

    def prediction_step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, model: nn.Module, inputs: dict[str, Tensor], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor, None, None]:
        """Called by the Trainer for each batch of an evaluation: (loss, no logits, no labels)."""
        inputs = self._prepare_inputs(inputs)  # type: ignore[assignment]
        with torch.no_grad(), self.compute_loss_context_manager(), cross_entropy_only(self.objective):
            loss = self._loss(model, inputs)
        counts, parts = self._row_counts(inputs), {}
        for name, part in loss.items():  # of all processes, without the rows that only fill up the last batch
            row_sums, row_counts = self.accelerator.gather_for_metrics((part.row_sums, counts[name]))
            parts[name] = Part(row_sums.double().sum(), row_counts.sum(), part.weight)
        self._evaluated.append(Loss(parts))
        return loss.mean, None, None

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **more: Any) -> EvalLoopOutput:
        """The Trainer's, with one mean over the dataset in place of a mean of the means of batches."""
        self._evaluated = []
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **more)
        if self._evaluated:
            loss: Loss = sum(self._evaluated)  # type: ignore[assignment]
            parts = {f"{metric_key_prefix}_{name}_loss": float(part.mean) for name, part in loss.items()}
            metrics: dict[str, float] = output.metrics  # type: ignore[assignment]
            metrics.update(parts if len(loss) > 1 else {}, **{f"{metric_key_prefix}_loss": float(loss)})
        return output

    @contextmanager
    def _fixed_masks(self) -> Iterator[None]:
        collator, self.data_collator = self.data_collator, self._fixed_collator
        try:
            yield
        finally:
            self.data_collator = collator


class _FreshMasks(TrainerCallback):
    """Sets the epoch of the training collator as each epoch begins, so that each has masks of its own.

    The Trainer removes `epoch` from the examples before a collator sees them; this reaches the collator on any number
    of processes, and in workers that outlive an epoch.
    """

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.collator.set_epoch(int(state.epoch))


def _copy(collator: Collator) -> Collator:
    """The same collator with an epoch of its own: it has an attribute for each argument of its constructor."""
    names = list(inspect.signature(Collator.__init__).parameters)[1:]
    return Collator(**{name: getattr(collator, name) for name in names})


class _WithoutRouterLoss(nn.Module):
    """A model that keeps the `aux_loss` of its output back, for an objective that must not meet it."""

    aux_loss: Tensor

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, **inputs: Tensor) -> Any:
        output = self.module(**inputs)
        if getattr(output, "aux_loss", None) is None:
            raise InputError(
                f"config.output_router_logits of {type(unwrapped(self.module)).__name__} is set, but it returns no "
                "aux_loss to train its routers on: switch it off"
            )
        self.aux_loss, output.aux_loss = torch.as_tensor(output.aux_loss), None
        return output


def _router_loss_coef(model: nn.Module) -> float | None:
    """The weight of the routers' loss in that of a model of `transformers`, None where it has none."""
    config = getattr(model, "config", None)
    return getattr(config, "router_aux_loss_coef", None) if getattr(config, "output_router_logits", False) else None
