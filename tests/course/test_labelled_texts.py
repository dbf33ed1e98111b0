"""Texts with labels are read from a file, or it is said in which row they are not."""

import csv

import pytest

from clozelab.course.labelled_texts import read_labelled_texts
from clozelab.errors import InputError

ROWS = [[str(1 + n % 4), f"Title, {n}", f'It is "{n}".'] for n in range(800)]


def written(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_a_text_is_title_and_text_and_labels_count_from_0(tmp_path):
    texts, labels = read_labelled_texts(written(tmp_path / "news.csv", ROWS))
    assert texts[5] == 'Title, 5. It is "5".'
    assert labels[:6].tolist() == [0, 1, 2, 3, 0, 1]
    assert len(texts) == len(labels) == 800


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["class", "title", "text"], *ROWS], "row 1: expected label 1 to 4, title, text (got label 'class')"),
        ([*ROWS[:7], ["5", "a", "b"]], "row 8: expected label 1 to 4, title, text (got label '5')"),
        (
            [*ROWS[:7], ["1", "a"]],
            "row 8: expected label 1 to 4, title, text (not enough values to unpack (expected 3, got 2))",
        ),
        (ROWS[:-1], "at least 200 texts of each label 1 to 4, got 199 of one"),
        ([], "got 0 of one"),
    ],
)
def test_another_file_is_an_error_that_names_the_row(tmp_path, rows, message):
    with pytest.raises(InputError) as raised:
        read_labelled_texts(written(tmp_path / "news.csv", rows))
    assert message in str(raised.value)


@pytest.mark.parametrize("content", [b"\xff\xfe1,a,b", b'1,"a', b"\x00"])
def test_a_file_that_is_no_text_is_an_error_too(tmp_path, content):
    (tmp_path / "news.csv").write_bytes(content)
    with pytest.raises(InputError, match="row 1: "):
        read_labelled_texts(tmp_path / "news.csv")
    with pytest.raises(InputError, match="directory"):
        read_labelled_texts(tmp_path)
