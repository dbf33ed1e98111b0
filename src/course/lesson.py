"""A lesson: a claim, the command line that measures it, and the record of the result."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch

from ..errors import InputError
from ..escape import counted, escape_control_characters
from ..progress import duration, tracked
from .results import INSTALLED, VERDICTS, Result, lessons_folder, print_result
from .seeds import Seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Item = TypeVar("Item")


@dataclass(frozen=True)
class Lesson:
    """A numbered script of `examples/`, and the claim that it measures.

    A script defines one at its top, begins with `visit` and ends with `Visit.conclude`:

        LESSON = Lesson("04_training_is_inference.py", "Training task equals inference task", claim="...")

        def main(arguments=None):
            visit = LESSON.visit(arguments)
            gap = Seeds.of(lambda seed: measure(seed, steps=visit.choose(2000, fast=50)), visit.track(visit.seeds))
            return visit.conclude(
                verdict="held" if gap.above else "contradicted",
                finding=f"... {gap:.2f} nats ...",
                figures={"gap": gap},
                headings=["what", "nats"],
                rows=[["gap", f"{gap:.2f}"]],
                picture=figure,
            )

    Raises `InputError` for a script that is not named NN_name.py.
    """

    script: str
    title: str
    claim: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9]{2}_\w+\.py", self.script):
            raise InputError(f"a lesson's script is named NN_name.py, got {self.script!r}")

    def visit(self, arguments: Sequence[str] | None = None, *, corpus: bool = False) -> Visit:
        """Read the command line: `--fast`, `--seeds N`, `--out FOLDER`, and `--corpus FILE` if `corpus`.

        A notebook has no command line of its own, and gets the defaults. Exits with code 2 and one line for a command
        line that cannot be read, and for a folder that cannot be created, before anything is measured.
        """
        parser = _Parser(prog=self.script, description=f"{self.title}. {self.claim}", allow_abbrev=False)
        parser.add_argument("--fast", action="store_true", help="a short run without a verdict")
        parser.add_argument("--seeds", type=int, help="number of seeds  (default: 3; 1 with --fast)")
        parser.add_argument("--out", type=Path, help="folder for the result and the picture")
        if corpus:
            parser.add_argument("--corpus", type=Path, help="path of a corpus  (default: a synthetic one)")
        script = getattr(sys.modules["__main__"], "__file__", None)  # a notebook has none
        called = arguments is None and script is not None
        args = parser.parse_args(sys.argv[1:] if called else list(arguments or ()))
        count = args.seeds if args.seeds is not None else 1 if args.fast else 3
        if count < 1:
            parser.error(f"--seeds must be at least 1, got {count}")
        path = getattr(args, "corpus", None)
        if path is not None and not path.exists():
            parser.error(f"{path} does not exist")
        here = Path("runs") if arguments is not None else Path(script or "here").parent
        if here.resolve() == INSTALLED:  # what is installed is not changed
            here = Path("runs")
        out = args.out or (Path("runs/course") if args.fast else here / "results")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"the folder {out} cannot be created: {error.strerror}")
        # The arguments that repeat the run, without the folders of this machine.
        recorded = [*["--fast"] * args.fast, *([] if args.seeds is None else ["--seeds", str(args.seeds)])]
        recorded += [] if path is None else ["--corpus", path.name]
        if not args.fast:
            self._print_estimate(count)
        return Visit(self, args.fast, list(range(count)), out, path, recorded)

    def _print_estimate(self, seeds: int) -> None:
        """Print how long so many seeds take, by the recorded run; nothing where there is none."""
        with suppress(OSError, InputError):
            recorded = Result.load(lessons_folder() / "results" / f"{Path(self.script).stem}.json")
            seconds = recorded.seconds * seeds / max(1, len(recorded.seeds))
            line = f"{counted(seeds, 'seed')}: about {duration(seconds)} of processor time, by the recorded run"
            print(f"{line}; --fast is for a first look", file=sys.stderr)


@dataclass(frozen=True)
class Visit:
    """One run of a lesson."""

    lesson: Lesson
    fast: bool
    seeds: list[int]
    out: Path
    corpus: Path | None
    arguments: list[str]
    """The arguments of the command line, without the folders of this machine."""
    begun: float = field(default_factory=time.process_time)

    def choose(self, whole: Any, *, fast: Any) -> Any:
        """The first value in a whole run, the second in a fast one."""
        return fast if self.fast else whole

    def track(self, items: Iterable[Item], unit: str = "seeds") -> Iterator[Item]:
        """The items of the longest loop, while a bar on standard error tells how far it is, and each training in it.

        In a log file a line now and then takes the place of the bar.
        """
        return tracked(items, f"lesson {self.lesson.script[:2]}", unit=unit, heartbeat=True)

    def conclude(
        self,
        *,
        verdict: str,
        finding: str,
        figures: dict[str, Seeds],
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        picture: Figure,
    ) -> Result:
        """Print the table and the verdict, and write `NN_name.json` and `NN_name.png`.

        With a single seed the verdict is "not judged". Raises `InputError` for a verdict that is none of `VERDICTS`.
        """
        if verdict not in VERDICTS:
            raise InputError(f"a verdict is one of {', '.join(VERDICTS)}, got {verdict!r}")
        lesson = self.lesson
        result = Result(
            lesson=lesson.script[:2],
            script=lesson.script,
            title=lesson.title,
            claim=lesson.claim,
            verdict=verdict if len(self.seeds) > 1 else "not judged",
            finding=finding,
            figures={name: list(values.values) for name, values in figures.items()},
            headings=list(headings),
            rows=[list(row) for row in rows],
            seeds=self.seeds,
            seconds=round(time.process_time() - self.begun, 1),
            arguments=self.arguments,
            torch=torch.__version__.split("+")[0],
        )
        self.out.mkdir(parents=True, exist_ok=True)
        picture.savefig(str(self.out / f"{Path(lesson.script).stem}.png"), dpi=120)
        path = result.save(self.out)
        print_result(result)
        print(escape_control_characters(f"written:  {path}, {path.with_suffix('.png').name}"))
        return result


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see --help)\n")
