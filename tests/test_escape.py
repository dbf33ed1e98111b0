"""How values of others are shown in a message."""

import pytest

from clozelab.cli import main
from clozelab.errors import InputError
from clozelab.escape import counted, shorten, shown
from clozelab.training import TrainConfig


@pytest.mark.parametrize(
    "value", ["x" * 81, "'\"" * 50, "\n" * 90, b"\xff" * 40, "é" * 100, [1] * 100, 10**100], ids=str
)
@pytest.mark.parametrize("most", [12, 40, 80])
def test_what_is_cut_shows_it_and_keeps_its_quotes(value, most):
    line = shown(value, most)
    assert len(line) <= most
    assert "..." in line[-4:]
    assert not isinstance(value, (str, bytes)) or line[-1] == repr(value)[-1]


@pytest.mark.parametrize("most", range(8, 30))
def test_a_text_that_is_cut_between_words_shows_it_too(most):
    line = shorten("one, two, three, four, five, six", most)
    assert len(line) <= most
    assert line.endswith("...")


@pytest.mark.parametrize("value", ["", "x" * 78, b"x" * 77, None, 1.5, {"a": [1]}], ids=str)
def test_what_fits_is_shown_whole(value):
    assert shown(value, 80) == repr(value)


def test_a_long_number_is_cut_visibly_wherever_it_is_refused(capsys):
    assert main(["train", "--corpus", "x", "--seed", "1" + "0" * 60]) == 2
    assert "got '1" + "0" * 34 + "...'" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"seed must be a whole number from 0 to 2\^63 - 1, got 10{40}$"):
        TrainConfig(seed=10**40)


def test_one_is_counted_in_the_singular():
    assert [counted(n, "row") for n in (0, 1, 2, 1000)] == ["0 rows", "1 row", "2 rows", "1,000 rows"]
