"""The reports of `compare` and `train` in a browser."""

import json
from pathlib import Path

import pytest

from clozelab.cli import main

pytestmark = pytest.mark.browser
FAST = ["--corpus", "corpus.jsonl", "--length", "32", "--batch-size", "4", "--vocab-size", "400"]
PAGES = {"comparison": "out/report.html", "run": "run/report.html"}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """A comparison and a run, which take seconds, in a folder."""
    folder = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        documents = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1} </script>." for n in range(200)]
        Path("corpus.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in documents))
        assert (
            main(["compare", "--objectives", "causal", "masked", "span", "--tokens", "1.5k", "--out", "out", *FAST])
            == 0
        )
        assert (
            main(
                [
                    "train",
                    "--objective",
                    "masked",
                    "--steps",
                    "8",
                    "--sample-every",
                    "4",
                    "--eval-every",
                    "2",
                    "--run",
                    "run",
                    *FAST,
                ]
            )
            == 0
        )
    return folder


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_a_report_has_no_errors_no_barriers_and_no_sideways_scroll(name, width, reports, browser):
    browser.open(reports / PAGES[name], width, dark=width == 390)
    assert browser.overflow() <= 0
    assert browser.messages() == []
    assert browser.barriers() == []


@pytest.mark.parametrize("name", PAGES)
def test_there_is_a_curve_and_what_was_asked_answers_to_the_hand(name, reports, browser):
    browser.open(reports / PAGES[name])
    charts = browser.js("return [...document.querySelectorAll('.chart')].map(one => one.clientWidth)")
    assert len(charts) == (3 if name == "comparison" else 1)
    assert all(width > 250 for width in charts)
    points = browser.js(
        "return [...document.querySelectorAll('.chart')].map(one => one.querySelectorAll('.point').length)"
    )
    assert all(number >= 1 for number in points)
    if name == "run":
        metrics = (reports / "run/metrics.jsonl").read_text()
        assert points == [metrics.count('"heldout":')] == [5]  # before the first step, and after each second one
        assert browser.js("return document.querySelector('polyline.curve').getBoundingClientRect().width") > 250
    target = browser.js("return document.querySelector('.card .target:not(.chosen)')")
    browser.point_at(target)
    assert browser.js("return arguments[0].matches('.chosen')", target)
    assert browser.js("return arguments[0].closest('.card').querySelectorAll('.lit').length", target) > 0
