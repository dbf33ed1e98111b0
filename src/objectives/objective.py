"""The contract: what every objective answers, and what every loss is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..checks import number, whole_number
from ..data.collator import Collator
from ..data.documents import checked_text
from ..data.hiding import IGNORED, Hide
from ..data.pairs import Ids
from ..data.special import SpecialIds
from ..data.tokenizer import Tokenizer
from ..errors import InputError
from ..models import LanguageModel, build
from ..models.language_model import call
from .cross_entropy import loss_terms, unembedded_terms

MODEL_KEYS = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "position_ids",
    "document_ids",
    "decoder_input_ids",
    "decoder_attention_mask",
    "decoder_document_ids",
)
"""The keys of a batch that a model reads. The labels are not among them: models never see labels."""
OTHERS_KEYS = ("token_type_ids", "position_ids")
"""Those of them that only other people's models have a use for."""


@dataclass(frozen=True)
class Loss:
    """A sum over paid positions, and how many there were. The mean is taken once, over all that a step saw.

    Averages of averages are the most common mistake in accumulation: token losses [4] and [1, 1, 1] have the
    mean 1.75, not 2.5. So losses are added, sums with sums and counts with counts, and divided at the end:

    >>> one = Loss(torch.tensor(4.0), torch.tensor(1))
    >>> three = Loss(torch.tensor(3.0), torch.tensor(3))
    >>> (one + three).mean
    tensor(1.7500)

    Under accumulation, back-propagate `loss.sum` of each micro-batch and divide the gradients by the total
    count; a batch with nothing to predict adds zero to both and still back-propagates.
    """

    sum: Tensor
    """Scalar, nats: what is back-propagated, all terms together."""
    count: Tensor
    """Scalar int64: paid positions."""
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """What `sum` is made of, detached, nats: `cross_entropy`, and `label_smoothing` and `z_loss` where asked for."""

    @property
    def mean(self) -> Tensor:
        """Nats per paid position; zero, and still differentiable, where nothing is paid."""
        return self.sum / self.count.clamp(min=1)

    def __radd__(self, other: int) -> Loss:
        """So that `sum(losses)`, which begins with 0, works."""
        return self if other == 0 else NotImplemented

    def __add__(self, other: Loss) -> Loss:
        if not isinstance(other, Loss):
            return NotImplemented
        terms = dict(self.terms)
        for name, term in other.terms.items():
            terms[name] = terms[name] + term if name in terms else term
        return Loss(self.sum + other.sum, self.count + other.count, terms)


