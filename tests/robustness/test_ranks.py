"""Processes of one run that were given different things, or of which a later one fails: all say so, and none waits."""

import json
import socket

import one_rank
import pytest

ALIKE = "nothing"


def variables_of(rank: int) -> dict[str, str]:
    """What torchrun would set."""
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def in_two(forkserver, target, folder) -> None:
    """Run a function in two processes, both of which end within a minute."""
    port = free_port()
    started = [
        forkserver.Process(target=target, args=(str(folder), {**variables_of(rank), "MASTER_PORT": port}))
        for rank in range(2)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
        assert process.exitcode == 0, "it failed, or did not end"


@pytest.fixture(scope="module")
def ends(forkserver, tmp_path_factory):
    """{what differed: how the call ended in each process}, all in one pair of processes."""
    folder = tmp_path_factory.mktemp("ranks")
    in_two(forkserver, one_rank.run, folder)
    first, second = (dict(json.loads((folder / f"ends-{rank}.json").read_text())) for rank in range(2))
    assert first.keys() == second.keys()
    return {what: (first[what], second[what]) for what in first}


@pytest.mark.parametrize(
    ("what", "there", "here"),
    [
        ("objective", "'masked'", "'causal'"),
        ("options.z_loss", "0.0001", "0.0"),
        ("corpus", "", ""),
        ("tokenizer", "", ""),
        ("train.seed", "1", "0"),
        ("train.learning_rate", "0.0001", "0.03"),
        ("folder", "other'", "run'"),
        ("resume", "True", "False"),
        ("version of clozelab", "'0.0'", "'0."),
    ],
)
def test_what_differs_is_named_with_both_values_in_all_processes(ends, what, there, here):
    first, second = ends[what]
    assert first == second
    assert first.startswith("the processes of a run need the same run, but "), first
    assert f"{what}" in first
    assert f"{there} in process 1, " in first
    assert f"{here}" in first.split(" in process 1, ")[1]


def test_processes_that_are_given_the_same_train(ends):
    assert ends[ALIKE] == ("no error", "no error")


def test_processes_at_different_points_of_a_program_do_not_exchange_their_messages(ends):
    first, second = ends["another stage"]
    assert first == second
    assert "process 1 has come to the end of elsewhere" in first
    assert "process 0 to the result of elsewhere" in first


def test_the_error_of_a_later_process_is_raised_in_all_with_its_number(ends):
    first, second = ends["an error in one"]
    assert first == second == "[Errno 2] process 1 of 2: No such file or directory: 'nowhere.txt'"


def test_a_process_that_is_left_alone_in_a_step_says_so(forkserver, tmp_path):
    in_two(forkserver, one_rank.lose, tmp_path)
    assert (tmp_path / "lost-1.txt").read_text() == "InputError: line 7 of its file is damaged"
    assert (tmp_path / "lost-0.txt").read_text().startswith("ProcessLost: another process of this run died, refused ")


def end_of_commands(child, words, caches=(None, None)):
    """(exit codes, last lines) of two processes that run a command line each."""
    port, started = free_port(), []
    for rank, cache in enumerate(caches):
        more = {} if cache is None else {"CLOZELAB_CACHE": cache}
        started.append(child(words[rank], **{**variables_of(rank), "MASTER_PORT": port, **more}))
    return [process.end(60) for process in started], [process.output().strip().splitlines() for process in started]


def test_flags_that_differ_are_named_once_with_exit_code_2(begin, child, tmp_path):
    words = begin("masked", tmp_path / "run")
    codes, (first, second) = end_of_commands(child, [words, [*words, "--seed", "7"]])
    assert codes == [2, 2]
    assert second == []
    assert first[-1] == (
        "clozelab: the processes of a run need the same command, but --seed is '7' in process 1, '0' in process 0: "
        "start all of them alike"
    )
    assert not (tmp_path / "run").exists()


def test_a_later_process_without_a_cache_says_why_through_the_first(begin, child, tmp_path):
    words = begin("masked", tmp_path / "run")
    codes, (first, _) = end_of_commands(child, [words, words], (None, "/dev/null/cache"))
    assert codes == [2, 2]
    assert first[-1].startswith("clozelab: process 1 of 2: Not a directory (/dev/null/cache")
    assert not (tmp_path / "run").exists()


def test_a_flag_that_only_a_later_process_cannot_read_is_printed_by_that_one(capsys, monkeypatch):
    """It ends before the processes meet; torchrun then ends the others."""
    from clozelab.cli import main

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["train", "--steps", "x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("clozelab: process 1 of 2: ")
    assert "--steps" in error
