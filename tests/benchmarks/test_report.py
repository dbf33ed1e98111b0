"""The page says what the measured files say, and says so where there are none."""

import json
import os
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MACHINE = {"kind": "AVX2 alone", "processor": "a processor", "cores": 2, "python": "3.11", "torch": "2.13"}
STAMP = {"date": "2026-01-02", "machine": MACHINE, "others": 0.01, "threads": 1}


@pytest.fixture
def report(module):
    return module("report")


@pytest.fixture
def outcome(module):
    return module("section_outcome")


def figure(row: str, median: float, goal: float | None) -> dict:
    """A result as the scripts write it."""
    spread = {"low": median, "median": median, "high": median}
    fields = {"unit": "x", "goal": goal, "least": True, "ours": "", "theirs": "", "memory": [2 * 10**6, 10**7]}
    return {"row": row, "name": f"a {row}", "against": "", "figure": spread, **fields, "wall": None, "detail": "d"} | {
        "curves": None,
        "met": None if goal is None else median >= goal,
    }


def rung(name: str, seconds: list, sooner: float | None) -> dict:
    """A rung of three seeds."""
    fields = {"steps": 10, "nats": 1.5, "nats_spread": 0.01, "milliseconds_per_step": 70.0}
    return {"rung": name, "seconds": seconds, "times_sooner": sooner, **fields}


def ladder(name: str, sooner: float | None) -> dict:
    """Two rungs, of which the second one is ours."""
    last = rung("ours", [10.0, 11.0, 12.0 if sooner else None], sooner)
    fields = {"ladder": name, "corpus": "text", "seeds": [0, 1, 2], "heldout_blocks": 256, "climbs": []}
    return {**STAMP, **fields, "rows": [rung("theirs", [60.0, 66.0, 72.0], 1.0), last]}


def widths(best: dict[str, float]) -> dict:
    """One recipe whose best multiplier differs by size, or does not."""
    rows = [
        {"recipe": "Muon", "size": size, "parameters": 10**6, "multiplier": m, "nats": [2.0 + (m != at)], "seconds": 1}
        for size, at in best.items()
        for m in (1 / 3, 1, 3)
    ]
    return {**STAMP, "corpus": "text", "steps": 8, "batch": 12, "length": 64, "rows": rows}


def write(folder: Path, kind: str = "avx2-alone", **records: dict) -> Path:
    """Files as in `benchmarks/measured/`."""
    (folder / kind).mkdir(exist_ok=True)
    for name, record in records.items():
        (folder / kind / f"{name.replace('_', '-')}.json").write_text(json.dumps(record))
    return folder


def of_kind(kind: str, record: dict) -> dict:
    """The same as measured on another kind of machine."""
    return {**record, "machine": {**MACHINE, "kind": kind}}


def suite(**rows: list[dict]) -> dict:
    """A record of the suite, of the results of its rows."""
    stamp = {**STAMP, "quick": False, "peak": {"float32": 95e9}}
    return {"rows": {name: {**stamp, "results": results} for name, results in rows.items()}}


def section(page: str, title: str) -> str:
    """What stands under a heading."""
    return page.split(f"## {title}\n")[1].split("\n## ")[0]


# --------------------------------------------------------------------------- what is committed


def test_the_committed_page_is_that_of_the_committed_files(report):
    """Else: `python benchmarks/report.py`."""
    assert (BENCHMARKS / "README.md").read_text(encoding="utf-8") == report.page()


def test_each_missed_goal_is_explained(report):
    assert "not yet explained" not in report.page()


def test_what_is_measured_has_its_picture(report, outcome):
    for measured in report.SECTIONS:
        for kind in report.records(measured.name) if measured.picture is not None else ():
            assert (report.DOCS / measured.picture.format(kind=outcome.folder_of(kind))).is_file(), measured.picture


def test_every_measured_file_lies_in_the_folder_of_its_kind_and_has_a_section(report, outcome):
    names = {measured.name for measured in report.SECTIONS}
    for path in report.MEASURED.rglob("*.json"):
        kind = outcome.kind_of(json.loads(path.read_text(encoding="utf-8")))
        assert (path.parent, path.stem in names) == (report.MEASURED / outcome.folder_of(kind), True), path


def test_every_command_of_the_page_is_a_script_that_publishes(report):
    for measured in report.SECTIONS:
        script = BENCHMARKS.parent / measured.command.split()[1]
        assert '"--publish"' in script.read_text(encoding="utf-8")


def test_every_row_of_the_suite_has_an_explanation_ready(outcome):
    """For whoever misses a goal on another machine."""
    steps = {"training step", "training step, larger", "compiled step", "step memory"}
    rows = {"loss memory", "loss time", "loop", "muon", "utilisation", "start-up", "tokenising", "growth"}
    assert steps | rows <= outcome.explanations().keys()


# --------------------------------------------------------------------------- rendering


def test_nothing_measured_gives_the_commands(report, tmp_path):
    page = report.page(tmp_path)
    for measured in report.SECTIONS:
        assert f"`{measured.command}`" in section(page, measured.title)
        assert measured.missing in page
    assert "no GPU was at hand" in page
    assert "## Tried, and no help" in page
    assert "![" not in page


