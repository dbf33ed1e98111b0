"""The course: a lesson measures a claim over several seeds, judges it and records the result."""

from ..doors import explain_errors
from .exercise import Exercise
from .judgement import Gate, Judgement, Part, judge, share_learned
from .lesson import Lesson, Visit, in_notebook
from .picture import bar, level
from .results import Result, claims_table, lessons_folder, print_result, print_results, read_results
from .seeds import Seeds, rank_correlation
from .span_model import SpansAndBlanks

__all__ = [
    "Exercise",
    "Gate",
    "Judgement",
    "Lesson",
    "Part",
    "Result",
    "Seeds",
    "SpansAndBlanks",
    "Visit",
    "bar",
    "claims_table",
    "in_notebook",
    "judge",
    "lessons_folder",
    "level",
    "print_result",
    "print_results",
    "rank_correlation",
    "read_results",
    "share_learned",
]

explain_errors(__name__)
