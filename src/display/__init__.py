"""Pictures, each made from the tensors that the model gets."""

from ..doors import explain_errors
from .attention import draw_attention
from .comparison import draw_comparison, print_comparison, save_comparison
from .curves import draw_loss
from .floors import draw_floors, print_floors, save_floors
from .leaks import draw_leaks
from .objectives import objectives_markdown, objectives_table, print_objectives
from .pages import show_page
from .plan import plan_notes, plan_table
from .terminal import depends_on_seed, show_objectives, word_tokenizer

__all__ = [
    "depends_on_seed",
    "draw_attention",
    "draw_comparison",
    "draw_floors",
    "draw_leaks",
    "draw_loss",
    "objectives_markdown",
    "objectives_table",
    "plan_notes",
    "plan_table",
    "print_comparison",
    "print_floors",
    "print_objectives",
    "save_comparison",
    "save_floors",
    "show_objectives",
    "show_page",
    "word_tokenizer",
]

explain_errors(__name__)
