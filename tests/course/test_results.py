"""Recorded results are read again; other files are refused by name."""

import json

import pytest

from clozelab.course import Result, claims_table, lessons_folder, print_result, print_results, read_results
from clozelab.errors import InputError


def result(number="01", **changes):
    settings = {
        "lesson": number,
        "script": f"{number}_a_lesson.py",
        "title": "A lesson",
        "question": "How cold is it?",
        "claim": "Ice is [mask] | cold",
        "verdict": "held",
        "reason": "",
        "number": "-5.0 ± 0.1 °C,\nwater 4 °C",
        "finding": "-5.0 ± 0.1 degrees\nat night",
        "gates": [["the thermometer works: 0 ± 0.1, must be below 1", "passed"]],
        "parts": [["ice is colder: +9 ± 0.1, held", "held"]],
        "literature": "0 °C (a book)",
        "previous": "held, on three ponds",
        "figures": {"degrees": [-5.1, -5.0, -4.9]},
        "headings": ["place", "degrees"],
        "rows": [["pond", "-5.0 ± 0.1"]],
        "seeds": [0, 1, 2],
        "seconds": 90.0,
        "arguments": ["--seeds", "3"],
        "torch": "2.9.0",
        "machine": "x86_64, AVX2",
        "commit": "1234567",
    }
    return Result(**{**settings, **changes})


def test_a_saved_result_is_read_again(tmp_path):
    path = result(finding="0.5 ± 0.1 °C, „so“").save(tmp_path)
    assert path == tmp_path / "01_a_lesson.json"
    assert Result.load(path) == result(finding="0.5 ± 0.1 °C, „so“")
    assert "±" in path.read_text(encoding="utf-8")  # a diff can be read


def test_results_are_read_in_the_order_of_their_numbers_and_other_files_are_ignored(tmp_path):
    for number in ("10", "02", "01"):
        result(number).save(tmp_path)
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "01_a_lesson.png").write_bytes(b"")
    assert [one.lesson for one in read_results(str(tmp_path))] == ["01", "02", "10"]


def test_the_table_keeps_its_columns_where_a_text_has_bars_and_line_breaks(tmp_path):
    assert claims_table([result()]).splitlines() == [
        "| lesson | the claim | measured | verdict |",
        "|---|---|---|---|",
        "| [01 A lesson](examples/01_a_lesson.py) | Ice is [mask] \\| cold | -5.0 ± 0.1 °C, water 4 °C | **held** |",
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_list_is_brief_and_fits(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    print_results([result(), result("02", verdict="held in part", title="Another [/b] " + "word " * 12)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 5
    assert all(len(line) <= width for line in lines)
    printed = " ".join(" ".join(lines).split())
    for word in ("01 A lesson held 1.5", "02 Another [/b]", "held in part"):
        assert word in printed


@pytest.mark.parametrize("width", [60, 80, 200])
def test_one_result_is_printed_whole_at_any_width(width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    heading, cell = "a heading of several words", "a rather long description of a thing"
    print_result(result(headings=[heading] * 4, rows=[[cell, "-7.0 ± 0.1", "x\x1b[31m", "12345.6 ± 0.1"]]))
    lines = capsys.readouterr().out.splitlines()
    printed = " ".join(" ".join(lines).split())
    assert "…" not in printed
    assert "\x1b" not in printed
    assert all(len(line) <= width for line in lines)
    assert ("-7.0±0.1" in printed) == ("-7.0 ± 0.1" not in printed) == (width < 200)
    for word in (
        *("01 A lesson", "Ice is [mask] | cold", "measured: -5.0 ± 0.1 degrees", "held (3 seeds", "90 s"),
        *("held: ice is colder: +9 ± 0.1", "gate: the thermometer works", "others: 0 °C (a book)"),
    ):
        assert word in printed


def test_one_seed_has_no_outcomes(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    tested = {
        "gates": [["it works: 2, must be above 1", "not passed"]],
        "parts": [["it helps: +9, cannot tell", "cannot tell"]],
    }
    print_result(result(**tested))
    several = capsys.readouterr().out
    assert "NOT PASSED: it works: 2" in several
    assert "cannot tell: it helps: +9" in several
    print_result(result(**tested, seeds=[0], verdict="not judged"))
    lines = capsys.readouterr().out.splitlines()
    assert "gate:     it works: 2, must be above 1" in lines
    assert "part:     it helps: +9" in lines
    assert any("not judged (one seed, no test, " in line for line in lines)


def test_the_lessons_of_this_package_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = lessons_folder()
    assert {(folder / result.script).is_file() for result in read_results(folder / "results")} == {True}


def test_an_installation_without_lessons_says_where_they_would_be(tmp_path, monkeypatch):
    monkeypatch.setattr("clozelab.course.results.INSTALLED", tmp_path / "site" / "clozelab" / "lessons")
    with pytest.raises(InputError, match=r"the lessons are missing: expected .*clozelab/lessons, as in a wheel"):
        lessons_folder()


@pytest.mark.parametrize("make", [lambda folder: folder / "nowhere", lambda folder: folder])
def test_a_folder_without_results_is_refused(make, tmp_path):
    with pytest.raises(InputError, match="holds no results of lessons"):
        read_results(make(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"lesson": "01"}',
    ],
)
def test_a_file_that_no_lesson_wrote_is_refused(content, tmp_path):
    path = tmp_path / "01_a_lesson.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"01_a_lesson\.json is no result of a lesson"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("verdict", "proved"),
        ("verdict", ["held"]),
        ("gates", ["passed"]),
        ("parts", [["a part", 1]]),
        ("commit", None),
        ("claim", None),
        ("finding", 5),
        ("figures", [1.0]),
        ("figures", {"degrees": 1.0}),
        ("figures", {"degrees": ["1"]}),
        ("rows", ["pond"]),
        ("seeds", 3),
        ("seconds", "90"),
        ("arguments", None),
        ("more", 1),
    ],
)
def test_a_field_of_another_kind_is_named(field, value, tmp_path):
    path = result().save(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), field: value}))
    with pytest.raises(InputError, match=f"is no result of a lesson: .*{field}"):
        Result.load(path)
