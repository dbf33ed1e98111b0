"""A lesson: its command line, and the result that it records."""

import json
import re
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from matplotlib.figure import Figure

from clozelab.course import Exercise, Gate, Lesson, Part, Result, Seeds, judge, read_results
from clozelab.errors import InputError
from clozelab.objectives import CausalLM
from clozelab.progress import Bar, current_bar
from clozelab.training import TrainConfig, fit

LESSON = Lesson(
    "04_some_lesson.py",
    "Some lesson",
    claim="[mask] helps by 100%",
    question="Does it help?",
    exercises=(Exercise("Mask nothing: what is the gap?", answer=(-0.1, 0.1), why="There is nothing to guess."),),
    literature="They found 0.5.",
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def conclude(visit, judgement=None, **changes):
    gap = Seeds(tuple(0.5 + 0.1 * seed for seed in visit.seeds))
    if judgement is None:
        judgement = judge([Gate("the gap is below 1", gap, below=1.0)], [Part("it helps", gap)])
    settings = {
        "number": f"{gap:.2f} nats, guess 1.39",
        "finding": f"a gap of {gap:.2f} nats",
        "figures": {"gap": gap},
        "headings": ["what", "nats"],
        "rows": [["a [b]gap[/b]", f"{gap:.2f}"]],
        "picture": Figure(),
    }
    return visit.conclude(judgement, **{**settings, **changes})


# ------------------------------------------------------------------ the command line


def test_the_command_line_sets_seeds_budget_and_folder():
    visit = LESSON.visit([])
    assert (visit.fast, visit.seeds, visit.out) == (False, [0, 1, 2, 3, 4], Path("runs/results"))
    assert visit.choose(2000, fast=50) == 2000
    fast = LESSON.visit(["--fast", "--out", "here"])
    assert (fast.fast, fast.seeds, fast.out) == (True, [0], Path("here"))
    assert fast.choose(2000, fast=50) == 50
    full = LESSON.visit(["--full"], full=True)
    assert (full.choose(2000, fast=50, full=9000), full.choose(2000, fast=50)) == (9000, 2000)
    assert full.arguments == ["--full"]
    assert LESSON.visit(["--fast"]).out == Path("runs/course")  # the result of a whole run is not overwritten
    assert LESSON.visit(["--fast", "--seeds", "2"]).seeds == [0, 1]
    assert replace(LESSON, first_seed=20).visit(["--fast", "--seeds", "2"]).seeds == [20, 21]


def test_a_whole_run_says_how_long_it_takes_where_one_was_recorded(capsys, monkeypatch, tmp_path):
    LESSON.visit([])
    assert capsys.readouterr().err == ""  # there is no such lesson
    recorded = conclude(replace(LESSON.visit(["--out", "results"]), begun=time.process_time() - 600.0))
    assert recorded.seconds == pytest.approx(600.0, abs=60.0)
    monkeypatch.setattr("clozelab.course.lesson.lessons_folder", lambda: tmp_path)
    capsys.readouterr()
    LESSON.visit(["--seeds", "10"])
    assert capsys.readouterr().err == (
        "10 seeds: about 20 min of processor time, by the recorded run; --fast is for a first look\n"
    )
    LESSON.visit(["--fast"])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    LESSON.visit([])
    assert capsys.readouterr().err.endswith('recorded run; main(["--fast"]) is for a first look\n')


def test_a_script_writes_beside_itself(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__=str(tmp_path / "04_some_lesson.py")))
    monkeypatch.setattr(sys, "argv", ["04_some_lesson.py", "--seeds", "4"])
    visit = LESSON.visit()
    assert (visit.out, visit.seeds) == (tmp_path / "results", [0, 1, 2, 3])


def test_a_notebook_has_no_command_line(monkeypatch):
    """There `__main__` has no file, and the arguments are those of the kernel."""
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace())
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    visit = LESSON.visit()
    assert (visit.fast, visit.seeds, visit.out) == (False, [0, 1, 2, 3, 4], Path("results"))


def test_a_notebook_shows_the_picture(monkeypatch):
    shown = []
    display = SimpleNamespace(display=shown.append, Image=lambda filename: Path(filename))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    conclude(LESSON.visit(["--fast"]))
    assert shown == []
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    conclude(LESSON.visit(["--fast"]))
    assert shown == [Path("runs/course/04_some_lesson.png")]
    assert shown[0].is_file()


