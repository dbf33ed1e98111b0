"""How long runs are shown: several processes, a corpus larger than memory, an hour of training."""

from __future__ import annotations

from typing import Any

from results import cells
from section_outcome import Outcome, met_or_not, missed

APART = 1e-8
"""Nats by which a loss of several processes may differ from that of one, at any step, in double precision: rounding,
and what training makes of it."""
ONE_PROCESS = ("1 process", "1 process, single")
"""The runs that others are compared with, in double and in single precision."""


def apart(rows: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[float, float]]:
    """By objective and way, how far the training loss at any step and the held-out loss are from one process."""
    known = {(row["objective"], row["way"]): row for row in rows}
    found = {}
    for (objective, way), row in known.items():
        if way not in ONE_PROCESS:
            one = known[objective, ONE_PROCESS[way.endswith("single")]]
            training = max(abs(a - b) for a, b in zip(row["losses"], one["losses"]))
            found[objective, way] = training, abs(row["heldout"] - one["heldout"])
    return found


def processes_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each objective and way, the largest difference from one process."""
    lines = [cells("objective", "processes", "apart at most, training", "apart, held out"), cells(*["---"] * 4)]
    lines += [cells(*names, *(f"{nats:.1e}" for nats in found)) for names, found in apart(rows).items()]
    return "\n".join(lines)


def processes(record: dict[str, Any]) -> Outcome:
    """How far the curves of several processes lie from that of one."""
    found = apart(record["rows"])
    most = max(nats for (_, way), (nats, _) in found.items() if way[0] != "1" and not way.endswith("single"))
    met = most <= APART
    body = f"Nats, over {record['steps']} steps.\n\n{processes_table(record['rows'])}"
    return Outcome(f"{most:.1e} nats", met, body + missed("processes", met))


FLAT = 1.1
"""How much more memory than early in the run there may be late in it."""


def streaming_table(record: dict[str, Any]) -> str:
    """Markdown: a line for each way through the corpus."""
    lines = [
        cells("way", "time", "tokens a second", "of one core", "memory early", "late", "peak"),
        cells(*["---"] * 7),
    ]
    for row in record["rows"]:
        speeds = (f"{row['tokens'] / row[key] / 1e6:.2f} M" for key in ("seconds", "cpu"))
        sizes = (f"{row[key] / 1e6:.0f} MB" for key in ("early", "late", "peak"))
        lines.append(cells(row["way"], f"{row['seconds'] / 60:.1f} min", *speeds, *sizes))
    return "\n".join(lines)


def streaming(record: dict[str, Any]) -> Outcome:
    """Whether memory was as flat late as early."""
    most = max(row["late"] / row["early"] for row in record["rows"])
    peak = max(row["peak"] for row in record["rows"])
    body = f"{record['bytes'] / 1e9:.2f} GB in {record['files']} files, {record['workers']} workers.\n\n"
    figure = f"{most:.2f}x, at most {peak / 1e6:.0f} MB"
    return Outcome(figure, most <= FLAT, body + streaming_table(record) + missed("streaming", most <= FLAT))


SOAK_GOALS = {"memory": 0.02, "speed": 0.05}
"""By what share memory may have grown at the end, and speed have fallen. Open files and threads: not at all."""


def soak_goals(record: dict[str, Any]) -> dict[str, bool]:
    """Whether the end is as the beginning, by what is measured."""
    begun, end = record["beginning"], record["end"]
    return {
        "memory": end["memory"] <= (1 + SOAK_GOALS["memory"]) * begun["memory"],
        "files": end["files"] <= begun["files"],
        "threads": end["threads"] <= begun["threads"],
        "speed": end["speed"] >= (1 - SOAK_GOALS["speed"]) * begun["speed"],
    }


def soak_table(record: dict[str, Any]) -> str:
    """Markdown: a line for each thing that was looked at, beginning and end."""
    met = soak_goals(record)
    minutes = [f"minutes {record[part]['from']:.0f} to {record[part]['to']:.0f}" for part in ("beginning", "end")]
    lines = [cells("", *minutes, "change", ""), cells(*["---"] * 5)]
    rows = [
        ("memory, MB", "memory", 1e6, ".1f"),
        ("open files", "files", 1, "g"),
        ("threads", "threads", 1, "g"),
        ("tokens a processor second, all work", "speed", 1, ",.0f"),
        ("tokens a second of the clock, which other programs slow", "speed_of_steps", 1, ",.0f"),
    ]
    for name, key, unit, form in rows:
        begun, end = (record[part][key] / unit for part in ("beginning", "end"))
        lines.append(
            cells(name, f"{begun:{form}}", f"{end:{form}}", f"{end / begun - 1:+.1%}", met_or_not(met.get(key)))
        )
    return "\n".join(lines)


def soak(record: dict[str, Any]) -> Outcome:
    """The end of the run against its beginning."""
    change = {key: record["end"][key] / record["beginning"][key] - 1 for key in ("memory", "speed")}
    met = all(soak_goals(record).values())
    body = (
        f"{record['objective'].capitalize()}: {record['steps']:,} steps, {record['evaluations']} evaluations, "
        f"{record['completions']} samples and {record['checkpoints']} checkpoints in {record['minutes']:.0f} minutes. "
        f"In the start-up, which stands apart, memory came to {record['peak_of_start_up'] / 1e6:.0f} MB at most.\n\n"
        f"{soak_table(record)}"
    )
    figure = f"memory {change['memory']:+.1%}, speed {change['speed']:+.1%}"
    return Outcome(figure, met, body + missed("soak", met))
