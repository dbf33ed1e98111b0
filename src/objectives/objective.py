"""The contract: hide, read, predict, and what others need to know of an objective, so that nobody else keeps a list."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor, nn

from ..checks import check_int, check_type, tracing
from ..data.collator import Collator
from ..data.examples import IGNORED, Batch, Examples
from ..data.masking import KNOWN_TO_COLLATOR, scheme_keys
from ..data.special_ids import SpecialIds
from ..errors import InputError
from ..models import build, cross_attention_mask, self_attention_mask
from ..models.language_model import call
from .loss import Counts, Loss, Prediction, Target
from .model_calls import (
    DRAWING_KEYS,
    LOSS_KEYS,
    ReadRecorder,
    check_all_read,
    check_model,
    forward_names,
    predictions,
    unwrapped,
)
from .options import BelowOne, NotNegative, Option, declared_options, options

if TYPE_CHECKING:
    from ..data.tokenizers.tokenizer import Tokenizer
    from ..generation.completion import Completion
    from ..languages import MarkovSource


class Likelihood(enum.Enum):
    """Whether the loss, summed over a text, is -ln p(text)."""

    EXACT = "exact"
    """It is, of what is predicted given the rest."""
    BOUND = "bound"
    """It is an upper bound of it."""
    NONE = "none"
    """It is not."""


@dataclasses.dataclass(frozen=True)
class FloorExercise:
    """How `clozelab floors` trains an objective down to its entropy floor on a `MarkovSource`."""

    symbols: int = 4
    entropy: float = 0.7
    """Nats a symbol."""
    length: int = 16
    """Input tokens of an example."""
    steps: int = 3000
    batch_size: int = 128
    learning_rate: float = 1e-2
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of the objective, where its defaults have no exact floor or a dull one."""
    model: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"d_model": 64, "n_layers": 2})
    """Fields of `ModelConfig` other than those of the preset "tiny"."""


