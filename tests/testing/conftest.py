"""After the planted faults and the right things: how many were found, and how many were faulted, by group."""

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for all, and one for each group; what did not run is counted apart."""
    for kind, done, wrong in (("planted", "found", "missed"), ("right", "not faulted", "faulted")):
        counts: dict[str, Counter[str]] = {"passed": Counter(), "failed": Counter(), "skipped": Counter()}
        for outcome, groups in counts.items():
            for report in terminalreporter.stats.get(outcome, []):
                groups.update(group for name, group in getattr(report, "user_properties", []) if name == kind)
        total = sum(counts.values(), Counter())
        if not total:
            continue
        passed, failed, skipped = (counts[outcome].total() for outcome in counts)
        what = "faults planted" if kind == "planted" else "right things"
        rest = f", {skipped} not run" if skipped else ""
        terminalreporter.write_line(f"{total.total()} {what}: {passed} {done}, {failed} {wrong}{rest}")
        for group in sorted(total):
            here = ", ".join(f"{counts[o][group]} {word}" for o, word in zip(counts, (done, wrong, "not run")))
            terminalreporter.write_line(f"    {group:<31} {here}")
