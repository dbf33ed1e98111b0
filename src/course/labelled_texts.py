"""Texts with labels, from a file of the reader's own."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..escape import shown

LABELS = ("1", "2", "3", "4")
LEAST = 200
"""Texts of each label."""


def read_labelled_texts(path: Path) -> tuple[list[str], Tensor]:
    """Texts, and their labels (N,) from 0 on, of a CSV file without a header: label 1 to 4, title, text (AG News).

    A text is its title, a full stop and the text. Raises `InputError`, with the row, for another file, and for fewer
    than 200 texts of a label.
    """
    texts, labels = list[str](), list[int]()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for label, title, text in csv.reader(file, strict=True):
                if label not in LABELS:
                    raise InputError(f"got label {shown(label, 40)}")
                labels.append(LABELS.index(label))
                texts.append(f"{title}. {text}")
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}, row {len(texts) + 1}: expected label 1 to 4, title, text ({error})") from error
    if (least := min(map(labels.count, range(len(LABELS))))) < LEAST:
        raise InputError(f"{path}: expected at least {LEAST} texts of each label 1 to 4, got {least} of one")
    return texts, torch.tensor(labels)
