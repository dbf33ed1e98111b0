"""Checks for people who write their own: masking schemes, collators, objectives.

In the manner of `numpy.testing`: a check returns its `Report` where no fault was found, and raises `CheckFailed`, an
`AssertionError`, where one was. The message names the fault, shows its smallest example, and explains why it matters.
A report counts what passed, what failed and what was *not checked*, which is not a pass. In your own tests:

    from clozelab.testing import check_mask_scheme

    def test_my_scheme():
        assert check_mask_scheme(my_scheme, rate=0.15).passed

Without tests: `clozelab check my_module:my_scheme`, or `clozelab check diffusion` for an objective of clozelab.
"""

from ..doors import explain_errors
from .collator import check_collator
from .mask_scheme import check_mask_scheme
from .objective import check_objective
from .report import CheckFailed, Finding, Report

__all__ = ["CheckFailed", "Finding", "Report", "check_collator", "check_mask_scheme", "check_objective"]

explain_errors(__name__)
