"""Rows whose documents are rearranged, each by itself: what corruptions that move text to the end have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import chain

import torch

from ..errors import InputError
from .examples import IGNORED, Batch, Examples, pad_rows


def rearrange_documents(
    examples: Examples, rearrange: Callable[[int, int, list[int]], list[int]], marks: Collection[int]
) -> Batch:
    """The batch of rows in which each document is rearranged, and its end of text stays behind it.

    `rearrange(b, d, tokens)` takes the tokens of document d of row b, without the end of text, and returns them in
    another order, with some of the ids `marks` between them. It is called for the labels of the document as well, so
    what it does follows from b, d and the number of tokens. An empty document is left as it is.

    Rows may become wider, and none is cut. Where documents are kept apart, each keeps its marks.

    Raises `InputError` for a text that holds a mark already.
    """
    if bool(torch.isin(examples.tokens, torch.tensor([*marks])).any()):
        raise InputError(
            f"the text holds some of the ids {_shown(marks)} that mark what was moved, so it could not be told from a "
            "moved one: was it corrupted already, or tokenised with its marks as special tokens?"
        )
    eos = examples.special.eos
    rows: list[list[list[int]]] = []  # of each row its documents,
    answers: list[list[list[int]]] = []  # and what stands in the labels for them
    for b, (row, answer) in enumerate(zip(examples.token_lists(), examples.answers.tolist())):
        documents, place = split_documents(row, eos), 0
        rows.append([])
        answers.append([])
        for d, document in enumerate(documents):
            n, end = len(document) - (document[-1] == eos), place + len(document)
            for parts, part in ((rows[b], document), (answers[b], answer[place:end])):
                parts.append(rearrange(b, d, part[:n]) + part[n:] if n else part)
            place = end
    tokens, labels = (
        pad_rows([list(chain.from_iterable(documents)) for documents in part], fill)
        for part, fill in ((rows, examples.special.pad), (answers, IGNORED))
    )
    lengths = torch.tensor([sum(map(len, documents)) for documents in rows])
    is_token = torch.arange(tokens.shape[1]) < lengths[:, None]
    batch = Batch(input_ids=tokens, attention_mask=is_token.long(), labels=labels)
    if examples.document_ids is not None:
        numbers = [[d for d, document in enumerate(documents) for _ in document] for documents in rows]
        batch["document_ids"] = pad_rows(numbers, 0)
    return batch


def split_documents(row: Sequence[int], eos: int) -> list[list[int]]:
    """A row as documents, each with the end of text behind it that it has.

    >>> from clozelab.data.rearrangement import split_documents
    >>> split_documents([5, 6, 1, 7], eos=1)
    [[5, 6, 1], [7]]
    """
    row = list(row)
    ends = [place + 1 for place, token in enumerate(row) if token == eos]
    starts = [0, *ends]
    return [row[start:end] for start, end in zip(starts, [*ends, len(row)]) if end > start]


def _shown(ids: Collection[int]) -> str:
    shown = [str(one) for one in ids]
    return ", ".join(shown if len(shown) < 8 else [*shown[:7], "..."])
