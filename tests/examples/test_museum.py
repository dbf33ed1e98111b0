"""Each mistake of the museum is found by its check, and the same check passes on the correct counterpart."""

import importlib
import json
import re
from pathlib import Path

import pytest

EXPECTED = {
    "labels shifted twice": [],
    "no causal mask": ["likelihood", "reads", "documents", "answers"],
    "prefix in the loss": ["reads", "documents", "answers"],
    "mean of means": ["accumulation"],
    "80/10/10 by independent draws": ["partition"],
    "random tokens anywhere": ["unselected", "recovered"],
    "frozen masks": ["epochs"],
    "pad = end of text": ["end of text"],
    "sentinels out of step": ["round trip"],
    "gradient into the generator": ["separate parts"],
    "weights dropped": ["uniform"],
    "sign of a weight": ["returns"],
    "end of the middle cut": ["text"],
    "mean of means of two kinds": ["accumulation"],
}
"""The faults that the kit finds in each."""


@pytest.fixture(scope="module")
def script():
    """The module, with less text than in a whole visit; its exhibits lie beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "examples")
        shared = importlib.import_module("museum_shared")
        patch.setattr(shared, "ROWS", 400)
        patch.setattr(shared, "TEXTS", 100)
        yield importlib.import_module("museum_of_mistakes")


@pytest.fixture(scope="module")
def museum(script, tmp_path_factory):
    """(results, folder) of a visit that is too short for anything to be learned."""
    folder = tmp_path_factory.mktemp("museum")
    return script.main(steps=2, seeds=1, out=folder / "museum.png"), folder


def test_all_exhibits_are_there(museum):
    assert list(museum[0]) == list(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_check_finds_the_mistake_and_passes_its_counterpart(museum, name):
    exhibit = museum[0][name]
    assert re.findall(r"FAULT ([a-z ]+):", exhibit["check"]) == EXPECTED[name]
    assert exhibit["check_if_correct"] == "passed"


def test_labels_shifted_twice_are_refused(museum):
    assert museum[0]["labels shifted twice"]["check"].startswith("InputError: these labels are already shifted by one")


def test_picture_and_numbers_are_written(museum):
    results, folder = museum
    assert (folder / "museum.png").stat().st_size > 10_000
    assert set(json.loads((folder / "museum.json").read_text())["exhibits"]) == set(results)


@pytest.mark.slow
def test_what_costs_most_shows_even_after_40_steps(script, tmp_path):
    results = script.main(steps=40, seeds=1, out=tmp_path / "museum.png")

    def cost(name, what):
        ((right, wrong),) = results[name]["costs"][what]
        return wrong - right

    assert cost("labels shifted twice", "nats per held-out token") > 0.5
    assert cost("no causal mask", "nats per generated token") > 0.1
    assert cost("pad = end of text", "% of texts that end within 48 tokens") < -50
    assert cost("sentinels out of step", "nats per target") > 0.5
