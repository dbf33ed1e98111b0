"""All measurements in one command, side by side with what people use today.

    python benchmarks/suite.py --out runs/benchmarks          half an hour on one core of a quiet machine
    python benchmarks/suite.py --quick --out /tmp/benchmarks  half a minute, only that everything runs; no figure counts
    python benchmarks/suite.py --only steps loss              some of the rows

Writes `results.json`, `README.md` and `benchmarks.png` into the folder. With `--publish` the table and the picture of a
whole run also replace `benchmarks/README.md` and `docs/benchmarks.png`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import date
from pathlib import Path
from typing import Any

TEMPLATE = """\
# Measured

Made by `python benchmarks/suite.py --publish` on {date}; every figure is of this one run{kind}.

{processor}, {threads} of {cores} cores, Python {python}. Best matrix products in the same run: {float32:.0f} GFLOP/s \
float32, {bfloat16:.0f} bfloat16. {versions}. Other programs took {others:.1%} of the processor time that was used.

![every figure beside its goal]({picture})

{table}

## How it is measured

- Both sides in one fresh process, in turns (A B, B A, ...), with the same threads, dtype, shapes, data, fused AdamW,
  allocator and denormal numbers flushed; one call before that is not counted.
- A figure is the median over the rounds of the ratio of the two neighbours' processor times, with its quartiles, and
  the same ratio of wall times beside it. Other units are said.
- Peak memory: by how much a fresh process grew at most in one call (two steps for training), ours / theirs.
- A training step is forward, loss, backward, optimiser, cleared gradients, without dropout. Each side runs in float32
  and in bfloat16 autocast, theirs also with both of its attention kernels, and the figure compares each one's fastest;
  the models have the same width, layers, heads and feed-forward size, and get the same batch, made by our collator.
  Batches at T 256 have 16 rows, at T 1024 four. Nothing is compiled.
- Model FLOPs are those of all matrix products in forward and backward as PyTorch dispatches them, attention over all
  T x T pairs; the time is of the whole step, optimiser included.
- Growth: processor time and peak memory of a float32 step of the model `tiny`, at T 128, V 4096, B 16 but for what
  grows. The figure is the slope at the end in a picture of logarithms, the steepest of the three objectives.

## What else was seen

{notes}
"""


def main(arguments: list[str] | None = None) -> list[Any]:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for what is written")
    parser.add_argument("--quick", action="store_true", help="only see that it runs: tiny shapes, all in one process")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names of rows")
    parser.add_argument("--threads", type=int, default=1, help="threads of both sides")
    parser.add_argument("--picture", type=Path, help="where the picture goes  (default: the folder)")
    parser.add_argument(
        "--publish", action="store_true", help="also write benchmarks/README.md and docs/benchmarks.png"
    )
    args = parser.parse_args(arguments)

    from measure import Processes, busy, machine, matmul_peak, settle

    processes = Processes(args.threads, args.quick)
    os.environ.update(processes.environment)  # before anything reads it
    import picture
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
    begun, (all_before, mine_before) = time.perf_counter(), busy()
    peak = matmul_peak(args.quick)
    found = []
    for name in args.only or rows.ROWS:
        started = time.perf_counter()
        new = rows.ROWS[name](processes, tokenizer)
        found += new
        print(f"\n{name}, {time.perf_counter() - started:.0f} s\n{results.table(new)}", flush=True)
    all_after, mine_after = busy()
    others = max(0.0, 1 - (mine_after - mine_before) / max(all_after - all_before, 1e-9))

    told = machine()
    path = args.picture or args.out / "benchmarks.png"
    picture.draw(found, path)
    record = {
        "date": date.today().isoformat(),
        "quick": args.quick,
        "threads": args.threads,
        "machine": told,
        "peak": peak,
        "others": others,
        "seconds": time.perf_counter() - begun,
        "results": [result.as_json() for result in found],
    }
    (args.out / "results.json").write_text(json.dumps(record, indent=1))

    def page(picture_path: str) -> str:
        return TEMPLATE.format(
            date=record["date"],
            kind=" (a quick one, that only shows that it runs)" if args.quick else "",
            threads=args.threads,
            others=others,
            **{key: told[key] for key in ("processor", "cores", "python")},
            versions=", ".join(f"{name} {told[name]}" for name in told if name not in ("processor", "cores", "python")),
            **{dtype: speed / 1e9 for dtype, speed in peak.items()},
            picture=picture_path,
            table=results.table(found),
            notes=results.notes(found, rows.NOTES),
        )

    (args.out / "README.md").write_text(page(os.path.relpath(path, args.out)))
    if args.publish:
        here = Path(__file__).parent
        picture.draw(found, here.parent / "docs" / "benchmarks.png")
        (here / "README.md").write_text(page("../docs/benchmarks.png"))
    print(f"\n{len(found)} figures, {time.perf_counter() - begun:.0f} s, in {args.out}")
    return found


def _train_tokenizer(path: str, quick: bool) -> None:
    """One for all rows, of 8192 ids, from the builtin corpus; a quick one from its beginning."""
    from clozelab.data import load_corpus, train_bpe

    texts = load_corpus("builtin").train
    train_bpe(list(texts)[:20] if quick else texts, vocab_size=600 if quick else 8192).save(path)


if __name__ == "__main__":
    main()