def test_figures_stand_beside_their_goals(report, tmp_path):
    results = [figure("loop", 2.0, 3.0), figure("told", 1.0, None)]
    measured = suite(batches=[figure("batches", 20.0, 15.0)], loop=results)
    page = report.page(write(tmp_path, suite=measured, gpu={**STAMP, "quick": False, "results": results[1:]}))
    shown = section(page, "Speed and memory")
    assert "1 of 2 met, **missed**" in shown
    assert "- batches, loop: measured on 2026-01-02: AVX2 alone, a processor, 1 of 2 cores, python 3.11" in shown
    assert "| a batches |  |  |  | ≥ 15x | **20x** |  | 2 / 10 MB | yes |" in shown
    assert "- **loop**: " in shown  # missed, so explained
    assert "- **batches**" not in shown
    assert "0 of 0 met, no goal" in section(page, "On a GPU")


def test_kinds_of_machines_stand_side_by_side(report, tmp_path):
    folder = write(tmp_path, suite=suite(loop=[figure("loop", 2.0, 1.0)]))
    fast = suite(loop=[figure("loop", 7.0, 8.0)])
    fast["rows"]["loop"] = of_kind("AMX", fast["rows"]["loop"])
    page = report.page(write(folder, "amx", suite=fast))
    table, shown = page.split("## Speed and memory")[0], section(page, "Speed and memory")
    assert "| AMX | 0 of 1 met | **missed** |" in table
    assert "| AVX2 alone | 1 of 1 met | met |" in table
    assert shown.index("### AMX") < shown.index("**7x**") < shown.index("### AVX2 alone") < shown.index("**2x**")


def test_rows_of_a_kind_are_published_beside_its_others(report, tmp_path, monkeypatch):
    """And drawn together with them."""
    monkeypatch.setattr(report, "MEASURED", write(tmp_path, suite=suite(loop=[figure("loop", 2.0, 1.0)])))
    monkeypatch.setattr(report, "DOCS", tmp_path)
    monkeypatch.setattr(report, "HERE", tmp_path)
    report.publish_rows(suite(muon=[figure("muon", 3.0, 1.0)])["rows"])
    [(kind, record)] = report.records("suite", report.MEASURED).items()
    assert (kind, list(record["rows"])) == ("AVX2 alone", ["loop", "muon"])
    assert (tmp_path / "benchmarks-avx2-alone.png").stat().st_size > 10_000


def test_what_a_processor_cannot_do_is_a_line_that_says_so(module, tmp_path):
    results = module("results")
    skipped = results.Result.skipped("steps", "steps in bfloat16", "too slow here")
    assert results.Result.of_json(json.loads(json.dumps(skipped.as_json()))) == skipped
    assert "| steps in bfloat16 |  |  |  |  | skipped: too slow here |" in results.table([skipped])
    assert module("section_outcome").goals_of([skipped]) == ("0 of 0 met", None)


@pytest.mark.parametrize(("bfloat16", "slow"), [(1.0, True), (30.0, False)])
def test_bfloat16_is_skipped_where_a_tiny_product_is_far_slower(module, monkeypatch, bfloat16, slow):
    measure = module("measure")
    operations = {"float32": 60e9, "bfloat16": bfloat16 * 1e9}
    monkeypatch.setattr(measure, "product", lambda dtype, size: (dtype, operations[dtype]))
    monkeypatch.setattr(measure, "alternate", lambda sides, rounds: {"": measure.Times([1.0], [1.0])})
    why = measure.too_slow()
    assert (why is not None) == slow
    assert why is None or "1 GFLOP/s in bfloat16 and at 60 GFLOP/s in float32" in why


@pytest.mark.parametrize(
    ("sooner", "figure_and_met"),
    [(4.1, "4.1x, met"), (3.9, "3.9x, **missed**"), (None, "not reached by every seed, **missed**")],
)
def test_the_last_rung_is_held_against_the_goal(report, tmp_path, sooner, figure_and_met):
    page = report.page(write(tmp_path, ladder_shakespeare=ladder("shakespeare", sooner)))
    shown = section(page, "Learning sooner: causal LM on Shakespeare")
    assert f"Figure: {figure_and_met}." in shown
    assert ("1 of 3 seeds did not reach it" in shown) == (sooner is None)
    assert "../docs/ladder-shakespeare-avx2-alone.png" in shown


def test_where_bfloat16_is_fast_the_goal_of_a_ladder_is_another(report, tmp_path):
    measured = of_kind("AVX512-BF16", ladder("shakespeare", 6.0))
    page = report.page(write(tmp_path, "avx512-bf16", ladder_shakespeare=measured))
    assert "Figure: 6.0x, **missed**." in page


def test_each_ladder_has_its_section_and_goal(module, report):
    pytest.importorskip("transformers")
    names = {measured.name.removeprefix("ladder-") for measured in report.SECTIONS if "ladder-" in measured.name}
    assert names == module("ladder").LADDERS.keys() == module("learning").LADDER_GOALS.keys()


