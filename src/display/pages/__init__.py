"""Pages: one HTML file each, from the tensors that the models get."""

from .show import show_page

__all__ = ["show_page"]
