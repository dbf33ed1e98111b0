"""Our objective and our collator in four loops: bare PyTorch, Accelerate, Lightning Fabric, the Hugging Face Trainer.

    python examples/recipes.py                                                one process
    python -m torch.distributed.run --nproc-per-node 2 examples/recipes.py    two, which take the steps of one

About 10 seconds. It prints the loss of each step in each loop, and how far the weights end from those of the bare loop:
nowhere, but for rounding (10^-13 in double precision). `pip install transformers accelerate lightning-fabric`, or as
much of it as your recipe imports.

Each recipe does two things that a loop does not do by itself:

- **fresh masks**: the collator's epoch is set as each epoch begins;
- **one mean a step**: the number of loss positions differs from micro-batch to micro-batch, so all of them are counted
  before the first forward pass, over micro-batches and processes, and each micro-batch back-propagates its share of the
  step's mean. (Averaging the averages of micro-batches or processes is a mean of means.)

Where there may be several processes, objective and model are one module, `LossModule`: what the library wraps around it
has to see every use of a weight, and our objectives use the model's unembedding once more.

Rows are dicts that hold `input_ids`, of any length. A step takes `micros` micro-batches of `micro_batch_size` rows in
each process. Here the rows come in their order, and on the processor, so that the loops can be compared: in yours set
`shuffle=True`, and leave `cpu=True`, `accelerator="cpu"` and `use_cpu=True` out.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, redirect_stdout
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from clozelab import MaskedLM, SpecialIds
from clozelab.objectives import LossModule, total_counts


def in_steps(batches: Iterable[Any], micros: int) -> Iterator[list[Any]]:
    """The micro-batches of each step; the last one of an epoch may have fewer. (In Python 3.12 `itertools.batched`.)"""
    iterator = iter(batches)
    while step := list(islice(iterator, micros)):
        yield step


def bare_loop(model, rows, objective, collate, *, epochs, micro_batch_size, micros):
    """In PyTorch alone."""
    loader = DataLoader(rows, micro_batch_size, collate_fn=collate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for epoch in range(epochs):
        collate.set_epoch(epoch)  # fresh masks
        for step in in_steps(loader, micros):
            counts = total_counts(objective.counts(batch) for batch in step)
            nats = 0.0
            for batch in step:
                share = objective(model, batch).over(counts)
                share.backward()
                nats += share.item()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(nats)
    return losses


def accelerate_loop(model, rows, objective, collate, *, epochs, micro_batch_size, micros):
    """In Accelerate, which would divide by its `gradient_accumulation_steps` if it knew them."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = DataLoader(rows, micro_batch_size, collate_fn=collate)
    module, optimizer, loader = accelerator.prepare(LossModule(objective, model), optimizer, loader)
    losses = []
    for epoch in range(epochs):
        collate.set_epoch(epoch)  # fresh masks
        for step in in_steps(loader, micros):
            counts = accelerator.reduce(total_counts(objective.counts(batch) for batch in step))  # of all processes
            nats = torch.tensor(0.0)
            for batch in step:
                with nullcontext() if batch is step[-1] else accelerator.no_sync(module):
                    share, _ = module(batch, counts)
                    accelerator.backward(share * accelerator.num_processes)  # of which it takes the mean
                nats = nats + share.detach()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(accelerator.reduce(nats).item())
    return losses


def fabric_loop(model, rows, objective, collate, *, epochs, micro_batch_size, micros):
    """In Lightning Fabric."""
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=processes())
    fabric.launch()
    loader = fabric.setup_dataloaders(DataLoader(rows, micro_batch_size, collate_fn=collate))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    module, optimizer = fabric.setup(LossModule(objective, model), optimizer)
    losses = []
    for epoch in range(epochs):
        collate.set_epoch(epoch)  # fresh masks
        for step in in_steps(loader, micros):
            counts = total_counts(objective.counts(batch) for batch in step)
            counts = fabric.all_reduce(counts, reduce_op="sum")  # of all processes
            nats = torch.tensor(0.0)
            for batch in step:
                with fabric.no_backward_sync(module, enabled=batch is not step[-1]):
                    share, _ = module(batch, counts)
                    fabric.backward(share * fabric.world_size)  # of which it takes the mean
                nats = nats + share.detach()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(fabric.all_reduce(nats, reduce_op="sum").item())
    return losses


def trainer_loop(model, rows, objective, collate, *, epochs, micro_batch_size, micros):
    """In the Hugging Face Trainer; `ObjectiveTrainer` does both things."""
    from transformers import TrainingArguments

    from clozelab.integrations.trainer import ObjectiveTrainer

    sizes = {"per_device_train_batch_size": micro_batch_size, "gradient_accumulation_steps": micros}
    trainer = ObjectiveTrainer(
        model,
        TrainingArguments(num_train_epochs=epochs, **sizes, **AS_THE_OTHERS),
        objective=objective,
        data_collator=collate,
        train_dataset=rows,
        optimizers=(torch.optim.AdamW(model.parameters(), lr=1e-2), None),
    )
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


AS_THE_OTHERS = {
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "train_sampling_strategy": "sequential",
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
}
"""Settings with which the Trainer does no more than the other loops."""
RECIPES = {
    "bare PyTorch": bare_loop,
    "Accelerate": accelerate_loop,
    "Lightning Fabric": fabric_loop,
    "Trainer": trainer_loop,
}


# ------------------------------------------------------------------ the four, side by side


def processes() -> int:
    """How many `torchrun` started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def small_bert(vocab_size: int) -> nn.Module:
    """BERT from a seed, without dropout, and in double precision, so that rounding stays below 1e-10."""
    from transformers import BertConfig, BertForMaskedLM

    none = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig(vocab_size=vocab_size, pad_token_id=0, **shape, **none)).double()


def ragged_rows() -> list[dict[str, torch.Tensor]]:
    """24 examples of 5 to 44 tokens."""
    return [{"input_ids": torch.arange(n, n + 5 + 7 * n % 40).remainder(90).add(5)} for n in range(24)]


def main() -> None:
    """Every recipe from the same weights on the same rows; eight micro-batches a step, over all processes."""
    special = SpecialIds(vocab_size=100, pad=0, eos=1, mask=2)
    objective = MaskedLM()
    reference = None
    for name, recipe in RECIPES.items():
        model, collate = small_bert(special.vocab_size), objective.collator(special, seed=0)
        micros = 8 if recipe is bare_loop else 8 // processes()
        with redirect_stdout(None):  # the Trainer prints its log
            losses = recipe(model, ragged_rows(), objective, collate, epochs=3, micro_batch_size=2, micros=micros)
        weights = nn.utils.parameters_to_vector(model.parameters()).detach()
        reference = weights if reference is None else reference
        if os.environ.get("RANK", "0") == "0":
            shown = " ".join(f"{nats:.4f}" for nats in losses)
            print(f"{name:16}  {shown}   weights apart {float((weights - reference).abs().max()):.0e}")


if __name__ == "__main__":
    main()