def test_a_corpus_is_taken_where_one_can_be_used(tmp_path):
    text = tmp_path / "secret" / "book.txt"
    text.parent.mkdir()
    text.write_text("words")
    for given in (["--corpus", str(text)], [f"--corpus={text}"]):
        visit = LESSON.visit(given, corpus=True)
        assert visit.corpus == text
        assert visit.arguments == ["--corpus", "book.txt"]
    assert LESSON.visit([], corpus=True).corpus is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["--seeds", "many"], "invalid int value: 'many'"),
        (["--sed", "1"], "unrecognized arguments: --sed 1"),
        (["--fast", "--full"], "not allowed with argument --fast"),
        (["--fas"], "unrecognized arguments: --fas"),
        (["--corpus", "book.txt"], "unrecognized arguments: --corpus book.txt"),  # it takes none
        (["--out", "a file"], "the folder a file cannot be created"),
        (["--out", "a file/results"], "the folder a file/results cannot be created"),
    ],
)
def test_a_bad_command_line_is_one_line_and_exit_code_2(arguments, message, capsys):
    Path("a file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        LESSON.visit(arguments, full=True)
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("04_some_lesson.py: ")
    assert message in line


def test_a_longer_run_is_refused_by_a_lesson_that_has_none(capsys):
    """It would be the usual run, and would replace the recorded result."""
    with pytest.raises(SystemExit) as stopped:
        LESSON.visit(["--full"])
    assert stopped.value.code == 2
    assert "unrecognized arguments: --full" in capsys.readouterr().err


def test_a_corpus_that_does_not_exist_is_one_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        LESSON.visit(["--corpus", "nowhere.txt"], corpus=True)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "04_some_lesson.py: nowhere.txt does not exist (see --help)\n"


def test_a_corpus_that_cannot_be_read_is_one_line(tmp_path, capsys):
    def read(path):
        raise InputError(f"{path.name}, row 1: no label")

    text = tmp_path / "book.txt"
    text.write_text("words")
    assert LESSON.visit([], corpus=True).read_corpus(read) is None
    visit = LESSON.visit(["--fast", "--corpus", str(text)], corpus=True)
    assert visit.read_corpus(Path.read_text) == "words"
    with pytest.raises(SystemExit) as stopped:
        visit.read_corpus(read)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "04_some_lesson.py: book.txt, row 1: no label\n"


def test_a_run_on_a_corpus_does_not_replace_the_recorded_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "book.txt"
    text.write_text("words")
    assert LESSON.visit(["--corpus", str(text)], corpus=True).out == Path("runs/course")


def test_help_shows_the_claim(capsys):
    with pytest.raises(SystemExit) as stopped:
        LESSON.visit(["--help"])
    assert stopped.value.code == 0
    assert "[mask] helps by 100%" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["lesson.py", "4_a.py", "04.py", "04_a", "04-a.py", "123_a.py", "04_a/b.py", "٠٤_a.py"]
)
def test_a_script_has_a_number_and_a_name(name):
    with pytest.raises(InputError, match="is named NN_name"):
        Lesson(name, "title", claim="claim", question="question")


def test_a_claim_and_its_number_fit_into_a_table():
    assert Lesson("04_a.py", "title", claim="word " * 20, question="question").claim
    with pytest.raises(InputError, match="a claim has at most 20 words, since it stands in a table; got 21"):
        Lesson("04_a.py", "title", claim="word " * 21, question="question")
    visit = LESSON.visit(["--fast"])
    with pytest.raises(InputError, match="the number of a lesson has at most 20 words"):
        conclude(visit, number="0.5 " * 21)
    assert [path.suffix for path in sorted(visit.out.iterdir())] == [".json", ".png"]  # minutes are not lost for a word


def test_an_exercise_is_checked_by_its_number():
    assert LESSON.check(1, 0.05) == "Right: between -0.1 and 0.1. There is nothing to guess."
    assert LESSON.check(1, 0.5).startswith("Not yet: 0.5 is too high.")
    assert LESSON.check(1, -0.5).startswith("Not yet: -0.5 is too low.")
    for number in (0, 2):
        with pytest.raises(InputError, match=f"the exercises are 1 to 1, got {number}"):
            LESSON.check(number, 0.5)
    with pytest.raises(InputError, match="an answer is a range"):
        Exercise("ask", answer=(2, 1), why="because")


def test_what_is_no_number_is_neither_too_low_nor_too_high():
    assert LESSON.check(1, float("nan")).startswith("Not yet: nan is no number")


def test_exercises_are_printed_with_their_numbers(capsys):
    LESSON.print_exercises()
    assert capsys.readouterr().out == "1. Mask nothing: what is the gap?\n"


# ------------------------------------------------------------------ what is recorded


def test_a_conclusion_is_printed_and_saved(capsys):
    result = conclude(LESSON.visit(["--out", "out", "--seeds", "3"]))
    printed = " ".join(capsys.readouterr().out.split())
    for word in (
        "04 Some lesson",
        "[mask] helps by 100%",
        "a gap of 0.60 ± 0.25 nats",
        "a [b]gap[/b]",
        "held (3 seeds, ± half of the 95% interval",
        "gate: the gap is below 1: 0.6 ± 0.248, must be below 1",
        "held: it helps: +0.6 ± 0.248",
    ):
        assert word in printed
    assert Path("out/04_some_lesson.png").read_bytes()[:4] == b"\x89PNG"
    assert read_results("out") == [result]
    assert (result.lesson, result.verdict, result.seeds) == ("04", "held", [0, 1, 2])
    assert result.figures == {"gap": pytest.approx([0.5, 0.6, 0.7])}
    assert result.command == "python examples/04_some_lesson.py --seeds 3"
    assert 0 <= result.seconds < 60
    assert result.gates == [["the gap is below 1: 0.6 ± 0.248, must be below 1", "passed"]]
    assert result.parts == [["it helps: +0.6 ± 0.248, held", "held"]]
    assert (result.reason, result.number, result.question) == ("", "0.60 ± 0.25 nats, guess 1.39", "Does it help?")


