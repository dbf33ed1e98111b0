"""What a section of the page comes to, and the notes that are written by hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from measure import HERE
from results import Result

TRIED, MISSED = "Tried, and no help", "Goals that were missed"
"""The two headings of `notes.md`."""

UNKNOWN = "kind not recorded"
KINDS = ("AMX", "AVX512-BF16", "AVX512 alone", "AVX2 alone", UNKNOWN, "GPU")
"""Kinds of machines in the order of the page; others come last."""
FAST_BFLOAT16 = ("AMX", "AVX512-BF16", "GPU")
"""Those that multiply faster in bfloat16 than in float32."""


@dataclass(frozen=True)
class Outcome:
    """What a section comes to."""

    figure: str
    met: bool | None
    body: str
    """Markdown, without the heading."""


# --------------------------------------------------------------------------- machines


def kind_of(record: Mapping[str, Any]) -> str:
    """The kind of machine of a record, or of the rows of the suite's."""
    machine = next(iter(record["rows"].values()))["machine"] if "machine" not in record else record["machine"]
    return "GPU" if "gpu" in machine else machine.get("kind", UNKNOWN)


def folder_of(kind: str) -> str:
    """Its folder in `measured/`, and the end of the names of its pictures.

    >>> folder_of("AVX512-BF16"), folder_of("AVX2 alone")
    ('avx512-bf16', 'avx2-alone')
    """
    return kind.lower().replace(" ", "-")


def measured_on(record: Mapping[str, Any]) -> str:
    """When and on what it was measured."""
    machine = record["machine"]
    threads = record.get("threads")
    on = [machine.get("gpu"), machine.get("kind", UNKNOWN), machine["processor"]]
    on += [f"{threads} of {machine['cores']} cores" if threads else f"{machine['cores']} cores"]
    on += [f"{key} {machine[key]}" for key in machine if key not in ("gpu", "kind", "processor", "cores")]
    line = f"Measured on {record['date']}: {', '.join(part for part in on if part)}."
    if record.get("others") is not None:
        line += f" Other programs took {record['others']:.1%} of the processor time that was used."
    return line


# --------------------------------------------------------------------------- notes


def hand_written() -> dict[str, str]:
    """The sections of `notes.md` by their heading."""
    parts = re.split(r"^## (.+)\n", (HERE / "notes.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {title: text.strip() for title, text in zip(parts[::2], parts[1::2])}


def explanations() -> dict[str, str]:
    """Why a goal may be missed, by `Result.row` or the name of a section, each on one line."""
    found = re.findall(r"^- \*\*(.+?)\*\*: (.+(?:\n  .+)*)", hand_written()[MISSED], flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def missed(name: str, met: bool | None) -> str:
    """The explanation that goes with a missed goal, as a paragraph of its own."""
    return f"\n\nThe goal was missed: {explanations().get(name, 'not yet explained.')}" if met is False else ""


def met_or_not(met: bool | None) -> str:
    """As a cell."""
    return {None: "", True: "met", False: "**missed**"}[met]


def goals_of(results: list[Result]) -> tuple[str, bool | None]:
    """How many of several goals are met, and whether all of them."""
    with_goal = [result for result in results if result.met is not None]
    kept = sum(bool(result.met) for result in with_goal)
    return f"{kept} of {len(with_goal)} met", kept == len(with_goal) if with_goal else None
