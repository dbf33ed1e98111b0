"""Findings, reports, and the function that runs a list of checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from html import escape
from textwrap import wrap
from typing import Any, TypeVar

from torch import Tensor

from ..errors import InputError
from ..escape import shown

OK, NOTE, FAULT, NOT_CHECKED = "ok", "note", "FAULT", "not checked"
"""The verdicts: fine, fine and worth knowing, wrong, and not tried at all."""

SURE = 5.0
"""Standard errors beyond which a difference is not an accident: 1 correct thing in a million fails."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of one check."""

    verdict: str
    """`OK`, `NOTE`, `FAULT` or `NOT_CHECKED`."""
    found: str
    """What was seen, or why nothing was tried."""
    example: str = ""
    """The smallest example that shows it."""
    why: str = ""
    """Why it matters."""


@dataclasses.dataclass(frozen=True)
class Report:
    """All findings on one thing, by the name of the check; `print` it, or let a notebook show it.

    >>> from clozelab.testing import Finding, Report
    >>> report = Report("my_scheme", {"rate": Finding("ok", "15.1% of tokens"), "targets": Finding("FAULT", "none")})
    >>> report.passed, report.faults, report.counts
    (False, ['targets'], {'passed': 1, 'failed': 1, 'not checked': 0})
    """

    name: str
    findings: Mapping[str, Finding]
    essential: Collection[str] = ()
    """The checks without which nothing can be concluded."""

    @property
    def faults(self) -> list[str]:
        """The checks that found something wrong."""
        return self._with(FAULT)

    @property
    def not_checked(self) -> list[str]:
        """The checks that could not run, or were skipped."""
        return self._with(NOT_CHECKED)

    @property
    def missing(self) -> list[str]:
        """The essential checks that could not run."""
        return [name for name in self.not_checked if name in self.essential]

    @property
    def passed(self) -> bool:
        """Whether no check found a fault and every essential one ran."""
        return not self.faults and not self.missing

    @property
    def counts(self) -> dict[str, int]:
        """How many checks passed, failed and did not run."""
        failed, without = len(self.faults), len(self.not_checked)
        return {"passed": len(self.findings) - failed - without, "failed": failed, "not checked": without}

    @property
    def headline(self) -> str:
        """The counts in one line, and the essential checks that did not run."""
        counts = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        missing = f"; essential, and not checked: {', '.join(self.missing)}" if self.missing else ""
        return f"{self.name}: {counts}{missing}"

    def __str__(self) -> str:
        lines = [self.headline]
        for name, finding in self._sorted():
            lines.append(f"  {finding.verdict:<12}{name}: {finding.found}")
            lines += [f"                {line}" for line in finding.example.splitlines()]
            if finding.why and finding.verdict != OK:
                lines += wrap(f"why: {finding.why}", 110, initial_indent=" " * 14, subsequent_indent=" " * 19)
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it: name, passed, counts, missing, and each finding's four fields."""
        return {
            "name": self.name,
            "passed": self.passed,
            "counts": self.counts,
            "missing": self.missing,
            "findings": {name: dataclasses.asdict(finding) for name, finding in self.findings.items()},
        }

    def _repr_html_(self) -> str:
        """The report as a table, for notebooks."""
        colours = {OK: "#009E73", NOTE: "#0072B2", FAULT: "#D55E00", NOT_CHECKED: "#767676"}
        rows = []
        for name, finding in self._sorted():
            example = f"<pre>{escape(finding.example)}</pre>" if finding.example else ""
            why = f"<br><small>{escape(finding.why)}</small>" if finding.why and finding.verdict != OK else ""
            rows.append(
                f'<tr><td style="color: {colours[finding.verdict]}">{finding.verdict}</td><td>{escape(name)}</td>'
                f'<td style="text-align: left">{escape(finding.found)}{example}{why}</td></tr>'
            )
        return f"<table><caption>{escape(self.headline)}</caption>{''.join(rows)}</table>"

    def _with(self, verdict: str) -> list[str]:
        return [name for name, finding in self.findings.items() if finding.verdict == verdict]

    def _sorted(self) -> list[tuple[str, Finding]]:
        """Faults first, then what was not checked, all of one reason together, then notes."""
        together: dict[Finding, list[str]] = {}
        for name, finding in self.findings.items():
            key = finding if finding.verdict == NOT_CHECKED else dataclasses.replace(finding, why=name)
            together.setdefault(key, []).append(name)
        order = (FAULT, NOT_CHECKED, NOTE, OK)
        lines = [(", ".join(names), self.findings[names[0]]) for names in together.values()]
        return sorted(lines, key=lambda line: order.index(line[1].verdict))


