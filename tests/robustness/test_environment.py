"""Streams that are closed, terminals that hang up, and an environment that lacks what programs usually have."""

import os
import pty
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clozelab.cli import main
from clozelab.data.corpora import cache
from clozelab.errors import InputError
from clozelab.training import latest_checkpoint, streamed

PYTHON = [sys.executable, "-m", "clozelab"]
SHORT = "--vocab-size 400 --length 16 --batch-size 4 --precision float32 --sample-every 0 --eval-every 0"


def shell(line, **variables):
    """(exit code, standard output, standard error) of a line of bash, in which `clozelab` is this one."""
    defined = f'clozelab() {{ {" ".join(PYTHON)} "$@"; }}; set -o pipefail; {line}'
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(["bash", "-c", defined], capture_output=True, text=True, env=environment, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "tables"
    folder.mkdir()
    for number in range(4):
        rows = (f'{{"text": "Document {n} says that {n} is not {n + 1}."}}\n' for n in range(number, 200, 4))
        (folder / f"{number}.jsonl").write_text("".join(rows))
    return folder


# ------------------------------------------------------------------ streams


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("clozelab show 'the cat sat' | true", 141),
        pytest.param("clozelab --help | true", 141, marks=pytest.mark.faults),
        pytest.param("clozelab plan --size huge 2>&-", 2, marks=pytest.mark.faults),
        pytest.param("clozelab plan --size huge 2>/dev/full", 2, marks=pytest.mark.faults),
        pytest.param("clozelab show 'the cat' <&- >&- 2>&-", 1, marks=pytest.mark.faults),
    ],
)
def test_closed_streams_change_nothing_but_what_is_printed(line, code):
    """141 is what a shell shows of a program that SIGPIPE ended."""
    ended, out, err = shell(line, PYTHONUNBUFFERED="")
    assert ended == code, err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("clozelab --version >/dev/full", "is full"),
        ("clozelab --help >&-", "is closed"),
        ("clozelab course >/dev/full", "is full"),
        pytest.param("clozelab train --help >/dev/full", "is full", marks=pytest.mark.faults),
        pytest.param("clozelab objectives >&-", "is closed", marks=pytest.mark.faults),
        pytest.param("clozelab plan --size tiny --length 64 >&-", "is closed", marks=pytest.mark.faults),
        pytest.param("clozelab completion bash >/dev/full", "is full", marks=pytest.mark.faults),
        pytest.param("clozelab show 'the cat' >/dev/full", "is full", marks=pytest.mark.faults),
    ],
)
def test_a_result_that_could_not_be_printed_is_no_success(line, why, unbuffered):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    code, _, err = shell(line, PYTHONUNBUFFERED=unbuffered)
    assert (code, err) == (1, f"clozelab: standard output {why}, so that nothing, or not all, was printed there\n")


@pytest.mark.faults
def test_a_run_whose_output_is_full_is_trained_to_its_end(corpus, tmp_path):
    code, _, err = shell(f"clozelab train --corpus {corpus} --run run --steps 2 {SHORT} >/dev/full")
    assert code == 1
    assert err.splitlines()[-1].startswith("clozelab: standard output is full")
    assert latest_checkpoint(tmp_path / "run").step == 2


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    """What a library prints would stand in it."""
    script = (
        "from clozelab.cli import main; main(['--nothing']); print(open(FILE, 'w').fileno() > 2, file=open(OUT, 'w'))"
    )
    script = script.replace("FILE", repr(str(tmp_path / "file"))).replace("OUT", repr(str(tmp_path / "out")))
    subprocess.run(["bash", "-c", f'{sys.executable} -c "{script}" >&- 2>&- <&-'], timeout=60, check=False)
    assert (tmp_path / "out").read_text() == "True\n"


@pytest.mark.faults
def test_a_run_whose_terminal_hangs_up_saves_and_can_be_resumed(corpus, tmp_path):
    words = ["train", "--corpus", str(corpus), "--run", "run", "--steps", "100000", *SHORT.split()]
    process, terminal = pty.fork()
    if process == 0:
        os.execvp(PYTHON[0], [*PYTHON, *words])
    shown = b""
    while b"loss" not in shown:  # of the first step
        shown += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
    assert latest_checkpoint(tmp_path / "run").step >= 0


# ------------------------------------------------------------------ folders, disks, files


def test_a_home_that_cannot_be_written_to_is_not_needed_where_the_cache_is_elsewhere(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null/nobody")
    assert main(["train", "--corpus", str(corpus), "--stream", "--run", "run", "--steps", "1", *SHORT.split()]) == 0


def test_a_home_that_cannot_be_written_to_is_one_line_with_the_cure(corpus, monkeypatch, capsys):
    monkeypatch.setenv("HOME", "/dev/null/nobody")
    monkeypatch.delenv("CLOZELAB_CACHE")
    assert main(["train", "--corpus", str(corpus), "--run", "run", "--steps", "1", *SHORT.split()]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("clozelab: Not a directory (/dev/null/nobody/.cache/clozelab")
    assert error.endswith(": set CLOZELAB_CACHE to a folder that can be written to")


def test_a_user_without_a_home_is_told_of_the_variable(monkeypatch):
    monkeypatch.delenv("CLOZELAB_CACHE", raising=False)
    monkeypatch.setattr(cache.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine")))
    with pytest.raises(InputError, match="no home folder for a cache: set CLOZELAB_CACHE"):
        cache.cache_folder()


@pytest.mark.faults
def test_nothing_is_written_but_to_the_run_folder_and_the_cache(corpus, tmp_path):
    empty = {name: str(tmp_path / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for name in empty:
        (tmp_path / name).mkdir()
    code, _, err = shell(f"clozelab train --corpus {corpus} --stream --run run --steps 1 {SHORT}", **empty)
    assert code == 0, err
    assert {path.name for path in tmp_path.iterdir()} == {*empty, "cache", "run", "tables"}
    assert [path for folder in empty.values() for path in Path(folder).iterdir()] == []


@pytest.fixture
def largest_file():
    """`largest_file(bytes)` limits the files of this process, until the end of the test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_limit_of_the_size_of_files_is_named_and_leaves_nothing_in_part(corpus, largest_file, capsys):
    words = ["train", "--corpus", str(corpus), "--run", "run", "--steps", "1", *SHORT.split()]
    largest_file(100_000)
    assert main(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "clozelab: File too large (run/checkpoints/step-00000001): files may not be that large here;"
    )
    assert list(Path("run/checkpoints").iterdir()) == []
    largest_file(2**40)
    assert main(["train", "--run", "run", "--resume"]) == 0


def test_a_full_folder_for_temporary_files_is_not_needed(corpus, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/dev/null/nowhere")
    monkeypatch.setattr("tempfile.tempdir", None)
    words = ["train", "--corpus", str(corpus), "--stream", "--workers", "2", "--run", "run", "--steps", "1"]
    assert main([*words, *SHORT.split()]) == 0


def test_too_few_open_files_for_the_workers_are_one_line(corpus, capsys):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))
    words = ["train", "--corpus", str(corpus), "--stream", "--workers", "4", "--run", "run", "--steps", "1"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + streamed.FILES, before[1]))
    try:
        assert main([*words, *SHORT.split()]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        f"clozelab: Too many open files: {5 * streamed.FILES} are needed for the workers: raise the limit (ulimit -n), "
        "or take fewer --workers"
    )
