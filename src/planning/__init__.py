"""Plan: what a run needs, on paper, before anything is bought or started.

| | what is counted | checked against |
|---|---|---|
| `parameters`, `config_near` | learned numbers of a shape; a shape of about so many | the models |
| `row_of` | lengths of a row, and its loss positions | read from the objective's own batch |
| `flops`, `optimizer_flops`, `step_flops` | products of a row, the optimiser, a step | `torch.utils.flop_counter` |
| `state` | bytes of weights, gradients and optimiser | those that PyTorch allocates |
| `saved` | bytes kept for the backward | the tensors that autograd saves |
| `loss_work`, `backward_work`, `recomputed_work` | bytes needed for a while | the highest point of a step |
| `replicated`, `sharded` | bytes that a device sends in a step | what DDP and FSDP2 ask of the network |
| `plan` | which strategy has room, and the time at a stated utilisation | nothing: it is arithmetic |

`docs/scaling.md` goes through it from two cores to a thousand GPUs; `clozelab plan` prints it.
"""

from ..doors import explain_errors
from .compute import Flops, flops, optimizer_flops, step_flops
from .layout import STRATEGIES, Layout, Memory
from .machine import Machine
from .memory import Saved, State, backward_work, loss_work, recomputed_work, saved, state
from .network import Traffic, replicated, sharded
from .plan import Plan, plan
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
    "backward_work",
    "config_near",
    "flops",
    "loss_work",
    "optimizer_flops",
    "parameters",
    "plan",
    "recomputed_work",
    "replicated",
    "row_of",
    "saved",
    "sharded",
    "state",
    "step_flops",
]

explain_errors(__name__)
