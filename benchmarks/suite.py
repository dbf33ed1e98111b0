"""All measurements in one command, side by side with what people use today.

    python benchmarks/suite.py --out runs/benchmarks          half an hour on one core of a quiet machine
    python benchmarks/suite.py --quick --out /tmp/benchmarks  half a minute, only that everything runs; no figure counts
    python benchmarks/suite.py --only steps loss              some of the rows

Writes `results.json`, `README.md` and `benchmarks.png` into the folder. With `--publish` the figures of a whole run
become `benchmarks/measured/suite.json`, `docs/benchmarks.png` and their section of `benchmarks/README.md` as well.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any


def main(arguments: list[str] | None = None) -> list[Any]:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for what is written")
    parser.add_argument("--quick", action="store_true", help="only see that it runs: tiny shapes, all in one process")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of rows")
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides")
    parser.add_argument("--picture", type=Path, help="where the picture goes  (default: the folder)")
    parser.add_argument("--publish", action="store_true", help="also put figures and picture into the repository")
    args = parser.parse_args(arguments)

    from measure import Processes, busy, matmul_peak, provenance, settle

    processes = Processes(args.threads, args.quick)
    os.environ.update(processes.environment)  # before anything reads it
    import picture
    import report
    import results
    import rows

    unknown = set(args.only or ()) - set(rows.ROWS)
    if unknown or (args.publish and (args.only or args.quick)):
        parser.error(
            f"no rows {sorted(unknown)}: choose from {', '.join(rows.ROWS)}" if unknown else "publish all or none"
        )
    settle(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = str(args.out / "tokenizer.json")
    _train_tokenizer(tokenizer, args.quick)
    begun, before = time.perf_counter(), busy()
    peak = matmul_peak(args.quick)
    found = []
    for name in args.only or rows.ROWS:
        started = time.perf_counter()
        new = rows.ROWS[name](processes, tokenizer)
        found += new
        print(f"\n{name}, {time.perf_counter() - started:.0f} s\n{results.table(new)}", flush=True)

    path = args.picture or args.out / "benchmarks.png"
    picture.draw(found, path)
    record = {
        **provenance(before),
        "quick": args.quick,
        "threads": args.threads,
        "peak": peak,
        "seconds": time.perf_counter() - begun,
        "results": [result.as_json() for result in found],
    }
    (args.out / "results.json").write_text(json.dumps(record, indent=1))

    shown = f"![every figure beside its goal]({os.path.relpath(path, args.out)})"
    page = f"# Measured\n\n{report.measured_on(record)}\n\n{shown}\n\n{report.suite(record).body}\n"
    (args.out / "README.md").write_text(page)
    if args.publish:
        report.publish("suite", record, lambda path: picture.draw(found, path))
    print(f"\n{len(found)} figures, {time.perf_counter() - begun:.0f} s, in {args.out}")
    return found


def _train_tokenizer(path: str, quick: bool) -> None:
    """One for all rows, of 8192 ids, from the builtin corpus; a quick one from a few sentences."""
    from clozelab.data import load_corpus, train_bpe

    few = [f"The number {n} comes before {n + 1}." for n in range(100)]
    train_bpe(few if quick else load_corpus("builtin").train, vocab_size=600 if quick else 8192).save(path)


if __name__ == "__main__":
    main()
