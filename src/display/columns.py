"""Rows of cells in common columns, which wrap together, each part with its labels; terms and their meanings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len, set_cell_size
from rich.text import Text

LONGEST = 32
"""Terminal cells of the longest token that is shown whole."""
CUT = "…"
_IN_ASCII = str.maketrans({"·": "-", "␣": "_", CUT: "~", "◌": "", "×": "x"})


@dataclass(frozen=True)
class Line:
    """One row of cells, each a text and a style, aligned with the other lines of its group."""

    label: str
    cells: list[tuple[str, str]]


def encodable(text: str, encoding: str) -> str:
    """The text as a terminal of this encoding can show it; other characters by their numbers.

    >>> from clozelab.display.columns import encodable
    >>> encodable("· 世", "ascii"), encodable("· 世", "utf-8")
    ('- \\\\u4e16', '· 世')
    """
    try:
        text.encode(encoding)
        return text
    except LookupError:
        return text
    except UnicodeEncodeError:
        return text.translate(_IN_ASCII).encode(encoding, "backslashreplace").decode(encoding)


def longest_cell(margin: int, width: int) -> int:
    """Terminal cells of the longest token that is shown whole: `LONGEST`, or less on a narrow terminal."""
    return max(min(LONGEST, width - margin - 1), 4)


def wrapped(lines: Sequence[Line], margin: int, width: int, encoding: str = "utf-8") -> Iterator[Text]:
    """The lines in parts of at most `width` cells, each line of a part with its label in the first `margin` cells.

    A token of more than `longest_cell` cells is cut, and ends in `…`. An empty line stands between two parts.

    >>> from clozelab.display.columns import Line, wrapped
    >>> lines = [Line("text", [("a", ""), ("long", "")]), Line("reads", [("[M]", ""), ("long", "")])]
    >>> for row in wrapped(lines, margin=7, width=12):
    ...     print(row)
    text   a
    reads  [M]
    <BLANKLINE>
    text   long
    reads  long
    """
    most = longest_cell(margin, width)
    rows = [
        [(_shortened(encodable(cell, encoding), most, encoding), style) for cell, style in one.cells] for one in lines
    ]
    widths = [max(cell_len(cell) for cell, _ in column) for column in zip(*rows)]
    start = 0
    while start < len(widths):
        if start:
            yield Text()
        end, used = start, margin
        while end < len(widths) and (end == start or used + widths[end] <= width):
            used += widths[end] + 1
            end += 1
        for line, cells in zip(lines, rows):
            row = Text.assemble((f"{line.label:{margin}}", "dim"))
            for (cell, style), size in zip(cells[start:end], widths[start:end]):
                row.append(cell, style=style)
                row.append(" " * (size - cell_len(cell) + 1))
            row.rstrip()
            yield row
        start = end


def defined(terms: Sequence[tuple[str, str, str]], width: int, encoding: str = "utf-8") -> Iterator[Text]:
    """Terms, given as (sign, its style, its meaning), in two columns.

    >>> from clozelab.display.columns import defined
    >>> for row in defined([("·", "dim", "not in the loss"), ("</s>", "yellow", "end of text")], width=18):
    ...     print(row)
    ·     not in the
          loss
    </s>  end of text
    """
    signs = [encodable(sign, encoding) for sign, _, _ in terms]
    margin = min(max(map(cell_len, signs), default=0), 14) + 2
    for sign, (_, style, meaning) in zip(signs, terms):
        left = textwrap.wrap(sign, margin - 2) if cell_len(sign) > margin - 2 else [sign]
        right = textwrap.wrap(encodable(meaning, encoding), max(width - margin, 10))
        for term, words in zip_longest(left, right, fillvalue=""):
            row = Text.assemble((term, style))
            row.append(" " * (margin - cell_len(term)))
            row.append(words, style="dim")
            row.rstrip()
            yield row


def _shortened(cell: str, most: int, encoding: str) -> str:
    return cell if cell_len(cell) <= most else set_cell_size(cell, most - 1).rstrip() + encodable(CUT, encoding)
