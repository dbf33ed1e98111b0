"""Damaged tokens, tokenizers and descriptions of them are never trained on: noticed, or without effect."""

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from clozelab.data import load_corpus, open_shards, pack_shards, packed_files, train_bpe
from clozelab.errors import InputError
from clozelab.training import prepare

DOCUMENTS = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(120)]
WITH_UNKNOWN = {"tokenizer": "characters", "sentinels": 4}  # a tokenizer whose bytes are counted in a file of their own
LENGTH = 8


# ------------------------------------------------------------------ damage


def flip(content: bytes, moment: random.Random, _) -> bytes:
    place = moment.randrange(8 * len(content))
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def zero_some(content: bytes, moment: random.Random, _) -> bytes:
    begin = moment.randrange(len(content))
    end = min(len(content), begin + moment.choice((1, 16, 512)))
    return content[:begin] + bytes(end - begin) + content[end:]


def exchange(content: bytes, moment: random.Random, others: dict[str, bytes]) -> bytes:
    return others[moment.choice(sorted(others))]


DAMAGE = {
    "a bit flipped": flip,
    "bytes zeroed": zero_some,
    "all zeros": lambda content, *_: bytes(len(content)),
    "cut off": lambda content, moment, _: content[: moment.randrange(len(content))],
    "bytes appended": lambda content, moment, _: content + moment.randbytes(moment.choice((1, 2, 64))),
    "another file in its place": exchange,
    "two values exchanged": lambda content, moment, _: exchanged(content, moment),
}


