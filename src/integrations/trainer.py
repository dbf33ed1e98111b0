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

The Trainer removes from a dataset every column that the model's `forward` does not name, before the collator sees it:
with `TrainingArguments(remove_unused_columns=False)` an `example_id`, `word_ids` or a `special_tokens_mask` reach the
collator. What the collator makes reaches the objective in any case.

This file needs `transformers`; nothing else in this folder does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..checks import check_type
from ..data import Collator
from ..errors import InputError
from ..objectives import Counts, Loss, Objective, Part, total_counts

try:
    from transformers import Trainer, TrainerCallback
    from transformers.trainer_utils import EvalLoopOutput
except ImportError as error:
    raise InputError(f"this needs transformers 5 (pip install 'transformers>=5'): {error}") from error

__all__ = ["EpochCallback", "ObjectiveTrainer"]


class EpochCallback(TrainerCallback):
    """Sets the collator's epoch as each epoch begins, so that each has masks of its own.

    `ObjectiveTrainer` brings it. The Trainer removes `epoch` from the examples before a collator sees them; this
    reaches the collator on any number of processes, and in workers that outlive an epoch.

    >>> from clozelab import MaskedLM, SpecialIds
    >>> from clozelab.integrations.trainer import EpochCallback
    >>> collate = MaskedLM().collator(SpecialIds(vocab_size=50, pad=0, eos=1, mask=2))
    >>> callback = EpochCallback(collate)  # for Trainer(callbacks=[callback])
    """

    def __init__(self, collator: Collator) -> None:
        self.collator = check_type(collator, Collator, "the collator", "objective.collator(special) makes it")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer."""
        self.collator.set_epoch(int(state.epoch))


class ObjectiveTrainer(Trainer):
    """`transformers.Trainer` with the loss of an objective: one mean a step, however the step is cut.

    The counts of all micro-batches of a step are known, and added up over the processes, before the first forward pass;
    each micro-batch then back-propagates its share of the whole step's mean, part by part. The Trainer's own count is
    one number, and too large for GPT-2, whose shift it does not know; the losses of BERT and T5 in `transformers` 5.23
    ignore it (`examples/faults_elsewhere.py`).

    `data_collator` is the objective's `Collator`. Training sees other masks in each epoch; evaluation keeps those that
    the collator has when it is given here, so that its losses can be compared. `eval_loss` is one mean over the whole
    dataset, in nats; where the loss has several parts, `eval_<part>_loss` is the mean of each.

    Raises `InputError` for a collator that is not ours, and for what would be ignored: `compute_loss_func`,
    `label_smoothing_factor`, and `compute_metrics`, which would need all logits. Our own models train in one process
    here; over several, `clozelab train` takes them.
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
        super().__init__(model, args, data_collator=collator, **more)
        if self.args.n_gpu > 1:
            raise InputError(
                f"{self.args.n_gpu} devices in one process would each divide by the counts of all: start the script "
                "with torchrun, one process a device"
            )
        self.loss_is_scaled_for_ga = True
        self._fixed_collator = Collator(
            collator.corrupt,
            collator.special,
            seed=collator.seed,
            epoch=collator.epoch,
            within_documents=collator.within_documents,
            keep=collator.keep,
        )
        self._evaluated: list[Loss] = []
        self.add_callback(EpochCallback(collator))

    # ------------------------------------------------------------------ training

    def _get_num_items_in_batch(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, batch_samples: list[dict[str, Tensor]], device: torch.device
    ) -> Counts:
        """The counts of a whole step over all processes, before any forward pass."""
        counts = total_counts(self.objective.counts(batch) for batch in batch_samples) if batch_samples else {}
        return {name: self.accelerator.reduce(count.to(device), "sum") for name, count in counts.items()}  # type: ignore[misc]

    def compute_loss(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Counts | None = None,
    ) -> Any:
        """The share of a micro-batch in the mean of its step: scalar, nats."""
        loss = self.objective(model, inputs)
        if num_items_in_batch is None:
            value = loss.mean
        else:  # the wrapped backward takes the mean over processes, and what is wanted is the sum
            value = loss.over(num_items_in_batch) * self.accelerator.num_processes
        return (value, {"loss": value}) if return_outputs else value

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
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.objective(model, inputs)
        targets, parts = self.objective.targets(inputs), {}
        for name, part in loss.items():  # of all processes, without the rows that only fill up the last batch
            sums, counts = self.accelerator.gather_for_metrics((part.row_sums, targets[name].row_counts))
            parts[name] = Part(sums.double().sum(), counts.sum(), part.weight)
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