class Objective(nn.Module):
    """What a language model is pretrained on: a way of hiding, a model that may read the rest, and what is paid.

    `objective(model, batch)` and `objective(logits, labels)` both return a `Loss`. The model may be

    - one of ours (it returns hidden states and owns an `unembedding`): only paid positions are projected onto the
      vocabulary at all;
    - any other that takes the batch's keys by name and returns logits (B, T, V) or an object that has `.logits`,
      as Hugging Face's models do.

    `label_smoothing` eps mixes the target with a uniform distribution over all V ids (PyTorch's convention:
    eps/V on each; T5X and fairseq put eps'/(V-1) on the wrong ones, which is the same for eps = eps' V/(V-1)).
    `z_loss` adds z (log Z)^2 for each paid position, which keeps the logits from drifting (PaLM, section 5).

    Raises `InputError` for shapes that do not fit and labels outside the vocabulary.
    """

    hides: ClassVar[str]
    reads: ClassVar[str]
    predicts: ClassVar[str]
    canonical: ClassVar[str]
    name: ClassVar[str]
    architecture: ClassVar[str]
    is_likelihood: ClassVar[bool] = False
    """Whether the loss is -log p(text), so that bits per byte are defined."""

    def __init__(self, *, label_smoothing: float = 0.0, z_loss: float = 0.0, **settings: Any) -> None:
        super().__init__()
        if not 0.0 <= number(label_smoothing, "label_smoothing") < 1.0:
            raise InputError(f"label_smoothing must lie in [0, 1), got {label_smoothing!r}")
        if not 0.0 <= number(z_loss, "z_loss") < float("inf"):
            raise InputError(f"z_loss must not be negative, and finite, got {z_loss!r}")
        self.label_smoothing = label_smoothing
        self.z_loss = z_loss
        self.settings = {**settings, "label_smoothing": label_smoothing, "z_loss": z_loss}
        """What distinguishes this objective from another of its kind, as a run folder records it."""

    # ------------------------------------------------------------------ hide

    @property
    def hide(self) -> Hide:
        """What the collator does to an example."""
        raise NotImplementedError(f"{type(self).__name__} must say how it hides")

    def collator(
        self, special: SpecialIds, *, seed: int = 0, epoch: int = 0, within_documents: bool = False
    ) -> Collator:
        """The collator that makes this objective's batches."""
        return Collator(self.hide, special, seed=seed, epoch=epoch, within_documents=within_documents)

    def raw_length(self, length: int) -> int:
        """How many tokens of text make a row of `length` input tokens."""
        return length

    # ------------------------------------------------------------------ read

    def build_model(self, vocab_size: int, size: str = "tiny", **overrides: Any) -> nn.Module:
        """The transformer that fits this objective, in one of the sizes of `clozelab.models.PRESETS`.

        `overrides` are fields of `ModelConfig`. Weights are drawn from the global random state, as PyTorch's
        layers do: call `torch.manual_seed` first.
        """
        return build(self.architecture, size, vocab_size, **overrides)

    # ------------------------------------------------------------------ predict

    def align(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Which output answers which label: (B, T, ...) and (B, T), place by place unless the objective shifts."""
        return outputs, labels

    def forward(self, model: nn.Module | Tensor, batch: Mapping[str, Any] | Tensor) -> Loss:
        """`objective(model, batch)`, or `objective(logits, labels)` with logits (B, T, V) and labels (B, T)."""
        if isinstance(model, Tensor):
            if not isinstance(batch, Tensor):
                raise InputError(f"logits go with a tensor of labels, got {type(batch).__name__}")
            return self._pay(model, batch, None)
        if not isinstance(batch, Mapping) or "labels" not in batch:
            came = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise InputError(f"expected a batch with 'labels', got {came}: did it come from objective.collator(...)?")
        for key in ("input_ids", "labels"):
            if not isinstance(batch.get(key), Tensor) or batch[key].dim() != 2:
                raise InputError(f"expected {key!r} (B, T) in the batch, got {type(batch.get(key)).__name__}")
        self.check_batch(batch)
        if isinstance(getattr(model, "module", None), LanguageModel) and not hasattr(model, "unembedding"):
            # Its hidden states would be taken for logits.
            raise InputError(
                f"expected a model, got a {type(model).__name__} around one, which hides its unembedding: put it "
                "around clozelab.training.Paying(objective, model), and the loss is Loss(*paying(batch))"
            )
        theirs = OTHERS_KEYS if isinstance(model, LanguageModel) else ()
        output = call(model, **{key: batch[key] for key in MODEL_KEYS if key in batch and key not in theirs})
        if isinstance(output, Tensor):
            return self._pay(output, batch["labels"], getattr(model, "unembedding", None))
        if not hasattr(output, "logits"):
            raise InputError(
                f"expected the model to return logits or an object with .logits, got {type(output).__name__}: "
                "is this a model without a language-modelling head?"
            )
        return self._pay(output.logits, batch["labels"], None)

    def paid(self, batch: Mapping[str, Any]) -> Tensor:
        """Which outputs are paid for: bool, of the shape to which `align` brings the labels."""
        _, labels = self.align(batch["labels"], batch["labels"])
        return labels != IGNORED

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        """Raises `InputError` where the batch cannot be meant for this objective."""
        if "decoder_input_ids" in batch:
            raise InputError(f"this batch has decoder_input_ids: it was made for span corruption, not for {self.name}")

    def _pay(self, outputs: Tensor, labels: Tensor, unembedding: Tensor | None) -> Loss:
        if labels.dtype != torch.int64:
            if labels.is_floating_point() or labels.dtype == torch.bool:
                raise InputError(f"expected labels that are ids, or {IGNORED}, got {labels.dtype}")
            labels = labels.long()
        if outputs.dim() < 2 or outputs.shape[:-1] != labels.shape or not outputs.is_floating_point():
            raise InputError(
                f"expected outputs {('(B, T, V)', '(B, T, D)')[unembedding is not None]} and labels (B, T), got "
                f"{tuple(outputs.shape)} {outputs.dtype} and {tuple(labels.shape)}: do labels and inputs come from the "
                "same batch?"
            )
        outputs, labels = self.align(outputs, labels)
        paid = labels != IGNORED
        outputs, labels = outputs[paid], labels[paid]  # (N, V) or (N, D), and (N,): only what is paid
        vocab_size = outputs.shape[-1] if unembedding is None else len(unembedding)
        if labels.numel() and not (int(labels.min()) >= 0 and int(labels.max()) < vocab_size):
            raise InputError(
                f"labels must lie in 0 .. {vocab_size - 1} or be {IGNORED}, got {int(labels.min())} .. "
                f"{int(labels.max())}: was the vocabulary grown after the model was made?"
            )
        return self._loss(outputs, labels, unembedding)

    def _loss(self, outputs: Tensor, labels: Tensor, unembedding: Tensor | None) -> Loss:
        settings = self.label_smoothing, self.z_loss
        if unembedding is None:
            terms = loss_terms(outputs, labels, *settings)
            total = torch.stack(tuple(terms.values())).sum()
        else:
            total, terms = unembedded_terms(outputs, unembedding, labels, *settings)
        count = torch.tensor(len(labels), device=labels.device)
        return Loss(total, count, {name: term.detach() for name, term in terms.items()})

    def extra_repr(self) -> str:
        """The settings, for `print(objective)`."""
        return ", ".join(f"{key}={value!r}" for key, value in self.settings.items())

    # ------------------------------------------------------------------ and afterwards

    def pairs(self, prompts: Ids, answers: Ids, special: SpecialIds) -> dict[str, Tensor]:
        """A batch for fine-tuning, in the form that this objective was pretrained on: only the answers are paid.

        Prompts and answers are rows of token ids, of any lengths; see `clozelab.data.pairs`.
        """
        raise NotImplementedError(f"{type(self).__name__} must say how it is taught an answer")

    def answer(
        self, model: nn.Module, prompts: Ids, special: SpecialIds, *, tokens: int | Sequence[int], **sampling: Any
    ) -> list[list[int]]:
        """What a model answers to prompts, as `pairs` taught it: ids without end of text, a list for each prompt.

        `tokens` is how long an answer may be, and for masked LM how long it is: one number, or one for each prompt.
        `sampling` are the keywords of `clozelab.models.sample_token`; greedy=True for the likeliest.
        """
        raise NotImplementedError(f"{type(self).__name__} must say how it answers")

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """What a trained model makes of a text: goes on with it, or fills its blanks (`___`).

        `sampling` goes to the functions of `clozelab.models.generation`: temperature, top_k, top_p, greedy,
        generator, and each one's own.
        """
        raise NotImplementedError(f"{type(self).__name__} must say what its models can do")

    def demonstrate(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """What a trained model can do with the same text as the models of other objectives, a few blanks made in it."""
        raise NotImplementedError(f"{type(self).__name__} must say what its models can do")


BLANK = "___"
"""Stands for what is to be filled in a text: one token for masked LM, any number for span corruption."""


@dataclass(frozen=True)
class Completion:
    """A text of which a model said some parts.

    >>> answer = Completion((("The cat ", False), ("sat", True), (" down.", False)))
    >>> str(answer), answer.marked()
    ('The cat sat down.', 'The cat [sat] down.')
    """

    parts: tuple[tuple[str, bool], ...]
    """(text, whether the model said it)"""

    @classmethod
    def of(cls, tokenizer: Tokenizer, ids: Iterable[int], said: Iterable[bool]) -> Completion:
        """From token ids and, for each, whether the model said it. Neighbours are decoded together."""
        runs = groupby(zip(ids, said), key=lambda pair: pair[1])
        return cls(tuple((tokenizer.decode([id for id, _ in run]), by_model) for by_model, run in runs))

    def marked(self, left: str = "[", right: str = "]") -> str:
        """The text with brackets around what the model said."""
        return "".join(f"{left}{text}{right}" if said else text for text, said in self.parts)

    def __str__(self) -> str:
        return "".join(text for text, _ in self.parts)


Model = TypeVar("Model", bound=nn.Module)


def paired(model: nn.Module, kind: type[Model]) -> Model:
    """The model, once it is known to be of the kind that the objective speaks through.

    Raises `InputError` for another: a causal model cannot fill, an encoder cannot go on.
    """
    if not isinstance(getattr(model, "_orig_mod", model), kind):  # torch.compile puts a wrapper around
        raise InputError(f"expected a {kind.__name__}, got {type(model).__name__}: was it trained by this objective?")
    return model  # pyright: ignore[reportReturnType]


def lengths_of(prompts: Ids, tokens: int | Sequence[int]) -> list[int]:
    """How long each answer may be. Raises `InputError` for another number of lengths than of prompts, or of none."""
    each = tokens if isinstance(tokens, Sequence) else [tokens] * len(prompts)
    lengths = [whole_number(n, "the length of an answer") for n in each]
    if len(lengths) != len(prompts) or min(lengths, default=1) < 1:
        raise InputError(f"expected lengths of at least 1 for {len(prompts)} answers, got {tokens!r:.80}")
    return lengths


def before_end(ids: Sequence[int], eos: int) -> list[int]:
    """What was said before the end of text."""
    said = list(ids)
    return said[: said.index(eos)] if eos in said else said


def encode_blanks(tokenizer: Tokenizer, text: str, blanks: Iterable[int]) -> list[int]:
    """Token ids of a text, its blanks in order replaced by the ids `blanks`.

    The space before a blank is left out: in byte-level vocabularies a word brings its own, and so will the answer.

    Raises `InputError` for a text without a blank, or with more of them than ids to stand there.
    """
    if BLANK not in checked_text(text):
        raise InputError(f"expected a text with blanks written {BLANK}, got {text!r:.80}")
    *before, last = text.split(BLANK)
    ids: list[int] = []
    stand_ins = iter(blanks)
    for done, piece in enumerate(before):
        blank = next(stand_ins, None)
        if blank is None:
            raise InputError(
                f"the text has {len(before)} blanks, but only {done} ids can stand in their place: give it in parts, "
                "or train with more sentinels"
            )
        ids += [*tokenizer.encode(piece.removesuffix(" ")), blank]
    return [*ids, *tokenizer.encode(last)]