def exchanged(content: bytes, moment: random.Random) -> bytes:
    """Two pieces of two bytes change places: the sum of all bytes stays."""
    first, second = (2 * moment.randrange(len(content) // 2) for _ in range(2))
    changed = bytearray(content)
    changed[first : first + 2], changed[second : second + 2] = content[second : second + 2], content[first : first + 2]
    return bytes(changed)


# ------------------------------------------------------------------ what would be trained on


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    """Checksums of 64 bytes, so that small files have many."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(packed_files, "CHUNK", 64)
        yield


def rows(folder: Path) -> Path:
    """The documents as the rows of three files."""
    folder.mkdir()
    for number in range(3):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS[number::3])
        (folder / f"{number}.jsonl").write_text(lines)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """(a folder of shards, how they are packed again, what they hold)."""
    folder = tmp_path_factory.mktemp("shards")
    corpus = load_corpus(rows(folder / "rows"), streaming=True)
    tokenizer = train_bpe(corpus.train, vocab_size=400, sentinels=4)

    def again(to: Path) -> None:
        pack_shards(corpus.train, list(corpus.heldout), tokenizer, to)

    again(folder / "packed")
    return folder / "packed", again, used_shards(folder / "packed")


def used_shards(folder: Path):
    tokenizer, text, heldout = open_shards(folder)
    blocks = text.blocks(LENGTH)
    taken = blocks.take(random.Random(0).sample(range(len(blocks)), len(blocks)))
    return tokenizer.fingerprint, taken.tolist(), heldout.tokens.tolist(), text.fingerprint


def used_cache(folder: Path):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CLOZELAB_CACHE", str(folder))
        found = []
        for settings in ({"vocab_size": 400, "sentinels": 4}, WITH_UNKNOWN):
            prepared = prepare(load_corpus(DOCUMENTS), **settings)
            heldout, text = prepared.heldout, prepared.text.blocks(LENGTH)
            counts = None if heldout.byte_counts is None else heldout.byte_counts.tolist()
            taken = text.take(range(len(text))).tolist()
            found.append((prepared.tokenizer.fingerprint, taken, heldout.tokens.tolist(), counts, heldout.bytes))
        return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """(a cache of two tokenizers and their tokens, what it holds)."""
    folder = tmp_path_factory.mktemp("cache")
    used_cache(folder)
    assert {path.suffix for path in folder.iterdir()} == {".bin", ".bytes", ".json"}
    return folder, used_cache(folder)


def trials(count: int, seed: int, folder: Path):
    """(kind of damage, name of the file, its damaged content), of all files alike."""
    moment = random.Random(seed)
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    for number in range(count):
        kind = sorted(DAMAGE)[number % len(DAMAGE)]
        name = moment.choice(sorted(contents))
        others = {other: content for other, content in contents.items() if other != name}
        damaged = DAMAGE[kind](contents[name], moment, others)
        if damaged != contents[name]:
            yield kind, name, damaged


def written_anew(path: Path, content: bytes) -> None:
    """As a new file: the old one is mapped into memory by those who have read it."""
    path.unlink()
    path.write_bytes(content)


def damage_shards(count, seed, shards, tmp_path, tally=None):
    """Damage one file after another; each is an error, or without effect, and packing again mends it."""
    folder, again, right = shards
    shutil.copytree(folder, tmp_path / "packed")
    ends = Counter()
    for number, (kind, name, damaged) in enumerate(trials(count, seed, folder)):
        path = tmp_path / "packed" / name
        written_anew(path, damaged)
        try:
            end = "no effect" if used_shards(tmp_path / "packed") == right else "trained on"
        except InputError as error:
            end = "noticed" if f"clozelab pack with --out {tmp_path / 'packed'}" in str(error) else f"no cure: {error}"
        assert end in ("noticed", "no effect"), f"{kind}: {name}: {end}"
        ends[end] += 1
        if tally is not None:
            tally.add(f"packed shards: {kind}", survived=True)
        if number % 10 == 0:
            again(tmp_path / "packed")
            assert used_shards(tmp_path / "packed") == right
        written_anew(path, (folder / name).read_bytes())
    return ends


def damage_cache(count, seed, cache, tmp_path, caplog, tally=None):
    """Damage one file after another; each is made again with a line about it, or the damage is without effect."""
    folder, right = cache
    shutil.copytree(folder, tmp_path / "cache")
    ends = Counter()
    for kind, name, damaged in trials(count, seed, folder):
        written_anew(tmp_path / "cache" / name, damaged)
        caplog.clear()
        assert used_cache(tmp_path / "cache") == right, f"{kind}: {name}"
        told = [record.getMessage() for record in caplog.records if "is damaged" in record.getMessage()]
        ends["noticed" if told else "no effect"] += 1
        assert not told or (name.split(".")[0] in told[0] and "it is made again" in told[0])
        if tally is not None:
            tally.add(f"the cache: {kind}", survived=True)
        assert (tmp_path / "cache" / name).read_bytes() == (folder / name).read_bytes() or not told
        written_anew(tmp_path / "cache" / name, (folder / name).read_bytes())
    return ends


def test_damaged_shards_are_noticed_and_mended(shards, tmp_path):
    ends = damage_shards(60, 0, shards, tmp_path)
    assert ends["noticed"] >= 0.95 * ends.total() > 50


def test_a_damaged_cache_is_noticed_and_made_again(cache, tmp_path, caplog):
    ends = damage_cache(25, 0, cache, tmp_path, caplog)
    assert ends["noticed"] >= 0.9 * ends.total() > 20


@pytest.mark.faults
def test_damaged_text_at_many_places(shards, cache, tmp_path, caplog, tally):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ends = damage_shards(3000, 1, shards, tmp_path / "a", tally)
    ends += damage_cache(600, 1, cache, tmp_path / "b", caplog, tally)
    print(ends)


# ------------------------------------------------------------------ files in the place of others


@pytest.mark.parametrize("endings", [(".bin",), (".json",), (".bin", ".json")], ids="+".join)
@pytest.mark.parametrize("names", [("00000-of-00003", "00002-of-00003"), ("heldout", "00001-of-00003")], ids="+".join)
def test_shards_that_were_swapped_are_noticed(shards, tmp_path, names, endings):
    """Each pair of files is whole, and in the wrong place."""
    shutil.copytree(shards[0], tmp_path / "packed")
    for ending in endings:
        one, other = (tmp_path / "packed" / f"{name}{ending}" for name in names)
        content = one.read_bytes(), other.read_bytes()
        written_anew(one, content[1])
        written_anew(other, content[0])
    with pytest.raises(InputError, match=r"is damaged.*; to make it again, run clozelab pack"):
        used_shards(tmp_path / "packed")


def test_shards_of_another_corpus_beside_those_of_this_one_are_noticed(shards, tmp_path):
    shutil.copytree(shards[0], tmp_path / "packed")
    folder = tmp_path / "other"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jsonl").write_text('{"text": "something else"}\n' * 200)
    corpus = load_corpus(folder, streaming=True, validation=tmp_path / "other" / "2.jsonl")
    tokenizer = open_shards(shards[0])[0]
    pack_shards(corpus.train, list(corpus.heldout), tokenizer, tmp_path / "others")
    for path in (tmp_path / "others").glob("heldout.*"):
        shutil.copy(path, tmp_path / "packed")
    with pytest.raises(InputError, match=r"heldout\.json is damaged"):
        used_shards(tmp_path / "packed")


def test_damage_is_found_before_its_own_chunk_is_used_and_not_earlier(shards, tmp_path):
    """A corpus of any size opens at once."""
    shutil.copytree(shards[0], tmp_path / "packed")
    path = tmp_path / "packed" / "00002-of-00003.bin"
    written_anew(path, path.read_bytes()[:-2] + b"\xff\xff")
    blocks = open_shards(tmp_path / "packed")[1].blocks(LENGTH)
    assert blocks.take([0, len(blocks) - 20]).shape == (2, LENGTH)
    with pytest.raises(InputError, match=r"00002-of-00003\.bin is damaged: its bytes [\d,]+ to [\d,]+ are not"):
        blocks.take([len(blocks) - 1])
