"""One page of all that was measured, from the files that the scripts leave in `benchmarks/measured/`.

    python benchmarks/report.py     writes benchmarks/README.md anew, at once: nothing is measured

Each script writes its file, its picture and the page with `--publish`. Only `notes.md` is written by hand: what was
tried without success, and why goals are missed. No figure is typed, so none can outlive its measurement unseen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import HERE
from results import Result, notes, table

MEASURED = HERE / "measured"
DOCS = HERE.parent / "docs"

LADDER_GOALS = {"shakespeare": 6.0, "masked": 4.0, "span": 4.0}
"""How many times sooner than the recipe its own held-out loss is to be reached."""
BABY_GOAL = {"nats": 1.4697, "minutes": 45.0}
"""nanoGPT's figure for its GPU recipe, and how long two cores may take."""

TRIED, MISSED = "Tried, and no help", "Goals that were missed"
"""The two headings of `notes.md`."""


@dataclass(frozen=True)
class Outcome:
    """What a section comes to."""

    figure: str
    met: bool | None
    body: str
    """Markdown, without the heading."""


@dataclass(frozen=True)
class Section:
    """A part of the page: the file `measured/NAME.json`, the command that writes it, and how it is shown."""

    name: str
    title: str
    command: str
    takes: str
    """Time and machine."""
    goal: str
    about: str
    """What is measured, whether or not it has been."""
    render: Callable[[dict[str, Any]], Outcome]
    picture: str | None = None
    """In `docs/`."""
    missing: str = "not measured yet"


# --------------------------------------------------------------------------- reading and writing


def publish(name: str, record: Mapping[str, Any], draw: Callable[[Path], None] | None = None) -> None:
    """Keep a measurement: its file, its picture (`draw` is given the path), and the page."""
    MEASURED.mkdir(exist_ok=True)
    (MEASURED / f"{name}.json").write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    picture = next(section.picture for section in SECTIONS if section.name == name)
    if draw is not None and picture is not None:
        draw(DOCS / picture)
    (HERE / "README.md").write_text(page(), encoding="utf-8")


def hand_written() -> dict[str, str]:
    """The sections of `notes.md` by their heading."""
    parts = re.split(r"^## (.+)\n", (HERE / "notes.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {title: text.strip() for title, text in zip(parts[::2], parts[1::2])}


def explanations() -> dict[str, str]:
    """Why a goal may be missed, by `Result.row` or the name of a section, each on one line."""
    found = re.findall(r"^- \*\*(.+?)\*\*: (.+(?:\n  .+)*)", hand_written()[MISSED], flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def measured_on(record: Mapping[str, Any]) -> str:
    """When and on what it was measured."""
    machine = record["machine"]
    threads = record.get("threads")
    on = [machine.get("gpu"), machine["processor"]]
    on += [f"{threads} of {machine['cores']} cores" if threads else f"{machine['cores']} cores"]
    on += [f"{key} {machine[key]}" for key in machine if key not in ("gpu", "processor", "cores")]
    line = f"Measured on {record['date']}: {', '.join(part for part in on if part)}."
    if record.get("others") is not None:
        line += f" Other programs took {record['others']:.1%} of the processor time that was used."
    return line


def missed(name: str, met: bool | None) -> str:
    """The explanation that goes with a missed goal, as a paragraph of its own."""
    return f"\n\nThe goal was missed: {explanations().get(name, 'not yet explained.')}" if met is False else ""


def cells(*values: Any) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, values))} |"


def met_or_not(met: bool | None) -> str:
    """As a cell."""
    return {None: "", True: "met", False: "**missed**"}[met]


def goals_of(results: list[Result]) -> tuple[str, bool | None]:
    """How many of several goals are met, and whether all of them."""
    with_goal = [result for result in results if result.met is not None]
    kept = sum(bool(result.met) for result in with_goal)
    return f"{kept} of {len(with_goal)} met", kept == len(with_goal) if with_goal else None


# --------------------------------------------------------------------------- the sections


SUITE_METHOD = """\
- Both sides in one fresh process, in turns (A B, B A, ...), with the same threads, dtype, shapes, data, fused AdamW,
  allocator and denormal numbers flushed; one call before that is not counted.
- A figure is the median over the rounds of the ratio of the two neighbours' processor times, with its quartiles, and
  the same ratio of wall times beside it. Other units are given.
- Peak memory: by how much a fresh process grew at most in one call (two steps for training), ours / theirs.
- A training step is forward, loss, backward, optimiser, cleared gradients, without dropout. Each side runs in float32
  and in bfloat16 autocast, theirs also with both of its attention kernels, and the figure compares each one's fastest;
  the models have the same width, layers, heads and feed-forward size, and get the same batch, made by our collator.
  Batches at T 256 have 16 rows, at T 1024 four. Nothing is compiled.
- Model FLOPs are those of all matrix products in forward and backward as PyTorch dispatches them, attention over all
  T x T pairs; the time is of the whole step, optimiser included.
- Growth: processor time and peak memory of a float32 step of the model `tiny`, at T 128, V 4096, B 16 but for what
  grows. The figure is the slope at the end in a picture of logarithms, the steepest of the three objectives."""