class CheckFailed(AssertionError):
    """At least one check found a fault; the message is the whole report, `report` the same as an object."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


Trial = TypeVar("Trial")
Check = Callable[[Trial], "Finding | None"]
"""A check: from what is tried to a finding, or None where it does not apply."""


def run_checks(
    name: str,
    checks: Mapping[str, Check[Trial]],
    trial: Trial,
    skip: Collection[str],
    *,
    essential: Collection[str] = (),
    names: Collection[str] | None = None,
) -> Report:
    """Run all checks in order, but those to skip; where "returns" finds a fault or cannot run, the others do not.

    `names` are the names that `skip` may hold, those of `checks` where it is None. Raises `CheckFailed` where a check
    found a fault, and `InputError` for a name to skip that no check has.
    """
    if isinstance(skip, str) or not isinstance(skip, Collection):
        raise InputError(f"expected names of checks to skip as a list, got {shown(skip)}")
    names = checks if names is None else names
    unknown = set(skip) - set(names)
    if unknown:
        raise InputError(f"no check is called {', '.join(sorted(unknown))}; the names are {', '.join(names)}")
    findings: dict[str, Finding] = {}
    broken = False
    for check_name, check in checks.items():
        if check_name in skip:
            findings[check_name] = Finding(NOT_CHECKED, "skipped, as asked")
            continue
        if broken:
            findings[check_name] = Finding(NOT_CHECKED, "nothing to try it on: see 'returns'")
            continue
        try:
            finding = check(trial)
        except Exception as error:  # whatever the user's code raises is what was found
            finding = Finding(FAULT, f"raises {raised(error)}")
        if finding is not None:
            findings[check_name] = finding
            broken = check_name == "returns" and finding.verdict in (FAULT, NOT_CHECKED)
    report = Report(name, findings, [one for one in essential if one not in skip])
    if report.faults:
        raise CheckFailed(report)
    return report


def table(**rows: Tensor | list) -> str:
    """Rows of numbers and flags under one another: x is True, a dot is False or -100.

    >>> import torch
    >>> from clozelab.testing.report import table
    >>> print(table(tokens=[5, 16, 7], hidden=torch.tensor([True, False, True])))
    tokens   5 16  7
    hidden   x  .  x
    """

    def sign(value: object) -> str:
        return "x" if value is True else "." if value is False or value == -100 else str(value)

    cells = {
        name: [sign(value) for value in (row.tolist() if isinstance(row, Tensor) else row)]
        for name, row in rows.items()
    }
    width = max((len(cell) for row in cells.values() for cell in row), default=1)
    label = max(map(len, cells))
    return "\n".join(
        f"{name:{label}}  {' '.join(f'{c:>{width}}' for c in row)}".rstrip() for name, row in cells.items()
    )


def raised(error: Exception) -> str:
    """An error in one line.

    >>> from clozelab.testing.report import raised
    >>> raised(ValueError("too\\nmany"))
    'ValueError (too many)'
    """
    return f"{type(error).__name__} ({' '.join(str(error).split())[:300]})"


def percent(share: float) -> str:
    """A share in words.

    >>> from clozelab.testing.report import percent
    >>> percent(0.274), percent(0.0), percent(0.0004)
    ('27.4%', '0%', '0.04%')
    """
    return "0%" if share == 0 else f"{100 * share:.3g}%"
