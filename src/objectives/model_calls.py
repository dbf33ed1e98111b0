"""How an objective and a model meet: inputs by name, outputs by name, and every key of the batch answered for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..errors import InputError
from ..models import LanguageModel
from .loss import Counts, Loss, Prediction

if TYPE_CHECKING:
    from .objective import Objective

LOSS_KEYS = frozenset({"labels", "weights", "count"})
"""What no model may see, though Hugging Face's models name `labels` in their forward."""
ATTENTION_KEYS = frozenset({"document_ids", "decoder_document_ids", "reading_rank", "reading_group", "position_ids"})
"""What only a model can obey: that the objective looks at them too does not count as reading."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of torch.compile, DDP and others, whose own forward names no key."""
    while "input_ids" not in forward_names(type(model)):
        inner = getattr(model, "_orig_mod", getattr(model, "module", None))
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model


def predictions(model: nn.Module, output: Any) -> Mapping[str, Prediction]:
    """The outputs of a model by name: {name: Prediction} as they are, logits and hidden states as "logits"."""
    if isinstance(output, Mapping) and output and all(isinstance(one, Prediction) for one in output.values()):
        return output
    if isinstance(output, Tensor):
        table = getattr(model, "unembedding", None)
        if table is None and isinstance(unwrapped(model), LanguageModel):
            raise InputError(  # its hidden states would be taken for logits
                f"expected a model, got a {type(model).__name__} around one, which hides its unembedding: put it "
                "around clozelab.objectives.LossModule(objective, model), which returns (value, loss)"
            )
        return {"logits": Prediction(output, table)}
    if (logits := getattr(output, "logits", None)) is not None:
        return {"logits": Prediction(logits)}
    raise InputError(
        f"expected the model to return logits or an object with .logits, got {type(output).__name__}: "
        "is this a model without a language-modelling head?"
    )


@lru_cache(maxsize=256)
def forward_names(kind: type[nn.Module]) -> tuple[str, ...]:
    """The parameters that a model's forward names."""
    parameters = inspect.signature(kind.forward).parameters.values()
    return tuple(p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name != "self")


class ReadRecorder(dict[str, Any]):
    """A dict that records which of its keys were read, and says by name what it does not have."""

    def __init__(self, objective: Objective, what: str, items: Mapping[str, Any]) -> None:
        super().__init__(items)
        self.objective, self.what, self.read = objective.name, what, set[str]()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401  `get` itself

    def __missing__(self, key: str) -> Any:
        has = ", ".join(self) or "nothing"
        raise InputError(
            f"the {self.objective} objective needs {key!r} of the {self.what}, which has {has}: was it made by the "
            "collator of another objective?"
        )


class LossModule(nn.Module):
    """An objective and its model as one module, for DDP, FSDP2 and torch.compile to be put around.

    The model's unembedding is used by the objective, outside of the model's own `forward`; DDP and FSDP prepare weights
    for the `forward` of what they wrap, and no longer. In your own loop (`examples/recipes.py`):

        module = torch.nn.parallel.DistributedDataParallel(LossModule(objective, model))
        value, loss = module(batch, counts)

    >>> import torch
    >>> from clozelab import CausalLM
    >>> from clozelab.objectives import LossModule
    >>> text = torch.arange(8)[None]
    >>> module = LossModule(CausalLM(), CausalLM().build_model(8, "tiny", d_model=16, n_layers=1, n_heads=1))
    >>> value, loss = module({"input_ids": text, "labels": text})
    >>> loss.count
    tensor(7)
    """

    def __init__(self, objective: Objective, model: nn.Module) -> None:
        super().__init__()
        self.objective, self.model = objective, model

    def forward(self, batch: Mapping[str, Tensor], counts: Counts | None = None) -> tuple[Tensor, Loss]:
        """(what to back-propagate, the loss): the share of the batch in the mean over `counts`, or its own mean."""
        loss = self.objective(self.model, batch)
        return loss.mean if counts is None else loss.over(counts), loss.detach()
