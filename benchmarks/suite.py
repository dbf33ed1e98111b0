"""All measurements in one command, side by side with what people use today.

    python benchmarks/suite.py --out runs/benchmarks          an hour on one core of a quiet machine
    python benchmarks/suite.py --quick --out /tmp/benchmarks  half a minute, only that everything runs; no figure counts
    python benchmarks/suite.py --only steps loss              some of the rows

Each figure is printed as it is measured, and kept in `results.json` of the folder at once: an interrupted run loses
none, and goes on by `--only` with the rows that are missing. `README.md` and `benchmarks.png` are written there too.
With `--publish` each row, once it is complete, also goes into `benchmarks/measured/` beside those of other kinds of
machines, and the page and the picture in `docs/` are made anew. What a processor cannot do in reasonable time is a row
that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for what is written")
    parser.add_argument("--quick", action="store_true", help="only see that it runs: tiny shapes, all in one process")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of rows")
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides")
    parser.add_argument("--publish", action="store_true", help="also put figures and picture into the repository")
    args = parser.parse_args(arguments)

    from measure import Processes, matmul_peak, settle, too_slow

    os.environ.update(Processes(args.threads).environment)  # before anything reads it
    import picture
    import report
    import results
    import rows
    import section_outcome
    import suite_page

    unknown = set(args.only or ()) - set(rows.ROWS)
    if unknown or (args.publish and args.quick):
        parser.error(
            f"no rows {sorted(unknown)}: choose from {', '.join(rows.ROWS)}"
            if unknown
            else "a quick run is not published"
        )
    settle(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = str(args.out / "tokenizer.json")
    _train_tokenizer(tokenizer, args.quick)
    processes = Processes(args.threads, args.quick, None if args.quick else too_slow())
    peak = matmul_peak(processes.dtypes, args.threads, args.quick)
    path = args.out / "results.json"
    record: dict[str, Any] = {"rows": {}}
    if path.exists() and not args.quick:
        record = json.loads(path.read_text())
    print("\n".join(results.head()), flush=True)
    for name in args.only or rows.ROWS:
        for measured in measured_row(name, processes, tokenizer):
            record["rows"][name] = {**measured, "quick": args.quick, "threads": args.threads, "peak": peak}
            path.write_text(json.dumps(record, indent=1))
        if args.publish:
            report.publish_rows({name: record["rows"][name]})
    found = suite_page.results_of(record)
    picture.draw(section_outcome.kind_of(record), found, args.out / "benchmarks.png")
    page = f"# Measured\n\n![every figure beside its goal](benchmarks.png)\n\n{suite_page.suite(record).body}\n"
    (args.out / "README.md").write_text(page)
    print(f"\n{len(found)} figures, in {args.out}")
    return record


def measured_row(name: str, processes: Any, tokenizer: str) -> Any:
    """The record of a row, again with each of its figures, which are printed at once."""
    import results
    import rows
    from measure import busy, provenance

    begun, before, found = time.perf_counter(), busy(), []
    for result in rows.ROWS[name](processes, tokenizer):
        print(results.line(result), flush=True)
        found.append(result.as_json())
        yield {**provenance(before), "seconds": time.perf_counter() - begun, "results": found}


def _train_tokenizer(path: str, quick: bool) -> None:
    """One for all rows, of 8192 ids, from the builtin corpus; a quick one from a few sentences."""
    from clozelab.data import load_corpus, train_bpe

    few = [f"The number {n} comes before {n + 1}." for n in range(100)]
    train_bpe(few if quick else load_corpus("builtin").train, vocab_size=600 if quick else 8192).save(path)


if __name__ == "__main__":
    main()
