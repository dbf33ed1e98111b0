"""A corpus larger than memory, read to its end: does memory stay flat, and how fast does it come?

    python benchmarks/streaming.py --publish              35 minutes of one core; 5 GB, which it makes and deletes
    python benchmarks/streaming.py --gigabytes 0.04       a minute

Forty files of JSON lines are made of random lines of the builtin corpus. Three ways are gone through them, each in a
process of its own, whose memory and that of its workers is looked at every two seconds (each page shared by n processes
counts as an n-th in each):

- stream: all batches of masked LM that training by `--stream --workers 2` would see, until every file was read once;
- pack: `clozelab pack --workers 2` of a fifth of it, which takes a fifth of the time;
- packed: all batches from those shards, mapped into memory. Pages of files that are mapped count as this process's
  memory until the system wants them for something else, so that here the memory that is not of files is shown.

The model is left out: its memory does not grow with the corpus, and one pass of it through 5 GB would take two days.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from long_runs import streaming_table
from matplotlib.figure import Figure
from measure import busy, provenance
from report import publish

from clozelab.data import load_corpus, pack_shards
from clozelab.objectives import MaskedLM
from clozelab.training import Batches, StreamedBatches, prepare, prepare_stream

FILES, LENGTH, ROWS, WORKERS = 40, 512, 64, 2
LINES = 60
"""Of a document, some 2,000 characters."""
WAYS = ("stream", "pack", "packed")


def make(folder: Path, size: float) -> int:
    """Files of JSON lines of `size` bytes together; returns how many they have."""
    lines = [line for text in load_corpus("builtin").train for line in text.splitlines() if len(line) > 20]
    random = np.random.default_rng(0)
    folder.mkdir()
    made = 0
    for number in range(FILES):
        with open(folder / f"{number:03d}.jsonl", "w", encoding="utf-8") as file:
            while made < size * (number + 1) / FILES:
                chosen = random.integers(len(lines), size=(32, LINES))
                text = "".join(json.dumps({"text": "\n".join(lines[i] for i in row)}) + "\n" for row in chosen)
                made += file.write(text)
    return sum(path.stat().st_size for path in folder.iterdir())


# --------------------------------------------------------------------------- three ways through it


def stream(corpus: Path, packed: Path) -> int:
    """Tokens of all batches until each stream shard has been read once."""
    prepared = prepare_stream(corpus)
    collator = MaskedLM().collator(prepared.tokenizer.special)
    batches = StreamedBatches(prepared.text, LENGTH, collator, ROWS, WORKERS)
    for n in itertools.count():
        for _ in batches.micro_batches(n):
            pass
        if all(position["pass"] > 0 for position in batches.positions.values()):
            return (n + 1) * ROWS * LENGTH
    raise AssertionError


def pack(corpus: Path, packed: Path) -> int:
    """Tokens written."""
    prepared = prepare_stream(corpus)
    heldout = list(prepared.corpus.heldout)
    return len(pack_shards(prepared.text.documents, heldout, prepared.tokenizer, packed, workers=WORKERS))


def packed(corpus: Path, packed: Path) -> int:
    """Tokens of all batches of an epoch."""
    prepared = prepare(packed)
    blocks = prepared.text.blocks(LENGTH)
    batches = Batches(blocks, MaskedLM().collator(prepared.tokenizer.special), ROWS)
    steps = len(blocks) // ROWS
    for n in range(steps):
        batches[n]
    return steps * ROWS * LENGTH


# --------------------------------------------------------------------------- watched from outside


def watched(way: str, corpus: Path, shards: Path) -> dict[str, Any]:
    """What it took, in a process of its own: memory twice a second, until it ends."""
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    child = context.Process(target=_begin, args=(way, corpus, shards, answer))
    child.start()
    begun, memory, spent = time.perf_counter(), [], {}
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(child.pid, begun, memory, spent, ended, way == "packed"))
    watcher.start()
    child.join()
    ended.set()
    watcher.join()
    if child.exitcode:
        raise RuntimeError(f"{way} failed")
    seconds = time.perf_counter() - begun
    return {"way": way, "tokens": answer.get(), "seconds": seconds, "cpu": sum(spent.values()), "memory": memory}


def _begin(way: str, corpus: Path, shards: Path, answer: Any) -> None:
    torch.set_num_threads(1)
    ways: dict[str, Callable[[Path, Path], int]] = {"stream": stream, "pack": pack, "packed": packed}
    answer.put(ways[way](corpus, shards))


def _watch(
    process: int,
    begun: float,
    memory: list[Any],
    spent: dict[int, float],
    ended: threading.Event,
    anonymous: bool,
) -> None:
    """Until the end: (seconds, bytes) of a process and its workers, and the processor time that each has spent."""
    while not ended.wait(2.0):
        with suppress(psutil.Error, OSError):
            main = psutil.Process(process)
            alive = [main, *main.children(recursive=True)]
            spent |= {one.pid: sum(one.cpu_times()[:2]) for one in alive}
            found = sum(_memory(one.pid, "Pss_Anon" if anonymous else "Pss") for one in alive)
            memory.append([round(time.perf_counter() - begun, 1), found])


def _memory(process: int, kind: str) -> int:
    """Bytes."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return int(line.split()[1]) * 1024
    return 0


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Of a way: the tenth of the time after the first tenth, against the last, and at most two hundred points."""
    memory = found["memory"]
    tenth = max(1, len(memory) // 10)
    levels = {"early": memory[tenth : 2 * tenth] or memory, "late": memory[-2 * tenth : -tenth] or memory}
    return {
        **{key: found[key] for key in ("way", "tokens", "seconds", "cpu")},
        **{name: median(size for _, size in part) for name, part in levels.items()},
        "peak": max(size for _, size in memory),
        "memory": memory[:: max(1, len(memory) // 200)],
    }


def draw(record: dict[str, Any], path: Path) -> None:
    """Memory over the time, a line for each way; the corpus would stand far above the picture."""
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for row in record["rows"]:
        axes.plot([t / 60 for t, _ in row["memory"]], [size / 1e6 for _, size in row["memory"]], label=row["way"])
    axes.set_xlabel("minutes")
    axes.set_ylabel("memory of all processes, MB")
    axes.set_ylim(0)
    axes.set_title(f"A corpus of {record['bytes'] / 1e9:.1f} GB, once through", fontsize=10)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Make the corpus, go through it in each way, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--folder", type=Path, help="for the corpus and its tokens  (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=Path("runs/streaming"))
    parser.add_argument("--publish", action="store_true", help="also put figures and picture into the repository")
    args = parser.parse_args(arguments)
    if args.publish and args.gigabytes < 5:
        parser.error("what is published is of at least 5 GB")
    before = busy()
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        corpus, shards = Path(place, "corpus"), Path(place, "packed")
        size = make(corpus, args.gigabytes * 1e9)
        print(f"{size / 1e9:.2f} GB in {FILES} files", flush=True)
        rows = []
        for way in WAYS:
            if way == "pack":
                for file in sorted(corpus.iterdir())[FILES // 5 :]:
                    file.unlink()
            rows.append(summary(watched(way, corpus, shards)))
            print(f"{way}: {rows[-1]['seconds']:.0f} s, at most {rows[-1]['peak'] / 1e6:.0f} MB", flush=True)
    record = {**provenance(before), "bytes": size, "files": FILES, "workers": WORKERS, "rows": rows}
    print(f"\n{streaming_table(record)}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "streaming.json").write_text(json.dumps(record, indent=1))
    draw(record, args.out / "streaming.png")
    if args.publish:
        publish("streaming", record, lambda path: draw(record, path))
    return record


if __name__ == "__main__":
    main()
