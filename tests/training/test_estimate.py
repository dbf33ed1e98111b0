"""A run that has to share its cores says so; one that has them does not."""

import pytest
import torch

from clozelab.training import TrainConfig
from clozelab.training.estimate import Estimate, say_if_crowded


@pytest.mark.parametrize(
    ("processor", "threads", "advice"),
    [
        (3.0, 2, "OMP_NUM_THREADS=1"),
        (9.9, 2, "OMP_NUM_THREADS=1"),
        (10.1, 2, None),  # waiting for data, or for another program now and then
        (19.0, 2, None),
        (25.0, 8, "OMP_NUM_THREADS=2"),  # of 80 seconds of processor time
        (0.1, 1, None),  # a single thread waits for no other
    ],
)
def test_threads_that_wait_for_a_core_are_reported(processor, threads, advice):
    line = say_if_crowded(processor, 10.0, threads)
    assert (line is None) if advice is None else (advice in line)


def test_on_an_accelerator_the_processor_may_wait(monkeypatch):
    monkeypatch.setattr("clozelab.training.estimate.say_if_crowded", lambda *_: "crowded")
    estimate = Estimate(TrainConfig(steps=10))
    assert estimate.crowded(torch.device("cpu")) == "crowded"
    assert estimate.crowded(torch.device("meta")) is None
