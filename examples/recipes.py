"""Our objective and our collator in five loops: bare PyTorch, Accelerate, Fabric, Lightning, the Hugging Face Trainer.

    python examples/recipes.py                                                one process
    python -m torch.distributed.run --nproc-per-node 2 examples/recipes.py    two, which take the steps of one

About 20 seconds. It prints the loss of each step in each loop, the held-out loss after each epoch, and how far the
weights end from those of the bare loop: nowhere, but for rounding (10^-13 in double precision). `pip install
transformers accelerate lightning`, or as much of it as your recipe imports.

Each recipe does three things that a loop does not do by itself:

- **fresh masks**: the collator's epoch is set as each epoch begins. It is all the state that a collator has, so a run
  that continues with epoch 2 has the masks of epoch 2;
- **one mean a step**: the number of loss positions differs from micro-batch to micro-batch, so all of them are counted
  before the first forward pass, over micro-batches and processes, and each micro-batch back-propagates its share of the
  step's mean. (Averaging the averages of micro-batches or processes is a mean of means.)
- **fixed masks in evaluation**: the held-out batches have a collator of their own, whose epoch stays where it is.

Where there may be several processes, objective and model are one module, `LossModule`: what the library wraps around it
has to see every use of a weight, and our objectives use the model's unembedding once more.

Rows are dicts that hold `input_ids`, of any length. A step takes `micros` micro-batches of `micro_batch_size` rows in
each process. With a `folder`, the run is saved there after each epoch, and continued from there. Here the rows come in
their order, and on the processor, so that the loops can be compared: in yours set `shuffle=True`, and leave `cpu=True`,
`accelerator="cpu"` and `use_cpu=True` out.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from clozelab import MaskedLM, SpecialIds
from clozelab.data import Collator
from clozelab.evaluation import evaluate
from clozelab.objectives import LossModule, Objective, total_counts


@dataclass
class Run:
    """What every recipe is given, and the losses that it reports."""

    model: nn.Module
    objective: Objective
    special: SpecialIds
    rows: list[dict[str, Any]]
    heldout: list[dict[str, Any]]
    epochs: int = 3
    micro_batch_size: int = 2
    micros: int = 8
    workers: int = 0
    folder: Path | None = None
    losses: list[float] = field(default_factory=list)
    """Nats, of each step."""
    heldout_losses: list[float] = field(default_factory=list)
    """Nats, after each epoch."""

    def loader(self, collate: Collator) -> DataLoader[Any]:
        """The training batches; the workers live as long as the run, and see the epoch of the collator change."""
        workers = {"num_workers": self.workers, "persistent_workers": self.workers > 0}
        return DataLoader(self.rows, self.micro_batch_size, collate_fn=collate, **workers)

    def evaluate(self) -> None:
        """The held-out loss, in each process of all of it, with the same masks each time."""
        batches = DataLoader(self.heldout, self.micro_batch_size, collate_fn=self.objective.collator(self.special))
        self.heldout_losses.append(evaluate(self.objective, self.model, batches).nats)

    def saved(self) -> Path | None:
        """Where the run was saved after its last epoch, None where it was not."""
        found = sorted(self.folder.glob("epoch-*")) if self.folder else []
        return found[-1] if found else None


def in_steps(batches: Iterable[Any], micros: int) -> Iterator[list[Any]]:
    """The micro-batches of each step; the last one of an epoch may have fewer. (In Python 3.12 `itertools.batched`.)"""
    iterator = iter(batches)
    while step := list(islice(iterator, micros)):
        yield step


def bare_loop(run: Run) -> None:
    """In PyTorch alone."""
    model, objective, collate = run.model, run.objective, run.objective.collator(run.special)
    loader = run.loader(collate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    begin = 0
    if saved := run.saved():
        state = torch.load(saved, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        begin = state["epoch"] + 1
    for epoch in range(begin, run.epochs):
        collate.set_epoch(epoch)  # fresh masks
        for step in in_steps(loader, run.micros):
            counts = total_counts(objective.counts(batch) for batch in step)
            nats = 0.0
            for batch in step:
                share = objective(model, batch).over(counts)
                share.backward()
                nats += share.item()
            optimizer.step()
            optimizer.zero_grad()
            run.losses.append(nats)
        run.evaluate()
        if run.folder:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
            torch.save(state, run.folder / f"epoch-{epoch:03}")


def accelerate_loop(run: Run) -> None:
    """In Accelerate, which would divide by its `gradient_accumulation_steps` if it knew them."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    objective, collate = run.objective, run.objective.collator(run.special)
    optimizer = torch.optim.AdamW(run.model.parameters(), lr=1e-2)
    module = LossModule(objective, run.model)
    module, optimizer, loader = accelerator.prepare(module, optimizer, run.loader(collate))
    begin = 0
    if saved := run.saved():
        accelerator.load_state(str(saved))
        begin = int(saved.name.removeprefix("epoch-")) + 1
    for epoch in range(begin, run.epochs):
        collate.set_epoch(epoch)  # fresh masks
        for step in in_steps(loader, run.micros):
            counts = accelerator.reduce(total_counts(objective.counts(batch) for batch in step))  # of all processes
            nats = torch.tensor(0.0)
            for batch in step:
                with nullcontext() if batch is step[-1] else accelerator.no_sync(module):
                    share, _ = module(batch, counts)
                    accelerator.backward(share * accelerator.num_processes)  # of which it takes the mean
                nats = nats + share.detach()
            optimizer.step()
            optimizer.zero_grad()
            run.losses.append(accelerator.reduce(nats).item())
        run.evaluate()
        if run.folder:
            accelerator.save_state(str(run.folder / f"epoch-{epoch:03}"))