@options
class Objective(nn.Module):
    """What a language model is pretrained on: a corruption, an attention pattern and a loss.

    A subclass is decorated with `@options`, declares its options as annotated fields, and answers

    - **hide**: `corrupt(examples) -> Batch`, a pure function of tokens and noise;
    - **read**: `architecture`, and `reads(batch)` where the architecture alone does not say who reads whom;
    - **predict**: `targets(batch) -> {output: Target}`, from the batch alone.

    `objective(model, batch)`, `objective(logits, batch)` and, where labels say everything, `objective(logits, labels)`
    return a `Loss`. The model may be

    - one of ours (it returns hidden states and owns an `unembedding`): only loss positions are projected at all;
    - one that returns {output: Prediction}, as models with several heads do;
    - any other whose forward names `input_ids` and returns logits (B, T, V) or an object that has `.logits`, as
      Hugging Face's models do.

    The model gets the keys of the batch that its forward names, except labels, weights and count.

    It is differentiable twice, and works inside torch.compile(fullgraph=True), torch.export and torch.func, where
    values cannot be looked at: there all positions are projected, and checks of values do not run.

    Raises `InputError` for a key of the batch that neither model nor objective reads, an output that the objective does
    not read, a batch that was made for another objective, a model that would read its answers or starts its decoder
    with another id, for shapes that do not fit and for labels outside the vocabulary.
    """

    name: ClassVar[str]
    """What the command line calls it."""
    canonical: ClassVar[str] = ""
    """The best-known model that was trained on it."""
    architecture: ClassVar[str]
    """decoder-only, encoder-only or encoder-decoder: a key of `clozelab.models.ARCHITECTURES`."""
    colour: ClassVar[str] = "#000000"
    """In pictures; of Okabe and Ito's palette or Tol's "muted", which colour-blind readers can tell apart."""
    hides: ClassVar[str] = ""
    """What the model does not get to see, in a few words,"""
    attends_to: ClassVar[str] = ""
    """what it reads,"""
    predicts: ClassVar[str] = ""
    """and what it predicts."""
    roles: ClassVar[tuple[str, ...]] = ()
    """Special ids that the vocabulary must hold, as `SpecialIds` names them."""
    likelihood: ClassVar[Likelihood] = Likelihood.NONE
    """Of the sum of the loss over a text; of the first part, where there are several."""
    completes: ClassVar[tuple[str, ...]] = ()
    """What `complete` does with a text: "continue" it, "fill" its blanks, or both."""
    kinds: ClassVar[dict[str, tuple[str, ...]]] = {}
    """Words for the values 0, 1, ... of a `breakdown`, by its name: {"mode": ("R", "S", "X")}. One without words
    counts, as hidden tokens."""
    exercise: ClassVar[FloorExercise] = FloorExercise()
    """What `clozelab floors` trains."""
    recipe: ClassVar[Mapping[str, Any]] = {}
    """Options other than the defaults with which a model learns sooner: `clozelab train` and `compare` begin with them
    (see `with_recipe`)."""
    export_refusal: ClassVar[str | None] = None
    """Why a model of this objective cannot go to Hugging Face; None where it can."""

    model_for_transformers: ClassVar[str | None] = None
    """The class of `clozelab.integrations` that puts models of `transformers` together for this objective."""

    label_smoothing: BelowOne = 0.0
    """Share of a uniform distribution that is mixed into the target, eps / V on each id (PyTorch's convention)."""
    z_loss: NotNegative = 0.0
    """Factor of (log Z)^2, added at each loss position, which keeps the logits from drifting (PaLM, section 5)."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        if "__dataclass_params__" not in vars(cls):
            raise TypeError(f"{cls.__name__} must be decorated with @options, or its options would be its parent's")
        self = super().__new__(cls)
        nn.Module.__init__(self)
        return self

    def __post_init__(self) -> None:
        for name, option in declared_options(type(self)).items():
            option.check(getattr(self, name))

    # ------------------------------------------------------------------ hide

    def corrupt(self, examples: Examples) -> Batch:
        """What the model gets to see, and what it is asked: a pure function of the examples and their noise."""
        raise NotImplementedError(f"{type(self).__name__} must define corrupt(examples)")

    def collator(
        self,
        special: SpecialIds,
        *,
        seed: int = 0,
        epoch: int = 0,
        within_documents: bool = False,
        keep: Collection[str] = (),
        pad_to_multiple_of: int = 1,
    ) -> Collator:
        """The `Collator` that makes this objective's batches.

        Raises `InputError` where the vocabulary has no id for one of the objective's `roles`.
        """
        check_type(special, SpecialIds, "special ids", "give tokenizer.special, or fill in SpecialIds")
        for role in self.roles:
            special[role]
        return Collator(
            self.corrupt,
            special,
            seed=seed,
            epoch=epoch,
            within_documents=within_documents,
            keep=keep,
            extra=self.example_keys(),
            pad_to_multiple_of=pad_to_multiple_of,
        )

    def example_keys(self) -> set[str]:
        """The keys of an example that the corruption reads beyond those of every `Collator`: what its schemes name."""
        schemes = [getattr(self, name) for name in self.unrecorded_options()]
        return {key for scheme in schemes for key in scheme_keys(scheme)} - KNOWN_TO_COLLATOR

    @classmethod
    def with_recipe(cls, **options: Any) -> Self:
        """An objective with the options given and those of its `recipe`, which goes as a whole: without it where one of
        its options is given.

        >>> from clozelab import MaskedLM
        >>> MaskedLM.with_recipe().schedule
        'mask_rate 0.4 to 0.15, evaluated at 0.15'
        >>> MaskedLM.with_recipe(mask_rate=0.3).schedule
        ''
        """
        return cls(**(options if options.keys() & cls.recipe.keys() else {**cls.recipe, **options}))

    @property
    def schedule(self) -> str:
        """How the corruption changes with `Examples.progress`, in words for the report of a run, which by the clock has
        none and refuses it; empty where it does not change."""
        return ""

    def source_length(self, length: int) -> int:
        """How many tokens of text make a row of `length` input tokens."""
        return length

    # ------------------------------------------------------------------ read

    def build_model(self, vocab_size: int, size: str = "tiny", **overrides: Any) -> nn.Module:
        """The transformer that fits this objective, in one of the sizes of `clozelab.models.PRESETS`.

        `overrides` are fields of `ModelConfig`. Weights are drawn from the global random state, as PyTorch's layers do:
        call `torch.manual_seed` first.
        """
        return build(self.architecture, size, vocab_size, **overrides)

    def reads(self, batch: Batch) -> dict[tuple[str, str], Tensor]:
        """Which inputs may move which outputs: {(output, input key): (B, T, S) bool}, end to end.

        By definition of the objective, and not by what a model makes of the batch: a probe holds the model against it.
        """
        if self.architecture != "encoder-decoder":
            return {("logits", "input_ids"): reads_of_one_stack(batch, causal=self.architecture == "decoder-only")}
        tokens, padding, documents = batch["input_ids"], batch.get("attention_mask"), batch.get("document_ids")
        decoder, its_documents = batch["decoder_input_ids"], batch.get("decoder_document_ids")
        cross = cross_attention_mask(decoder, tokens, padding, its_documents, documents)
        own = self_attention_mask(
            decoder, causal=True, attention_mask=batch.get("decoder_attention_mask"), document_ids=its_documents
        )
        return {
            ("logits", "input_ids"): cross.expand(len(tokens)),
            ("logits", "decoder_input_ids"): own.expand(len(tokens)),
        }

    # ------------------------------------------------------------------ predict

    def targets(self, batch: Batch) -> dict[str, Target]:
        """What each output of the model must predict; from the batch alone."""
        return {"logits": Target(batch["labels"])}

    def counts(self, batch: Batch) -> Counts:
        """What the sum of each part is divided by; before any forward pass."""
        batch = ReadRecorder(self, "batch", check_type(batch, Mapping, "the batch"))
        return {name: target.row_counts.sum() for name, target in self.targets(batch).items()}

    def loss(self, outputs: Mapping[str, Prediction], batch: Batch) -> Loss:
        """The loss of the outputs of a model."""
        parts = self.targets(batch).items()
        return Loss({name: target.part(outputs[name], self.label_smoothing, self.z_loss) for name, target in parts})

    def forward(self, model: nn.Module | Tensor, batch: Mapping[str, Tensor] | Tensor) -> Loss:
        """`objective(model, batch)`, `objective(logits, batch)`, or `objective(logits, labels)`."""
        if isinstance(model, Tensor):
            return self._loss_of_logits(model, batch)
        if not isinstance(batch, Mapping) or not batch:
            raise InputError(f"expected a batch, got {type(batch).__name__}: did it come from objective.collator(...)?")
        if not tracing():
            check_model(self.architecture, unwrapped(model), batch)
            self.check_batch(ReadRecorder(self, "batch", batch))  # another one: a look is no use
        batch = ReadRecorder(self, "batch", batch)
        inputs = self.model_inputs(model, batch)
        outputs = ReadRecorder(self, "outputs", predictions(model, call(model, **inputs)))
        loss = self.loss(outputs, batch)
        self.breakdown(batch)
        check_all_read(self, unwrapped(model), inputs, outputs, batch)
        return loss

    def _loss_of_logits(self, logits: Tensor, given: Mapping[str, Tensor] | Tensor) -> Loss:
        """Keys for a model may be there: it was called before. Those that only a loss can read must be read."""
        batch = given if isinstance(given, Mapping) else {"labels": check_type(given, Tensor, "the labels")}
        if "input_ids" in batch and not tracing():
            self.check_batch(ReadRecorder(self, "batch", batch))
        batch = ReadRecorder(self, "batch", batch)
        loss = self.loss(ReadRecorder(self, "outputs", {"logits": Prediction(logits)}), batch)
        self.breakdown(batch)
        if unread := batch.keys() & (LOSS_KEYS | DRAWING_KEYS) - batch.read:
            raise InputError(
                f"the {self.name} objective does not read {', '.join(sorted(unread))} of the batch: was it made by the "
                "collator of another objective?"
            )
        return loss

    def model_inputs(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Batch:
        """The keys of a batch that the model's `forward` names, never a label.

        Raises `InputError` for a forward that does not name `input_ids`.
        """
        named = forward_names(type(unwrapped(model)))
        if "input_ids" not in named:
            raise InputError(
                f"{type(unwrapped(model)).__name__}.forward takes ({', '.join(named)}), not input_ids: give the "
                "objective its logits, objective(model(...), batch)"
            )
        return {key: value for key, value in batch.items() if key in named and key not in LOSS_KEYS}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        """Raises `InputError` where the batch cannot be meant for this objective; called before each forward pass.

        A subclass that looks closer calls this one as well. It refuses an order of reading that the objective's `reads`
        does not know, and labels at padding of an objective that predicts in place.
        """
        order = [key for key in ("reading_rank", "reading_group") if key in batch]
        if order and not self.declares("reads"):
            raise InputError(
                f"the {self.name} objective has an order of reading, and this batch brings another, "
                f"{' and '.join(order)}: was it made by the collator of another objective? A class of your own "
                "declares its order by reads(batch), which is not inherited"
            )
        labels, padding = batch.get("labels"), batch.get("attention_mask")
        if labels is None or padding is None or self.architecture == "encoder-decoder" or labels.shape != padding.shape:
            return
        at_padding = int(((padding == 0) & (labels.long() != IGNORED)).sum())
        if at_padding:
            raise InputError(
                f"{at_padding} labels of this batch stand at padding, and would be in the loss: give {IGNORED} there, "
                "as every collator of clozelab does"
            )

    # ------------------------------------------------------------------ what others ask

    def breakdown(self, batch: Batch) -> dict[str, Tensor]:
        """Integers by which a report splits the loss; they are no parts. `kinds` has words for them.

        (B,) of rows, as a mixture's mode or the number of hidden tokens, or (B, T) of the positions of the only output,
        as whether a target is a copy.
        """
        return {}

    def kind(self, breakdown: str, value: int) -> int | str:
        """The word for a value of a breakdown, or the value itself where `kinds` has none."""
        return self.kinds[breakdown][value] if breakdown in self.kinds else value

    def separate_parts(self) -> set[tuple[str, str]]:
        """Pairs of parts: the first moves no weight that the second moves, but for tables over the vocabulary."""
        return set()

    def copied(self, batch: Batch) -> Tensor | None:
        """(B, T) bool: targets of the only output that stand among the inputs by design; None where there are none."""
        return None

    def uniform_values(self, vocab_size: int) -> dict[str, float]:
        """Nats that a uniform predictor costs, by part."""
        return {"logits": math.log(check_int(vocab_size, "vocab_size", 1))}

    def scored_ids(self, batch: Batch) -> Tensor:
        """The ids of the text that the loss is a likelihood of, any shape: their bytes make bits per byte."""
        labels = next(iter(self.targets(batch).values()))
        return labels.labels[labels.loss_mask]

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """(B,) nats by part: what the best possible model of this source pays for each row of the batch.

        Raises `InputError` where no exact floor is known.
        """
        raise InputError(f"no exact floor is known for {self.name}")

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """What a trained model makes of a text, as `completes` says: continues it, or fills its blanks (`___`).

        `sampling` goes to `clozelab.generation`: temperature, top_k, top_p, greedy, generator, and each function's own.
        """
        raise InputError(f"a model of the {self.name} objective completes no text")

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """What a trained model can do with the same text as the models of other objectives."""
        return self.complete(model, tokenizer, text, max_new_tokens=24, **sampling)

    # ------------------------------------------------------------------ options

    @classmethod
    def declares(cls, claim: str) -> bool:
        """Whether the class itself says who reads whom ("reads"), knows its floor ("entropy_floor"), or has a model of
        its own ("build_model")."""
        own, default = (inspect.unwrap(getattr(kind, claim)) for kind in (cls, Objective))
        return own is not default

    @classmethod
    def declared_options(cls) -> dict[str, Option]:
        """The options of the class by name: type, default, bounds and help."""
        return declared_options(cls)

    def options(self) -> dict[str, Any]:
        """The options as JSON can hold them: `type(objective)(**options)` brings it back; without functions."""
        values = {name: getattr(self, name) for name in declared_options(type(self))}
        return {name: value for name, value in values.items() if not callable(value)}

    def unrecorded_options(self) -> dict[str, str]:
        """Options that are functions, which no file can hold, with their names."""
        values = {name: getattr(self, name) for name in declared_options(type(self))}
        return {
            name: getattr(value, "__name__", type(value).__name__) for name, value in values.items() if callable(value)
        }

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        own = declared_options(type(self)).items()
        shown = {name: getattr(self, name) for name, option in own if getattr(self, name) != option.default}
        return ", ".join(f"{name}={getattr(value, '__name__', repr(value))}" for name, value in shown.items())


def reads_of_one_stack(batch: Batch, *, causal: bool = True, reading_rank: Tensor | None = None) -> Tensor:
    """(B, T, T) bool: which tokens of `input_ids` each place reads, among those of its text and its document.

    In the order of a `reading_rank` (B, T) where one is given; else from the left, or all.
    """
    tokens = batch["input_ids"]
    mask = self_attention_mask(
        tokens,
        causal=causal,
        attention_mask=batch.get("attention_mask"),
        document_ids=batch.get("document_ids"),
        reading_rank=reading_rank,
    )
    return mask.expand(len(tokens))
