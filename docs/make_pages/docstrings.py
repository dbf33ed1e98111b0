"""Docstrings as reStructuredText. They are written in a few forms of Markdown: paragraphs, lists, indented blocks that
are shown as they are, examples with `>>>`, tables, `code` and **words**."""

import re
from collections.abc import Iterator, Sequence

_ITEM = re.compile(r"\s*(?:[-*]|\d+\.) ")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def to_rest(lines: Sequence[str]) -> list[str]:
    """The lines of a docstring, without its common indentation, as autodoc expects them."""
    written: list[str] = []
    for block in blocks(lines):
        first = block[0]
        if first.lstrip().startswith(">>>"):
            written += block
        elif first.startswith("|") and len(block) > 1:
            written += [*_table(block)]
        elif first.startswith("    ") and not _ITEM.match(first) and not _continues(written):
            written += [".. code-block:: text", "", *block]
        else:
            written += _inline(block)
        written.append("")
    return written


def blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Runs of lines between empty ones; an indented block keeps its own empty lines, and an example begins a block."""
    block: list[str] = []
    for line in [*lines, ""]:
        is_shown = bool(block) and block[0].startswith("    ") and not _ITEM.match(block[0])
        if is_shown and not line.strip():
            block.append(line)
        elif not line.strip() or (line.lstrip().startswith(">>>") and block and ">>>" not in block[0]):
            if block:
                yield block
            block = [line] if line.strip() else []
        elif is_shown and not line.startswith("    "):
            while not block[-1].strip():
                block.pop()
            yield block
            block = [line]
        else:
            block.append(line)
    while block and not block[-1].strip():
        block.pop()
    if block:
        yield block


def _continues(written: Sequence[str]) -> bool:
    """Whether an indented block belongs to the item of a list before it."""
    text = [line for line in written if line.strip()]
    return bool(text) and bool(_ITEM.match(text[-1]))


def _inline(block: Sequence[str]) -> list[str]:
    """Inline code, and a list that follows a line without an empty one between them."""
    text = "\n".join(block).replace("\\", "\\\\")
    pieces = _CODE.split(text)
    text = "".join(f"``{piece}``" if k % 2 else _escaped(piece) for k, piece in enumerate(pieces))
    text = re.sub(r"(?<=``)(?=\w)(?<=[^\s(]``)", r"\\ ", text)  # "`Packed`s"
    lines: list[str] = []
    for line in text.split("\n"):
        if lines and line.startswith(("Raises ``", "Source: ", "Sources: ", "Returns ")):
            lines.append("")
        if _ITEM.match(line) and lines and not _ITEM.match(lines[-1]) and not lines[-1].startswith("  "):
            lines.append("")
        lines.append(line)
    return lines


def _escaped(text: str) -> str:
    """Signs that mean something in reStructuredText and nothing in Markdown: word_, |bars|, *args."""
    text = re.sub(r"(\w)_(?!\w)", r"\1\\_", text)
    text = re.sub(r"\|", r"\\|", text)
    return re.sub(r"(?<![*\w])\*(?=\w+\b(?!\*))", r"\\*", text)


def _table(block: Sequence[str]) -> Iterator[str]:
    """A table of Markdown as a list table."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block]
    yield from (".. list-table::", "   :header-rows: 1", "")
    for row in [rows[0], *rows[2:]]:
        for k, cell in enumerate(row):
            yield f"   {'*' if k == 0 else ' '} - {' '.join(_inline([cell]))}"
