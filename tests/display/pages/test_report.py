"""Reports of training: the curves and levels are the numbers, and no text breaks out."""

import re
from itertools import pairwise

import pytest
import torch

from clozelab.data import pack, train_bpe
from clozelab.display.pages import comparison_page, run_page, write_page
from clozelab.display.pages.chart import Chart, Level
from clozelab.display.pages.report import levels_of
from clozelab.display.pages.show import heldout_data
from clozelab.errors import InputError
from clozelab.evaluation import HeldOut, PartLoss
from clozelab.evaluation.heldout import EVALUATION_EPOCH
from clozelab.objectives import CausalLM, MaskedDiffusion, MaskedLM, SpanCorruption
from clozelab.training import Compared, TrainResult

from .pages import Page, decoded

HOSTILE = "</script><img src=x onerror=alert(1)> \x1b[31m & \" '"
CURVE = [(1, 8.0), (2, 5.0), (4, 4.25)]


def heldout(objective, nats=4.25):
    return HeldOut(nats, {"logits": PartLoss(nats, 100)}, 200, 100, objective.likelihood)


def row(objective, **more):
    result = TrainResult(4, True, heldout(objective), CURVE, 2.0, 4000)
    settings = {
        "parameters": 1000,
        "heldout": 4.25,
        "uniform": 8.3,
        "unigram": 6.6,
        "source_length": 100,
        "length": 32,
        "batch_size": 10,
        "flops": None,
        "completions": {"continue": f"the [{HOSTILE}]"},
        "cannot": {"fill": "reads what comes before it"},
    }
    return Compared(objective, result=result, **settings | more)


def svgs(page):
    """(attributes, those of the elements in it) of each picture of a page."""
    found = []
    for name, given in Page(page).elements:
        if name == "svg":
            found.append((given, []))
        elif found:
            found[-1][1].append((name, given))
    return found


def test_each_objective_has_a_curve_whose_points_are_the_numbers():
    page = comparison_page([row(CausalLM()), row(MaskedLM(), uniform=10.0)], "books", floors={"masked": 2.0})
    (first, inside), (second, others) = svgs(page)
    assert first["aria-label"] == ("held-out loss 4.250 nats, 8.000 at first, uniform guess 8.300, unigram guess 6.600")
    assert second["aria-label"].endswith("uniform guess 10.000, unigram guess 6.600, entropy floor 2.000")
    heights = [float(given["cy"]) for name, given in inside if name == "circle"]
    [level] = [given["d"] for name, given in inside if given.get("class") == "level unigram"]
    [zero] = [given["d"] for name, given in inside if given.get("class") == "grid"][:1]
    base, unigram = (float(re.search(r"M\S+ (\S+)H", path)[1]) for path in (zero, level))
    scale = (base - unigram) / 6.6
    assert heights == pytest.approx([base - scale * nats for _, nats in CURVE], abs=0.2)
    widths = [float(given["cx"]) for name, given in inside if name == "circle"]
    assert widths[1] - widths[0] == pytest.approx((widths[2] - widths[0]) / 3, abs=0.2)  # 1, 2 and 4 steps
    same = [float(given["cy"]) for name, given in others if name == "circle"]
    assert same == heights  # side by side on one scale
    levels = [given["class"] for _, given in others if given.get("class", "").startswith("level ")]
    assert levels == ["level uniform", "level unigram", "level floor"]


def test_a_bound_is_said_to_be_one_and_a_loss_is_compared_with_a_guess_and_a_floor():
    page = comparison_page([row(MaskedDiffusion(), heldout=6.58)], "books", floors={"diffusion": 6.0})
    assert "held-out loss at most 4.250 nats" in page
    assert "No better yet than a guess by token frequencies, and 0.58 above the entropy floor." in page


def test_labels_of_levels_keep_clear_of_one_another():
    chart = Chart(
        CURVE, [Level("one", 5.0, "floor"), Level("two", 5.01, "unigram"), Level("three", 8.0, "uniform")], "x"
    )
    places = [at for _, at in chart.labels]
    assert all(after - before >= 16 for before, after in pairwise(places))
    assert [level.label for level, _ in chart.labels] == ["three", "two", "one"]


