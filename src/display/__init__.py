"""Pictures, each made from the tensors that the model gets."""

from .comparison import draw_comparison, print_comparison, save_comparison
from .curves import draw_loss
from .terminal import show_objective, word_tokenizer

__all__ = ["draw_comparison", "draw_loss", "print_comparison", "save_comparison", "show_objective", "word_tokenizer"]
