"""How an objective and a model meet: inputs by name, outputs by name, and every key of the batch answered for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from ..checks import tracing
from ..data.examples import Batch
from ..errors import InputError
from ..models import LanguageModel
from .loss import Counts, Loss, Prediction

if TYPE_CHECKING:
    from .objective import Objective

LOSS_KEYS = frozenset({"labels", "shift_labels", "weights", "count"})
"""What no model may see, though Hugging Face's models name `labels` in their forward."""
DRAWING_KEYS = frozenset({"sampling_noise"})
"""By which a model draws what the loss then asks about: both must read them."""
ATTENTION_KEYS = frozenset(
    {"document_ids", "decoder_document_ids", "reading_rank", "reading_group", "position_ids", "decoder_position_ids"}
)
"""What only a model can obey: that the objective looks at them too does not count as reading."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of torch.compile, DDP and others, whose own forward names no key."""
    while "input_ids" not in forward_names(type(model)):
        inner = getattr(model, "_orig_mod", getattr(model, "module", None))
        if not isinstance(inner, nn.Module):
            break
        model = inner
    return model


def part_of(model: nn.Module, name: str) -> nn.Module:
    """A part of a model, such as its trunk, inside any wrappers; the model itself where it has none of that name."""
    return getattr(unwrapped(model), name, model)


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
    fields = getattr(output, "__dict__", {})
    if losses := [name for name, value in fields.items() if name.endswith("_loss") and value is not None]:
        raise InputError(
            f"{type(unwrapped(model)).__name__} returns {' and '.join(losses)}, which would be dropped: switch it off "
            "(config.output_router_logits = False for the loss of routers), or give the logits and add it yourself: "
            f"objective(output.logits, batch).mean + config.router_aux_loss_coef * output.{losses[0]} "
            "(ObjectiveTrainer adds the aux_loss of a decoder)"
        )
    for name in ("logits", "prediction_logits"):  # the latter of BertForPreTraining
        if (logits := getattr(output, name, None)) is not None:
            return {"logits": Prediction(logits)}
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):  # return_dict=False
        return {"logits": Prediction(_first_of_tuple(model, output))}
    raise InputError(
        f"expected the model to return logits or an object with .logits, got {type(output).__name__}: "
        "is this a model without a language-modelling head?"
    )


def _first_of_tuple(model: nn.Module, output: tuple[Any, ...]) -> Tensor:
    """The logits of a model that returns a tuple; raises `InputError` for hidden states, and for a loss beside them."""
    logits, kind = output[0], type(unwrapped(model)).__name__
    size = getattr(getattr(model, "config", None), "vocab_size", None)
    if isinstance(size, int) and logits.dim() > 1 and logits.shape[-1] < size:
        raise InputError(
            f"expected logits of {size} ids from {kind}, and the first of its tuple is {tuple(logits.shape)}: is this "
            "a model without a language-modelling head?"
        )
    losses = [one for one in output if isinstance(one, Tensor) and one.dim() == 0]
    if losses:
        raise InputError(
            f"{kind} returns a tuple with a number in it, a loss that would be dropped: give the objective its logits, "
            "objective(model(...)[0], batch), and add the loss yourself"
        )
    return logits


