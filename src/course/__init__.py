"""The course: a lesson measures a claim over several seeds, judges it and records the result."""

from ..doors import explain_errors
from .lesson import Lesson, Visit
from .results import Result, claims_table, lessons_folder, print_result, print_results, read_results
from .seeds import Seeds

__all__ = [
    "Lesson",
    "Result",
    "Seeds",
    "Visit",
    "claims_table",
    "lessons_folder",
    "print_result",
    "print_results",
    "read_results",
]

explain_errors(__name__)