def suite(record: dict[str, Any]) -> Outcome:
    """All figures of `suite.py` in one table, and how they come about."""
    found = [Result.of_json(result) for result in record["results"]]
    peaks = ", ".join(f"{speed / 1e9:.0f} GFLOP/s {dtype}" for dtype, speed in record["peak"].items())
    kind = " This was a quick one, that only shows that it runs: no figure counts." if record["quick"] else ""
    body = (
        f"Best matrix products in the same run: {peaks}.{kind}\n\n{table(found)}\n\n"
        f"### How it is measured\n\n{SUITE_METHOD}\n\n### What else was seen\n\n{notes(found, explanations())}"
    )
    return Outcome(*goals_of(found), body)


def ladder_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each rung; what no seed, or not every seed, reached is marked."""
    lines = [
        cells("rung", "steps", "held-out nats", "ms a step", "seconds to the goal", "times sooner"),
        cells(*["---"] * 6),
    ]
    for row in rows:
        reached = [second for second in row["seconds"] if second is not None]
        missing = len(row["seconds"]) - len(reached)
        took = f"{min(reached):.1f} to {max(reached):.1f}" if reached else "-"
        took += f" ({missing} of {len(row['seconds'])} seeds did not reach it)" if missing else ""
        nats = f"{row['nats']:.3f}" + ("" if row["nats_spread"] is None else f" ± {row['nats_spread']:.3f}")
        sooner = "-" if row["times_sooner"] is None else f"{row['times_sooner']:.1f}"
        lines.append(cells(row["rung"], row["steps"], nats, f"{row['milliseconds_per_step']:.0f}", took, sooner))
    return "\n".join(lines)


def ladder(record: dict[str, Any]) -> Outcome:
    """The rungs; the last one is held against the goal."""
    rows, goal = record["rows"], LADDER_GOALS[record["ladder"]]
    sooner = rows[-1]["times_sooner"]
    met = sooner is not None and sooner >= goal
    blocks = record["heldout_blocks"]
    body = (
        f"Text: {record['corpus']}, {len(record['seeds'])} seeds; an evaluation reads {blocks} held-out blocks. "
        f"The recipe's own {rows[0]['nats']:.3f} nats are what all rungs go after.\n\n{ladder_table(rows)}"
        f"{missed('ladder-' + record['ladder'], met)}"
    )
    return Outcome("not reached by every seed" if sooner is None else f"{sooner:.1f}x", met, body)


def baby(record: dict[str, Any]) -> Outcome:
    """What the run reached, and when."""
    reached, whole = record["reached_at"], record["wall_minutes"]
    met, when = False, "not reached"
    if reached is not None:  # evaluations are as frequent before it as after it
        with_evaluations = reached * (whole or record["minutes"]) / record["minutes"]
        met = with_evaluations <= BABY_GOAL["minutes"]
        when = f"reached after {reached:.1f} minutes of training, {with_evaluations:.1f} with evaluations"
    more = "" if whole is None else f", {whole:.1f} with its evaluations"
    lines = [
        cells("what", "figure"),
        cells("---", "---"),
        cells("best held-out nats", f"{record['best']:.4f}, after {record['best_at']:.1f} minutes of training"),
        cells(f"the goal, {BABY_GOAL['nats']}", when),
        cells("at the end", f"{record['end']:.4f}"),
        cells("minutes", f"{record['minutes']:.1f} of training{more}"),
        cells("steps", f"{record['steps']} of {record['characters_per_step']} characters"),
        cells("parameters", f"{record['parameters'] / 1e6:.2f} M, {record['shape']}"),
    ]
    return Outcome(f"{record['best']:.4f} nats", met, "\n".join(lines) + missed("baby-gpt", met))


def widths_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each recipe and size, a column for each multiplier."""
    multipliers = sorted({row["multiplier"] for row in rows})
    head = ["recipe", "size", "parameters", *(f"{m:.2g} x the learning rates" for m in multipliers), "best"]
    lines = [cells(*head), cells(*["---"] * len(head))]
    for recipe, size in dict.fromkeys((row["recipe"], row["size"]) for row in rows):
        mine = {row["multiplier"]: row for row in rows if (row["recipe"], row["size"]) == (recipe, size)}
        shown = [_nats(mine[m]["nats"]) for m in multipliers]
        parameters = f"{next(iter(mine.values()))['parameters'] / 1e6:.2f} M"
        lines.append(cells(recipe, size, parameters, *shown, f"{best_multiplier(list(mine.values())):.2g} x"))
    return "\n".join(lines)


