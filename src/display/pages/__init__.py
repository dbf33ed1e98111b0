"""Pages: one HTML file each, from the tensors that the models get."""

from .page import write_page
from .report import comparison_page, run_page
from .show import show_page

__all__ = ["comparison_page", "run_page", "show_page", "write_page"]