def test_a_result_names_machine_and_commit(monkeypatch):
    result = conclude(LESSON.visit(["--seeds", "2"]))
    assert re.fullmatch(r"\w+, [\w ]+", result.machine)
    assert re.fullmatch(r"[0-9a-f]{7,40}(, with changes)?|unknown", result.commit)
    monkeypatch.setenv("PATH", "")  # no git
    assert conclude(LESSON.visit(["--seeds", "2"])).commit == "unknown"


@pytest.fixture
def every_line(monkeypatch):
    """A line of a log file is due each time, and not now and then."""
    for name in ("FIRST", "EVERY", "GROWTH"):
        monkeypatch.setattr(f"clozelab.progress.{name}", 0.0)


def test_a_lesson_says_how_far_it_is_and_each_training_in_it(capsys, every_line):
    objective, batch = CausalLM(), {"input_ids": torch.arange(8)[None], "labels": torch.arange(8)[None]}
    model = objective.build_model(8, "tiny", d_model=8, n_layers=1, n_heads=1)

    def train(steps):
        fit(objective, model, lambda step: batch, TrainConfig(steps=steps))

    for _ in LESSON.visit(["--seeds", "2"]).track([0, 1]):
        train(2)
    lines = capsys.readouterr().err.splitlines()
    loss = r"loss \d\.\d{3} nats"
    for done in (0, 1):
        for step in (1, 2):
            assert any(re.fullmatch(f"lesson 04: {done} of 2 seeds, step {step} of 2, {loss}", line) for line in lines)
    assert any(re.fullmatch(r"lesson 04: 1 of 2 seeds, \d+ \w+ left", line) for line in lines)
    train(1)
    assert capsys.readouterr().err == ""  # outside of the loop


def test_a_lesson_that_says_nothing_for_long_is_alive_all_the_same(capsys, every_line):
    threads = threading.active_count()
    for _ in LESSON.visit(["--seeds", "1"]).track([0]):
        time.sleep(1.2)  # a heart beats once a second
    assert "lesson 04: 0 of 1 seeds, 1 s so far" in capsys.readouterr().err.splitlines()
    assert threading.active_count() == threads


def test_a_loop_that_is_left_leaves_no_bar_behind():
    with pytest.raises(ZeroDivisionError):
        [1 / seed for seed in LESSON.visit([]).track([0, 1])]
    assert type(current_bar()) is Bar


def test_loops_within_loops_share_a_bar(capsys, every_line):
    visit = LESSON.visit([])
    assert [(a, b) for a in visit.track("xy", "kinds") for b in visit.track([1, 2])] == [
        *(("x", 1), ("x", 2), ("y", 1), ("y", 2))
    ]
    lines = capsys.readouterr().err.splitlines()
    assert "lesson 04: 1 of 2 kinds, 2 of 2 seeds" in lines


def test_what_is_installed_is_not_changed(monkeypatch, tmp_path):
    monkeypatch.setattr("clozelab.course.lesson.INSTALLED", tmp_path)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__=str(tmp_path / "04_some_lesson.py")))
    monkeypatch.setattr(sys, "argv", ["04_some_lesson.py"])
    assert LESSON.visit().out == Path("runs/results")


def test_a_single_seed_is_not_judged():
    assert conclude(LESSON.visit(["--fast"])).verdict == "not judged"
    assert conclude(LESSON.visit(["--seeds", "1"])).verdict == "not judged"
    assert conclude(LESSON.visit(["--seeds", "3"])).verdict == "held"


def test_folders_of_the_machine_are_not_recorded(tmp_path):
    text = tmp_path / "book.txt"
    text.write_text("words")
    visit = LESSON.visit(["--fast", "--corpus", str(text), "--out", str(tmp_path / "out")], corpus=True)
    conclude(visit)
    assert str(tmp_path) not in (tmp_path / "out" / "04_some_lesson.json").read_text()


def test_an_older_result_is_replaced_whole():
    visit = LESSON.visit(["--out", "out"])
    conclude(visit, finding="an older one")
    conclude(visit, finding="a newer one")
    assert json.loads(Path("out/04_some_lesson.json").read_text())["finding"] == "a newer one"
    assert sorted(path.name for path in Path("out").iterdir()) == ["04_some_lesson.json", "04_some_lesson.png"]
    assert Result.load(Path("out/04_some_lesson.json")).finding == "a newer one"
