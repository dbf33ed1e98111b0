"""Making batches, and making the text that they are made of: nothing here needs a model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import peers
import torch
from measure import Processes, Spread, Times, alternate, ratio
from results import Result, speed

from clozelab.data import load_corpus, load_tokenizer, pack
from clozelab.objectives import MaskedLM, SpanCorruption

BLOCK = 512
"""Tokens of a packed block of the tokenising row."""


def _examples(rows: int, length: int, vocabulary: int) -> list[dict[str, Any]]:
    """Rows of ordinary ids, as a tokenised data set in numpy's format gives them."""
    random = np.random.default_rng(0)
    return [{"input_ids": random.integers(10, vocabulary - 100, length), "example_id": i} for i in range(rows)]


def sides(kind: str, rows: int, length: int, tokenizer: str) -> dict[str, Any]:
    """What each side does for one batch, by name; `ours` and `theirs` are the settings that the goal is about."""
    ours = load_tokenizer(tokenizer, sentinels=0)
    special, examples = ours.special, _examples(rows, length, ours.vocab_size)
    tokens, example_ids = torch.tensor(np.stack([e["input_ids"] for e in examples])), list(range(rows))
    if kind == "masked":
        from transformers import DataCollatorForLanguageModeling

        collate = MaskedLM().collator(special)
        theirs = peers.tokenizer(ours)
        torch_form, numpy_form = (DataCollatorForLanguageModeling(theirs, return_tensors=f) for f in ("pt", "np"))
        # With its own advice followed: the special tokens' mask made beforehand.
        no_special = torch.zeros(length, dtype=torch.long)
        plain = [{"input_ids": row} for row in tokens]
        advised = [{"input_ids": row, "special_tokens_mask": no_special} for row in tokens]
        advised_arrays = [{key: value.numpy() for key, value in example.items()} for example in advised]
        return {
            "ours": lambda: collate.block(tokens, example_ids),
            "ours, list of dicts": lambda: collate(examples),
            "theirs, as usual": lambda: torch_form([dict(example) for example in plain]),
            "theirs, advised": lambda: torch_form([dict(example) for example in advised]),
            "theirs, numpy": lambda: numpy_form([dict(example) for example in advised_arrays]),
            "theirs, bare rows": lambda: torch_form(list(tokens)),
        }
    collate = SpanCorruption().collator(special)
    usual, together = (
        peers.SpanCollator(special.sentinels, special.eos, special.pad, together=whole) for whole in (False, True)
    )
    if kind == "span":
        return {
            "ours": lambda: collate.block(tokens, example_ids),
            "ours, list of dicts": lambda: collate(examples),
            "theirs, as usual": lambda: usual(examples),
            "theirs, rows together": lambda: together(examples),
        }

    def through_loader(collator: Any) -> Any:
        loader = torch.utils.data.DataLoader(examples, batch_size=rows // 4, collate_fn=collator)  # pyright: ignore
        return lambda: list(loader)

    named = {"ours": collate, "theirs, as usual": usual, "theirs, rows together": together}
    return {name: through_loader(collator) for name, collator in named.items()}


def one_side(side: str, **arguments: Any) -> Any:
    """The work of one of them, for its memory."""
    return sides(**arguments)[side]


def times(rounds: int, least: float, **arguments: Any) -> dict[str, Any]:
    """All sides in turns."""
    return {name: vars(spent) for name, spent in alternate(sides(**arguments), rounds, least=least).items()}


def collators(processes: Processes, tokenizer: str) -> Iterator[Result]:
    """The masked batch, the span batch, and the span batch from a loader's list of dicts: figures without a goal.

    What matters is the share of a step that a batch takes: see `loop`.
    """
    quick = processes.quick
    rows, spread = (4, {"rounds": 2, "least": 0.0}) if quick else (64, {"rounds": 9, "least": 0.1})
    masked, span = (32, 36) if quick else (512, 568)
    plan = {
        "masked": ("masked-LM batch", rows, masked, "`DataCollatorForLanguageModeling`"),
        "span": ("span-corruption batch", rows, span, "numpy collator, per example"),
        "loader": ("span batches by `DataLoader`, lists of dicts", 4 * rows, span, "numpy collator, per example"),
    }
    for kind, (name, rows, length, against) in plan.items():
        shape = {"kind": kind, "rows": rows, "length": length, "tokenizer": tokenizer}
        spent = {side: Times(**t) for side, t in processes.call("batches:times", **spread, **shape).items()}
        speeds = {side: Spread.of(times.cpu).median for side, times in spent.items()}
        best = min((side for side in spent if side.startswith("theirs")), key=speeds.__getitem__)
        ours, tokens = spent["ours"], rows * length
        for setting, peer in (("", "theirs, as usual"), (", its fastest setting", best)):
            theirs = spent[peer]
            memory = [processes.peak("batches:one_side", {"rows": 4}, side=side, **shape) for side in ("ours", peer)]
            yield Result(
                "batches",
                f"{name}, {rows if kind != 'loader' else rows // 4} x {length}",
                against + setting,
                ratio(theirs.cpu, ours.cpu),
                "x",
                None,
                ours=speed(tokens, ours.cpu),
                theirs=speed(tokens, theirs.cpu),
                memory=(memory[0], memory[1]),
                wall=ratio(theirs.wall, ours.wall).median,
                detail="; ".join(f"{side} {speed(tokens, t.cpu)}" for side, t in spent.items()) if setting else "",
            )


# --------------------------------------------------------------------------- tokenising and packing


def documents(megabytes: float) -> list[str]:
    """Builtin English until it is as much as that, each round of it under other headings, so that no two are alike."""
    texts = list(load_corpus("builtin").train)
    made, left, n = [], megabytes * 1e6, 0
    while left > 0:
        text = f"Part {n}.\n\n{texts[n % len(texts)]}"[: max(1, int(left))]
        made.append(text)
        left -= len(text.encode())
        n += 1
    return made


def packing(side: str, megabytes: float, tokenizer: str) -> Any:
    """Tokenise and pack everything, into a folder that is gone afterwards; the work returns the blocks made."""
    texts, ours = documents(megabytes), load_tokenizer(tokenizer, sentinels=0)

    def work() -> int:
        with tempfile.TemporaryDirectory() as cache:
            if side == "ours":
                return len(pack(texts, ours, cache_dir=cache).blocks(BLOCK))
            kind, _, workers = side.partition(" x ")
            return peers.packed_by_datasets(
                texts, ours, BLOCK, cache, wrapped=kind == "wrapped", workers=int(workers) if workers else None
            )

    return work


def packing_times(sides: list[str], rounds: int, megabytes: float, tokenizer: str) -> dict[str, Any]:
    """All sides in turns, once each on a little text to have everything imported and begun."""
    for side in sides:
        packing(side, min(megabytes, 1.0), tokenizer)()
    works = {side: packing(side, megabytes, tokenizer) for side in sides}
    return {name: vars(spent) for name, spent in alternate(works, rounds, warm=False).items()}


def tokenising(processes: Processes, tokenizer: str) -> Iterator[Result]:
    """Text to packed blocks."""
    quick = processes.quick
    megabytes, rounds = (0.05, 1) if quick else (100, 2)

    def measured(sides: list[str], rounds: int, megabytes: float, **environment: str) -> dict[str, Times]:
        spent = processes.call(
            "batches:packing_times", environment, sides=sides, rounds=rounds, megabytes=megabytes, tokenizer=tokenizer
        )
        return {side: Times(**times) for side, times in spent.items()}

    spent = measured(["ours", "bare"], rounds, megabytes)
    ours, theirs = spent["ours"], spent["bare"]
    tenth = measured(["ours", "wrapped"], rounds, megabytes / 10)
    wrapped = ratio(tenth["wrapped"].cpu, tenth["ours"].cpu).median
    detail = (
        "theirs calls `tokenizers` directly, its fastest setting; by the fast tokenizer of `transformers` the ratio is "
        f"{wrapped:.2f}x (this and the memory on a tenth of the text)"
    )
    if not quick:  # their way of using two cores is two processes, ours is the threads of `tokenizers`
        two = measured(["ours", "bare x 2"], rounds, megabytes / 10, RAYON_NUM_THREADS="2")
        both = ratio(two["bare x 2"].wall, two["ours"].wall).median
        detail += f"; on two cores, wall time, ours with two threads and theirs with num_proc=2: {both:.2f}x"
    tenth_of_it = {"megabytes": megabytes / 10, "tokenizer": tokenizer}
    memory = [processes.peak("batches:packing", {"megabytes": 0.01}, side=side, **tenth_of_it) for side in spent]
    yield Result(
        "tokenising",
        f"tokenising and packing {megabytes:g} MB",
        "`datasets.map`, the same tokenizer",
        ratio(theirs.cpu, ours.cpu),
        "x",
        1.5,
        ours=_megabytes(megabytes, ours),
        theirs=_megabytes(megabytes, theirs),
        memory=(memory[0], memory[1]),
        wall=ratio(theirs.wall, ours.wall).median,
        detail=detail,
    )


def _megabytes(size: float, times: Times) -> str:
    return f"{size / Spread.of(times.cpu).median:.2f} MB/s"
