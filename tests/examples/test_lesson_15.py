"""Lesson 15: half of the texts moved cost next to nothing from the left, and gaps are filled by both sides."""

import pytest
import torch

from clozelab.languages import MarkovSource
from clozelab.objectives.fill_in_the_middle import move_middle, restore_middle


def test_it_runs_to_its_end(trial):
    assert trial


def test_exercise_1_after_an_empty_middle_comes_its_end(lesson):
    for end, right in ((5, True), (7, False)):
        row = move_middle([0] * 16, 5, end, lesson.ROLES, spm=True)
        between = row.index(lesson.ROLES.end) - row.index(lesson.ROLES.middle) - 1
        assert lesson.LESSON.check(1, between).startswith("Right") == right


def test_exercise_2_a_suffix_is_worth_nothing_without_dependence(lesson):
    independent = MarkovSource(torch.full((6, 6), 1 / 6))
    assert lesson.LESSON.check(2, lesson.suffix_worth(independent)).startswith("Right")
    assert lesson.suffix_worth(lesson.language(0)) > 0.1


def test_exercise_3_a_suffix_is_worth_one_symbol_however_long_the_gap(lesson, monkeypatch):
    monkeypatch.setattr(lesson, "GAP", 8)
    source = lesson.language(0)
    worth = lesson.suffix_worth(source)
    assert lesson.LESSON.check(3, worth).startswith("Right")
    assert worth == pytest.approx(source.entropy - source.entropy_rate, abs=0.1)


def test_rows_hold_their_gap_at_the_end(lesson):
    texts, first = lesson.gaps(lesson.language(0), 30)
    for text, a, row in zip(texts.tolist(), first.tolist(), lesson.rows_of(texts, first).tolist()):
        assert row[-lesson.GAP - 1 :] == [*text[a : a + lesson.GAP], lesson.ROLES.end]
        assert restore_middle(row, lesson.ROLES) == (text, 0, lesson.LENGTH - a - lesson.GAP)


def test_all_fillings_are_tried(lesson):
    """A model that guesses uniformly gives each of the 36 the same chance."""
    texts, first = lesson.gaps(lesson.language(0), 13)

    class Uniform(torch.nn.Module):
        def forward(self, ids):
            return ids

        def unembed(self, ids):
            return torch.zeros(*ids.shape, lesson.SPECIAL.vocab_size)

    assert lesson.by_trying(Uniform(), texts, first) == pytest.approx(2 * torch.tensor(6.0).log().item(), abs=1e-4)


@pytest.mark.slow
def test_plain_text_is_learned_all_the_same(fast):
    assert fast["left: moved"] < fast["left: frequency"] - 0.3
    assert fast["gap: exact, both sides"] < fast["gap: exact, left alone"] - 0.1
