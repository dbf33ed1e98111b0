"""Our collators and objectives in the Hugging Face Trainer: what it does not do by itself.

    objective = MaskedLM()
    collate = objective.collator(load_tokenizer(their_tokenizer).special)
    Trainer(
        model=BertForMaskedLM(config),
        args=TrainingArguments(...),
        train_dataset=dataset,                           # rows with `input_ids`
        data_collator=collate,
        callbacks=[EpochCallback(collate)],              # or every epoch has the masks of the first
        compute_loss_func=trainer_loss(objective),       # or accumulation takes a mean of means
    )

This file needs `transformers`; nothing else in this folder does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..data import Collator
from ..errors import InputError
from ..objectives import Objective

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise InputError(f"this needs transformers 5 (pip install 'transformers>=5'): {error}") from error

__all__ = ["EpochCallback", "trainer_loss"]


class EpochCallback(TrainerCallback):
    """Tells the collator which epoch begins, so that each has masks of its own.

    The Trainer takes from the examples every key that the model's `forward` does not name, and so `epoch`, before a
    collator sees them. This reaches it on any number of processes, and workers that outlive an epoch.

    >>> from clozelab.objectives import MaskedLM
    >>> collate = MaskedLM().collator(SpecialIds(vocab_size=50, pad=0, eos=1, mask=2))
    >>> callback = EpochCallback(collate)  # for Trainer(callbacks=[callback])
    """

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer."""
        self.collator.set_epoch(int(state.epoch))


def trainer_loss(objective: Objective) -> Callable[..., Tensor]:
    """An objective for `Trainer(compute_loss_func=...)`: one sum, divided once by all that the step pays for.

    The heads of BERT and T5 in `transformers` 5.23 do not do that: see `examples/faults_elsewhere.py`.

    >>> from types import SimpleNamespace
    >>> from clozelab.objectives import MaskedLM
    >>> loss = trainer_loss(MaskedLM())
    >>> outputs = SimpleNamespace(logits=torch.zeros(1, 3, 10))  # a uniform guess among 10, two positions paid
    >>> round(float(loss(outputs, torch.tensor([[5, -100, 6]]), num_items_in_batch=4)), 4)  # 2 ln 10 / 4
    1.1513
    """

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        paid = objective(outputs.logits, labels)
        return paid.mean if num_items_in_batch is None else paid.sum / num_items_in_batch

    return loss
