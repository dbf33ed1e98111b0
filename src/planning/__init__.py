"""Plan: what a run needs, on paper, before anything is bought or started.

| | what is counted | how it is checked |
|---|---|---|
| `parameters`, `config_near` | learned numbers of a shape; a shape of about so many | against the models |
| `row_of` | tokens read, said and paid of a row | read from the objective's own batch |
| `flops`, `optimizer_flops` | matrix products of a row, of an optimiser's step | against `torch.utils.flop_counter` |
| `state`, `saved`, `loss_work` | bytes of weights, gradients and optimiser; kept for the backward; of the loss | against the tensors that PyTorch keeps |
| `replicated`, `sharded` | bytes that a device sends in a step | arithmetic on rings, and what `fully_shard` really asks for |
| `plan` | all of it for a machine: which strategy has room, and the time at a stated utilisation | arithmetic |

`docs/scaling.md` goes through it from two cores to a thousand GPUs; `clozelab plan` prints it.
"""

from .compute import Flops, flops, optimizer_flops
from .memory import Saved, State, loss_work, saved, state
from .network import Traffic, replicated, sharded
from .plan import STRATEGIES, Layout, Machine, Memory, Plan, plan
from .rows import Row, row_of
from .shape import Parameters, config_near, parameters

__all__ = [
    "STRATEGIES",
    "Flops",
    "Layout",
    "Machine",
    "Memory",
    "Parameters",
    "Plan",
    "Row",
    "Saved",
    "State",
    "Traffic",
    "config_near",
    "flops",
    "loss_work",
    "optimizer_flops",
    "parameters",
    "plan",
    "replicated",
    "row_of",
    "saved",
    "sharded",
    "state",
]