def fabric_loop(run: Run) -> None:
    """In Lightning Fabric."""
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=processes())
    fabric.launch()
    objective, collate = run.objective, run.objective.collator(run.special)
    loader = fabric.setup_dataloaders(run.loader(collate))
    optimizer = torch.optim.AdamW(run.model.parameters(), lr=1e-2)
    module, optimizer = fabric.setup(LossModule(objective, run.model), optimizer)
    state, begin = {"module": module, "optimizer": optimizer}, 0
    if saved := run.saved():
        begin = fabric.load(saved, state)["epoch"] + 1
    for epoch in range(begin, run.epochs):
        collate.set_epoch(epoch)  # fresh masks
        for step in in_steps(loader, run.micros):
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
            run.losses.append(fabric.all_reduce(nats, reduce_op="sum").item())
        run.evaluate()
        if run.folder:
            fabric.save(run.folder / f"epoch-{epoch:03}", {**state, "epoch": epoch})


def lightning_loop(run: Run) -> None:
    """In Lightning's Trainer, one batch of which is a whole step: a list of micro-batches, made by the workers.

    The loader is made anew in each epoch, and the masks with it: Lightning asks a loader for batches before
    `on_train_epoch_start`, and does not call that where it continues in the middle of an epoch.
    """
    from lightning.pytorch import LightningModule, Trainer

    class Pretraining(LightningModule):
        automatic_optimization = False

        def __init__(self) -> None:
            super().__init__()
            self.model, self.objective = run.model, run.objective
            self.collate = run.objective.collator(run.special)

        def configure_optimizers(self):
            return torch.optim.AdamW(self.model.parameters(), lr=1e-2)

        def train_dataloader(self):
            self.collate.set_epoch(self.current_epoch)  # fresh masks
            sampler = DistributedSampler(run.rows, self.trainer.world_size, self.trainer.global_rank, shuffle=False)
            collate_step = partial(in_micro_batches, self.collate, run.micro_batch_size)
            rows = run.micro_batch_size * run.micros
            return DataLoader(run.rows, rows, sampler=sampler, collate_fn=collate_step, num_workers=run.workers)

        def training_step(self, step, _):
            strategy = self.trainer.strategy
            counts = total_counts(self.objective.counts(batch) for batch in step)
            counts = {name: strategy.reduce(count, reduce_op="sum") for name, count in counts.items()}  # of all
            nats = torch.tensor(0.0)
            for batch in step:
                last = self.trainer.world_size == 1 or batch is step[-1]
                with nullcontext() if last else strategy.block_backward_sync():
                    share = self.objective(self.model, batch).over(counts)
                    self.manual_backward(share * self.trainer.world_size)  # of which it takes the mean
                nats = nats + share.detach()
            self.optimizers().step()
            self.optimizers().zero_grad()
            run.losses.append(strategy.reduce(nats, reduce_op="sum").item())

        def on_train_epoch_end(self) -> None:
            run.evaluate()
            if run.folder:
                self.trainer.save_checkpoint(run.folder / f"epoch-{self.current_epoch:03}")

    off = dict.fromkeys(["logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"], False)
    off["use_distributed_sampler"] = False  # it would shuffle
    fresh = {"reload_dataloaders_every_n_epochs": 1}
    trainer = Trainer(accelerator="cpu", devices=processes(), max_epochs=run.epochs, **fresh, **off)
    trainer.fit(Pretraining(), ckpt_path=run.saved())


