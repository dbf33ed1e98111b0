"""Planted faults of CM3: what becomes of the spans that are moved, and what of them is in the loss."""

from __future__ import annotations

from collections.abc import Callable

import torch

from clozelab import SpecialIds
from clozelab.data import IGNORED, pad_rows
from clozelab.objectives import CM3, options
from clozelab.objectives.cm3 import move_spans, restore_moved_spans
from clozelab.testing import check_collator
from clozelab.testing.collator import CHECKS

from .catalogue import faults_of, plant
from .catalogue_objectives import objective

SPECIAL = SpecialIds(vocab_size=60, pad=0, eos=1, sentinels=range(59, 50, -1), roles={"span_end": 2})


def collator(*checks: str, says: str = "") -> Callable[[type], type]:
    """Plant a class of objectives, of whose collator the named checks are asked."""

    def decorate(kind: type) -> type:
        def find() -> dict[str, str]:
            others = CHECKS.keys() - {"returns", *checks}
            return faults_of(check_collator, kind().collator(SPECIAL), workers=0, skip=others)

        plant("collator", kind, checks, find, says)
        return kind

    return decorate


@options
class Rewritten(CM3):
    """CM3 of which each row is changed; `rewrite` gets it as it should be, without an end of text."""

    name = "rewritten"

    def rewrite(self, row, text, cuts, special):
        return row

    def corrupt(self, examples):
        special, rows = examples.special, []
        batch = super().corrupt(examples)
        for row, is_token in zip(batch["input_ids"], batch["attention_mask"]):
            row = row[is_token != 0].tolist()
            closed = [special.eos] if row[-1:] == [special.eos] else []
            row = row[: len(row) - len(closed)]
            text, cuts = restore_moved_spans(row, special.sentinels, special["span_end"]) if row else ([], [])
            rows.append([*self.rewrite(row, text, cuts, special), *closed])
        labels = pad_rows(rows, IGNORED)
        labels = labels.masked_fill(torch.isin(labels, torch.tensor(special.sentinels)), IGNORED)
        mask = pad_rows([[1] * len(row) for row in rows], 0)
        return {"input_ids": pad_rows(rows, special.pad), "attention_mask": mask, "labels": labels}


@collator("blanks", says="was its end cut")
@options
class LastEndCut(Rewritten):
    """Rows are cut by one token, and the last span has no end: where to stop filling is not learned."""

    name = "last-end-cut"

    def rewrite(self, row, text, cuts, special):
        return row[:-1] if cuts else row


@collator("blanks", says="hides the spans")
@options
class SpansInReverseOrder(Rewritten):
    """Spans are spelled out from the last to the first, and generation asks for the first one first."""

    name = "spans-in-reverse-order"

    def rewrite(self, row, text, cuts, special):
        spans = [*zip(special.sentinels, cuts[::2], cuts[1::2])]
        visible = row[: len(text) - sum(stop - start for _, start, stop in spans) + len(spans)]
        behind = [[sentinel, *text[start:stop], special["span_end"]] for sentinel, start, stop in spans]
        return visible + [token for span in behind[::-1] for token in span]


@collator("blanks", says="put together are not the text")
@options
class SpansStayInTheText(Rewritten):
    """The spans are spelled out behind a text that still has them: the model copies what it has read."""

    name = "spans-stay-in-the-text"

    def rewrite(self, row, text, cuts, special):
        empty = [place for start in cuts[::2] for place in (start, start)]
        hidden = sum(stop - start for start, stop in zip(cuts[::2], cuts[1::2]))
        with_spans = move_spans(text, empty, special.sentinels, special["span_end"])[: len(text) + len(cuts) // 2]
        return with_spans + row[len(text) - hidden + len(cuts) // 2 :]


@objective("text", says="neither read nor predicted", mean_spans=2.0)
@options
class RowsCutToTheText(CM3):
    """Rows are as long as their text, so that the spans behind it, the last one above all, are cut off."""

    name = "rows-cut-to-the-text"

    def source_length(self, length):
        return length

    def corrupt(self, examples):
        width = examples.tokens.shape[1]
        return {key: value[:, :width] for key, value in super().corrupt(examples).items()}


@collator("blanks", says="predict_sentinels is False, and they are in the loss")
@options
class SentinelsInTheLoss(CM3):
    """The option says that sentinels are not in the loss, and they are: a text is continued by a blank."""

    name = "sentinels-in-the-loss"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        padding = batch["attention_mask"] == 0
        return batch | {"labels": batch["input_ids"].masked_fill(padding, IGNORED)}


@collator("blanks", says="some sentinels are in the loss")
@options
class FirstSentinelsAlone(CM3):
    """Only the sentinels in the text are left out: those that open a span behind it are in the loss."""

    name = "first-sentinels-alone"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        ids = batch["input_ids"]
        opens = torch.zeros_like(ids).bool()
        opens[:, 1:] = ids[:, :-1] == examples.special["span_end"]
        opens &= torch.isin(ids, torch.tensor(examples.special.sentinels))
        return batch | {"labels": torch.where(opens, ids, batch["labels"])}


@objective("special ids", says="never in the loss where it is span_end", mean_spans=2.0)
@options
class EndsNotInTheLoss(CM3):
    """The end of a span is left out with the sentinels: a blank is filled for ever."""

    name = "ends-not-in-the-loss"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == examples.special["span_end"], IGNORED)}


@objective("documents", mean_spans=2.0)
@options
class SpansAcrossDocuments(CM3):
    """A packed row is cut as one text: what is moved out of the first document stands behind the last one."""

    name = "spans-across-documents"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        if "document_ids" in batch:  # the row's first and last token change places
            last = batch["attention_mask"].sum(1) - 1
            rows = torch.arange(len(last))
            for key in ("input_ids", "labels"):
                value = batch[key].clone()
                value[rows, 0], value[rows, last] = batch[key][rows, last], batch[key][rows, 0]
                batch[key] = value
        return batch
