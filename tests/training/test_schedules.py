"""A masking rate that falls during a run: what each step hides, where it was stopped, extended or streamed too."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch

from clozelab.data import Stream, load_corpus
from clozelab.objectives import MaskedLM, options
from clozelab.training import Batches, StreamedBatches, read_metrics

FALLING = {"mask_rate": 0.75, "final_mask_rate": 0.25, "scheme": "uniform-spans"}
STEPS, LENGTH = 8, 24


@pytest.fixture
def falling_run(small_run):
    """`small_run` with eight steps, so that every rate is a number that a float can hold."""
    return replace(small_run, config=replace(small_run.config, steps=STEPS))


def counts(run):
    """Hidden tokens of each step, by the report."""
    return [line["count"] for line in read_metrics(run / "metrics.jsonl") if "loss" in line]


def evaluations(run):
    """Hidden tokens of each evaluation."""
    return [line["count"] for line in read_metrics(run / "metrics.jsonl") if "heldout" in line]


@options
class Recorded(MaskedLM):
    """Masked LM that keeps the batches of its steps, and is interrupted at one of them."""

    name = "masked"

    def forward(self, model, batch):
        if model.training:
            self.seen.append({key: value.clone() for key, value in batch.items()})
            if len(self.seen) == self.stop_at:
                os.kill(os.getpid(), signal.SIGINT)
        return super().forward(model, batch)


def recorded(stop_at=0):
    objective = Recorded(**FALLING)
    objective.seen, objective.stop_at = [], stop_at
    return objective


def equal(a, b):
    return len(a) == len(b) and all(all(torch.equal(one[key], other[key]) for key in one) for one, other in zip(a, b))


def test_a_run_that_is_stopped_and_resumed_hides_what_the_unbroken_run_hides(falling_run, same_weights, tmp_path):
    """To the token: batches, weights and reported counts, of which none depends on when the run was stopped."""
    whole, first, second = recorded(), recorded(stop_at=5), recorded()
    unbroken, _ = falling_run(whole, run=tmp_path / "whole")
    _, stopped = falling_run(first, run=tmp_path / "run")
    resumed, result = falling_run(second, run=tmp_path / "run", resume=True)
    assert (stopped.finished, result.finished) == (False, True)
    assert equal(whole.seen, first.seen + second.seen)
    assert len(second.seen) == STEPS - stopped.step > 0
    assert same_weights(unbroken, resumed)
    assert counts(tmp_path / "run") == counts(tmp_path / "whole")


def test_each_step_hides_its_share_of_each_row_and_every_evaluation_the_last(falling_run, packed, tmp_path):
    falling_run(MaskedLM(**FALLING), run=tmp_path / "falling")
    everything = MaskedLM(mask_rate=1.0).collator(falling_run.tokenizer.special)
    maskable = Batches(packed[0].blocks(LENGTH), everything, batch_size=8)
    expected = [
        sum(round((0.75 - 0.5 * step / STEPS) * n) for n in (maskable[step]["labels"] != -100).sum(1).tolist())
        for step in range(STEPS)
    ]
    assert counts(tmp_path / "falling") == expected
    falling_run(MaskedLM(mask_rate=0.25, scheme="uniform-spans"), run=tmp_path / "constant")
    evaluated = [evaluations(tmp_path / run) for run in ("falling", "constant")]
    assert evaluated[0] == evaluated[1]
    assert len(set(evaluated[0])) == 1


def test_an_extension_goes_on_at_the_last_rate(falling_run, tmp_path):
    falling_run(recorded(), run=tmp_path / "run")
    extended = recorded()
    falling_run(extended, falling_run.config.extend(3), run=tmp_path / "run", resume=True)
    shares = [float((batch["labels"] != -100).double().mean()) for batch in extended.seen]
    assert shares == pytest.approx([0.25] * 3, abs=0.03)


@options
class ByItsOwnCount(Recorded):
    """The wrong variant: the rate falls with the batches that this process has made, and not with the run's."""

    name = "masked"

    def rate_at(self, progress):
        self.made = getattr(self, "made", 0) + 1
        return super().rate_at(min(1.0, self.made / STEPS))


def test_a_schedule_that_counts_its_own_batches_hides_other_tokens_once_the_run_was_stopped(falling_run, tmp_path):
    whole, first, second = (ByItsOwnCount(**FALLING) for _ in range(3))
    for objective, stop_at in ((whole, 0), (first, 5), (second, 0)):
        objective.seen, objective.stop_at = [], stop_at
    falling_run(whole)
    falling_run(first, run=tmp_path / "run")
    falling_run(second, run=tmp_path / "run", resume=True)
    assert not equal(whole.seen, first.seen + second.seen)


# ------------------------------------------------------------------ batches by their number


def streamed(folder, tokenizer, workers):
    stream = Stream(load_corpus(folder, streaming=True).train, tokenizer)
    collator = MaskedLM(**FALLING).collator(tokenizer.special)
    return StreamedBatches(stream, LENGTH, collator, 8, workers, STEPS)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stream_hides_by_the_number_of_the_batch_however_far_its_workers_have_read(tmp_path, tokenizer, workers):
    for file in range(4):
        texts = [{"text": f"In file {file} row {row} comes before row {row + 1}."} for row in range(60)]
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    whole, positions = [], {}
    one = streamed(tmp_path, tokenizer, 0)
    for n in range(STEPS):
        whole += one.micro_batches(n)
        if n == 2:
            positions = {name: dict(where) for name, where in one.positions.items()}
    resumed = streamed(tmp_path, tokenizer, workers)
    resumed.go_to(3, positions)
    with resumed.reading():
        assert equal(whole[3:], [batch for n in range(3, STEPS) for batch in resumed.micro_batches(n)])
    hidden = [int((batch["labels"] != -100).sum()) for batch in whole]
    assert hidden[0] > 1.8 * hidden[-1]


def test_batch_n_hides_the_same_whenever_it_is_asked_for(packed, tokenizer):
    made = [
        Batches(packed[0].blocks(LENGTH), MaskedLM(**FALLING).collator(tokenizer.special), 8, STEPS) for _ in range(2)
    ]
    forwards = [made[0][n] for n in range(STEPS)]
    backwards = [made[1][n] for n in reversed(range(STEPS))]
    assert equal(forwards, backwards[::-1])


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_micro_batches_hide_what_the_whole_batch_hides(packed, tokenizer, parts):
    made = Batches(packed[0].blocks(LENGTH), MaskedLM(**FALLING).collator(tokenizer.special), 8, STEPS)
    cut = [batch["labels"] for batch in made.micro_batches(3, 8 // parts)]
    assert torch.equal(torch.cat(cut), made[3]["labels"])
