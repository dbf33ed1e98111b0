"""Checks for people who write their own: masking schemes, collators, objectives.

In the manner of `numpy.testing`: a check returns its `Report` when all is well and raises `CheckFailed`, an
`AssertionError`, when something is not. It says what is wrong, shows the smallest example that it found, and why it
matters. In your own tests:

    from clozelab.testing import check_mask_scheme

    def test_my_scheme():
        check_mask_scheme(my_scheme, rate=0.15)

Without tests: `clozelab check my_module:my_scheme`.
"""

from .collator import check_collator
from .mask_scheme import check_mask_scheme
from .objective import check_objective
from .report import CheckFailed, Finding, Report

__all__ = ["CheckFailed", "Finding", "Report", "check_collator", "check_mask_scheme", "check_objective"]
