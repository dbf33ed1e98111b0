"""Files of a run, a cache, a packed corpus, a tokenizer and a corpus with something about them changed."""

import json
import math
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from clozelab.data import load_corpus, load_tokenizer, open_shards, pack_shards, train_bpe
from clozelab.data.corpora.sealed import SEAL, seal_of, unsealed, write_sealed
from clozelab.errors import InputError
from clozelab.training import load_run, read_checkpoint, read_metrics
from clozelab.training.run_description import fingerprint_of

VALUES = [
    None,
    True,
    False,
    -1,
    0,
    1,
    2**31,
    2**63,
    10**30,
    1.5,
    1e308,
    math.inf,
    math.nan,
    "",
    "x",
    "uint64",
    "\0",
    "../..",
]
VALUES += [[], {}, [1], ["x"], {"a": 1}, "a" * 300, [[]], "/etc/passwd", "heldout", "float16", "bool", "V2"]


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside of a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield (*at, key)
        yield from places(one, (*at, key))


def mutated(value: Any, moment: random.Random) -> Any:
    """A JSON value with one of the values inside exchanged, left out or added to."""
    copy = json.loads(json.dumps(value))
    every = list(places(copy))
    *above, last = moment.choice(every[:400] or [()])
    inside = copy
    for key in above:
        inside = inside[key]
    match moment.choice(("exchange", "exchange", "exchange", "leave out", "add")):
        case "exchange":
            inside[last] = moment.choice(VALUES)
        case "leave out":
            del inside[last]
        case "add" if isinstance(inside, dict):
            inside[f"more {last}"] = moment.choice(VALUES)
        case _:
            inside.append(moment.choice(VALUES)) if isinstance(inside, list) else None
    return copy


def json_of(path: Path, moment: random.Random, *, sealed: bool) -> bytes:
    """The file with one value changed, and its checksum made right again."""
    content = json.loads(path.read_bytes())
    seal = content.pop(SEAL, None) if sealed else None
    content = mutated(content, moment)
    if seal is not None and isinstance(content, dict):
        content[SEAL] = seal_of(content)
    return json.dumps(content).encode()


def bytes_of(path: Path, moment: random.Random) -> bytes:
    """The file with some of its bytes changed."""
    content = bytearray(path.read_bytes())
    for _ in range(moment.choice((1, 2, 8))):
        place = moment.randrange(len(content))
        match moment.choice(("exchange", "cut", "insert")):
            case "exchange":
                content[place] = moment.choice((0, 10, 34, 44, 92, 123, 125, 200, 255, moment.randrange(256)))
            case "cut":
                del content[place : place + moment.choice((1, 5, 50))]
            case "insert":
                content[place:place] = moment.choice(
                    (b'"', b"\n", b"\\", b"\xff", b"\xed\xa0\x80", b"[" * 3000, b"\0" * 20)
                )
        if not content:
            break
    return bytes(content)


class Folder:
    """One of each kind of file, and what reads it."""

    def __init__(self, folder: Path, run: Path) -> None:
        self.folder = folder
        texts = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(60)]
        rows = [json.dumps({"text": text, "n": n}) for n, text in enumerate(texts)]
        (folder / "a.jsonl").write_text("\n".join(rows))
        (folder / "a.csv").write_text("text,n\n" + "".join(f'"{text}, and more",{n}\n' for n, text in enumerate(texts)))
        (folder / "a.txt").write_text("\n".join(texts))
        streamed = load_corpus(folder / "a.jsonl", streaming=True)
        self.tokenizer = train_bpe(texts, vocab_size=400, sentinels=4)
        pack_shards(streamed.train, list(streamed.heldout), self.tokenizer, folder / "packed")
        shutil.copytree(run, folder / "run")
        self.checkpoint = next((folder / "run" / "checkpoints").iterdir())
        self.kinds: dict[str, tuple[Path, bool | None, Callable[[Path], object]]] = {
            "run.json": (folder / "run" / "run.json", True, self.use_run),
            "state.json": (self.checkpoint / "state.json", True, lambda _: load_run(folder / "run")),
            "state.json alone": (self.checkpoint / "state.json", True, lambda path: read_checkpoint(path.parent)),
            "metrics.jsonl": (folder / "run" / "metrics.jsonl", None, read_metrics),
            "packed.json": (folder / "packed" / "packed.json", True, lambda _: self.use_packed()),
            "heldout.json": (folder / "packed" / "heldout.json", True, lambda _: self.use_packed()),
            "shard.json": (folder / "packed" / "00000-of-00001.json", True, lambda _: self.use_packed()),
            "tokenizer.json": (folder / "run" / "tokenizer.json", False, self.use_tokenizer),
            "tokenizer.json, its bytes": (folder / "run" / "tokenizer.json", None, self.use_tokenizer),
            "a.jsonl": (folder / "a.jsonl", None, load_corpus),
            "a.csv": (folder / "a.csv", None, load_corpus),
            "a.txt": (folder / "a.txt", None, load_corpus),
        }

    def use_run(self, path: Path) -> None:
        """Load a run whose checkpoint agrees with what its run.json became."""
        state = self.checkpoint / "state.json"
        before = state.read_bytes()
        try:
            with suppress(KeyError, TypeError, AttributeError):
                agreeing = {"identity": fingerprint_of(json.loads(path.read_bytes()))}
                write_sealed(state, unsealed(json.loads(before), state) | agreeing)
            load_run(path.parent)
        finally:
            state.write_bytes(before)

    def use_packed(self) -> None:
        """Read the whole corpus."""
        _, text, heldout = open_shards(self.folder / "packed")
        blocks = text.blocks(8)
        blocks.take(torch.arange(len(blocks)))
        assert heldout.tokens.dtype.kind == "u"

    def use_tokenizer(self, path: Path) -> None:
        """Encode and decode."""
        tokenizer = load_tokenizer(path, sentinels=4)
        tokenizer.decode(tokenizer.encode("Document 7 says that ___ é"))


def fuzz(count: int, seed: int, folder: Path, run: Path, timed) -> tuple[Counter, list[dict]]:
    """(how many files of each kind were tried, the failures)."""
    tried, failures = Counter(), []
    files = Folder(folder, run)
    for number in range(count):
        kind = sorted(files.kinds)[number % len(files.kinds)]
        path, sealed, use = files.kinds[kind]
        moment, before = random.Random(f"{seed} {number}"), path.read_bytes()
        after = bytes_of(path, moment) if sealed is None else json_of(path, moment, sealed=sealed)
        path.unlink()  # the old one may be mapped into memory
        path.write_bytes(after)
        found = timed(lambda argument, use=use: refused(use, argument), path)
        path.unlink()
        path.write_bytes(before)
        tried[kind] += 1
        if found is not None:
            failures.append({"file": kind, "number": number, "found": found})
    return tried, failures


def refused(use: Callable[[Path], object], path: Path) -> str | None:
    """Read a file, or be refused; what is wrong about a refusal of more than one line."""
    try:
        use(path)
    except (InputError, OSError) as error:
        return f"not one line: {error}" if "\n" in str(error) else None
    return None
