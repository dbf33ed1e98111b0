"""The parts of the pictures of lessons."""

import pytest
from matplotlib.figure import Figure

from clozelab.course import Seeds, bar, level


def test_a_bar_shows_its_mean_its_seeds_and_its_number():
    axes = Figure().subplots()
    bar(axes, 2, Seeds((0.5, 0.7)), "#0072B2", label="causal", number=".1f")
    [drawn] = axes.patches
    assert (drawn.get_x() + drawn.get_width() / 2, drawn.get_height()) == pytest.approx((2, 0.6))
    [dots] = axes.lines
    assert list(dots.get_ydata()) == [0.5, 0.7]
    [number] = axes.texts
    assert (number.get_text(), number.xy) == ("0.6", (2, 0.7))  # above the highest dot


def test_a_level_is_a_line_with_a_name():
    axes = Figure().subplots()
    level(axes, 1.39, "a unigram guess", at=0.0)
    assert list(axes.lines[0].get_ydata()) == [1.39, 1.39]
    assert axes.texts[0].get_ha() == "left"