def check_model(architecture: str, model: nn.Module, batch: Mapping[str, Any]) -> None:
    """Raises `InputError` where a model cannot be right for objectives of an architecture, as far as one can see.

    A model that reads both sides would read the next token; one that starts its decoder with another id would be
    completed from an id that it never saw; an encoder-decoder hands out no loss of its routers. One without a config is
    taken as it is. Rows with positions of their own may begin in mid-text, so their first id says nothing.
    """
    kind, config = type(model).__name__, getattr(model, "config", None)
    encoder_decoder = bool(getattr(config, "is_encoder_decoder", False))
    both_sides = getattr(model, "causal", None) is False or (
        kind.endswith("ForMaskedLM") and not encoder_decoder and not getattr(config, "is_decoder", False)
    )
    if architecture == "decoder-only" and both_sides and "reading_rank" not in batch:
        raise InputError(
            f"{kind} reads both sides, so each output would read its answer: a decoder-only model is needed"
        )
    if encoder_decoder and architecture != "encoder-decoder":
        raise InputError(f"{kind} is an encoder-decoder, and this objective needs a model of the kind {architecture}")
    if encoder_decoder and getattr(config, "output_router_logits", False):
        raise InputError(
            f"{kind} computes the loss of its routers from labels, which no model gets, so it would be dropped: switch "
            "it off (config.output_router_logits = False)"
        )
    start, given = decoder_start(model), batch.get("decoder_input_ids")
    if "decoder_position_ids" in batch:
        return
    if start is not None and isinstance(given, Tensor) and given.numel() and bool((given[:, 0] != start).any()):
        raise InputError(
            f"{kind} starts its decoder with {start}, and the batch with {int(given[0, 0])}: its generate() would "
            f"begin with an id that it never saw in training. Set SpecialIds(roles={{'decoder_start': {start}}}), or "
            f"load_tokenizer(..., roles={{'decoder_start': {start}}})"
        )


def decoder_start(model: nn.Module) -> int | None:
    """The id with which `generate()` of an encoder-decoder of `transformers` begins, None where it is not known."""
    configs = [getattr(model, name, None) for name in ("generation_config", "config")]
    found = [getattr(one, name, None) for name in ("decoder_start_token_id", "bos_token_id") for one in configs]
    return next((start for start in found if isinstance(start, int)), None)


def check_all_read(
    objective: Objective, model: nn.Module, inputs: Batch, outputs: ReadRecorder, batch: ReadRecorder
) -> None:
    """Raises `InputError` for a key of the batch or an output of the model that nobody read.

    Padding of a model that reads from the left, and is not given the attention mask, is read by nobody.
    """
    unread = batch.keys() - inputs.keys() - (batch.read - ATTENTION_KEYS) - {"attention_mask"}
    padding = batch.get("attention_mask")
    if objective.architecture != "decoder-only" and padding is not None and "attention_mask" not in inputs:
        unread |= {"attention_mask"} if tracing() or not bool((padding != 0).all()) else set()
    if unread:
        raise InputError(
            f"neither {type(model).__name__} nor the {objective.name} objective reads {', '.join(sorted(unread))} of "
            "the batch: what it says would be ignored without a word"
        )
    if ignored := outputs.keys() - outputs.read:
        raise InputError(
            f"{type(model).__name__} returns {', '.join(sorted(ignored))}, which the {objective.name} objective does "
            "not read: these outputs would be trained by nothing"
        )


@lru_cache(maxsize=256)
def forward_names(kind: type[nn.Module]) -> tuple[str, ...]:
    """The parameters that a model's forward names."""
    parameters = inspect.signature(kind.forward).parameters.values()
    return tuple(p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name != "self")


class ReadRecorder(dict[str, Any]):
    """A dict that records which of its keys were read, and says by name what it does not have.

    A batch, or the outputs of a model.
    """

    def __init__(self, objective: Objective, what: Literal["batch", "outputs"], items: Mapping[str, Any]) -> None:
        super().__init__(items)
        self.read: set[str] = set()
        self.objective, self.what = objective, what

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401  `get` itself

    def __missing__(self, key: str) -> Any:
        has, name = ", ".join(self) or "nothing", self.objective.name
        if self.what == "batch":
            raise InputError(
                f"the {name} objective needs {key!r} of the batch, which has {has}: was it made by the collator of "
                "another objective?"
            )
        raise InputError(
            f"the {name} objective needs the output {key} of the model, which gives {has}"
            f"{' alone' if len(self) == 1 else ''}: {_where_outputs_are(self.objective)}"
        )


def _where_outputs_are(objective: Objective) -> str:
    """Which model has the outputs that an objective reads: its own one, where its class says how to build it."""
    if not objective.declares("build_model"):
        return "a model with several heads returns {output: Prediction}"
    pair = objective.model_for_transformers
    of_others = f", or in {pair}, of models of transformers" if pair else ""
    return f"its heads are in the model that {objective!r}.build_model makes{of_others}"


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
