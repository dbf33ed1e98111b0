"""What the checks say, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import TypeVar

from torch import Tensor

from ..errors import InputError

OK, NOTE, FAULT = "ok", "note", "FAULT"
"""A finding is fine, worth knowing, or wrong."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    verdict: str
    """`OK`, `NOTE` or `FAULT`."""
    found: str
    """What is so."""
    example: str = ""
    """The smallest one that shows it."""
    why: str = ""
    """Why it matters."""


@dataclass(frozen=True)
class Report:
    """All findings on one thing, by the name of the check; `print` it.

    >>> report = Report("my_scheme", {"rate": Finding(OK, "15.1% of tokens"), "targets": Finding(FAULT, "none")})
    >>> report.passed, report.faults
    (False, ['targets'])
    """

    name: str
    findings: Mapping[str, Finding]

    @property
    def faults(self) -> list[str]:
        """The checks that found something wrong."""
        return [name for name, finding in self.findings.items() if finding.verdict == FAULT]

    @property
    def passed(self) -> bool:
        """No fault. Notes are no faults."""
        return not self.faults

    def __str__(self) -> str:
        head = f"{self.name}: {len(self.faults)} of {len(self.findings)} checks found a fault"
        lines = [head if self.faults else f"{self.name}: all {len(self.findings)} checks passed"]
        # What is wrong first, then what is worth knowing.
        for name, finding in sorted(self.findings.items(), key=lambda item: (FAULT, NOTE, OK).index(item[1].verdict)):
            lines.append(f"  {finding.verdict:6}{name}: {finding.found}")
            lines += [f"          {line}" for line in finding.example.splitlines()]
            if finding.why and finding.verdict != OK:
                lines += wrap(f"why: {finding.why}", 110, initial_indent=" " * 8, subsequent_indent=" " * 13)
        return "\n".join(lines)


class CheckFailed(AssertionError):
    """At least one check found a fault; the message is the whole report, `report` the same as an object."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


Trial = TypeVar("Trial")
Check = Callable[[Trial], "Finding | None"]
"""A check: from what is tried to a finding, or None where it does not apply."""


def run_checks(name: str, checks: Mapping[str, Check[Trial]], trial: Trial, skip: Collection[str]) -> Report:
    """Run all checks but those to skip, in order; when "returns" finds a fault, the others have nothing to look at.

    Raises `CheckFailed` for a fault and `InputError` for a name to skip that is none.
    """
    if isinstance(skip, str) or not isinstance(skip, Collection):
        raise InputError(f"expected names of checks to skip as a list, got {skip!r:.80}")
    unknown = set(skip) - set(checks)
    if unknown:
        raise InputError(f"no check is called {', '.join(sorted(unknown))}; the names are {', '.join(checks)}")
    findings: dict[str, Finding] = {}
    for check_name, check in checks.items():
        if check_name in skip:
            continue
        try:
            finding = check(trial)
        except Exception as error:  # whatever the user's code raises is what was found
            finding = Finding(FAULT, f"raises {raised(error)}")
        if finding is not None:
            findings[check_name] = finding
            if check_name == "returns" and finding.verdict == FAULT:
                break
    report = Report(name, findings)
    if not report.passed:
        raise CheckFailed(report)
    return report


def table(**rows: Tensor | list) -> str:
    """Rows of numbers and flags under one another: x is True, a dot is False or not paid.

    >>> import torch
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

    >>> raised(ValueError("too\\nmany"))
    'ValueError (too many)'
    """
    return f"{type(error).__name__} ({' '.join(str(error).split())[:200]})"


def percent(share: float) -> str:
    """A share in words.

    >>> percent(0.274), percent(0.0), percent(0.0004)
    ('27.4%', '0%', '0.04%')
    """
    return "0%" if share == 0 else f"{100 * share:.3g}%"
