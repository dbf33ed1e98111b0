"""Everything public with what cannot be meant: calls, command lines, files.

    python tests/robustness/fuzz.py --calls 20000 --commands 2000 --files 5000 --seed 7

prints a JSON line for each failure, and one with the counts. It runs in a process of its own, whose memory is bounded.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}

import torch

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_calls
import fuzz_commands
import fuzz_files
from fuzz_values import Pool

SECONDS = 20
"""Processor time that a call, a command or a file may take: other programs may keep this one waiting."""
LONGEST = 10 * SECONDS
"""That it may take by the clock, where it does nothing but wait."""
PATIENCE = 2.5
"""Seconds after which a command is interrupted, as by Ctrl-C: it may be one that works for hours."""
MEMORY = 6 * 2**30
"""Bytes that the process may use."""


class TooLong(BaseException):
    """It took longer than it may."""


patience: list[bool] = [False]
"""Whether what runs is interrupted first."""
begun: list[float] = [0.0, 0.0]
"""When it began, in processor time and by the clock."""


def timed(function, argument, interrupt=False):
    """What is wrong, as the function says, or the error that it ended with; None where nothing is."""
    patience[:], begun[:] = [interrupt], [time.process_time(), time.monotonic()]
    signal.setitimer(signal.ITIMER_REAL, PATIENCE if interrupt else SECONDS, SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return function(argument)
    except KeyboardInterrupt:
        return None if interrupt else "interrupted"
    except TooLong:
        return f"took longer than {SECONDS} s"
    except (Exception, SystemExit) as error:
        return fuzz_calls.told(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def bound() -> None:
    """Bound memory and time, so that what is not bounded itself fails here."""

    def stop(*_):
        interrupt, patience[:] = patience[0], [False]
        if interrupt:
            signal.raise_signal(signal.SIGINT)
        elif time.process_time() - begun[0] >= SECONDS - 1 or time.monotonic() - begun[1] >= LONGEST:
            raise TooLong

    signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("calls", "commands", "files", "seed"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--only", default="", help="calls of doors whose name holds this")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for inside in ("cache", "home", "commands", "files", "calls"):
            (folder / inside).mkdir()
        os.environ |= {"CLOZELAB_CACHE": str(folder / "cache"), "HOME": str(folder / "home"), "TMPDIR": str(folder)}
        bound()
        os.chdir(folder / "calls")
        pool = Pool(folder / "calls")
        results = {}
        if args.calls:
            results["calls"] = measured(lambda: fuzz_calls.fuzz(pool, args.calls, args.seed, args.only, timed))
        if args.files:
            results["files"] = measured(
                lambda: fuzz_files.fuzz(args.files, args.seed, folder / "files", pool.run, timed)
            )
        if args.commands:
            os.chdir(folder / "commands")
            fuzz_commands.prepare_folder()
            results["commands"] = measured(lambda: fuzz_commands.fuzz(args.commands, args.seed, timed))
        left = sorted(str(path.relative_to(folder / "home")) for path in (folder / "home").rglob("*"))
    print(json.dumps({**results, "left in the home folder": left}))


def measured(fuzz) -> dict:
    """The counts of one kind; its failures are printed."""
    begun = time.process_time()
    tried, failures = fuzz()
    for failure in failures:
        print(json.dumps(failure))
    seconds = round(time.process_time() - begun, 1)
    return {"tried": tried.total(), "of": len(tried), "failures": len(failures), "seconds": seconds}


if __name__ == "__main__":
    main()