def in_micro_batches(collate: Collator, size: int, rows: list[Any]) -> list[Any]:
    """The rows of a step as micro-batches."""
    return [collate(rows[k : k + size]) for k in range(0, len(rows), size)]


def trainer_loop(run: Run) -> None:
    """In the Hugging Face Trainer; `ObjectiveTrainer` does all three things."""
    from transformers import TrainingArguments

    from clozelab.integrations.trainer import ObjectiveTrainer

    sizes = {f"per_device_{what}_batch_size": run.micro_batch_size for what in ("train", "eval")}
    sizes |= {"num_train_epochs": run.epochs, "gradient_accumulation_steps": run.micros}
    sizes |= {"dataloader_num_workers": run.workers, "dataloader_persistent_workers": run.workers > 0}
    saving = {"output_dir": str(run.folder), "save_strategy": "epoch"} if run.folder else {"save_strategy": "no"}
    trainer = ObjectiveTrainer(
        run.model,
        TrainingArguments(**sizes, **saving, **AS_THE_OTHERS),
        objective=run.objective,
        data_collator=run.objective.collator(run.special),
        train_dataset=run.rows,
        eval_dataset=run.heldout,
        optimizers=(torch.optim.AdamW(run.model.parameters(), lr=1e-2), None),
    )
    trainer.train(resume_from_checkpoint=bool(run.folder and any(run.folder.iterdir())))
    run.losses += [line["loss"] for line in trainer.state.log_history if "loss" in line]
    run.heldout_losses += [line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line]


AS_THE_OTHERS = {
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "train_sampling_strategy": "sequential",
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "logging_steps": 1,
    "eval_strategy": "epoch",
    "report_to": [],
    "disable_tqdm": True,
}
"""Settings with which the Trainer does no more than the other loops."""
RECIPES = {
    "bare PyTorch": bare_loop,
    "Accelerate": accelerate_loop,
    "Fabric": fabric_loop,
    "Lightning": lightning_loop,
    "Trainer": trainer_loop,
}


# ------------------------------------------------------------------ the five, side by side


def processes() -> int:
    """How many `torchrun` started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def small_bert(vocab_size: int) -> nn.Module:
    """BERT from a seed, without dropout, and in double precision, so that rounding stays below 1e-10."""
    from transformers import BertConfig, BertForMaskedLM

    none = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig(vocab_size=vocab_size, pad_token_id=0, **shape, **none)).double()


def ragged_rows(n: int) -> list[dict[str, torch.Tensor]]:
    """Examples of 5 to 44 tokens."""
    return [{"input_ids": torch.arange(k, k + 5 + 7 * k % 40).remainder(90).add(5)} for k in range(n)]


def main() -> None:
    """Every recipe from the same weights on the same rows; eight micro-batches a step, over all processes."""
    special = SpecialIds(vocab_size=100, pad=0, eos=1, mask=2)
    reference = None
    for name, recipe in RECIPES.items():
        micros = 8 if recipe is bare_loop else 8 // processes()
        run = Run(small_bert(100), MaskedLM(), special, ragged_rows(24), ragged_rows(8), micros=micros)
        with redirect_stdout(None):  # the Trainer prints its log
            recipe(run)
        weights = nn.utils.parameters_to_vector(run.model.parameters()).detach()
        reference = weights if reference is None else reference
        if os.environ.get("RANK", "0") == "0":
            steps, heldout = (" ".join(f"{nats:.4f}" for nats in of) for of in (run.losses, run.heldout_losses))
            apart = float((weights - reference).abs().max())
            print(f"{name:12}  {steps}   held out {heldout}   weights apart {apart:.0e}")


if __name__ == "__main__":
    main()
