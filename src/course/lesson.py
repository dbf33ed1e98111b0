"""A lesson: a claim, the command line that measures it, and the record of the result."""

from __future__ import annotations

import argparse
import builtins
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch

from ..errors import InputError
from ..escape import counted, escape_control_characters
from ..progress import duration, tracked
from .exercise import Exercise
from .judgement import Judgement
from .results import INSTALLED, Result, lessons_folder, print_result
from .seeds import Seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Item = TypeVar("Item")

SEEDS = 5


WORDS = 20
"""The most that a claim may have, and the number beside it: they stand in a table."""


def in_notebook() -> bool:
    """Whether this runs in IPython: the cells of a lesson that only show something stand under `if in_notebook():`.

    >>> from clozelab.course import in_notebook
    >>> in_notebook()
    False
    """
    return hasattr(builtins, "__IPYTHON__")


@dataclass(frozen=True)
class Lesson:
    """A numbered script of `examples/`, and the claim that it measures.

    A script defines one at its top, begins with `visit` and ends with `Visit.conclude`:

        LESSON = Lesson("04_training_is_inference.py", "Training task equals inference task", claim="...", ...)

        def main(arguments=None):
            visit = LESSON.visit(arguments)
            gap = Seeds.of(lambda seed: measure(seed, steps=visit.choose(2000, fast=50)), visit.track(visit.seeds))
            judgement = judge([Gate("has learned 80%", learned, above=0.8)], [Part("is ahead", gap)])
            return visit.conclude(
                judgement,
                number=f"{gap:.2f} nats, a unigram guess 1.39",
                finding=f"... {gap:.2f} nats ...",
                figures={"gap": gap},
                headings=["what", "nats"],
                rows=[["gap", f"{gap:.2f}"]],
                picture=draw(gap, judgement),
            )

    Raises `InputError` for a script that is not named NN_name.py, and for a claim of more than 20 words.
    """

    script: str
    title: str
    claim: str
    question: str
    """What the lesson asks, as it is put to a reader before any number."""
    exercises: tuple[Exercise, ...] = ()
    literature: str = ""
    """What others measured, with the figure and the source."""
    previous: str = ""
    """What version 0.1 concluded, and why this is another verdict or the same."""
    first_seed: int = 0
    """The seeds are this one and those that follow it: others than those that its rule was made with."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9]{2}_\w+\.py", self.script):
            raise InputError(f"a lesson's script is named NN_name.py, got {self.script!r}")
        check_words("a claim", self.claim)

    def check(self, exercise: int, value: float) -> str:
        """Whether `value` is right in exercise 1, 2, ...; raises `InputError` where there is no such exercise."""
        if not 1 <= exercise <= len(self.exercises):
            raise InputError(f"the exercises are 1 to {len(self.exercises)}, got {exercise}")
        return self.exercises[exercise - 1].check(value)

    def print_exercises(self) -> None:
        """Print what the exercises ask, each with its number."""
        for number, exercise in enumerate(self.exercises, 1):
            print(f"{number}. {exercise.ask}")

    def visit(self, arguments: Sequence[str] | None = None, *, corpus: bool = False, full: bool = False) -> Visit:
        """Read the flags `--fast`, `--seeds N`, `--out FOLDER`; `--corpus FILE` if `corpus`, `--full` if `full`.

        A notebook has no command line of its own, and gets the defaults. Exits with code 2 and one line for a command
        line that cannot be read, and for a folder that cannot be created, before anything is measured.
        """
        parser = _Parser(prog=self.script, description=f"{self.title}. {self.claim}", allow_abbrev=False)
        length = parser.add_mutually_exclusive_group()
        length.add_argument("--fast", action="store_true", help="a short run without a verdict")
        if full:
            length.add_argument("--full", action="store_true", help="a longer run")
        parser.set_defaults(full=False, corpus=None)
        parser.add_argument("--seeds", type=int, help=f"number of seeds  (default: {SEEDS}; 1 with --fast)")
        parser.add_argument("--out", type=Path, help="folder for the result and the picture")
        if corpus:
            parser.add_argument("--corpus", type=Path, help="file of real text to measure too")
        script = getattr(sys.modules["__main__"], "__file__", None)  # a notebook has none
        called = arguments is None and script is not None
        args = parser.parse_args(sys.argv[1:] if called else list(arguments or ()))
        count = args.seeds if args.seeds is not None else 1 if args.fast else SEEDS
        if count < 1:
            parser.error(f"--seeds must be at least 1, got {count}")
        path = args.corpus
        if path is not None and not path.exists():
            parser.error(f"{path} does not exist")
        here = Path("runs") if arguments is not None else Path(script or "here").parent
        if here.resolve() == INSTALLED:  # what is installed is not changed
            here = Path("runs")
        # What needs a file of the reader's own never replaces the recorded result.
        out = args.out or (Path("runs/course") if args.fast or path is not None else here / "results")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"the folder {out} cannot be created: {error.strerror}")
        # The arguments that repeat the run, without the folders of this machine.
        recorded = [
            *["--fast"] * args.fast,
            *["--full"] * args.full,
            *([] if args.seeds is None else ["--seeds", str(args.seeds)]),
        ]
        recorded += [] if path is None else ["--corpus", path.name]
        if not args.fast and not args.full:
            self._print_estimate(count)
        seeds = list(range(self.first_seed, self.first_seed + count))
        return Visit(self, args.fast, args.full, seeds, out, path, recorded)

    def _print_estimate(self, seeds: int) -> None:
        """Print how long so many seeds take, by the recorded run; nothing where there is none."""
        with suppress(OSError, InputError):
            recorded = Result.load(lessons_folder() / "results" / f"{Path(self.script).stem}.json")
            seconds = recorded.seconds * seeds / max(1, len(recorded.seeds))
            line = f"{counted(seeds, 'seed')}: about {duration(seconds)} of processor time, by the recorded run"
            fast = 'main(["--fast"])' if in_notebook() else "--fast"
            print(f"{line}; {fast} is for a first look", file=sys.stderr)


@dataclass(frozen=True)
class Visit:
    """One run of a lesson."""

    lesson: Lesson
    fast: bool
    full: bool
    seeds: list[int]
    out: Path
    corpus: Path | None
    arguments: list[str]
    """The arguments of the command line, without the folders of this machine."""
    begun: float = field(default_factory=time.process_time)

    def choose(self, whole: Any, *, fast: Any, full: Any = None) -> Any:
        """The first value in a whole run, else that of a fast or a full one; a full run may have none of its own."""
        return fast if self.fast else full if self.full and full is not None else whole

    def read_corpus(self, read: Callable[[Path], Item]) -> Item | None:
        """`read(path)` of the file given by `--corpus`; None where there is none.

        Exits with code 2 and one line where `read` raises `InputError`.
        """
        if self.corpus is None:
            return None
        try:
            return read(self.corpus)
        except InputError as error:
            print(escape_control_characters(f"{self.lesson.script}: {error}"), file=sys.stderr)
            raise SystemExit(2) from None

    def track(self, items: Iterable[Item], unit: str = "seeds") -> Iterator[Item]:
        """The items of the longest loop, while a bar on standard error tells how far it is, and each training in it.

        In a log file a line now and then takes the place of the bar.
        """
        return tracked(items, f"lesson {self.lesson.script[:2]}", unit=unit, heartbeat=True)

    def conclude(
        self,
        judgement: Judgement,
        *,
        number: str,
        finding: str,
        figures: dict[str, Seeds],
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        picture: Figure,
        seconds_before: float = 0.0,
    ) -> Result:
        """Print table, gates and verdict, and write `NN_name.json` and `NN_name.png`; a notebook shows the picture.

        `number` is the one figure of the table of lessons, beside its baseline, in at most 20 words; else `InputError`,
        once everything is written: what took minutes is not lost for a word.
        `seconds_before` is the processor time that what was loaded took when it was made.
        """
        lesson = self.lesson
        result = Result(
            lesson=lesson.script[:2],
            script=lesson.script,
            title=lesson.title,
            question=lesson.question,
            claim=lesson.claim,
            verdict=judgement.verdict,
            reason=judgement.reason,
            number=number,
            finding=finding,
            gates=[[str(gate), "passed" if gate.passed else "not passed"] for gate in judgement.gates],
            parts=[[str(part), part.outcome] for part in judgement.parts],
            literature=lesson.literature,
            previous=lesson.previous,
            figures={name: list(values.values) for name, values in figures.items()},
            headings=list(headings),
            rows=[list(row) for row in rows],
            seeds=self.seeds,
            seconds=round(time.process_time() - self.begun + seconds_before, 1),
            arguments=self.arguments,
            torch=torch.__version__.split("+")[0],
            machine=f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
            commit=_commit(),
        )
        self.out.mkdir(parents=True, exist_ok=True)
        picture.savefig(str(self.out / f"{Path(lesson.script).stem}.png"), dpi=120)
        path = result.save(self.out)
        print_result(result)
        print(escape_control_characters(f"written:  {path}, {path.with_suffix('.png').name}"))
        if in_notebook():
            show = import_module("IPython.display")  # the notebook has it, and nothing else needs it
            show.display(show.Image(filename=str(path.with_suffix(".png"))))
        check_words("the number of a lesson", number)
        return result


def check_words(what: str, text: str) -> None:
    """Raise `InputError` for a text of more than 20 words."""
    if (words := len(text.split())) > WORDS:
        raise InputError(f"{what} has at most {WORDS} words, since it stands in a table; got {words}: {text!r}")


def _commit() -> str:
    """The commit of the sources, as short as git writes it; "unknown" where they are not in a clone."""
    call = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    with suppress(OSError):
        said = subprocess.run(call, capture_output=True, text=True, timeout=30)
        if said.returncode == 0:
            return said.stdout.strip().replace("-dirty", ", with changes")
    return "unknown"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")
