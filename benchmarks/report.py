"""One page of all that was measured, from the files that the scripts leave in `benchmarks/measured/`.

    python benchmarks/report.py     writes benchmarks/README.md anew, at once: nothing is measured

Each script writes its file, its picture and the page with `--publish`. There is a folder for each kind of machine, and
figures of several kinds stand side by side. Only `notes.md` is written by hand: what was tried without success, and
why goals are missed. No figure is typed, so none can outlive its measurement unseen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import picture
from learning import BABY_GOAL, baby, ladder, widths
from long_runs import APART, FLAT, SOAK_GOALS, processes, soak, streaming
from measure import HERE
from results import cells
from section_outcome import KINDS, TRIED, Outcome, folder_of, hand_written, kind_of, measured_on, met_or_not
from suite_page import SUITE_METHOD, gpu, results_of, suite

MEASURED = HERE / "measured"
DOCS = HERE.parent / "docs"


@dataclass(frozen=True)
class Section:
    """A part of the page: the files `measured/KIND/NAME.json`, the command that writes them, how they are shown."""

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
    """In `docs/`; with {kind} in its name there is one for each kind of machine."""
    missing: str = "not measured yet"
    method: str = ""
    """How it is measured, where that takes a list."""


# --------------------------------------------------------------------------- reading and writing


def publish(name: str, record: Mapping[str, Any], draw: Callable[[Path], None] | None = None) -> None:
    """Keep a measurement beside those of other kinds of machines: its file, its picture (`draw` is given the path),
    and the page."""
    kind = kind_of(record)
    path = MEASURED / folder_of(kind) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    pictured = next(section.picture for section in SECTIONS if section.name == name)
    if draw is not None and pictured is not None:
        draw(DOCS / pictured.format(kind=folder_of(kind)))
    (HERE / "README.md").write_text(page(), encoding="utf-8")


def publish_rows(rows: Mapping[str, Any]) -> None:
    """Keep rows of the suite in place of the same rows of the same kind of machine, and draw all of that kind."""
    kind = kind_of({"rows": rows})
    path = MEASURED / folder_of(kind) / "suite.json"
    known = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {}
    record = {"rows": {**known, **rows}}
    publish("suite", record, lambda path: picture.draw(kind, results_of(record), path))


def records(name: str, measured: Path | None = None) -> dict[str, Any]:
    """What was measured by one script, by kind of machine; in the repository, or in another folder."""
    files = sorted((measured or MEASURED).glob(f"*/{name}.json"))
    found = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    by_kind = {kind_of(record): record for record in found}
    return dict(sorted(by_kind.items(), key=lambda pair: (*KINDS, pair[0]).index(pair[0])))


# --------------------------------------------------------------------------- the sections


SECTIONS = [
    Section(
        "suite",
        "Speed and memory",
        "python benchmarks/suite.py --publish",
        "an hour on one core",
        "each figure has its own",
        "Side by side with what people use today. What was not measured on a kind of machine is not in its table.",
        suite,
        "benchmarks-{kind}.png",
        method=SUITE_METHOD,
    ),
    Section(
        "ladder-shakespeare",
        "Learning sooner: causal LM on Shakespeare",
        "python benchmarks/ladder.py shakespeare --corpus tinyshakespeare.txt --publish",
        "about 45 minutes on one core",
        "4x sooner than nanoGPT's recipe, 8x where bfloat16 is fast",
        "From a recipe that people use to ours, one change a rung, each keeping those before it: how long until the "
        "held-out loss at which the recipe ends, mean over its seeds? Processor seconds of the training steps alone, "
        "one thread. A rung has its own number of steps: a schedule that ends sooner learns sooner, up to a point. "
        "Here the recipe is nanoGPT's for a CPU, on characters of tinyshakespeare.",
        ladder,
        "ladder-shakespeare-{kind}.png",
    ),
    Section(
        "ladder-masked",
        "Learning sooner: masked LM",
        "python benchmarks/ladder.py masked --corpus ag_news.csv --column 2 --publish",
        "45 minutes a seed on one core with AVX2 alone",
        "5x sooner than a BERT-style recipe",
        "As above, from a BERT-style recipe of 3000 steps, on AG News in 4096 different tokens. It ends on the plateau "
        "of masked LM even so, not far below what token frequencies cost: the goal is one that is reached early.",
        ladder,
        "ladder-masked-{kind}.png",
    ),
    Section(
        "ladder-span",
        "Learning sooner: span corruption",
        "python benchmarks/ladder.py span --corpus ag_news.csv --column 2 --publish",
        "26 minutes a seed on one core with AVX2 alone",
        "5x sooner than a T5-style recipe",
        "As above, from a T5-style recipe of 3000 steps, on AG News in 4096 different tokens.",
        ladder,
        "ladder-span-{kind}.png",
    ),
    *(
        Section(
            f"ladder-default-{name}",
            f"Sooner by default: {title}",
            f"python benchmarks/ladder.py default-{name} --publish",
            "an hour on one core",
            "2x sooner than the defaults of version 0.1",
            "From the defaults of version 0.1 (AdamW 3e-3, 781 steps, the built-in text) to those of "
            "today, as above: how soon is the held-out loss reached at which they ended?",
            ladder,
            f"ladder-default-{name}-{{kind}}.png",
        )
        for name, title in (("causal", "causal LM"), ("masked", "masked LM"), ("span", "span corruption"))
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
        "baby-gpt-{kind}.png",
    ),
    Section(
        "widths",
        "Learning rates at another width",
        "python benchmarks/widths.py --corpus tinyshakespeare.txt --publish",
        "an hour on one core",
        "neither `tiny` nor `small` ends lower with a third or three times the rates, by more than seeds differ",
        "Do the learning rates that suit the preset `tiny` suit `small`, three times as wide, without another search? "
        "The recipes are those that `train` takes. All rates of a recipe are multiplied together; and once that of "
        "AdamW beside Muon alone, which is that of the embedding.",
        widths,
        "widths-{kind}.png",
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


def section_lines(section: Section, measured: Path | None) -> tuple[list[str], str]:
    """Its lines in the table at the top, one for each kind of machine, and its part of the page."""
    anchor = re.sub(r"[^a-z0-9 -]", "", section.title.lower()).replace(" ", "-")
    link, found = f"[{section.title}](#{anchor})", records(section.name, measured)
    parts = [f"## {section.title}", section.about]
    if not found:
        missing = f"{section.missing[0].upper()}{section.missing[1:]}: `{section.command}`, {section.takes}."
        return [cells(link, section.goal, "", section.missing, "")], "\n\n".join([*parts, missing])
    parts.append(f"`{section.command}`, {section.takes}. Goal: {section.goal}.")
    if section.picture is not None and "{kind}" not in section.picture:
        parts.append(f"![{section.title}](../docs/{section.picture})")
    if section.method:
        parts.append(f"### How it is measured\n\n{section.method}")
    lines = []
    for kind, record in found.items():
        outcome = section.render(record)
        lines.append(cells(link, section.goal, kind, outcome.figure, met_or_not(outcome.met)))
        when = f" {measured_on(record)}" if "machine" in record else ""
        parts.append(f"### {kind}: {section.title[0].lower()}{section.title[1:]}")
        parts.append(f"Figure: {outcome.figure}, {met_or_not(outcome.met) or 'no goal'}.{when}")
        if section.picture is not None and "{kind}" in section.picture:
            parts.append(f"![{section.title}, {kind}](../docs/{section.picture.format(kind=folder_of(kind))})")
        parts.append(outcome.body)
    return lines, "\n\n".join(parts)


def page(measured: Path | None = None) -> str:
    """The whole of `benchmarks/README.md` from the files of a folder, whichever of them are there."""
    lines, texts = [cells("what", "goal", "machine", "figure", "outcome"), cells(*["---"] * 5)], []
    for section in SECTIONS:
        of_section, text = section_lines(section, measured)
        lines += of_section
        texts.append(text)
    introduction = (
        "Made by `python benchmarks/report.py` from the files in `benchmarks/measured/`, which the commands below "
        "write, in a folder for each kind of machine; `notes.md` is what was written by hand. The kind says what a "
        "processor multiplies with: AMX, AVX512-BF16, or vectors alone, without instructions for bfloat16."
    )
    table = "\n".join(lines)
    tried = f"## {TRIED}\n\n{hand_written()[TRIED]}"
    return "\n\n".join(["# Benchmarks", introduction, table, *texts, tried]) + "\n"


if __name__ == "__main__":
    (HERE / "README.md").write_text(page(), encoding="utf-8")
