"""A stream gives the same batches whichever process or worker reads it, and wherever reading starts again."""

import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest
import torch

from clozelab.data import Stream, load_corpus
from clozelab.data.corpora.stream import WINDOW
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES, MaskedLM
from clozelab.training import (
    Processes,
    StreamedBatches,
    TrainConfig,
    prepare_stream,
    read_checkpoint,
    read_metrics,
    seeded_model,
    streamed,
    train,
)

from ..objectives.cases import LOOPED_NAMES

LENGTH = 16


def write(folder, files=4, rows=60):
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(files):
        texts = [f"In file {file} row {row} comes before row {row + 1}." for row in range(rows + 7 * file)]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


@pytest.fixture
def stream(tmp_path, tokenizer):
    return Stream(load_corpus(write(tmp_path / "corpus"), streaming=True).train, tokenizer)


def batches(stream, tokenizer, objective=None, size=8, workers=0, seed=0):
    objective = objective or MaskedLM()
    collator = objective.collator(tokenizer.special, seed=seed)
    return StreamedBatches(stream, objective.source_length(LENGTH), collator, size, workers)


def first(made, count):
    return [next(made.micro_batches(n)) for n in range(count)]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_shard_is_all_its_documents_end_to_end_in_windows_of_a_drawn_order(stream, tokenizer):
    [shard] = stream.shards(LENGTH, 1, seed=0)
    eos = tokenizer.special.eos
    whole = [token for document in stream.documents for token in (*tokenizer.encode(document), eos)]
    blocks = [next(found) for found in [shard.blocks()] for _ in range(2 * WINDOW)]
    for window in range(2):
        mine = [block.tolist() for block, _ in blocks[window * WINDOW : (window + 1) * WINDOW]]
        begins = window * WINDOW * LENGTH
        endless = whole * (1 + (begins + WINDOW * LENGTH) // len(whole))
        expected = [endless[i : i + LENGTH] for i in range(begins, begins + WINDOW * LENGTH, LENGTH)]
        assert sorted(mine) == sorted(expected)
        assert mine != expected


def test_shards_divide_files_and_batch_and_share_no_document(stream):
    assert [len(stream.shards(LENGTH, size, 0)) for size in (1, 6, 8, 9)] == [1, 2, 4, 1]
    documents = [set(shard.documents) for shard in stream.shards(LENGTH, 8, 0)]
    assert set.union(*documents) == set(stream.documents)
    assert sum(map(len, documents)) == len(set(stream.documents))


@pytest.mark.parametrize("name", LOOPED_NAMES)
def test_reading_from_any_batch_on_gives_the_same_batches(name, stream, tokenizer):
    """In the first window, at its end, in the third; and in the second pass through the files."""
    objective = OBJECTIVES[name]()
    straight = batches(stream, tokenizer, objective)
    expected, noted = [], []
    for n in range(3 * WINDOW // 2):  # 2 blocks of a shard each
        expected.append(next(straight.micro_batches(n)))
        noted.append(json.loads(json.dumps(straight.positions)))
    assert {position["pass"] for position in noted[-1].values()} != {0}
    for done in (1, 50, WINDOW // 2 - 1, WINDOW // 2, WINDOW // 2 + 1, len(noted) - 2):
        again = batches(stream, tokenizer, objective)
        again.go_to(done, noted[done - 1])
        for n in range(done, min(done + 3, len(noted))):
            assert same(next(again.micro_batches(n)), expected[n])


@pytest.mark.parametrize("size", [8, 6])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_several_processes_read_what_one_reads(stream, tokenizer, count, size):
    """Even where two of them share a shard, as with 3."""
    whole = first(batches(stream, tokenizer, size=size), 3)
    parts = [batches(stream, tokenizer, size=size) for _ in range(count)]
    for n in range(3):
        cut = [part for rank in range(count) for part in parts[rank].micro_batches(n, 2, Processes(rank, count))]
        assert same(whole[n], {key: torch.cat([part[key] for part in cut]) for key in whole[n]})
    together = {shard: position for part in parts for shard, position in part.positions.items()}
    assert set(together) == {str(shard.number) for shard in parts[0].shards}


def test_workers_that_read_ahead_change_nothing(stream, tokenizer):
    alone = batches(stream, tokenizer)
    expected = first(alone, 4)
    before = torch.get_rng_state()
    for workers in (1, 2):
        made = batches(stream, tokenizer, workers=workers)
        assert all(map(same, first(made, 4), expected))
        assert made.positions == alone.positions
    assert torch.equal(torch.get_rng_state(), before)


def test_a_second_pass_hides_other_tokens(stream, tokenizer):
    straight = batches(stream, tokenizer)
    names = [name for n in range(3) for name in straight.examples(n)[0]]
    assert len(set(names)) == len(names)


def test_a_batch_out_of_order_is_refused(stream, tokenizer):
    made = batches(stream, tokenizer)
    with pytest.raises(InputError, match="batch 3 of a stream was asked for, but 0 is next"):
        next(made.micro_batches(3))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_row_far_into_the_stream_is_one_line(tmp_path, tokenizer, workers):
    folder = write(tmp_path / "bad")
    with open(folder / "2.jsonl", "a") as file:
        file.write('{"text": 3}\n{"text"')
    made = batches(Stream(load_corpus(folder, streaming=True).train, tokenizer), tokenizer, workers=workers)
    with pytest.raises(InputError, match=r"2.jsonl, line 75: column 'text' holds a number[^\n]*$"):
        first(made, 1)


def worker_that_waits(begun):
    streamed._ignore_stop(0)
    begun.set()
    time.sleep(60)


def test_a_worker_ends_some_time_after_sigterm_whatever_handles_alarms_in_the_main_process(monkeypatch):
    """As pytest-timeout does, whose handler printed traces of workers."""
    monkeypatch.setattr(streamed, "GRACE", 1)
    fork = multiprocessing.get_context("fork")
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    begun = fork.Event()
    worker = fork.Process(target=worker_that_waits, args=(begun,))
    worker.start()
    signal.signal(signal.SIGALRM, before)
    assert begun.wait(30)
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == -signal.SIGALRM


# ------------------------------------------------------------------ in the loop


def run(folder, corpus, steps, resume=False, workers=0):
    prepared = prepare_stream(corpus, vocab_size=400)
    objective = MaskedLM()
    config = TrainConfig(
        steps=steps, length=LENGTH, batch_size=8, precision="float32", eval_rows=8, checkpoint_every=4, eval_every=0
    )
    model = seeded_model(objective, prepared.tokenizer.vocab_size, "tiny", 0, d_model=32, n_layers=1, n_heads=1)
    result = train(
        objective,
        model,
        prepared.tokenizer,
        prepared.text,
        prepared.heldout,
        config,
        run=folder,
        resume=resume,
        workers=workers,
    )
    return result, model


def test_a_resumed_run_of_compressed_files_is_the_run_bit_for_bit(tmp_path):
    corpus = write(tmp_path / "corpus", rows=200)
    for path in corpus.iterdir():
        path.with_name(f"{path.name}.zst").write_bytes(pa.Codec("zstd").compress(path.read_bytes(), asbytes=True))
        path.unlink()
    _, straight = run(tmp_path / "straight", corpus, steps=10)
    run(tmp_path / "again", corpus, steps=10)
    shutil.rmtree(tmp_path / "again/checkpoints/step-00000010")
    result, again = run(tmp_path / "again", corpus, steps=10, resume=True, workers=2)
    assert result.step == 10
    assert read_checkpoint(tmp_path / "again/checkpoints/step-00000008").positions
    assert all(map(torch.equal, straight.state_dict().values(), again.state_dict().values()))


@pytest.mark.parametrize("change", ["a row more", "a file more", "other words"])
def test_a_corpus_that_changed_is_refused(tmp_path, change):
    corpus = write(tmp_path / "corpus")
    run(tmp_path / "run", corpus, steps=4)
    if change == "a row more":
        with open(corpus / "1.jsonl", "a") as file:
            file.write('{"text": "one more"}\n')
    elif change == "a file more":
        (corpus / "9.jsonl").write_text('{"text": "one more"}\n')
    else:
        text = (corpus / "1.jsonl").read_text()
        (corpus / "1.jsonl").write_text(text.replace("row 3 ", "raw 3 "))
    with pytest.raises(InputError, match="another text"):
        run(tmp_path / "run", corpus, steps=4, resume=True)


@pytest.mark.slow
def test_any_number_of_processes_streams_the_run_of_one_and_goes_on_with_it(tmp_path):
    """Three of them share twelve rows of four shards, and two go on from the checkpoint of the three."""
    corpus = write(tmp_path / "corpus", rows=200)
    flags = ["--corpus", corpus, "--stream", "--vocab-size", 400, "--length", LENGTH, "--batch-size", 12]
    flags += ["--precision", "float32", "--eval-every", 0, "--sample-every", 0, "--checkpoint-every", 3, "--steps", 6]

    def launched(count, run, *words):
        begins = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
        words = [*begins, "-m", "--", "clozelab", "train", "--run", tmp_path / run, *words]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
        return [line["loss"] for line in read_metrics(tmp_path / run / "metrics.jsonl") if "loss" in line]

    alone = launched(1, "one", *flags)
    assert launched(3, "three", *flags) == pytest.approx(alone, abs=1e-4)
    shutil.rmtree(tmp_path / "three/checkpoints/step-00000006")
    assert launched(2, "three", "--resume", "--workers", 2) == pytest.approx(alone, abs=1e-4)