def test_a_run_shows_its_steps_its_samples_and_its_numbers():
    objective = MaskedLM()
    metrics = [{"step": n, "loss": 8.0 - n / 1000} for n in range(1, 1001)]
    metrics += [{"step": n, "sample": f"sample {n} {HOSTILE}"} for n in range(1, 16)]
    metrics += [{"step": 9, "heldout": 4.0}, {"step": 10, "loss": "damaged"}]
    result = TrainResult(1000, True, heldout(objective), CURVE, 2.0, 4000)
    page = run_page(objective, result, metrics, corpus=HOSTILE, where="runs/x", uniform=8.3)
    [(_, inside)] = svgs(page)
    [training] = [given["points"].split() for _, given in inside if given.get("class") == "training"]
    assert len(training) == 200  # a thousand steps, by five
    assert "sample 4 " in page
    assert "sample 3 " not in page
    assert "The last 12 of 15 samples" in page
    assert "4.2500 nats per predicted token" in page
    assert "unigram" not in "".join(text for (name, _), text in Page(page).texts if name in ("th", "text"))
    check_closed(page)


def check_closed(page):
    """No text became an element, and no control character is left."""
    found = Page(page)
    assert found.loaded == []
    assert not [given for _, given in found.elements if any(name.startswith("on") for name in given)]
    assert "\x1b" not in page


@pytest.fixture(scope="module")
def text():
    documents = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}, {HOSTILE}." for n in range(40)]
    tokenizer = train_bpe(documents, vocab_size=400, roles=["mask"])
    return tokenizer, pack(documents, tokenizer)


def test_what_was_asked_is_the_first_example_of_the_evaluation(text):
    tokenizer, packed = text
    objectives = [CausalLM(), MaskedLM.with_recipe(), SpanCorruption()]
    asked = heldout_data(objectives, tokenizer, packed, 32, seed=5)
    for objective, card in zip(objectives, asked["objectives"]):
        tokens = packed.blocks(objective.source_length(32)).take([0])
        collator = objective.collator(tokenizer.special, seed=5)
        batch = collator.block(tokens, [0], epoch=EVALUATION_EPOCH, progress=1.0)
        [shown] = card["batches"]
        assert [one["ids"] for one in shown["sequences"]] == [
            batch[one["key"]][0].tolist() for one in shown["sequences"]
        ]
        [output] = shown["outputs"]
        assert output["labels"] == objective.targets(batch)["logits"].labels[0].tolist()
        for key, rows in output["reads"].items():
            declared = objective.reads(batch)["logits", key][0]
            assert [decoded(card["reads"][at]) for at in rows] == [
                {*torch.nonzero(one)[:, 0].tolist()} for one in declared
            ]
    page = comparison_page([row(one) for one in objectives], HOSTILE, asked=asked)
    check_closed(page)
    assert page.count("</script>") == 2
    assert Page(page).data == asked
    assert len(page) < 100_000


def test_a_page_is_written_whole_and_replaces_an_older_one(tmp_path):
    path = tmp_path / "new" / "report.html"
    for content in ("old", "new"):
        assert write_page(content, path) == path
    assert path.read_text() == "new"
    assert [*path.parent.iterdir()] == [path]
    with pytest.raises(InputError, match="is a folder"):
        write_page("", tmp_path)


def test_nothing_to_report_is_named():
    with pytest.raises(InputError, match="at least one objective"):
        comparison_page([], "books")
    with pytest.raises(InputError, match="a run that was evaluated"):
        run_page(CausalLM(), TrainResult(1, False, None), [], corpus="", where="", uniform=8.0)


def test_only_levels_that_are_known_are_drawn():
    assert [one.kind for one in levels_of(None, 8.0, None)] == ["uniform"]
    assert [one.kind for one in levels_of(6.0, 8.0, 1.0)] == ["uniform", "unigram", "floor"]