def best_multiplier(rows: list[dict[str, Any]]) -> float:
    """That of the lowest mean; a run that came to no number (None) is the worst."""

    def mean(row: dict[str, Any]) -> float:
        return float("inf") if None in row["nats"] else sum(row["nats"]) / len(row["nats"])

    return min(rows, key=mean)["multiplier"]


def _nats(values: list[float | None]) -> str:
    finite = [value for value in values if value is not None]
    if len(finite) < len(values):
        return "no number"
    middle = sum(finite) / len(finite)
    return f"{middle:.3f}" + (f" ({min(finite):.3f} to {max(finite):.3f})" if len(finite) > 1 else "")


def best_multipliers(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By recipe and size."""
    found: dict[str, dict[str, float]] = {}
    for recipe, size in dict.fromkeys((row["recipe"], row["size"]) for row in rows):
        mine = [row for row in rows if (row["recipe"], row["size"]) == (recipe, size)]
        found.setdefault(recipe, {})[size] = best_multiplier(mine)
    return found


def widths(record: dict[str, Any]) -> Outcome:
    """Held-out nats by size and multiplier."""
    best = best_multipliers(record["rows"])
    figure = "; ".join(
        f"{recipe}: " + ", ".join(f"{size} {m:.2g}x" for size, m in mine.items()) for recipe, mine in best.items()
    )
    met = all(len(set(mine.values())) == 1 for mine in best.values())
    body = (
        f"Text: {record['corpus']}, {record['steps']} steps of {record['batch']} x {record['length']} characters; "
        "held-out nats, and where there are several seeds their range. So short a run likes high learning rates: "
        "what is asked is only whether both sizes like the same ones.\n\n"
        f"{widths_table(record['rows'])}{missed('widths', met)}"
    )
    return Outcome(figure, met, body)


def gpu(record: dict[str, Any]) -> Outcome:
    """All figures of `gpu.py` in one table."""
    found = [Result.of_json(result) for result in record["results"]]
    return Outcome(*goals_of(found), f"{table(found)}\n\n{notes(found, explanations())}".rstrip())


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


EARLY = (
    "The recipe's 300 steps are early: it is then not far below what token frequencies alone come to. So this tells "
    "how soon learning begins, and not where it ends."
)

SECTIONS = [
    Section(
        "suite",
        "Speed and memory",
        "python benchmarks/suite.py --publish",
        "half an hour on one core",
        "each figure has its own",
        "Side by side with what people use today.",
        suite,
        "benchmarks.png",
    ),
    Section(
        "ladder-shakespeare",
        "Learning sooner: causal LM on Shakespeare",
        "python benchmarks/ladder.py shakespeare --corpus tinyshakespeare.txt --publish",
        "about 45 minutes on one core",
        "6x sooner than nanoGPT's recipe",
        "From a recipe that people use to ours, one change a rung, each keeping those before it: how long until the "
        "held-out loss at which the recipe ends, mean over its seeds? Processor seconds of the training steps alone, "
        "one thread. A rung has its own number of steps: a schedule that ends sooner learns sooner, up to a point. "
        "Here the recipe is nanoGPT's for a CPU, on characters of tinyshakespeare.",
        ladder,
        "ladder-shakespeare.png",
    ),
    Section(
        "ladder-masked",
        "Learning sooner: masked LM",
        "python benchmarks/ladder.py masked --corpus ag_news.csv --column 2 --publish",
        "about half an hour on one core",
        "4x sooner than a BERT-style recipe",
        f"As above, from a BERT-style recipe, on AG News in 4096 different tokens. {EARLY}",
        ladder,
        "ladder-masked.png",
    ),
    Section(
        "ladder-span",
        "Learning sooner: span corruption",
        "python benchmarks/ladder.py span --corpus ag_news.csv --column 2 --publish",
        "about half an hour on one core",
        "4x sooner than a T5-style recipe",
        f"As above, from a T5-style recipe, on AG News in 4096 different tokens. {EARLY}",
        ladder,
        "ladder-span.png",
    ),
    Section(
        "baby-gpt",
        "Baby GPT without a GPU",
        "python benchmarks/baby_gpt.py --corpus tinyshakespeare.txt --publish",
        "45 minutes on two cores",
        f"{BABY_GOAL['nats']} nats within {BABY_GOAL['minutes']:.0f} minutes",
        f"nanoGPT trains 10.6 M parameters on the characters of Shakespeare with a GPU and reports {BABY_GOAL['nats']} "
        "held-out nats. A smaller model of the same depth and context goes after it on two cores.",
        baby,
        "baby-gpt.png",
    ),
    Section(
        "widths",
        "Learning rates at another width",
        "python benchmarks/widths.py --corpus tinyshakespeare.txt --publish",
        "5 minutes on one core",
        "`tiny` and `small` like the same learning rates",
        "Do the learning rates that suit the preset `tiny` suit `small`, three times as wide, without another search? "
        "Both learning rates of each recipe are multiplied together.",
        widths,
        "widths.png",
    ),
    Section(
        "processes",
        "Several processes",
        "python benchmarks/processes.py --publish",
        "10 minutes on two cores",
        f"losses of 1, 2 and 4 processes within {APART:g} nats at every step",
        "The same run by `torchrun` on 1, 2 and 4 processes of a processor, replicated (DDP) and sharded (FSDP2): how "
        "far do the losses lie from those of one process? In double precision, since training makes much of little. "
        "How much is shown by one process that adds up the same batch in micro-batches: it differs by rounding alone. "
        "The last rows are the same in single precision.",
        processes,
        "processes.png",
    ),
    Section(
        "streaming",
        "A corpus larger than memory",
        "python benchmarks/streaming.py --publish",
        "35 minutes of one core",
        f"at most {FLAT}x the memory late in the corpus that there is early in it",
        "All batches of a corpus in files of JSON lines, tokenised as they come (stream); a fifth of it packed "
        "once into shards (pack); all batches of those, mapped into memory (packed). Memory is that of all processes "
        "together.",
        streaming,
        "streaming.png",
    ),
    Section(
        "soak",
        "An hour of training",
        "python benchmarks/soak.py --publish",
        "62 minutes on one core",
        f"at its end memory within {SOAK_GOALS['memory']:.0%}, speed within {SOAK_GOALS['speed']:.0%}, no more open "
        "files and threads",
        "The usual `clozelab train` for an hour, with checkpoints, evaluations and samples: is the end as the "
        "beginning? Memory and processor time are those of the whole process, seen from outside; the first minutes "
        "stand apart.",
        soak,
        "soak.png",
    ),
    Section(
        "gpu",
        "On a GPU",
        "python benchmarks/gpu.py --corpus tinyshakespeare.txt --publish",
        "20 minutes on one GPU",
        "over 50% of the peak; the loss in an eighth of the memory; baby GPT in a minute",
        "Training steps at the shapes of GPT-2 small, BERT-base and T5-base, both sides compiled, bfloat16 autocast; "
        "the memory of the loss; baby GPT by the clock.",
        gpu,
        missing="not measured: no GPU was at hand",
    ),
]
"""In the order of the page."""


# --------------------------------------------------------------------------- the page


def section_text(section: Section, record: dict[str, Any] | None, picture: str | None) -> tuple[str, str]:
    """Its line in the table at the top, and its part of the page."""
    anchor = re.sub(r"[^a-z0-9 -]", "", section.title.lower()).replace(" ", "-")
    link = f"[{section.title}](#{anchor})"
    head = f"## {section.title}\n\n{section.about}\n\n"
    if record is None:
        text = f"{head}{section.missing[0].upper()}{section.missing[1:]}: `{section.command}`, {section.takes}."
        return cells(link, section.goal, section.missing, ""), text
    outcome = section.render(record)
    goal = f"Goal: {section.goal}. Figure: {outcome.figure}, {met_or_not(outcome.met) or 'no goal'}."
    made = f"`{section.command}`, {section.takes}. {measured_on(record)}"
    shown = f"![{section.title}]({picture})\n\n" if picture is not None else ""
    text = f"{head}{made}\n\n{goal}\n\n{shown}{outcome.body}"
    return cells(link, section.goal, outcome.figure, met_or_not(outcome.met)), text


def page(measured: Path = MEASURED) -> str:
    """The whole of `benchmarks/README.md` from the files of a folder, whichever of them are there."""
    lines, texts = [cells("what", "goal", "figure", "outcome"), cells(*["---"] * 4)], []
    for section in SECTIONS:
        path = measured / f"{section.name}.json"
        record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        line, text = section_text(section, record, section.picture and f"../docs/{section.picture}")
        lines.append(line)
        texts.append(text)
    return (
        "\n\n".join(
            [
                "# Benchmarks",
                "Made by `python benchmarks/report.py` from the files in `benchmarks/measured/`, which the commands "
                "below write; `notes.md` is what was written by hand.",
                "\n".join(lines),
                *texts,
                f"## {TRIED}\n\n{hand_written()[TRIED]}",
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    (HERE / "README.md").write_text(page(), encoding="utf-8")
