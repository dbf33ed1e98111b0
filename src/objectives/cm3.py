"""CM3, causally masked language modelling: move some spans to the end, read from the left, predict the next token."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ..data.examples import IGNORED, Batch, Examples
from ..data.rearrangement import rearrange_documents
from ..data.spans import split_spans
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, complete_moved_spans_text, sample_moved_spans_text
from ..languages import MarkovSource
from .causal_lm import check_next_tokens
from .loss import Target, next_token_labels
from .objective import FloorExercise, Likelihood, Objective
from .options import Bounds, NotNegative, options

COUNT, CUTS = 0, 1  # streams of an example's noise


@options
class CM3(Objective):
    """Replace some spans of a text by sentinels, append the spans, and learn the row from the left.

        text       10  11  12  13  14  15  16  17                  spans 2-3 and 6
        row        10  11  M0  14  15  M1  17  M0  12  13  E  M1  16  E
        labels     10  11  .   14  15  .   17  .   12  13  E  .   16  E      not shifted, as in causal LM

    This is fill-in-the-middle with any number of gaps. The model continues texts as a causal one does, and fills
    several blanks, each after reading both sides of it. Each document of a packed row is corrupted separately, and its
    end of text stays after it. The number of spans is Poisson, at most `max_spans`. A document without spans stays
    unchanged, and its end teaches where a text stops. The ends of k spans are 2k cuts, uniform in 0 .. n and sorted:
    the same distribution as k uniform spans, drawn again until none overlap. Spans may touch, and may be empty.

    Each span makes its row three ids longer. The row is *widened*, never cut, since each E teaches where to stop.

    **Sentinels are not in the loss** by default (InCoder): where a text is cut cannot be predicted, and a model that
    continues a text must not begin a blank. The loss is in nats per next token, E included.

    >>> import torch
    >>> from clozelab import SpecialIds
    >>> from clozelab.objectives import CM3
    >>> special = SpecialIds(vocab_size=30, pad=0, eos=1, sentinels=(29, 28, 27, 26), roles={"span_end": 2})
    >>> batch = CM3().collator(special, seed=1).block(torch.arange(10, 18)[None], example_ids=[1])
    >>> batch["input_ids"]
    tensor([[29, 11, 28, 16, 17, 29, 10,  2, 28, 12, 13, 14, 15,  2]])
    >>> CM3()(torch.zeros(1, 14, 30), batch)  # a uniform guess among 30: each ln 30
    Loss(logits: 3.4012 nats over 10)

    Raises `InputError` for options out of bounds, a vocabulary without the role `span_end` or with fewer sentinels than
    `max_spans`, and a text that holds one of them.

    Source: Aghajanyan et al. 2022 (CM3), section 2, with Fried et al. 2022 (InCoder) for sentinels that are not
    in the loss. CM3's code leaves out an empty span, and a span for which no room was found.
    """

    name, canonical, architecture, colour = "cm3", "InCoder", "decoder-only", "#CC6677"
    hides, attends_to = "the next token; several spans moved to the end", "what comes before it"
    predicts, completes = "every next token but sentinels", ("continue", "fill")
    likelihood, roles = Likelihood.BOUND, ("span_end",)
    exercise = FloorExercise(
        symbols=6,
        entropy=0.8,
        length=26,
        batch_size=64,
        learning_rate=4e-3,
        options={"max_spans": 2, "predict_sentinels": True},
    )

    mean_spans: NotNegative = 1.0
    """Mean of the Poisson distribution of the number of spans of a document."""
    max_spans: Annotated[int, Bounds(1, 256)] = 4
    """The most spans of a document; each adds three ids to the row."""
    predict_sentinels: bool = False
    """Whether sentinels are in the loss, as in CM3; the model then also learns where texts are cut."""

    def corrupt(self, examples: Examples) -> Batch:
        sentinels, span_end = examples.special.sentinels[: self.max_spans], examples.special["span_end"]
        if len(sentinels) < self.max_spans:
            raise InputError(
                f"max_spans is {self.max_spans}, and the vocabulary has {len(sentinels)} sentinels: train a tokenizer "
                "with more of them (sentinels=...), or allow fewer spans"
            )
        # One number a document for how many spans, two a span for its ends; documents are numbered within their row.
        documents, ends = 1 + max(examples.is_eos.sum(1).tolist(), default=0), 2 * self.max_spans
        up_to = torch.tensor([*accumulate(self._count_probabilities)], dtype=torch.float64)[:-1]
        spans = (examples.noise.uniform(COUNT, documents)[..., None] >= up_to).sum(-1)  # (B, documents)
        cuts = examples.noise.uniform(CUTS, documents * ends).unflatten(1, (documents, ends))

        def move(b: int, d: int, document: list[int]) -> list[int]:
            drawn = cuts[b, d, : 2 * int(spans[b, d])] * (len(document) + 1)
            return move_spans(document, sorted(drawn.long().tolist()), sentinels, span_end)

        batch = rearrange_documents(examples, move, marks=[*sentinels, span_end])
        if not self.predict_sentinels:
            is_sentinel = torch.isin(batch["input_ids"], torch.tensor(sentinels))
            batch["labels"] = batch["labels"].masked_fill(is_sentinel, IGNORED)
        return batch

    def source_length(self, length: int) -> int:
        """Three tokens less than the row for each of `max_spans`, so that no row of one document is longer."""
        if length <= 3 * self.max_spans:
            raise InputError(
                f"a row of {length} tokens has no text beside the {3 * self.max_spans} ids of {self.max_spans} spans: "
                "use a longer one, or a lower max_spans"
            )
        return length - 3 * self.max_spans

    def targets(self, batch: Batch) -> dict[str, Target]:
        return {"logits": Target(next_token_labels(batch))}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        check_next_tokens(batch)

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """-ln p(text) - ln p(number of spans and their cuts), given the row's first token.

        Of rows of one document, with sentinels in the loss; raises `InputError` without them, as what is left would
        depend on how probable each sentinel was.
        """
        if not self.predict_sentinels:
            raise InputError("the exact floor of cm3 is that of rows with their sentinels: set predict_sentinels=True")
        nats = []
        for row, is_token in zip(batch["input_ids"], batch["attention_mask"]):
            tokens = row[is_token != 0].tolist()
            text, cuts = restore_moved_spans(tokens, special.sentinels, special["span_end"])
            cost = -source.log_prob(torch.tensor(text)) - math.log(self._cut_probability(len(text), cuts))
            nats.append(cost + math.log(self._first_probability(source, tokens[0], len(text))))
        return {"logits": torch.stack(nats)}

    @property
    def _count_probabilities(self) -> list[float]:
        """Of 0 .. max_spans spans: those of a Poisson variable, the last one for itself and all above."""
        below = [math.exp(-self.mean_spans) * self.mean_spans**k / math.factorial(k) for k in range(self.max_spans)]
        return [*below, 1 - sum(below)]

    def _cut_probability(self, n: int, cuts: Sequence[int]) -> float:
        """Of sorted cuts in 0 .. n: of their number, and of all orders in which they may have been drawn."""
        orders = math.factorial(len(cuts)) / math.prod(map(math.factorial, Counter(cuts).values()))
        return self._count_probabilities[len(cuts) // 2] * orders / (n + 1) ** len(cuts)

    def _first_probability(self, source: MarkovSource, first: int, n: int) -> float:
        """Of a first token: a symbol where no cut lies before it, else the first sentinel."""
        uncut = sum(p * (n / (n + 1)) ** (2 * k) for k, p in enumerate(self._count_probabilities))
        return uncut * float(source.stationary[first]) if first < source.symbols else 1 - uncut

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Fill each blank `___` of a text with as many tokens as the model predicts, or continue one without."""
        return complete_moved_spans_text(model, tokenizer, text, max_spans=self.max_spans, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Take some spans out of a text and fill them."""
        return sample_moved_spans_text(model, tokenizer, text, max_spans=self.max_spans, **sampling)


def move_spans(text: Sequence[int], cuts: Sequence[int], sentinels: Sequence[int], span_end: int) -> list[int]:
    """A text (n,) with k spans, given by their 2k ends in order, as a row of n + 3k ids.

    >>> from clozelab.objectives.cm3 import move_spans
    >>> move_spans([10, 11, 12, 13, 14, 15, 16, 17], [2, 4, 6, 7], sentinels=(99, 98), span_end=90)
    [10, 11, 99, 14, 15, 98, 17, 99, 12, 13, 90, 98, 16, 90]
    """
    visible, moved, place = [], [], 0
    for sentinel, start, end in zip(sentinels, cuts[::2], cuts[1::2]):
        visible += [*text[place:start], sentinel]
        moved += [sentinel, *text[start:end], span_end]
        place = end
    return [*visible, *text[place:], *moved]


def restore_moved_spans(row: Sequence[int], sentinels: Sequence[int], span_end: int) -> tuple[list[int], list[int]]:
    """The inverse of `move_spans`: the text and its cuts; a row without sentinels is its own text.

    >>> from clozelab.objectives.cm3 import restore_moved_spans
    >>> restore_moved_spans([10, 99, 13, 99, 11, 12, 90], sentinels=(99, 98), span_end=90)
    ([10, 11, 12, 13], [1, 3])

    Raises `InputError` for a row whose sentinels are out of step, or whose end was cut.
    """
    row, number = list(row), {sentinel: k for k, sentinel in enumerate(sentinels)}
    places = [place for place, token in enumerate(row) if token == sentinels[0]]
    behind = places[1] if len(places) > 1 else len(row)
    visible, spans = row[:behind], split_spans(row[behind:], sentinels)
    asked = [number[token] for token in visible if token in number]
    whole = all(span.count(span_end) == 1 and span[-1] == span_end for _, span in spans) and span_end not in visible
    if not whole or not asked == [k for k, _ in spans] == list(range(len(spans))):
        raise InputError(
            f"this row hides the spans {asked} and spells out {[k for k, _ in spans]}, each of which must end in "
            f"{span_end}, and the row ends in {row[-3:]}: was its end cut?"
        )
    text: list[int] = []
    cuts: list[int] = []
    for token in visible:
        piece = spans[number[token]][1][:-1] if token in number else [token]
        if token in number:
            cuts += [len(text), len(text) + len(piece)]
        text += piece
    return text, cuts
