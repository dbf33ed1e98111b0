"""A page for each registered objective, from its class alone: a new one gets its page by itself."""

import inspect
import re
from functools import cache
from pathlib import Path

from clozelab.display import objectives_table, word_tokenizer
from clozelab.display.objectives import FACTS, MEASURES
from clozelab.display.pages import show_page
from clozelab.objectives import OBJECTIVES, Objective

from .links import ROOT

COMMANDS = {"continue": "`clozelab generate`", "fill": "`clozelab fill`"}
TEXT = "Thank you for inviting me to your party last week ."


def pages() -> dict[str, str]:
    """{name of the page: Markdown}."""
    rows = _rows_of_the_index()
    for kind in OBJECTIVES.values():
        if kind.name not in rows:
            [rows[kind.name]] = objectives_table([kind])
    return {f"objectives/{kind.name}.md": _page(kind, rows[kind.name]) for kind in OBJECTIVES.values()}


def _rows_of_the_index() -> dict[str, dict[str, str]]:
    """What the table of all objectives says, which a test holds against the classes: computing it takes seconds."""
    page = (ROOT / "docs" / "objectives" / "index.md").read_text(encoding="utf-8")
    rows: dict[str, dict[str, str]] = {}
    for columns in (FACTS, MEASURES):
        head = f"| {' | '.join(columns)} |\n"
        for line in page.partition(head)[2].partition("\n\n")[0].splitlines()[1:]:
            cells = line.strip("| ").split(" | ")
            rows.setdefault(cells[0], {}).update(zip(columns, cells, strict=True))
    return {name: row for name, row in rows.items() if len(row) == len({*FACTS, *MEASURES})}


def contents() -> str:
    """A line for each page, and their order in the menu: that of the registry."""
    lines = [f"- [{kind.__name__}]({name}.md): predicts {kind.predicts}" for name, kind in OBJECTIVES.items()]
    return "\n".join(["## A page each", "", *lines, "", "```{toctree}", ":hidden:", *OBJECTIVES, "```", ""])


def _page(kind: type[Objective], row: dict[str, str]) -> str:
    tokenizer = word_tokenizer(TEXT, kind.roles)
    picture = show_page([kind()], tokenizer, TEXT, seeds=range(3), epochs=range(2), embed=True)
    file = source_file(kind).relative_to(ROOT)
    parts = [
        f"# {kind.__name__}",
        f"`--objective {kind.name}` · as in {kind.canonical} · {kind.architecture}",
        _questions(kind),
        "## In the batch",
        "Point at a token that is predicted, or move to it by Tab and the arrow keys: what its output reads lights up.",
        f"```{{raw}} html\n{picture}\n```",
        "## What enters the loss",
        _loss(kind, row),
        "## The least possible loss",
        _floor(kind),
        *_mistakes(kind),
        "## Options",
        _options(kind),
        "## The class",
        f"```{{eval-rst}}\n.. autoclass:: clozelab.objectives.{kind.__name__}\n   :members:\n"
        "   :exclude-members: __new__, __init__\n```",
        f"## Source\n\n`{file}`, the whole file:\n",
        f"````{{dropdown}} {file.name}\n```{{literalinclude}} ../../{file}\n:language: python\n```\n````",
    ]
    return "\n\n".join(parts) + "\n"


def source_file(kind: type[Objective]) -> Path:
    """The file of a class."""
    return Path(inspect.getfile(kind))


def _questions(kind: type[Objective]) -> str:
    return (
        f"| what is **hidden**? | what is **read**? | what is **predicted**? |\n|---|---|---|\n"
        f"| {kind.hides} | {kind.attends_to} | {kind.predicts} |"
    )


def _loss(kind: type[Objective], row: dict[str, str]) -> str:
    likelihoods = {
        "exact": "The loss, summed over what is predicted, is exactly -ln p of it given the rest",
        "a bound": "The loss, summed over a text, is never below -ln p of it",
        "none": "The loss, summed over a text, is neither -ln p of it nor a bound: bits per byte are not defined",
    }
    uniform = ", ".join(f"{nats:.3f} nats ({part})" for part, nats in kind().uniform_values(4096).items())
    completes = (
        f"A trained model {row['completes']}: {' and '.join(COMMANDS[one] for one in kind.completes)}."
        if kind.completes
        else "A trained model completes no text."
    )
    export = (
        "Its models can be exported to `transformers`."
        if kind.export_refusal is None
        else f"Its models cannot be exported to `transformers`: {kind.export_refusal}."
    )
    return (
        f"For each token of text there are {row['in the loss']} loss positions, over all outputs, in rows of 128 input "
        f"tokens. A loss position costs {row['operations']} operations of a training step of the size tiny with 4,096 "
        f"ids. {likelihoods[row['likelihood']]}. A uniform guess among 4,096 ids costs {uniform}.\n\n"
        f"{completes} {export}"
    )


def _floor(kind: type[Objective]) -> str:
    if not kind.declares("entropy_floor"):
        return "No exact floor of this loss is known."
    known = "On a Markov source the least possible loss of each row is computed; tests compare it with brute force."
    reached = _rows_of("Proved", kind)
    table = "\n".join(["| objective | floor | reached | reached / floor |", "|---|---|---|---|", *reached])
    more = f"A model that was trained down to it ([how](../proved.md)):\n\n{table}" if reached else ""
    return f"{known} `clozelab floors --objectives {kind.name}` trains a model down to it. {more}"


def _mistakes(kind: type[Objective]) -> list[str]:
    found = _rows_of("A museum of mistakes", kind)
    if not found:
        return []
    head = ["| mistake | found by | what is measured | right | wrong |", "|---|---|---|---|---|"]
    museum = "[the museum of mistakes](../proved.md#a-museum-of-mistakes)"
    text = f"Each was trained beside its correct counterpart in {museum}."
    return ["## Mistakes", text, "\n".join([*head, *found])]


@cache
def _table_of(section: str) -> list[list[str]]:
    """The cells of the first table of a section of docs/proved.md, without its head."""
    page = (ROOT / "docs" / "proved.md").read_text(encoding="utf-8")
    text = page.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|(?!---)(.*)\|$", text, re.MULTILINE)[1:]
    return [[cell.strip() for cell in row.split(" | ")] for row in rows]


def _rows_of(section: str, kind: type[Objective]) -> list[str]:
    """The rows whose last cell names the objective, without that cell."""
    return [f"| {' | '.join(cells[:-1])} |" for cells in _table_of(section) if cells[-1] == kind.name]


def _options(kind: type[Objective]) -> str:
    lines = ["| option | flag | default | |", "|---|---|---|---|"]
    for name, option in sorted(kind.declared_options().items(), key=lambda item: item[1].owner is Objective):
        flag = f"`--{name.replace('_', '-')}`"
        lines.append(f"| `{name}` | {flag} | `{option.default}` | {' '.join(option.help.split())} |")
    return "\n".join(lines)
