"""The rows of one objective: what its model reads from a batch, and what it must predict there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from torch import Tensor

from ..data import IGNORED, Batch, Tokenizer
from ..objectives import Objective
from ..objectives.model_calls import LOSS_KEYS
from .columns import Line
from .legend import HIDING, IN_LOSS, KEPT, QUIET, RANDOM, READ, SPECIAL, Seen
from .tokens import cuts_words, special_names, text_cells, token_texts

TOKENS = {"input_ids", "decoder_input_ids"}
"""Keys of a batch that are shown as tokens."""
MASKS = {"attention_mask", "decoder_attention_mask"}
"""Keys that are left out where they say nothing."""


@dataclass
class Picture:
    """The lines of one objective."""

    objective: Objective
    batch: Batch
    text: list[int]
    tokenizer: Tokenizer
    groups: list[list[Line]] = field(default_factory=list)
    """Lines in common columns."""
    seen: Seen = field(default_factory=Seen)
    left_out: list[str] = field(default_factory=list)
    """Keys of the batch."""
    hidden_as: dict[int, str] = field(default_factory=dict)
    """Where a hidden token is predicted whose place the inputs have: "mask", "random" or "kept"."""

    def __post_init__(self) -> None:
        self.spaces = cuts_words(self.tokenizer, self.text)
        self.seen.ids.update(self.text)
        inputs = self.batch["input_ids"][0].tolist()
        words = text_cells(self.tokenizer, self.text, spaces=self.spaces)
        text = Line("text", [(word, QUIET) for word in words])
        targets = self._targets()
        if "decoder_input_ids" in self.batch:
            decoder = self._cells(self.batch["decoder_input_ids"][0].tolist())
            self.groups = [
                [text],
                [Line("encoder reads", self._cells(inputs)), *self.flags("input_ids")],
                [Line("decoder reads", decoder), *self.flags("decoder_input_ids"), *targets],
            ]
        else:
            hidden_as = self.hidden_as = self._hidden_as(inputs)
            styles = {"random": RANDOM, "kept": KEPT}
            reads = Line("reads", self._cells(inputs, lambda t: styles.get(hidden_as.get(t, ""), READ)))
            lines = [reads, *self._hiding(hidden_as), *self.flags("input_ids"), *targets]
            self.groups = [[text, *lines]] if len(inputs) == len(self.text) else [[text], lines]
        self.left_out = [*self._left_out()]
        self.seen.labels = {line.label for lines in self.groups for line in lines}
        self.seen.cells = {cell for lines in self.groups for line in lines for cell in line.cells}

    @property
    def title(self) -> list[tuple[str, str]]:
        """Name, model, and what is hidden, read and predicted: texts with their styles."""
        one = self.objective
        summary = f"hides {one.hides}; reads {one.attends_to}; predicts {one.predicts}"
        return [(one.name, "bold"), (f" ({one.canonical}, {one.architecture}): {summary}", READ)]

    @property
    def margin(self) -> int:
        """Terminal cells of the labels."""
        return max(map(len, self.seen.labels)) + 2

    def notes(self) -> Iterator[str]:
        """The options, and how much is in the loss."""
        if used := options_line(self.objective):
            yield used
        targets = self.objective.targets(self.batch)
        for name, target in targets.items():
            of = "" if len(targets) == 1 else f"{name}: "
            here, count = int(target.loss_mask.sum()), int(target.row_counts.sum())
            divided = "" if count == here else f"; their sum is divided by {count}"
            yield f"{of}{here} of {target.labels.shape[1]} outputs are in the loss{divided}"

    def words(self, ids: list[int]) -> list[str]:
        return token_texts(self.tokenizer, ids, spaces=self.spaces)

    def _cells(self, ids: list[int], style: Callable[[int], str] = lambda t: READ) -> list[tuple[str, str]]:
        self.seen.ids.update(ids)
        special = {*special_names(self.tokenizer.special), self.tokenizer.special.pad, self.tokenizer.special.eos}
        return [
            (word, SPECIAL if one in special and style(t) == READ else style(t))
            for t, (one, word) in enumerate(zip(ids, self.words(ids)))
        ]

    def flags(self, key: str) -> list[Line]:
        """A line for each further key of the batch with a number for each token of the sequence."""
        lines = []
        for name, value in self._further():
            if _sequence_of(name) == key and value.shape == self.batch[key].shape and not _says_nothing(name, value):
                label = name.removeprefix("decoder_").removeprefix("reading_").removesuffix("_ids").replace("_", " ")
                digits = ".2g" if value.is_floating_point() else "g"
                lines.append(Line(label, [(f"{number:{digits}}", READ) for number in value[0].tolist()]))
        return lines

    def _left_out(self) -> Iterator[str]:
        for name, value in self._further():
            if _says_nothing(name, value):
                yield f"{name} (1 everywhere: nothing is padded)"
            elif value.shape != self.batch[_sequence_of(name)].shape:
                yield f"{name} ({'a number for each text' if value.dim() == 1 else 'x'.join(map(str, value.shape))})"

    def _further(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, value) for name, value in self.batch.items() if name not in TOKENS | LOSS_KEYS)

    def _targets(self) -> list[Line]:
        """What each output must predict, and its weight."""
        lines = []
        targets = self.objective.targets(self.batch)
        for name, target in targets.items():
            suffix = "" if len(targets) == 1 else f" ({name})"
            answers, weights = target.labels[0], target.weights
            verb = "replaced?" if target.detects_replaced else "predicts"
            lines.append(Line(f"{verb}{suffix}", _or_dots(answers, self._answers(name, answers))))
            if target.soft_labels is not None:
                ids, probabilities = target.soft_labels
                lines += self.soft_labels(ids[0], probabilities[0], answers != IGNORED)
            if weights is not None:
                numbers = [f"{weight:.3g}" for weight in weights[0].tolist()]
                lines.append(Line(f"weight{suffix}", _or_dots(answers, numbers)))
        return lines

    def _answers(self, name: str, answers: Tensor) -> list[str]:
        """What an output must predict: tokens, or numbers where it has other classes."""
        if not self.predicts_ids(name):
            return [str(one) for one in answers.tolist()]
        self.seen.ids.update(answers[answers != IGNORED].tolist())
        return self.words(answers.clamp(min=0).tolist())

    def predicts_ids(self, name: str) -> bool:
        """Whether the labels of an output are ids of the vocabulary."""
        vocab_size = self.tokenizer.vocab_size
        uniform = self.objective.uniform_values(vocab_size).get(name, 0.0)
        return self.objective.targets(self.batch)[name].detects_replaced or math.isclose(uniform, math.log(vocab_size))

    def soft_labels(self, ids: Tensor, probabilities: Tensor, in_loss: Tensor) -> Iterator[Line]:
        """The likeliest ids (T, K) of each position with their probabilities, up to the third; the first is known."""
        order = probabilities.argsort(-1, descending=True)[:, :3]
        ids, probabilities = ids.gather(-1, order), probabilities.gather(-1, order)
        for n, (one, share) in enumerate(zip(ids.unbind(-1), probabilities.unbind(-1)), start=1):
            here = one.masked_fill(~in_loss | (share < 0.005), IGNORED)
            if n > 1:
                yield Line(f"no. {n}", _or_dots(here, self.words(one.tolist())))
            yield Line("probability", _or_dots(here, [f"{p:.2f}" for p in share.tolist()]))

    def _hidden_as(self, inputs: list[int]) -> dict[int, str]:
        """By position: whether the token that is to be predicted is masked there, random or kept."""
        special = {*self.tokenizer.special.all}
        return {
            place: "kept" if inputs[place] == self.text[place] else "mask" if inputs[place] in special else "random"
            for place in self._predicted_places(inputs)
        }

    def _predicted_places(self, inputs: list[int]) -> list[int]:
        """The positions of tokens that are hidden where they stand; none where a model only reads what was before.

        Their outputs stand at the same position (BERT), or one earlier.
        """
        if len(inputs) != len(self.text):
            return []
        for target, shift in product(self.objective.targets(self.batch).values(), (0, 1)):
            answers = {t + shift: one for t, one in enumerate(target.labels[0].tolist()) if one != IGNORED}
            own = len(answers) > 0 and all(at < len(inputs) and one == self.text[at] for at, one in answers.items())
            hidden = own and any(inputs[at] != self.text[at] for at in answers)
            if hidden or (own and shift == 0 and self.objective.architecture == "encoder-only"):
                return list(answers)
        return []

    def _hiding(self, hidden_as: dict[int, str]) -> list[Line]:
        """A line that names random and kept tokens; none where all that is hidden is masked."""
        if not {"random", "kept"} & {*hidden_as.values()}:
            return []
        words = [hidden_as.get(t, "") for t in range(len(self.text))]
        styles = {"": QUIET, "mask": SPECIAL, "random": RANDOM, "kept": KEPT}
        return [Line(HIDING, [(word or "·", styles[word]) for word in words])]


def _sequence_of(key: str) -> str:
    return "decoder_input_ids" if key.startswith("decoder_") else "input_ids"


def _says_nothing(key: str, value: Tensor) -> bool:
    return key in MASKS and bool((value == 1).all())


def _or_dots(answers: Tensor, words: list[str]) -> list[tuple[str, str]]:
    in_loss = (answers != IGNORED).tolist()
    return [(word, IN_LOSS) if here else ("·", QUIET) for here, word in zip(in_loss, words)]


def options_line(objective: Objective) -> str:
    """The options that are the objective's own, and others that were changed, as one line."""
    common = {one.name for one in dataclasses.fields(Objective)}
    shown, changed = [], False
    for name, option in type(objective).declared_options().items():
        value = getattr(objective, name)
        if value != option.default:
            changed = True
            shown.append(f"{name} {_option(value)} (default {_option(option.default)})")
        elif name not in common:
            shown.append(f"{name} {_option(value)}")
    changes = f"; {objective.schedule}: what is shown is the end of a run" if objective.schedule else ""
    return f"with {', '.join(shown)}{'' if changed else ': the defaults of training'}{changes}" if shown else ""


def _option(value: Any) -> str:
    return getattr(value, "__name__", None) or str(value)
