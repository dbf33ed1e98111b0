"""Pages: one HTML file each, from the tensors that the models get."""

from .page import write_page
from .show import show_page

__all__ = ["show_page", "write_page"]