def test_each_ladder_has_its_own_goal(report, tmp_path):
    folder = write(tmp_path, ladder_masked=ladder("masked", 5.5), ladder_span=ladder("span", 4.5))
    page = report.page(folder)
    assert "5.5x, met" in section(page, "Learning sooner: masked LM")
    assert "4.5x, **missed**" in section(page, "Learning sooner: span corruption")


@pytest.mark.parametrize(("best", "met"), [({"tiny": 1, "small": 1}, "met"), ({"tiny": 3, "small": 1}, "**missed**")])
def test_widths_are_held_against_each_other(report, tmp_path, best, met):
    page = report.page(write(tmp_path, widths=widths(best)))
    assert f"Figure: Muon: tiny {best['tiny']}x, small 1x, {met}." in section(page, "Learning rates at another width")


@pytest.mark.parametrize(
    ("others", "best"),
    [
        ([1.0, None], 1),  # came to no number
        ([1.95], 1),  # by less than seeds differ
        ([2.05, 1.9], 1),  # the same, by the mean over both seeds
        ([1.85], 3),
        ([1.9, 1.8], 3),
    ],
)
def test_a_multiplier_is_better_where_it_gains_more_than_seeds_differ(module, others, best):
    rows = [{"multiplier": 1, "nats": [2.0, 2.1]}, {"multiplier": 3, "nats": others}]
    assert module("learning").best_multiplier(rows, 0.1) == best
    rows = [{"recipe": "Muon", "size": "tiny", **row} for row in rows]
    assert module("learning").best_multipliers(rows) == {"Muon": {"tiny": best}}
    rows[0]["nats"] = [None, None]
    assert module("learning").best_multiplier(rows, 0.1) == (3 if None not in others else 1)


# --------------------------------------------------------------------------- what the scripts make


def test_a_rung_that_a_seed_did_not_reach_is_not_sooner(module):
    pytest.importorskip("transformers")
    script = module("ladder")
    climbs = [
        script.Climb(name, seed, 10, 60.0, [(5, 30.0, 3.0), (10, 60.0, nats)])
        for name, ends in {"theirs": (2.0, 2.0), "ours": (1.9, 2.1)}.items()
        for seed, nats in enumerate(ends)
    ]
    theirs, ours = script.table(climbs)
    assert (theirs["seconds"], theirs["times_sooner"]) == ([60.0, 60.0], 1.0)
    assert (ours["seconds"], ours["times_sooner"]) == ([60.0, None], None)
    json.dumps(ours, allow_nan=False)


@pytest.fixture
def finished_run(write_run, tmp_path):
    """The folder of a baby GPT that was trained for a minute and a half, with three evaluations."""
    shape = {"vocab_size": 70, "d_model": 16, "n_layers": 2, "n_heads": 2, "dropout": 0.2, "tied": False}
    train = {"minutes": 1.5, "length": 256, "batch_size": 24}
    objective = {"objective": "causal", "class": "CausalLM", "options": {}, "unrecorded_options": {}}
    text = {
        "corpus": {"fingerprint": "0" * 32, "heldout": "1" * 32},
        "tokenizer_sha256": "2" * 64,
        "special": {"pad": 0},
    }
    run = {"architecture": "decoder-only", "model": shape, "train": train, "versions": {"torch": "2.0"}}
    described = {"format": 2, **objective, **text, **run, "description": {}}
    write_run(tmp_path, described)
    lines = [{"step": 0, "heldout": 4.2}]
    for step in range(1, 91):
        lines.append({"step": step, "loss": 3.0, "seconds": 1.0 * step})
        lines += [{"step": step, "heldout": {45: 1.45, 90: 1.6}[step]}] if step in (45, 90) else []
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime(tmp_path / "run.json", (1000, 1000))
    os.utime(tmp_path / "metrics.jsonl", (1120, 1120))
    return tmp_path


def test_baby_gpt_is_read_from_a_run_that_is_done(module, report, finished_run, tmp_path):
    script = module("baby_gpt")
    record = script.record_of(finished_run)
    assert record["finished"]
    assert (record["best"], record["best_at"], record["end"]) == (1.45, 0.75, 1.6)
    assert (record["minutes"], record["wall_minutes"], record["steps"]) == (1.5, 2.0, 90)
    assert record["reached_at"] == 0.75
    assert record["parameters"] > 2 * 70 * 16
    assert record["machine"]["torch"] == "2.0"
    script.draw(record, tmp_path / "curve.png")
    page = report.page(write(tmp_path, baby_gpt=record))
    assert "Figure: 1.4500 nats, met." in section(page, "Baby GPT without a GPU")
    assert "after 0.8 minutes of training, 1.0 with evaluations" in page


def test_baby_gpt_that_was_interrupted_is_not_finished(module, finished_run):
    metrics = finished_run / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))  # its last evaluation is missing
    assert not module("baby_gpt").record_of(finished_run)["finished"]
