"""`clozelab course`: results of lessons, listed and shown."""

import json
import re
from pathlib import Path

import pytest

from clozelab.cli import main
from clozelab.course import Result

from .commands import refused, write


def made_results(folder="results", numbers=("02", "01")):
    """A folder of results, as the scripts of the course write them."""
    for number in numbers:
        Result(
            lesson=number,
            script=f"{number}_a_lesson.py",
            title=f"Lesson {int(number)}",
            question="Do they help?",
            claim="[mask] tokens help",
            verdict="held in part",
            reason="",
            number="0.25 ± 0.01 nats less | 5 runs",
            finding="It is 0.25 ± 0.01 nats less.",
            gates=[],
            parts=[["they help: 0.25 ± 0.01, held", "held"], ["much: 0.01 ± 0.02, cannot tell", "cannot tell"]],
            literature="",
            previous="",
            figures={"gap": [0.24, 0.26]},
            headings=["gap"],
            rows=[["0.25"]],
            seeds=[0, 1],
            seconds=75.0,
            arguments=[],
            torch="2.9.0",
            machine="x86_64, AVX2",
            commit="1234567",
        ).save(Path(folder))


def test_course_lists_what_was_measured(capsys):
    made_results()
    assert main(["course", "--folder", "results"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.index("01 Lesson 1 held in part (1 of 2 parts) 1.2") < printed.index("02 Lesson 2 held in part")
    assert "what was claimed and measured: clozelab course 1" in printed


def test_course_shows_one_lesson_and_how_to_run_it(capsys):
    """From any folder: those that came with the package."""
    assert main(["course", "13"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for word in ("13 What the knobs do", "claim: ", "measured: ", "gate: ", "verdict: held in part"):
        assert word in printed
    assert re.search(r"to run it: python \S*/13_what_the_knobs_do\.py --fast", printed)


def test_course_prints_the_table_of_the_readme(capsys):
    made_results()
    assert main(["course", "--folder", "results", "--markdown"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert printed[0] == "| lesson | the claim | measured | verdict |"
    assert printed[2].startswith(
        "| [01 Lesson 1](examples/01_a_lesson.py) | [mask] tokens help | 0.25 ± 0.01 nats less"
    )
    assert all(line.replace("\\|", "").count("|") == 5 for line in printed)


def test_course_without_results_is_one_line(capsys):
    refused(capsys, ["course", "--folder", "."], r"\. holds no results of lessons .*run a script of examples/ first")
    refused(capsys, ["course", "99"], "there is no result of a lesson 99: clozelab course lists them")
    refused(capsys, ["course", "x"], "expected the number of a lesson, got 'x'")
    refused(capsys, ["course", "--folder", "corpus.jsonl"], "corpus.jsonl holds no results")
    refused(capsys, ["course", "--folder", ""], "--folder: expected a path")


@pytest.mark.parametrize("more", [[], ["--markdown"]])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"lesson": "01"}'])
def test_course_names_a_damaged_result(content, more, capsys):
    made_results()
    write("results/02_a_lesson.json", content)
    refused(capsys, ["course", "--folder", "results", *more], "02_a_lesson.json is no result of a lesson")


def test_course_names_what_cannot_be_read(capsys):
    made_results()
    Path("results/03_a_folder.json").mkdir()
    refused(capsys, ["course", "--folder", "results"], "03_a_folder.json")
    Path("results/03_a_folder.json").rmdir()
    told = json.loads(Path("results/01_a_lesson.json").read_text())
    write("results/01_a_lesson.json", json.dumps({**told, "seconds": "long"}).encode())
    refused(capsys, ["course", "--folder", "results"], "01_a_lesson.json is no result of a lesson: seconds is 'long'")
