"""A disk that is full at any moment of a run: what was complete stays, and with some space it continues.

The disk is a real one of a few hundred kilobytes, a tmpfs in a namespace of its own, which on Linux needs no rights.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from clozelab.cli import main
from clozelab.data import pack, train_bpe
from clozelab.training import read_checkpoint

PAGE = 4096
"""What a tmpfs gives out."""


class Disk:
    """A disk on which only so many pages are free."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def leave(self, pages: int) -> None:
        """Fill it up but for `pages`."""
        self.free()
        whole = shutil.disk_usage(self.folder).free // PAGE
        (self.folder / "ballast").write_bytes(bytes(PAGE * max(0, whole - pages)))

    def free(self) -> None:
        """What filled it is deleted."""
        (self.folder / "ballast").unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path):
    place = tmp_path / "mount"
    place.mkdir()
    script = f"mount -t tmpfs -o size=4m tmpfs {place} && echo mounted && exec cat"
    try:
        holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    except FileNotFoundError:
        pytest.skip("needs unshare, to mount a small disk")
    with holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"mounted\n":
            pytest.skip("needs to mount a small disk, which is not allowed here")
        yield Disk(Path(f"/proc/{holder.pid}/root{place}"))  # the disk as its namespace sees it


def one_line(capsys, code, mentioning):
    """Check the error of a command that failed; returns the name of the file in it."""
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2, error
    found = re.fullmatch(r"clozelab: no space left on the disk \((.*)\): free some and continue, .*is kept", error)
    assert found, error
    assert mentioning in found[1]
    return Path(found[1]).name


@pytest.fixture
def words(tmp_path):
    """A run of 12 steps on little text."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(200)))
    flags = "--vocab-size 400 --length 24 --batch-size 8 --steps 12 --eval-every 5 --checkpoint-every 4"
    return ["train", "--objective", "masked", "--corpus", str(corpus), *flags.split(), "--precision", "float32"]


def weights(run):
    return (run / "checkpoints" / "step-00000012" / "model.safetensors").read_bytes()


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", [[], ["--async-checkpoints"]], ids=["at once", "in the background"])
def test_a_disk_that_fills_up_at_any_file_of_a_run(small, disk, words, tmp_path, tally, capsys, how):
    """From the first page on: tokenizer, description, metrics, weights, the optimiser's state, each checkpoint."""
    words = [*words, *how]
    assert main([*words, "--run", str(tmp_path / "whole")]) == 0
    capsys.readouterr()
    run, met = disk.folder / "run", set()
    for pages in (*range(60), *range(60, 1_000, 4)):
        shutil.rmtree(run, ignore_errors=True)
        disk.leave(pages)
        code = main([*words, "--run", str(run)])
        if code == 0:
            break
        name = one_line(capsys, code, mentioning="run")
        kind = "a checkpoint" if name.startswith("step-") or name in ("state.json", "checkpoints") else name
        with tally.trying(f"disk full while writing {kind}"):
            met.add(kind)
            complete = sorted(run.glob("checkpoints/step-*"))
            assert all(read_checkpoint(path).step > 0 for path in complete)
            assert not [path for path in run.rglob("*") if path.name.startswith(".")]
            disk.free()
            more = ["--resume"] if (run / "run.json").exists() else words[1:]
            assert main(["train", *more, "--run", str(run)]) == 0
            assert weights(run) == weights(tmp_path / "whole")
    assert code == 0  # it fits at last
    assert met == {"tokenizer.json", "run.json", "metrics.jsonl", "a checkpoint"}


@pytest.mark.faults
def test_a_disk_that_fills_up_while_packing(small, disk, words, tmp_path, tally, capsys, monkeypatch):
    """Tokenizer, stream and description of the cache, from the first page on."""
    monkeypatch.setenv("CLOZELAB_CACHE", str(disk.folder))
    documents = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(2_000)]
    tokenizer = train_bpe(documents, 400)
    stream = pack(documents, tokenizer, cache_dir=tmp_path / "cache").tokens.tobytes()
    for pages in range(-(-len(stream) // PAGE) + 1):  # with one more its description fits too
        disk.leave(pages)
        with tally.trying("disk full while packing"):
            with pytest.raises(OSError, match=f"No space left on device.*{disk.folder}"):
                pack(documents, tokenizer)
            assert {path.suffix for path in disk.folder.iterdir()} <= {"", ".bin"}  # whole, though not described
            disk.free()
            assert pack(documents, tokenizer).tokens.tobytes() == stream
        for path in disk.folder.iterdir():
            path.unlink()
    disk.leave(pages + 1)
    assert pack(documents, tokenizer).tokens.tobytes() == stream  # it fits at last


@pytest.mark.faults
def test_a_disk_that_fills_up_while_the_command_line_packs_is_one_line(
    small, disk, words, tmp_path, tally, capsys, monkeypatch
):
    monkeypatch.setenv("CLOZELAB_CACHE", str(disk.folder))
    for pages in (0, 1, 4):
        disk.leave(pages)
        with tally.trying("disk full while packing"):
            one_line(capsys, main([*words, "--run", str(tmp_path / "run")]), mentioning=str(disk.folder))
            assert not (tmp_path / "run").exists()
    disk.free()
    assert main([*words, "--run", str(tmp_path / "run")]) == 0


@pytest.mark.faults
@pytest.mark.parametrize("how", [(), ("--async-checkpoints",)], ids=["at once", "in the background"])
def test_a_disk_that_fills_up_while_two_processes_write_shards(
    two, begin, go_on, undisturbed, disk, tmp_path, tally, how
):
    """Both end, one line says why, the last checkpoint is whole, and with some space both continue."""
    flags, run = ("--sharded", *how), disk.folder / "run"
    assert [process.end() for process in two(begin("span", tmp_path / "whole", *flags))] == [0, 0]
    for pages in (40, 100, 140):
        with tally.trying("disk full while two processes write shards"):
            shutil.rmtree(run, ignore_errors=True)
            disk.leave(pages)
            first, second = two(begin("span", run, *flags))
            assert (first.end(), second.end()) == (2, 2), first.output() + second.output()
            assert re.search("no space left on the disk .*step-0.* is kept", first.output().strip().splitlines()[-1])
            assert "Traceback" not in first.output() + second.output()
            assert all(read_checkpoint(path).step > 0 for path in run.glob("checkpoints/step-*"))
            disk.free()
            assert [process.end() for process in two(go_on(run))] == [0, 0]
            assert undisturbed(tmp_path / "whole").is_equal_to(run)
