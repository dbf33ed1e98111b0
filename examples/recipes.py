"""Our objective and our collator in four loops: bare PyTorch, Accelerate, Lightning Fabric, the Hugging Face Trainer.

    python examples/recipes.py                                                one process
    python -m torch.distributed.run --nproc-per-node 2 examples/recipes.py    two, which take the steps of one

About 10 seconds. It prints the loss of each step in each loop, and how far the weights end from those of the bare loop:
nowhere, but for rounding (10^-13 in double precision). `pip install transformers accelerate lightning-fabric`, or as
much of it as your recipe imports.

Each recipe does two things that a loop does not do by itself:

- **fresh masks**: the collator is told which epoch begins;
- **one mean a step**: the number of paid positions differs from micro-batch to micro-batch, so it is the *sum* that is
  back-propagated; sums and counts are added up over micro-batches and processes, and the gradient is divided once.
  (Averaging what each micro-batch or process averaged is a mean of means.)

Where there may be several processes, objective and model are one module, `LossModule`: what the library wraps around it has
to see every use of a weight, and our objectives use the model's table of tokens once more.

Rows are dicts that hold `input_ids`, of any length. A step takes `micros` micro-batches of `micro_batch_size` rows in each
process. Here the rows come in their order, and on the processor, so that the loops can be compared: in yours say
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

from clozelab.data import SpecialIds
from clozelab.objectives import Loss, MaskedLM
from clozelab.training import LossModule


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
            total = 0
            for batch in step:
                loss = objective(model, batch)
                loss.sum.backward()
                total = total + loss  # sums with sums, counts with counts
            for weight in model.parameters():
                weight.grad /= total.count.clamp(min=1)  # divided once
            optimizer.step()
            optimizer.zero_grad()
            losses.append(total.mean.item())
    return losses


def accelerate_loop(model, rows, objective, collate, *, epochs, micro_batch_size, micros):
    """In Accelerate, which would divide by its `gradient_accumulation_steps`, were it told of them."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = DataLoader(rows, micro_batch_size, collate_fn=collate)
    paying, optimizer, loader = accelerator.prepare(LossModule(objective, model), optimizer, loader)
    losses = []
    for epoch in range(epochs):
        collate.set_epoch(epoch)  # fresh masks
        for step in in_steps(loader, micros):
            total = 0
            for batch in step:
                with nullcontext() if batch is step[-1] else accelerator.no_sync(paying):
                    loss = Loss(*paying(batch))
                    accelerator.backward(loss.sum)
                total = total + loss
            nats, count = map(float, accelerator.reduce((total.sum.detach(), total.count)))  # of all processes
            for weight in model.parameters():
                weight.grad *= accelerator.num_processes / max(count, 1)  # the mean over processes had divided already
            optimizer.step()
            optimizer.zero_grad()
            losses.append(nats / max(count, 1))
    return losses


def fabric_loop(model, rows, objective, collate, *, epochs, micro_batch_size, micros):
    """In Lightning Fabric."""
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=processes())
    fabric.launch()
    loader = fabric.setup_dataloaders(DataLoader(rows, micro_batch_size, collate_fn=collate))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    paying, optimizer = fabric.setup(LossModule(objective, model), optimizer)
    losses = []
    for epoch in range(epochs):
        collate.set_epoch(epoch)  # fresh masks
        for step in in_steps(loader, micros):
            total = 0
            for batch in step:
                with fabric.no_backward_sync(paying, enabled=batch is not step[-1]):
                    loss = Loss(*paying(batch))
                    fabric.backward(loss.sum)
                total = total + loss
            nats, count = map(float, fabric.all_reduce((total.sum.detach(), total.count), reduce_op="sum"))
            for weight in model.parameters():
                weight.grad *= fabric.world_size / max(count, 1)  # the mean over processes had divided already
            optimizer.step()
            optimizer.zero_grad()
            losses.append(nats / max(count, 1))
    return losses


def trainer_loop(model, rows, objective, collate, *, epochs, micro_batch_size, micros):
    """In the Hugging Face Trainer, for one of its models."""
    from transformers import Trainer, TrainingArguments

    from clozelab.integrations.trainer import EpochCallback, trainer_loss

    sizes = {"per_device_train_batch_size": micro_batch_size, "gradient_accumulation_steps": micros}
    trainer = Trainer(
        model,
        TrainingArguments(num_train_epochs=epochs, **sizes, **AS_THE_OTHERS),
        collate,
        rows,
        callbacks=[EpochCallback(collate)],  # fresh masks
        compute_loss_func=trainer_loss(objective),  # one mean a step
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
"""What makes the Trainer do no more than the other loops."""
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
    """Theirs, from a seed, without dropout, and in double precision, so that a difference is no rounding."""
    from transformers import BertConfig, BertForMaskedLM

    none = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig(vocab_size=vocab_size, pad_token_id=0, **shape, **none)).double()


def ragged_rows() -> list[dict[str, torch.Tensor]]:
    """24 examples of 5 to 44 tokens."""
    return [{"input_ids": torch.arange(n, n + 5 + 7 * n % 40).remainder(90).add(5)} for n in range(24)]


def main() -> None:
    """Every recipe from the same weights on the same rows; eight micro-batches a step, whoever does them."""
    special = SpecialIds(vocab_size=100, pad=0, eos=1, mask=2)
    objective = MaskedLM(mask_rate=0.15)
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
