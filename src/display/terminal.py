"""What objectives hide, read and predict, in colour, from the batches that their models would get."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.text import Text
from torch import Tensor

from ..checks import check_type
from ..data import IGNORED, Batch, SpecialIds, Tokenizer, train_bpe
from ..data.corpora.documents import checked_text
from ..errors import InputError
from ..objectives import Objective
from ..objectives.model_calls import LOSS_KEYS
from .tokens import special_names, token_texts

READ, SPECIAL, RANDOM, IN_LOSS, QUIET = "default", "bold yellow", "bold magenta", "bold green", "dim"
SEQUENCES = {"input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask"}
"""Keys of a batch that the picture shows as tokens, or not at all."""


def word_tokenizer(text: str, roles: Sequence[str] = ()) -> Tokenizer:
    """A tokenizer whose tokens are the words of one text, as byte-level BPE with enough merges makes it.

    Its single bytes are declared special ids, so that a random replacement is another word of the text. `roles` are
    those of the objectives that the text is shown to.

    >>> from clozelab.display import word_tokenizer
    >>> tokenizer = word_tokenizer("the cat sat")
    >>> tokenizer.pieces(tokenizer.encode("the cat sat"))
    ['the', ' cat', ' sat']

    Raises `InputError` for what is not a text.
    """
    tokenizer = train_bpe([checked_text(text)] * 2, vocab_size=30_000, roles=roles)
    special = tokenizer.special
    words = {*tokenizer.encode(text), *special.all}
    others = [one for one in range(tokenizer.vocab_size) if one not in words]
    return Tokenizer(tokenizer.backend, replace(special, others=others))


def show_objectives(
    objectives: Sequence[Objective], tokenizer: Tokenizer, text: str, *, seed: int = 0
) -> RenderableType:
    """What each objective makes of a text: aligned lines for each sequence that its model reads, and a legend.

    Below what is read stands what must be predicted there, with its weight where the objective has weights. Other keys
    of the batch with one number a token (`reading_rank`, `document_ids`) are lines of their own. `seed` is that of the
    noise. The result is for `rich.print`.

    Raises `InputError` for a text without tokens, and for a vocabulary that lacks a role of an objective.
    """
    check_type(objectives, Sequence, "the objectives", "put one in a list")
    check_type(tokenizer, Tokenizer, "the tokenizer")
    tokens = torch.tensor([tokenizer.encode(text)])
    if tokens.numel() == 0:
        raise InputError("the text is empty: nothing can be hidden in it")
    shown, seen, labels = [], set[int](), {"·"}
    for objective in objectives:
        check_type(objective, Objective, "the objective")
        batch = objective.collator(tokenizer.special, seed=seed).block(tokens, [0])
        picture = _Picture(objective, batch, tokens[0].tolist(), tokenizer)
        shown.append(picture.render())
        seen |= picture.seen
        labels |= {line.label for lines in picture.groups for line in lines}
    return Group(*shown, *_legend(tokenizer, seen, labels))


def depends_on_seed(objective: Objective, tokenizer: Tokenizer, text: str) -> bool:
    """Whether `show_objectives` shows another row of this text with another seed, of eight.

    >>> from clozelab import CausalLM, MaskedLM
    >>> from clozelab.display import depends_on_seed, word_tokenizer
    >>> text = "the cat sat on the mat"
    >>> [depends_on_seed(one, word_tokenizer(text), text) for one in (CausalLM(), MaskedLM())]
    [False, True]
    """
    tokens = torch.tensor([tokenizer.encode(text)])
    first, *others = (objective.collator(tokenizer.special, seed=seed).block(tokens, [0]) for seed in range(8))
    return any(not torch.equal(first[key], other[key]) for other in others for key in first)


@dataclass(frozen=True)
class Line:
    """One row of cells, each a text and a style, aligned with the other lines of its group."""

    label: str
    cells: list[tuple[str, str]]


@dataclass
class _Picture:
    """The lines of one objective."""

    objective: Objective
    batch: Batch
    text: list[int]
    tokenizer: Tokenizer
    groups: list[list[Line]] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    """Ids that are shown."""
    replaced: dict[int, str] = field(default_factory=dict)
    """By position: what a random token stands in the place of."""
    kept: dict[int, str] = field(default_factory=dict)
    """By position: a token that is in the loss though it can be read."""

    def __post_init__(self) -> None:
        inputs = self.batch["input_ids"][0].tolist()
        text = Line("text", self._cells(self.text, lambda t: QUIET))
        targets = self._targets()
        if "decoder_input_ids" in self.batch:
            decoder = self._cells(self.batch["decoder_input_ids"][0].tolist())
            self.groups = [
                [text],
                [Line("encoder reads", self._cells(inputs)), *self._flags("input_ids")],
                [Line("decoder reads", decoder), *self._flags("decoder_input_ids"), *targets],
            ]
            return
        self.replaced, self.kept = self._replaced(inputs)
        reads = Line("reads", self._cells(inputs, lambda t: RANDOM if t in self.replaced else READ))
        lines = [reads, *self._flags("input_ids"), *targets]
        self.groups = [[text, *lines]] if len(inputs) == len(self.text) else [[text], lines]

    def render(self) -> RenderableType:
        """A title, the lines, and what a reader could take for a mistake."""
        objective = self.objective
        title = Text.assemble(
            (f"{objective.name} ", "bold"),
            f"({objective.canonical}, {objective.architecture}): hides {objective.hides}; reads "
            f"{objective.attends_to}; predicts {objective.predicts}",
        )
        inputs = token_texts(self.tokenizer, self.batch["input_ids"][0].tolist())
        notes = [f"{inputs[t]}: drawn at random, in the place of {word}" for t, word in self.replaced.items()]
        notes += [f"{word}: left as it was, and still in the loss" for word in self.kept.values()]
        below = [Text(line, style="italic") for line in (*self._counts(), *notes)]
        return Group(title, *(Columns(lines) for lines in self.groups), *below, Text())

    def _cells(self, ids: list[int], style: Callable[[int], str] = lambda t: READ) -> list[tuple[str, str]]:
        self.seen.update(ids)
        special = {*special_names(self.tokenizer.special), self.tokenizer.special.pad, self.tokenizer.special.eos}
        return [
            (word, SPECIAL if one in special and style(t) == READ else style(t))
            for t, (one, word) in enumerate(zip(ids, token_texts(self.tokenizer, ids)))
        ]

    def _flags(self, key: str) -> list[Line]:
        """A line for each further key of the batch with a number for each token of the sequence."""
        names = [
            name
            for name, value in self.batch.items()
            if name not in SEQUENCES | LOSS_KEYS
            and value.shape == self.batch[key].shape
            and name.startswith("decoder_") == key.startswith("decoder_")
        ]
        return [
            Line(
                name.removeprefix("decoder_").removeprefix("reading_").replace("_ids", ""),
                [(f"{number:g}", READ) for number in self.batch[name][0].tolist()],
            )
            for name in names
        ]

    def _targets(self) -> list[Line]:
        """What each output must predict, and its weight."""
        lines = []
        targets = self.objective.targets(self.batch)
        for name, target in targets.items():
            suffix = "" if len(targets) == 1 else f" ({name})"
            answers, weights = target.labels[0], target.weights
            self.seen.update(answers[answers != IGNORED].tolist())
            lines.append(Line(f"predicts{suffix}", self._or_dots(answers, self._words(answers))))
            if weights is not None:
                numbers = [f"{weight:.3g}" for weight in weights[0].tolist()]
                lines.append(Line(f"weight{suffix}", self._or_dots(answers, numbers)))
        return lines

    def _words(self, answers: Tensor) -> list[str]:
        return token_texts(self.tokenizer, answers.clamp(min=0).tolist())

    def _or_dots(self, answers: Tensor, words: list[str]) -> list[tuple[str, str]]:
        in_loss = (answers != IGNORED).tolist()
        return [(word, IN_LOSS) if here else ("·", QUIET) for here, word in zip(in_loss, words)]

    def _replaced(self, inputs: list[int]) -> tuple[dict[int, str], dict[int, str]]:
        """(random tokens, kept tokens) by position, where each output predicts its own position."""
        if self.objective.architecture != "encoder-only" or len(inputs) != len(self.text):
            return {}, {}
        special = self.tokenizer.special
        words = token_texts(self.tokenizer, self.text)
        in_loss = torch.stack([target.loss_mask[0] for target in self.objective.targets(self.batch).values()]).any(0)
        changed = [read != own for read, own in zip(inputs, self.text)]
        random = {t: words[t] for t, other in enumerate(changed) if other and inputs[t] not in special.all}
        kept = {t: words[t] for t, other in enumerate(changed) if not other and bool(in_loss[t])}
        return random, kept

    def _counts(self) -> Iterator[str]:
        targets = self.objective.targets(self.batch)
        for name, target in targets.items():
            of = "" if len(targets) == 1 else f"{name}: "
            here, count = int(target.loss_mask.sum()), int(target.row_counts.sum())
            divided = "" if count == here else f"; their sum is divided by {count}"
            yield f"{of}{here} of {target.labels.shape[1]} outputs are in the loss{divided}"


def _legend(tokenizer: Tokenizer, seen: set[int], labels: set[str]) -> Iterator[Text]:
    """What the signs mean that were shown."""
    special: SpecialIds = tokenizer.special
    names = special_names(special)
    sentinels = [names[one] for one in special.sentinels if one in seen]
    roles = [names[one] for one in special.roles.values() if one in seen and one in names]
    start, eos = tokenizer.pieces([special["decoder_start"], special.eos])
    lines = [
        ("·", "not in the loss", True),
        ("[M]", "the mask token, in the place of one hidden token", special.mask in seen),
        (", ".join(sentinels), "sentinels: each stands for a hidden run, and opens it in the targets", bool(sentinels)),
        (" ".join(roles), "role tokens, which mark the parts of a text that was moved", bool(roles)),
        (start, "opens the decoder's text", special["decoder_start"] in seen),
        (eos, "end of text", special.eos in seen),
        ("rank", "a token reads the tokens of its own rank and of lower ranks", "rank" in labels),
        ("weight", "what the loss of an output is multiplied by", "weight" in labels),
    ]
    for sign, meaning, shown in lines:
        if shown:
            yield Text.assemble((f"{sign}  ", SPECIAL if sign != "·" else QUIET), (meaning, QUIET))


class Columns:
    """Lines of cells in common columns, wrapped together at the width of the terminal, with their labels."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        margin = max(len(line.label) for line in self.lines) + 2
        widths = [max(cell_len(cell) for cell, _ in column) for column in zip(*(line.cells for line in self.lines))]
        start = 0
        while start < len(widths):
            end, used = start, margin
            while end < len(widths) and (end == start or used + widths[end] + 1 <= options.max_width):
                used += widths[end] + 1
                end += 1
            for line in self.lines:
                row = Text(f"{line.label:{margin}}", style=QUIET)
                for (cell, style), width in zip(line.cells[start:end], widths[start:end]):
                    row.append(cell + " " * (width - cell_len(cell) + 1), style=style)
                yield row
            start = end
